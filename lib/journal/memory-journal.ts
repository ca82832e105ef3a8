/*
 * The log in this process' memory: the default, and the pattern for the others.
 * Knows the contract, ids and bounds; nothing of events, connections or Express.
 * Invariant: entries leave only after every follower has been told them, so nobody who keeps up has a hole.
 */
import { type JournalLimit, checkJournalLimits } from './journal-limits.ts';
import { SseError, SseTypeError, describe } from '../errors.ts';
import type { Entry, Follower, Journal, NewEntry, ReadResult, JournalWindow } from './journal.ts';
import { comparePositions, isPosition, newLogName, numberIn } from './sequence-id.ts';

/** How much {@link memoryJournal} keeps. All bounds hold at once; the oldest entries leave first. */
export interface MemoryJournalOptions {
  /**
   * Entries: a positive integer, or `Infinity` for as many as the other bounds allow.
   * @defaultValue 1024
   */
  readonly size?: number;
  /**
   * Milliseconds that an entry stays: any positive number, or `Infinity` for ever. Measured by a clock that nobody can set,
   * so a jump of the system's time changes nothing. Without traffic an entry leaves up to a sixteenth later.
   * @defaultValue 300000 (5 minutes)
   */
  readonly maxAge?: number;
  /**
   * Bytes of all bodies together (their `byteLength`): a positive integer, or `Infinity`. An entry that is larger on its own
   * is told to those who are connected, and leaves at once: nobody can resume over it.
   * @defaultValue 16777216 (16 MiB)
   */
  readonly maxBytes?: number;
}

const BOUNDS: Readonly<Record<keyof MemoryJournalOptions, JournalLimit>> = {
  size: { default: 1024, integer: true },
  maxAge: { default: 300_000, integer: false },
  maxBytes: { default: 16 * 1024 * 1024, integer: true },
};

const LONGEST_TIMEOUT = 2 ** 31 - 1; // setTimeout takes anything longer for 1 ms
const COMPACT_AFTER = 1024; // trimmed places at the front of the array before they are cut off

/**
 * A log in this process' memory. It ends with the process: ids carry a random name of this life, so an id from before
 * a restart is known to be `unknown` and never mistaken. An append is told to the followers before it returns.
 * @throws {SseTypeError} `ERR_SSE_OPTION` when an option is unknown or out of range.
 */
export function memoryJournal(options: MemoryJournalOptions = {}): Journal {
  return new MemoryJournal(checkJournalLimits('memoryJournal', options, BOUNDS)) satisfies Journal;
}

interface Slot {
  readonly entry: Entry;
  readonly key: string | undefined;
  readonly at: number;
}

/** Somebody who follows. `next`: the number told next; `trimmed`: up to where it knows that the log is cut. */
interface Reader {
  readonly follower: Follower;
  next: number;
  trimmed: number;
  telling: boolean;
}

class MemoryJournal implements Journal {
  readonly #name = newLogName();
  readonly #bounds: Readonly<Required<MemoryJournalOptions>>;
  readonly #readers = new Set<Reader>();
  readonly #keys = new Map<string, number>();
  #slots: (Slot | undefined)[] = []; // a queue: the first #start places are empty
  #start = 0;
  #first = 1; // the number of the oldest entry; #head + 1 when the log is empty
  #head = 0;
  #bytes = 0;
  #telling = 0; // how many appends are being told right now: more than one when a follower appends
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(bounds: Readonly<Required<MemoryJournalOptions>>) {
    this.#bounds = bounds;
  }

  async open(): Promise<void> {
    this.#mustBeOpen();
  }

  async append({ to, except, body, key }: NewEntry): Promise<string> {
    this.#mustBeOpen();
    if (!(body instanceof Uint8Array)) {
      // A body without byteLength would make the count of bytes NaN, and with it every later comparison false.
      throw new SseTypeError('ERR_SSE_DATA', `append: body must be a Uint8Array; got ${describe(body)}`);
    }
    this.#trim();
    const known = key === undefined ? undefined : this.#keys.get(key);
    if (known !== undefined) return this.#id(known);

    const entry: Entry = { id: this.#id(++this.#head), to: to && [...to], except: except && [...except], body };
    this.#slots.push({ entry, key, at: performance.now() });
    this.#bytes += body.byteLength;
    if (key !== undefined) this.#keys.set(key, this.#head);
    this.#telling++;
    try {
      for (const reader of this.#readers) this.#tell(reader);
    } finally {
      this.#telling--;
      this.#trim();
      this.#watchAge();
    }
    return entry.id;
  }

  async window(max: number): Promise<JournalWindow> {
    this.#mustBeOpen();
    this.#trim();
    return this.#window(max);
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    this.#mustBeOpen();
    this.#trim();
    const reason = this.#whyNot(after);
    if (reason) return { ok: false, reason };
    return { ok: true, entries: this.#entriesFrom(numberIn(this.#name, after) + 1, limit) };
  }

  /** Tells what is already there before it returns. */
  follow(after: string, follower: Follower): () => void {
    const reader: Reader = { follower, next: this.#head + 1, trimmed: this.#first - 1, telling: false };
    const unfollow = () => void this.#readers.delete(reader);
    if (this.#closed) return unfollow;
    this.#trim();
    const reason = this.#whyNot(after);
    reader.trimmed = this.#first - 1;
    this.#readers.add(reader);
    if (reason) follower.restart(this.#window(Infinity), reason);
    else reader.next = numberIn(this.#name, after) + 1;
    this.#telling++;
    try {
      this.#tell(reader);
    } finally {
      this.#telling--;
      this.#trim();
    }
    return unfollow;
  }

  compare(a: string, b: string): number {
    return comparePositions(a, b);
  }

  isId(text: string): boolean {
    return isPosition(text);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#readers.clear();
    this.#keys.clear();
    this.#slots = [];
    this.#start = 0;
    this.#first = this.#head + 1;
    this.#bytes = 0;
    clearTimeout(this.#timer);
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new SseError('ERR_SSE_CLOSED', 'this journal is closed: make a new one');
  }

  #id(n: number): string {
    return `${this.#name}-${n}`;
  }

  /** Why an id is not good; undefined when it is. The head is good even when it has been trimmed: nothing after it is lost. */
  #whyNot(id: string): 'lost' | 'unknown' | undefined {
    const n = numberIn(this.#name, id);
    if (n < 0 || n > this.#head) return 'unknown';
    return n >= this.#first || n === this.#head || (n === 0 && this.#first === 1) ? undefined : 'lost';
  }

  #entriesFrom(n: number, limit: number): Entry[] {
    const entries: Entry[] = [];
    const from = this.#start + n - this.#first;
    const end = Math.min(this.#slots.length, from + limit);
    for (let i = from; i < end; i++) entries.push(this.#slots[i]!.entry);
    return entries;
  }

  #window(max: number): JournalWindow {
    const from = Math.max(this.#first, this.#head + 1 - max);
    return { floor: this.#id(from - 1), entries: this.#entriesFrom(from, Infinity) };
  }

  /** Tells a reader all that it has not been told. A follower that appends meanwhile is told that by the loop that runs already. */
  #tell(reader: Reader): void {
    if (reader.telling) return;
    reader.telling = true;
    try {
      while (reader.next <= this.#head && this.#readers.has(reader)) {
        const batch = this.#entriesFrom(reader.next, Infinity);
        reader.next = this.#head + 1;
        reader.follower.entries(batch);
      }
    } finally {
      reader.telling = false;
    }
  }

  /** Lets the oldest go until all bounds hold; never while somebody is being told, who might lose what comes next. */
  #trim(): void {
    if (this.#telling > 0 || this.#closed) return;
    const { size, maxAge, maxBytes } = this.#bounds;
    const before = this.#first;
    const expired = performance.now() - maxAge;
    while (this.#first <= this.#head) {
      const slot = this.#slots[this.#start]!;
      if (this.#head - this.#first < size && this.#bytes <= maxBytes && slot.at > expired) break;
      if (slot.key !== undefined) this.#keys.delete(slot.key);
      this.#bytes -= slot.entry.body.byteLength;
      this.#slots[this.#start++] = undefined;
      this.#first++;
    }
    if (this.#start >= COMPACT_AFTER && this.#start * 2 >= this.#slots.length) {
      this.#slots = this.#slots.slice(this.#start); // half of it at least: each place is moved once on average
      this.#start = 0;
    }
    if (this.#first === before) return;
    for (const reader of this.#readers) {
      // A follower that appends in here trims further: whoever has been told more than this is left alone.
      if (reader.trimmed >= this.#first - 1) continue;
      reader.trimmed = this.#first - 1;
      reader.follower.trim?.(this.#id(reader.trimmed));
    }
  }

  /** One timer for the whole log, for entries that leave by age while nobody appends or reads. It keeps no process alive. */
  #watchAge(): void {
    const oldest = this.#slots[this.#start];
    const { maxAge } = this.#bounds;
    if (this.#timer || !oldest || maxAge === Infinity || this.#closed) return;
    const left = oldest.at + maxAge - performance.now();
    const delay = Math.min(Math.ceil(Math.max(left, maxAge / 16, 1)), LONGEST_TIMEOUT);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#trim();
      this.#watchAge();
    }, delay);
    this.#timer.unref();
  }
}
