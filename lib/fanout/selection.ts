/*
 * The entries of a segment that a subscriber group receives, and the packet that it shares with the groups that receive the same ones.
 *
 * Invariants: two groups have the same selection if and only if they have the same addresses of the segment. A packet is made at its
 * first use.
 */

import { isEvent, Packet } from '../wire/packet.ts';
import type { Ring } from './ring.ts';

/** The entries (from, to] of the ring while they are dispatched. */
export interface Segment {
  readonly ring: Ring;
  readonly from: number;
  readonly to: number;
}

/** The entries of a segment that have the same receivers: a selection has all of them or none. */
export class Address {
  readonly segment: Segment;
  /** Their numbers in the ring, ascending. */
  readonly numbers: number[];

  constructor(segment: Segment, n: number) {
    this.segment = segment;
    this.numbers = [n];
  }
}

/**
 * The entries of some addresses: those of another selection, and of one more address. Each address is added to all of its groups before
 * the next one. So the groups that get it from the same selection find the new one by a look at the last: no set of entries is named.
 */
export class Selection {
  readonly #rest: Selection | undefined;
  readonly address: Address;
  /** How many groups have this selection. */
  groupCount = 0;
  #next: Selection | undefined = undefined;
  #withIds: Packet | undefined = undefined;
  #withoutIds: Packet | undefined = undefined;

  constructor(rest: Selection | undefined, address: Address) {
    this.#rest = rest;
    this.address = address;
  }

  /** Returns the selection with one more address, which must be the newest. */
  with(address: Address): Selection {
    if (this.#next?.address !== address) this.#next = new Selection(this, address);
    return this.#next;
  }

  /** Returns the packet of the entries. @param isForOne Whether one connection receives it. */
  packet(withIds: boolean, isForOne: boolean): Packet {
    if (withIds) return (this.#withIds ??= this.#create(true, isForOne));
    return (this.#withoutIds ??= this.#create(false, isForOne));
  }

  #create(withIds: boolean, isForOne: boolean): Packet {
    const { ring } = this.address.segment;
    const numbers = this.#numbers();
    const entries = numbers.map((n) => ring.at(n));
    const lastN = numbers.findLast((n) => isEvent(ring.at(n))) ?? 0;
    return isForOne ? Packet.forOne(entries, withIds, lastN) : Packet.fromEntries(entries, withIds, lastN);
  }

  /** The numbers of all entries, ascending. */
  #numbers(): readonly number[] {
    if (this.#rest === undefined) return this.address.numbers;
    const { from, to } = this.address.segment;
    // A mark for each entry of the segment: sorting the numbers takes longer.
    const marks = new Uint8Array(to - from);
    for (let at: Selection | undefined = this; at !== undefined; at = at.#rest) {
      for (const n of at.address.numbers) marks[n - from - 1] = 1;
    }
    const numbers: number[] = [];
    for (let i = 0; i < marks.length; i++) if (marks[i] === 1) numbers.push(from + 1 + i);
    return numbers;
  }
}
