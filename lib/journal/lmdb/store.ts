/*
 * One open LMDB database that holds one log: its state, its entries, and the only transaction that changes them.
 * Invariant: a transaction reads everything before it writes anything, so a transaction that fails has changed nothing.
 */
import type { RootDatabase } from 'lmdb';
import type { Entry, ReadResult, JournalWindow } from '../journal.ts';
import { newLogName, numberIn } from '../sequence-id.ts';
import { Environment } from './environment.ts';
import { damagedFile } from './lmdb-errors.ts';
import { type EncodedEntry, decodeEntry, setStoredAt, trimInfo } from './entry-codec.ts';

/** How much the log keeps. All limits apply at once. */
export interface LogLimits {
  readonly maxLength: number;
  readonly maxAge: number;
  readonly maxBytes: number;
}

interface LogState {
  readonly form: 1;
  readonly log: string;
  /** The number of the oldest entry; `head` + 1 if there is none. */
  readonly first: number;
  readonly head: number;
  readonly bytes: number;
  /** The time of the newest entry. (Logs of earlier versions do not have it.) */
  readonly lastTime?: number;
  /** When the system clock was set back, oldest first. */
  readonly clockSteps?: readonly ClockStep[];
}

/** The entries before the number `before` were stored before `time`, whatever their own times are. */
interface ClockStep {
  readonly before: number;
  readonly time: number;
}

// Entries have the keys 1, 2, 3 …. Application keys are text that begins with k, and LMDB sorts text after numbers.
const STATE_KEY = 0;
const CLOCK_TOLERANCE_MS = 1000; // a smaller step back keeps entries by no more than this too long
const MAX_CLOCK_STEPS = 8;
const MAX_EXTRA_TRIM = 1000; // a transaction removes at most this many more than it adds: it stays short after the limits shrink

/** One open database. */
export class Store {
  readonly log: string;
  readonly #limits: LogLimits;
  readonly #environment: Environment<number | string>;
  readonly #db: RootDatabase<Buffer, number | string>;

  /** @throws {SseError} `ERR_SSE_JOURNAL` */
  constructor(path: string, limits: LogLimits, sync: boolean) {
    this.#limits = limits;
    this.#environment = new Environment(path, { kind: 'lmdbJournal', sync }, (db) => createState(db, path));
    this.#db = this.#environment.db;
    try {
      this.log = this.#latestState().log;
    } catch (error) {
      void this.close();
      throw error;
    }
  }

  /** Whether the files at the path are still the ones that are open here. */
  get isCurrent(): boolean {
    return this.#environment.isCurrent;
  }

  /** Whether a commit holds the write lock or waits for it. */
  get isCommitting(): boolean {
    return this.#environment.isCommitting;
  }

  /** Whether a commit without entries has work to do: the oldest entry has expired, or the clock was set back. */
  get needsTrim(): boolean {
    const state = this.#latestState();
    if (state.first > state.head || this.#limits.maxAge === Infinity) return false;
    const now = Date.now();
    return this.#wasSetBack(state, now) || this.#isExpired(state.first, this.#storedAt(state.first), state, now);
  }

  /** The newest position that is lost because of trimming; '' if there is none. The next one is valid: no entry after it is missing. */
  get newestLost(): string {
    const { first } = this.#latestState();
    return first > 1 ? this.#id(first - 2) : '';
  }

  window(max: number): JournalWindow {
    const { first, head } = this.#latestState();
    const from = Math.max(first, head + 1 - max);
    return { floor: this.#id(from - 1), entries: this.#entries(from, head) };
  }

  read(after: string, limit: number): ReadResult {
    const { first, head } = this.#latestState();
    const n = numberIn(this.log, after);
    if (n < 0 || n > head) return { ok: false, reason: 'unknown' };
    if (n < first - 1) return { ok: false, reason: 'lost' }; // numbers have no gaps: no entry is missing after number first - 1
    return { ok: true, entries: this.#entries(n + 1, Math.min(head, n + limit)) };
  }

  /**
   * Appends the entries that `take` returns once the lock is held, and trims. Resolves with their ids when they are on disk.
   * @throws {SseError} `ERR_SSE_JOURNAL`: none of the entries was stored.
   */
  async commit(take: () => readonly EncodedEntry[]): Promise<string[]> {
    return this.#environment.commit(() => this.#apply(take()));
  }

  releaseDeadReaders(): void {
    this.#environment.releaseDeadReaders();
  }

  async close(): Promise<void> {
    await this.#environment.close();
  }

  #apply(entries: readonly EncodedEntry[]): string[] {
    const db = this.#db;
    const now = Date.now();
    const stored = this.#state();
    const state = this.#withClockSteps(stored, now);
    const newKeys = new Map<string, number>();
    const added: EncodedEntry[] = [];
    const numbers = entries.map((entry) => {
      const existing = entry.key === undefined ? undefined : (newKeys.get(entry.key) ?? this.#numberOf(entry.key));
      if (existing !== undefined) return existing;
      setStoredAt(entry, now);
      added.push(entry);
      const n = state.head + added.length;
      if (entry.key !== undefined) newKeys.set(entry.key, n);
      return n;
    });
    const head = state.head + added.length;
    let bytes = added.reduce((sum, { size }) => sum + size, state.bytes);

    const { maxLength, maxBytes } = this.#limits;
    const removedKeys: (string | undefined)[] = []; // one for each removed entry
    const maxRemoved = Math.min(head + 1 - state.first, added.length + MAX_EXTRA_TRIM);
    while (removedKeys.length < maxRemoved) {
      const n = state.first + removedKeys.length;
      const { storedAt, key, size } = trimInfo(n > state.head ? added[n - state.head - 1]!.bytes : this.#bytesOf(n));
      if (head + 1 - n <= maxLength && bytes <= maxBytes && !this.#isExpired(n, storedAt, state, now)) break;
      bytes -= size;
      removedKeys.push(key);
    }
    if (added.length === 0 && removedKeys.length === 0 && state === stored) return numbers.map((n) => this.#id(n));

    for (const [i, entry] of added.entries()) void db.put(state.head + 1 + i, entry.bytes);
    for (const [key, n] of newKeys) void db.put(key, Buffer.from(`${n}`));
    for (const [i, key] of removedKeys.entries()) {
      void db.remove(state.first + i);
      if (key !== undefined) void db.remove(key);
    }
    const first = state.first + removedKeys.length;
    const clockSteps = state.clockSteps?.filter(({ before }) => before > first);
    this.#writeState({ ...state, first, head, bytes, clockSteps, ...(added.length > 0 && { lastTime: now }) });
    return numbers.map((n) => this.#id(n));
  }

  /** Returns the state as of now. Without the reset, lmdb would read the state as of the beginning of this tick. */
  #latestState(): LogState {
    this.#db.resetReadTxn();
    return this.#state();
  }

  #state(): LogState {
    const json = this.#db.get(STATE_KEY);
    if (json === undefined) throw this.#environment.damaged('it has no state');
    const state = JSON.parse(json.toString()) as LogState;
    if (state.form !== 1) throw this.#environment.damaged('this version does not support its format');
    return state;
  }

  #writeState(state: LogState): void {
    void this.#db.put(STATE_KEY, Buffer.from(JSON.stringify(state)));
  }

  #bytesOf(n: number): Buffer {
    const bytes = this.#db.get(n);
    if (bytes === undefined) throw this.#environment.damaged(`entry ${n} is missing`);
    return bytes;
  }

  #numberOf(key: string): number | undefined {
    const n = this.#db.get(key);
    return n && Number(n.toString());
  }

  #entries(from: number, to: number): Entry[] {
    if (from > to) return [];
    const entries: Entry[] = [];
    for (const { key, value } of this.#db.getRange({ start: from, end: to + 1 })) {
      if (key !== from + entries.length) throw this.#environment.damaged(`entry ${from + entries.length} is missing`);
      entries.push(decodeEntry(value, this.#id(from + entries.length)));
    }
    return entries;
  }

  /** Whether an entry is too old by its own time, or by a later time at which it was already in the log. */
  #isExpired(n: number, storedAt: number, { clockSteps = [] }: LogState, now: number): boolean {
    const { maxAge } = this.#limits;
    return now - storedAt >= maxAge || clockSteps.some(({ before, time }) => n < before && now - time >= maxAge);
  }

  /** Whether the newest entry is from the future. Its time would keep it, and all entries before it, beyond `maxAge`. */
  #wasSetBack({ first, head, lastTime }: LogState, now: number): boolean {
    return first <= head && (lastTime ?? this.#storedAt(head)) > now + CLOCK_TOLERANCE_MS;
  }

  /** Adds the current time to the state if the clock was set back since the newest entry. */
  #withClockSteps(state: LogState, now: number): LogState {
    if (!this.#wasSetBack(state, now)) return state;
    const step = { before: state.head + 1, time: now };
    return { ...state, lastTime: now, clockSteps: [...(state.clockSteps ?? []), step].slice(-MAX_CLOCK_STEPS) };
  }

  #storedAt(n: number): number {
    return trimInfo(this.#bytesOf(n)).storedAt;
  }

  #id(n: number): string {
    return `${this.log}-${n}`;
  }
}

/** Writes the state of a new log, unless there is a log. */
function createState(db: RootDatabase<Buffer, number | string>, path: string): void {
  if (db.get(STATE_KEY) !== undefined) return;
  for (const key of db.getKeys({ limit: 1 }))
    throw damagedFile(path, `it contains the key ${String(key)} of another program`, 'lmdbJournal');
  const state: LogState = { form: 1, log: newLogName(), first: 1, head: 0, bytes: 0 };
  void db.put(STATE_KEY, Buffer.from(JSON.stringify(state)));
}
