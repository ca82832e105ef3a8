/*
 * The newest entries of the journal in this process, and where a cursor stands among them.
 * Knows the journal's types.
 * Invariant: it is a stretch of the log without a hole, (floor, head]; `n` counts its entries and never stands for two of them
 * at once; nothing leaves before it has been settled.
 */

import { Deque } from '../journal/deque.ts';
import type { Entry, JournalWindow } from '../journal/journal.ts';

/** How much a ring holds, whichever is reached first. */
export interface RingLimits {
  readonly entries: number;
  readonly bytes: number;
}

export class Ring {
  readonly #limits: RingLimits;
  readonly #compare: (a: string, b: string) => number;
  readonly #entries = new Deque<Entry>();
  #first = 1; // the n of the oldest
  #floor = ''; // the id just before it
  #bytes = 0;
  #lost = 0; // the newest n that the log is known to have let go
  #settled = 0;

  constructor(limits: RingLimits, compare: (a: string, b: string) => number) {
    this.#limits = limits;
    this.#compare = compare;
  }

  /** The n of the oldest entry. */
  get first(): number {
    return this.#first;
  }

  /** The n of the newest entry; one less than `first` when there is none. */
  get head(): number {
    return this.#first + this.#entries.length - 1;
  }

  get headId(): string {
    return this.idAt(this.head) as string;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Everything anew, from a window of the log. Counting goes on, so that an older n is never mistaken. */
  fill(window: JournalWindow): void {
    this.#first = this.head + 2; // past the old head too, or who stands there would seem to stand on the new floor
    this.#entries.clear();
    this.#bytes = 0;
    this.#floor = window.floor;
    this.#lost = this.#first - 2;
    for (const entry of window.entries) this.push(entry);
    this.settle(this.head);
  }

  push(entry: Entry): void {
    this.#entries.push(entry);
    this.#bytes += entry.body.byteLength;
  }

  /** Everything up to `n` has been written to who is live: what is over the limits may go. */
  settle(n: number): void {
    this.#settled = n;
    while (
      this.#first <= n &&
      (this.head - this.#first >= this.#limits.entries || this.#bytes > this.#limits.bytes || this.#first <= this.#lost)
    ) {
      const oldest = this.#entries.shift() as Entry;
      this.#first++;
      this.#floor = oldest.id;
      this.#bytes -= oldest.body.byteLength;
    }
  }

  /** The log has let go of everything up to `id`. */
  trim(id: string): void {
    // A full log lets go of one entry for each that comes: the next in line, nearly always.
    const next = Math.max(this.#lost + 1, this.#first);
    const n = this.idAt(next) === id ? next : this.locate(id);
    if (n === undefined || n <= this.#lost) return;
    this.#lost = n;
    this.settle(this.#settled);
  }

  /** What came after `n` is not in the log. */
  truncate(n: number): void {
    while (this.head > n) this.#bytes -= (this.#entries.pop() as Entry).body.byteLength;
    this.#settled = Math.min(this.#settled, n);
  }

  /** The entry numbered `n`, which must be in the ring. */
  at(n: number): Entry {
    return this.#entries.at(n - this.#first) as Entry;
  }

  /** The id of position `n`, the floor's included; `undefined` for what is not in the ring. */
  idAt(n: number): string | undefined {
    return n === this.#first - 1 ? this.#floor : this.#entries.at(n - this.#first)?.id;
  }

  /** The n of an id that is in the ring and, as far as is known here, in the log. */
  find(id: string): number | undefined {
    const n = this.locate(id);
    return n !== undefined && n <= this.#lost && n !== this.head ? undefined : n;
  }

  /** How far one write may go from `from`: to `limit`, or to where the bodies make `bytes`, one entry at least. */
  reach(from: number, limit: number, bytes: number): number {
    let n = from;
    for (let sum = 0; n < limit && sum < bytes; sum += this.at(n).body.byteLength) n++;
    return n;
  }

  /** The ids from the newest down to the floor. */
  *ids(): Generator<string> {
    for (let n = this.head; n >= this.#first - 1; n--) yield this.idAt(n) as string;
  }

  /** The n of an id that is in the ring, whether the log still has it or not. */
  locate(id: string): number | undefined {
    let low = this.#first - 1;
    let high = this.head;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const order = this.#compare(this.idAt(middle) as string, id);
      if (order === 0) return this.idAt(middle) === id ? middle : undefined; // another life of the log may count alike
      if (order < 0) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }
}
