/*
 * The entries of a segment that a subscriber group receives, and the packet that it shares with the groups that receive the same ones.
 *
 * Invariants: two groups with the same entry classes have the same selection. A packet is made at its first use, after the index of the
 * segment is complete.
 */

import { isEvent, MAX_WRITE_BYTES, Packet } from '../wire/packet.ts';
import type { Ring } from './ring.ts';

/** What the selections of one segment have in common. */
export interface Segment {
  readonly ring: Ring;
  /** The entries that are for every connection. */
  readonly everyone: EntryClass | undefined;
}

/** The entries of a segment that have the same receivers: a selection has all of them or none. */
export class EntryClass {
  readonly segment: Segment;
  /** Their numbers in the ring, ascending. */
  readonly numbers: number[];

  constructor(segment: Segment, n: number) {
    this.segment = segment;
    this.numbers = [n];
  }
}

/**
 * The entries of some entry classes, and those for every connection. A selection is another one and one more class. Each class is added
 * to all of its groups before the next one. So the groups that add it to the same selection find the new one by a look at the newest:
 * no set of entries gets a name that must be computed and compared.
 */
export class Selection {
  readonly entryClass: EntryClass;
  /** How many groups have this selection. */
  groupCount = 0;
  readonly #rest: Selection | undefined;
  #next: Selection | undefined = undefined;
  #withIds: Packet | undefined = undefined;
  #withoutIds: Packet | undefined = undefined;

  constructor(rest: Selection | undefined, entryClass: EntryClass) {
    this.#rest = rest;
    this.entryClass = entryClass;
  }

  /** Returns the selection with one more class, which must be the newest of the segment. */
  with(entryClass: EntryClass): Selection {
    if (this.#next?.entryClass !== entryClass) this.#next = new Selection(this, entryClass);
    return this.#next;
  }

  /**
   * Returns the packet of the entries; `undefined` if they are too large for one write.
   * @param isForOne Whether one connection receives it.
   */
  packet(withIds: boolean, isForOne: boolean): Packet | undefined {
    if (withIds) return (this.#withIds ??= this.#create(true, isForOne));
    return (this.#withoutIds ??= this.#create(false, isForOne));
  }

  #create(withIds: boolean, isForOne: boolean): Packet | undefined {
    const { ring } = this.entryClass.segment;
    const numbers = this.#numbers();
    if (numbers.length === 1) {
      const n = numbers[0]!; // most private events are alone in their tick: no list of entries, no search for the last event
      const entry = ring.at(n);
      const lastN = isEvent(entry) ? n : 0;
      return isForOne ? Packet.forOne([entry], withIds, lastN) : Packet.fromEntries([entry], withIds, lastN);
    }
    const entries = numbers.map((n) => ring.at(n));
    let bytes = -entries.at(-1)!.body.byteLength; // a single event may be larger, as in `Ring.reach()`
    for (const { body } of entries) bytes += body.byteLength;
    if (bytes >= MAX_WRITE_BYTES) return undefined;
    const lastN = numbers.findLast((n) => isEvent(ring.at(n))) ?? 0;
    return isForOne ? Packet.forOne(entries, withIds, lastN) : Packet.fromEntries(entries, withIds, lastN);
  }

  /** The numbers of all entries, ascending. */
  #numbers(): readonly number[] {
    const { everyone } = this.entryClass.segment;
    if (this.#rest === undefined && (everyone === undefined || everyone === this.entryClass))
      return this.entryClass.numbers;
    const numbers = everyone === undefined ? [] : [...everyone.numbers];
    numbers.push(...this.entryClass.numbers);
    for (let rest = this.#rest; rest !== undefined; rest = rest.#rest) numbers.push(...rest.entryClass.numbers);
    return numbers.sort((a, b) => a - b); // 500 numbers take 8 µs, and their packet 300
  }
}
