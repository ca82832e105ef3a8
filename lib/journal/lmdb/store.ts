/*
 * One open LMDB database that holds one log: its state, its entries, and the one transaction that changes them.
 * Knows LMDB, records and ids; nothing of followers, queues or other processes.
 * Invariant: within a transaction everything is read before anything is written, so that one which fails has changed nothing.
 */
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import type { Entry, ReadResult, JournalWindow } from '../journal.ts';
import { newLogName, numberIn } from '../sequence-id.ts';
import { damaged, failure } from './lmdb-errors.ts';
import { mustBeIntact } from './file-check.ts';
import { type Draft, entryIn, traceOf } from './entry-codec.ts';
import { Turn } from './write-lock.ts';

/** What bounds the log; all of them at once. */
export interface Bounds {
  readonly maxLength: number;
  readonly maxAge: number;
  readonly maxBytes: number;
}

interface State {
  readonly form: 1;
  readonly log: string;
  /** The number of the oldest entry; `head` + 1 when there is none. */
  readonly first: number;
  readonly head: number;
  readonly bytes: number;
}

const DATA = 'data.mdb';
const FILES = [DATA, 'lock.mdb', ...Turn.files];
const STATE = 0; // entries are 1, 2, 3 …; keys begin with a k, and texts come after numbers
const TRIM_STEP = 1000; // a transaction removes so many more than it adds: it stays short when the bounds shrink

/*
 * - `maxFreeSpaceToRetain`: free pages kept between transactions are out of step after what another process has done.
 * - `overlappingSync` takes a page for free by what this process has flushed, not by what the others have.
 * - `eventTurnBatching` rejects a promise of its own when a commit fails, which nobody can handle: the process would end.
 * With these and the turn, three processes that wrote with `noSync` while one of them was killed every 20 to 120 ms and started
 * again lost nothing in 1600 kills; without the turn (every 80 to 300 ms) 4 runs of 7 failed within 374 kills.
 */
const SETTINGS = {
  noSubdir: false,
  encoding: 'binary',
  maxFreeSpaceToRetain: 0,
  overlappingSync: false,
  eventTurnBatching: false,
} as const;

/** One open database. */
export class Store {
  readonly log: string;
  busy = false; // a commit waits for its turn, or has it
  readonly #path: string;
  readonly #identity: string | undefined;
  readonly #bounds: Bounds;
  readonly #turn: Turn;
  readonly #db: RootDatabase<Buffer, number | string>;

  /** @throws {SseError} `ERR_SSE_JOURNAL` */
  constructor(path: string, bounds: Bounds, sync: boolean) {
    this.#path = path;
    this.#bounds = bounds;
    try {
      mkdirSync(path, { recursive: true });
      this.#turn = new Turn(path);
    } catch (error) {
      throw failure(path, error);
    }
    try {
      this.#db = this.#turn.takeSync(() => {
        mustBeIntact(path, join(path, DATA));
        return open(path, { ...SETTINGS, noSync: !sync });
      });
      this.log = this.#turn.takeSync(() => this.#db.transactionSync(() => this.#begun().log));
      this.#identity = identityOf(this.#path);
    } catch (error) {
      void this.close();
      throw failure(path, error);
    }
  }

  /** Whether the files at the path are still those that are open here. */
  get present(): boolean {
    return this.#identity !== undefined && identityOf(this.#path) === this.#identity;
  }

  /** Whether the oldest entry has been in the log for too long. */
  get overdue(): boolean {
    const { first, head } = this.#fresh();
    return first <= head && this.#bounds.maxAge !== Infinity && this.#isOld(this.#at(first));
  }

  window(max: number): JournalWindow {
    const { first, head } = this.#fresh();
    const from = Math.max(first, head + 1 - max);
    return { floor: this.#id(from - 1), entries: this.#entries(from, head) };
  }

  read(after: string, limit: number): ReadResult {
    const { first, head } = this.#fresh();
    const n = numberIn(this.log, after);
    if (n < 0 || n > head) return { ok: false, reason: 'unknown' };
    if (n < first - 1) return { ok: false, reason: 'lost' }; // numbers have no gaps: after the one before the first nothing is missing
    return { ok: true, entries: this.#entries(n + 1, Math.min(head, n + limit)) };
  }

  /**
   * Appends what `take` hands out once the lock is held, and trims; resolves with the ids once that is on disk.
   * It commits in the main thread: it would have to wait for a second thread of libuv's few while one is held for the turn.
   * @throws {SseError} `ERR_SSE_JOURNAL`: nothing of it was stored.
   */
  async commit(take: () => readonly Draft[]): Promise<string[]> {
    this.busy = true;
    try {
      return await this.#turn.take(() => this.#db.transactionSync(() => this.#apply(take())));
    } catch (error) {
      throw failure(this.#path, await reasonOf(error));
    } finally {
      this.busy = false;
    }
  }

  /** Forgets the readers of processes that are gone: a page that one of them has read would never be free again. */
  forgetTheDead(): void {
    this.#db.readerCheck();
    this.#turn.forgetTheDead();
  }

  async close(): Promise<void> {
    await this.#db?.close(); // none when it could not be opened
    await this.#turn.close();
  }

  #apply(drafts: readonly Draft[]): string[] {
    const db = this.#db;
    const state = this.#state();
    const fresh = new Map<string, number>();
    const added: Draft[] = [];
    const numbers = drafts.map((draft) => {
      const known = draft.key === undefined ? undefined : (fresh.get(draft.key) ?? this.#numberOf(draft.key));
      if (known !== undefined) return known;
      added.push(draft);
      const n = state.head + added.length;
      if (draft.key !== undefined) fresh.set(draft.key, n);
      return n;
    });
    const head = state.head + added.length;
    let bytes = added.reduce((sum, { size }) => sum + size, state.bytes);

    const { maxLength, maxBytes } = this.#bounds;
    const gone: (string | undefined)[] = []; // the keys of the entries that leave
    const most = Math.min(head + 1 - state.first, added.length + TRIM_STEP);
    while (gone.length < most) {
      const n = state.first + gone.length;
      const { at, key, size } = traceOf(n > state.head ? added[n - state.head - 1]!.bytes : this.#at(n));
      if (head + 1 - n <= maxLength && bytes <= maxBytes && !this.#isOld(undefined, at)) break;
      bytes -= size;
      gone.push(key);
    }
    if (added.length === 0 && gone.length === 0) return numbers.map((n) => this.#id(n));

    for (const [i, draft] of added.entries()) void db.put(state.head + 1 + i, draft.bytes);
    for (const [key, n] of fresh) void db.put(key, Buffer.from(`${n}`));
    for (const [i, key] of gone.entries()) {
      void db.remove(state.first + i);
      if (key !== undefined) void db.remove(key);
    }
    this.#write({ ...state, first: state.first + gone.length, head, bytes });
    return numbers.map((n) => this.#id(n));
  }

  /** The state as of now, not as of the beginning of this turn of the event loop. */
  #fresh(): State {
    this.#db.resetReadTxn();
    return this.#state();
  }

  #begun(): State {
    if (this.#db.get(STATE) === undefined) {
      for (const key of this.#db.getKeys({ limit: 1 }))
        throw damaged(this.#path, `it holds ${String(key)}, which is not ours`);
      this.#write({ form: 1, log: newLogName(), first: 1, head: 0, bytes: 0 });
    }
    return this.#state();
  }

  #state(): State {
    const state = this.#db.get(STATE);
    if (state === undefined) throw damaged(this.#path, 'it has no state');
    const parsed = JSON.parse(state.toString()) as State;
    if (parsed.form !== 1) throw damaged(this.#path, 'its form is not known to this version');
    return parsed;
  }

  #write(state: State): void {
    void this.#db.put(STATE, Buffer.from(JSON.stringify(state)));
  }

  #at(n: number): Buffer {
    const bytes = this.#db.get(n);
    if (bytes === undefined) throw damaged(this.#path, `entry ${n} is missing`);
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
      if (key !== from + entries.length) throw damaged(this.#path, `entry ${from + entries.length} is missing`);
      entries.push(entryIn(value, this.#id(from + entries.length)));
    }
    return entries;
  }

  #isOld(bytes: Buffer | undefined, at = bytes ? traceOf(bytes).at : Infinity): boolean {
    return Date.now() - at >= this.#bounds.maxAge;
  }

  #id(n: number): string {
    return `${this.log}-${n}`;
  }
}

/** All files: with another lock file than everybody else, a process would write into the same data at the same time. */
function identityOf(path: string): string | undefined {
  try {
    return FILES.map((name) => statSync(join(path, name)).ino).join(' ');
  } catch {
    return undefined;
  }
}

/** What a commit failed of: LMDB's own error comes by a promise beside, before the next turn of the event loop. */
async function reasonOf(thrown: unknown): Promise<unknown> {
  const { commitError } = thrown as { commitError?: Promise<never> };
  const nextTurn = new Promise<never>((_, reject) => setImmediate(reject, thrown));
  try {
    return await Promise.race([commitError ?? nextTurn, nextTurn]);
  } catch (reason) {
    return reason;
  }
}
