/*
 * A log in the memory of this process. It is the default journal and the pattern for the others.
 * Invariant: an entry is trimmed only after every follower has received it, so a follower that keeps up never has a gap.
 */
import { type JournalLimit, checkBody, checkJournalLimits, checkLimits } from './journal-limits.ts';
import { Deque } from './deque.ts';
import { SseError } from '../errors.ts';
import type { Entry, Follower, Journal, NewEntry, ReadResult, JournalWindow } from './journal.ts';
import { compareSequenceIds, isSequenceId, newLogName, numberIn } from './sequence-id.ts';
import { MAX_TIMER_MS, rejectUnknownKeys } from '../validation/validate.ts';

/** How much {@link memoryJournal} keeps. All limits apply at once; the oldest entries are removed first. */
export interface MemoryJournalOptions {
  /**
   * Entries: a positive integer, or `Infinity` for as many as the other limits allow.
   * @defaultValue 1024
   */
  readonly size?: number;
  /**
   * Milliseconds that an entry is kept: any positive number, or `Infinity` for no limit. A monotonic clock measures them, so a
   * change of the system time has no effect. Without traffic, an entry is removed up to a sixteenth of this time later.
   * @defaultValue 300000 (5 minutes)
   */
  readonly maxAge?: number;
  /**
   * Bytes of all bodies together (their `byteLength`): a positive integer, or `Infinity`. A single entry that is larger is
   * delivered to the connected clients and removed at once; no client can resume from before it.
   * @defaultValue 16777216 (16 MiB)
   */
  readonly maxBytes?: number;
}

const LIMITS: Readonly<Record<keyof MemoryJournalOptions, JournalLimit>> = {
  size: { default: 1024, integer: true },
  maxAge: { default: 300_000, integer: false },
  maxBytes: { default: 16 * 1024 * 1024, integer: true },
};

/**
 * Creates a log in the memory of this process. It ends with the process. Its ids carry a random name, so an id from before a
 * restart is reported as `unknown` and never mistaken for another entry. Followers receive an entry before `append` returns.
 * @throws {SseTypeError} `ERR_SSE_OPTION` if an option is unknown or out of range.
 */
export function memoryJournal(options: MemoryJournalOptions = {}): Journal {
  return new MemoryJournal(checkJournalLimits('memoryJournal', options, LIMITS)) satisfies Journal;
}

/**
 * Creates the log of the option `history: { size, … }` of `sse()`. Its errors name the option, because the application has not
 * called {@link memoryJournal}.
 * @throws {SseTypeError} `ERR_SSE_OPTION` if a limit is unknown or out of range.
 */
export function memoryJournalOfHistory(history: object): Journal {
  rejectUnknownKeys('limit in history', history, LIMITS, {
    otherwise: 'Pass such limits of the log in memory, or a journal such as lmdbJournal(path).',
  });
  return new MemoryJournal(checkLimits('history.', history, LIMITS));
}

interface StoredEntry {
  readonly entry: Entry;
  readonly key: string | undefined;
  readonly storedAt: number;
}

/** One follower. `next`: the number of the entry that it receives next. `trimmed`: the last number that `trim` reported to it. */
interface FollowerState {
  readonly follower: Follower;
  next: number;
  trimmed: number;
  isReceiving: boolean;
}

class MemoryJournal implements Journal {
  readonly #name = newLogName();
  readonly #limits: Readonly<Required<MemoryJournalOptions>>;
  readonly #followers = new Set<FollowerState>();
  readonly #keys = new Map<string, number>();
  readonly #stored = new Deque<StoredEntry>();
  #first = 1; // the number of the oldest entry; #head + 1 if the log is empty
  #head = 0;
  #bytes = 0;
  #deliveries = 0; // how many deliveries are running: more than one if a follower appends
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(limits: Readonly<Required<MemoryJournalOptions>>) {
    this.#limits = limits;
  }

  async open(): Promise<void> {
    this.#assertOpen();
  }

  async append({ to, except, body, key }: NewEntry): Promise<string> {
    this.#assertOpen();
    checkBody(body);
    const now = performance.now(); // one reading for all of an append: each takes 0.05 µs
    this.#trim(now);
    const existing = key === undefined ? undefined : this.#keys.get(key);
    if (existing !== undefined) return this.#id(existing);

    const entry: Entry = { id: this.#id(++this.#head), to: to && [...to], except: except && [...except], body };
    this.#stored.push({ entry, key, storedAt: now });
    this.#bytes += body.byteLength;
    if (key !== undefined) this.#keys.set(key, this.#head);
    this.#deliveries++;
    try {
      for (const state of this.#followers) this.#deliver(state);
    } finally {
      this.#deliveries--;
      this.#trim(now);
      this.#scheduleTrim();
    }
    return entry.id;
  }

  async window(max: number): Promise<JournalWindow> {
    this.#assertOpen();
    this.#trim();
    return this.#window(max);
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    this.#assertOpen();
    this.#trim();
    const reason = this.#whyInvalid(after);
    if (reason) return { ok: false, reason };
    return { ok: true, entries: this.#entriesFrom(numberIn(this.#name, after) + 1, limit) };
  }

  /** Delivers the entries that are already in the log before it returns. */
  follow(after: string, follower: Follower): () => void {
    const state: FollowerState = { follower, next: this.#head + 1, trimmed: this.#first - 1, isReceiving: false };
    const unfollow = () => void this.#followers.delete(state);
    if (this.#closed) return unfollow;
    this.#trim();
    const reason = this.#whyInvalid(after);
    state.trimmed = this.#first - 1;
    this.#followers.add(state);
    if (reason) follower.restart(this.#window(Infinity), reason);
    else state.next = numberIn(this.#name, after) + 1;
    this.#deliveries++;
    try {
      this.#deliver(state);
    } finally {
      this.#deliveries--;
      this.#trim();
    }
    return unfollow;
  }

  compare(a: string, b: string): number {
    return compareSequenceIds(a, b);
  }

  isId(text: string): boolean {
    return isSequenceId(text);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#followers.clear();
    this.#keys.clear();
    this.#stored.clear();
    this.#first = this.#head + 1;
    this.#bytes = 0;
    clearTimeout(this.#timer);
  }

  #assertOpen(): void {
    if (this.#closed) throw new SseError('ERR_SSE_CLOSED', 'This journal is closed. Create a new one.');
  }

  #id(n: number): string {
    return `${this.#name}-${n}`;
  }

  /** Returns why an id is not a valid position. The head is valid even if it has been trimmed: no entry after it is missing. */
  #whyInvalid(id: string): 'lost' | 'unknown' | undefined {
    const n = numberIn(this.#name, id);
    if (n < 0 || n > this.#head) return 'unknown';
    return n >= this.#first || n === this.#head || (n === 0 && this.#first === 1) ? undefined : 'lost';
  }

  #entriesFrom(n: number, limit: number): Entry[] {
    const from = n - this.#first;
    const end = Math.min(this.#stored.length, from + limit);
    if (end - from === 1) return [this.#stored.at(from)!.entry]; // `push()` on an empty array allocates 17 slots (Node 20)
    const entries: Entry[] = [];
    for (let i = from; i < end; i++) entries.push(this.#stored.at(i)!.entry);
    return entries;
  }

  #window(max: number): JournalWindow {
    const from = Math.max(this.#first, this.#head + 1 - max);
    return { floor: this.#id(from - 1), entries: this.#entriesFrom(from, Infinity) };
  }

  /** Delivers all entries that a follower has not received. If the follower appends, the running loop delivers that entry too. */
  #deliver(state: FollowerState): void {
    if (state.isReceiving) return;
    state.isReceiving = true;
    try {
      while (state.next <= this.#head && this.#followers.has(state)) {
        const batch = this.#entriesFrom(state.next, Infinity);
        state.next = this.#head + 1;
        state.follower.entries(batch);
      }
    } finally {
      state.isReceiving = false;
    }
  }

  /** Removes the oldest entries until all limits hold. Does nothing during a delivery: a follower could miss the next entry. */
  #trim(now = performance.now()): void {
    if (this.#deliveries > 0 || this.#closed) return;
    const { size, maxAge, maxBytes } = this.#limits;
    const before = this.#first;
    const expiry = now - maxAge;
    let last = '';
    while (this.#first <= this.#head) {
      const { entry, key, storedAt } = this.#stored.at(0)!;
      if (this.#head - this.#first < size && this.#bytes <= maxBytes && storedAt > expiry) break;
      if (key !== undefined) this.#keys.delete(key);
      this.#bytes -= entry.body.byteLength;
      this.#stored.shift();
      this.#first++;
      last = entry.id;
    }
    if (this.#first === before) return;
    for (const state of this.#followers) {
      // A follower that appends in `trim` trims further. Do not report less to a follower than that inner trim has reported.
      if (state.trimmed >= this.#first - 1) continue;
      state.trimmed = this.#first - 1;
      state.follower.trim?.(last);
    }
  }

  /** Sets one timer for the whole log. It removes old entries while nothing is appended or read. It keeps no process alive. */
  #scheduleTrim(): void {
    const oldest = this.#stored.at(0);
    const { maxAge } = this.#limits;
    if (this.#timer || !oldest || maxAge === Infinity || this.#closed) return;
    const remaining = oldest.storedAt + maxAge - performance.now();
    const delay = Math.min(Math.ceil(Math.max(remaining, maxAge / 16, 1)), MAX_TIMER_MS);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#trim();
      this.#scheduleTrim();
    }, delay);
    this.#timer.unref();
  }
}
