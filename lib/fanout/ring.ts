/*
 * A ring buffer of the newest entries of the journal in this process, numbered by `n`.
 *
 * Invariants: the entries are the part (floor, head] of the log, without a gap. A number `n` identifies one entry at most. No entry
 * is dropped before the dispatcher has settled it.
 */

import { Deque } from '../journal/deque.ts';
import type { Entry, JournalWindow } from '../journal/journal.ts';

/** The size of a ring. It drops its oldest entries when it exceeds either limit. */
export interface RingLimits {
  readonly entries: number;
  readonly bytes: number;
}

/** A ring buffer of entries. */
export class Ring {
  readonly #limits: RingLimits;
  readonly #compare: (a: string, b: string) => number;
  readonly #entries = new Deque<Entry>();
  #first = 1; // the n of the oldest entry
  #floor = ''; // the id just before the oldest entry
  #bytes = 0;
  #trimmedUpTo = 0; // the newest n that the log is known to have dropped
  #settledUpTo = 0;

  constructor(limits: RingLimits, compare: (a: string, b: string) => number) {
    this.#limits = limits;
    this.#compare = compare;
  }

  /** The n of the oldest entry. */
  get first(): number {
    return this.#first;
  }

  /** The n of the oldest entry that may be in the log. An older one is in the ring because it is not dispatched yet. */
  get firstInLog(): number {
    return Math.max(this.#first, this.#trimmedUpTo + 1);
  }

  /** The n of the newest entry; `first - 1` if the ring is empty. */
  get head(): number {
    return this.#first + this.#entries.length - 1;
  }

  /** The id of the newest entry; the floor's if the ring is empty. */
  get headId(): string {
    return this.idAt(this.head) as string;
  }

  /** The size of all bodies in the ring. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Replaces all entries by a window of the log. Numbers continue to grow, so that no earlier n identifies a new entry. */
  fill(window: JournalWindow): void {
    this.#first = this.head + 2; // skips a number: a position at the old head must not equal the new floor
    this.#entries.clear();
    this.#bytes = 0;
    this.#floor = window.floor;
    this.#trimmedUpTo = this.#first - 2;
    for (const entry of window.entries) this.push(entry);
    this.settle(this.head);
  }

  /** Appends an entry. The ring may exceed its limits until {@link Ring.settle}. */
  push(entry: Entry): void {
    this.#entries.push(entry);
    this.#bytes += entry.body.byteLength;
  }

  /** Marks the entries up to `n` as written to all live connections, and drops of them what exceeds the limits. */
  settle(n: number): void {
    this.#settledUpTo = n;
    while (
      this.#first <= n &&
      (this.head - this.#first >= this.#limits.entries ||
        this.#bytes > this.#limits.bytes ||
        this.#first <= this.#trimmedUpTo)
    ) {
      const oldest = this.#entries.shift() as Entry;
      this.#first++;
      this.#floor = oldest.id;
      this.#bytes -= oldest.body.byteLength;
    }
  }

  /** Marks the entries up to `id` as dropped by the log. */
  trim(id: string): void {
    // A full log drops one entry for each that it stores, so `id` is nearly always the next one: no search is needed.
    const next = Math.max(this.#trimmedUpTo + 1, this.#first);
    const n = this.idAt(next) === id ? next : this.locate(id);
    if (n === undefined || n <= this.#trimmedUpTo) return;
    this.#trimmedUpTo = n;
    this.settle(this.#settledUpTo);
  }

  /** Removes the entries after `n`, which are no longer in the log. */
  truncate(n: number): void {
    while (this.head > n) this.#bytes -= (this.#entries.pop() as Entry).body.byteLength;
    this.#settledUpTo = Math.min(this.#settledUpTo, n);
  }

  /** Returns the entry `n`, which must be in the ring. */
  at(n: number): Entry {
    return this.#entries.at(n - this.#first) as Entry;
  }

  /** Returns the id of the position `n`, which may be the floor; `undefined` if it is not in the ring. */
  idAt(n: number): string | undefined {
    return n === this.#first - 1 ? this.#floor : this.#entries.at(n - this.#first)?.id;
  }

  /** Returns the n of an id that is in the ring and, after all trims that were reported, in the log; otherwise `undefined`. */
  find(id: string): number | undefined {
    const n = this.locate(id);
    return n !== undefined && n <= this.#trimmedUpTo && n !== this.head ? undefined : n;
  }

  /** Returns the last n of one write after `from`: at least one entry, up to `limit`, until the bodies amount to `bytes`. */
  reach(from: number, limit: number, bytes: number): number {
    let n = from;
    for (let sum = 0; n < limit && sum < bytes; sum += this.at(n).body.byteLength) n++;
    return n;
  }

  /** Yields the ids from the newest down to the floor. */
  *ids(): Generator<string> {
    for (let n = this.head; n >= this.#first - 1; n--) yield this.idAt(n) as string;
  }

  /** Returns the n of an id that is in the ring, whether or not it is still in the log; otherwise `undefined`. */
  locate(id: string): number | undefined {
    let low = this.#first - 1;
    let high = this.head;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const order = this.#compare(this.idAt(middle) as string, id);
      if (order === 0) return this.idAt(middle) === id ? middle : undefined; // an earlier log may have used the same numbers
      if (order < 0) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }
}
