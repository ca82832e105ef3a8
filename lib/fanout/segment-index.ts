/*
 * The index of a segment, from its entries to the subscriber groups that receive them.
 *
 * Invariants: each entry is looked at once, and each group once for each of its addresses, so the cost does not grow with entries for
 * others. The index is complete before the first packet of the segment is written. A group that appears meanwhile needs none: its
 * connections have received the segment before they came.
 */

import type { Entry } from '../journal/journal.ts';
import type { Ring } from './ring.ts';
import { Address, Selection, type Segment } from './selection.ts';
import { SubscriberGroup, type SubscriberGroups } from './subscriber-groups.ts';

/** How many groups and channels are looked at between two readings of the clock: 15 µs, and more if groups have many channels. */
const STEPS_PER_YIELD = 256;
/** Entries with the same receivers become one address if these are more groups than this. For fewer, the search takes longer. */
const MAX_UNMERGED_GROUPS = 8;

export class SegmentIndex<M> implements Segment {
  readonly ring: Ring;
  readonly from: number;
  readonly to: number;
  /** The bytes of the bodies. */
  bytes = 0;
  readonly #groups: SubscriberGroups<M>;
  /** The entries that are for every connection. */
  #base: Selection | undefined = undefined;
  /** The groups that receive more than these. */
  readonly #selected: SubscriberGroup<M>[] = [];
  /** The newest selection that has one address only. */
  #start: Selection | undefined = undefined;
  #steps = 0;

  constructor(ring: Ring, groups: SubscriberGroups<M>, from: number, to: number) {
    this.ring = ring;
    this.from = from;
    this.to = to;
    this.#groups = groups;
  }

  /** Returns the groups that may receive entries of the segment. */
  receivers(): Iterable<SubscriberGroup<M>> {
    return this.#base === undefined ? this.#selected : this.#groups.all();
  }

  /** Takes the selection of a group out of the index; `undefined`: the group receives nothing. */
  take(group: SubscriberGroup<M>): Selection | undefined {
    const { selection } = group;
    group.selection = undefined;
    return selection?.address.segment === this ? selection : this.#base;
  }

  /** Builds the index. Yields when it is time to read the clock. */
  *build(): Generator<void, void> {
    const { ring, from, to } = this;
    const groups = this.#groups;
    this.#base = this.#forEveryone();
    /** The entries for many groups, by their receivers. */
    const merged = new Map<string, Address>();
    for (let n = from + 1; n <= to; n++) {
      const entry = ring.at(n);
      if (entry.to === undefined && entry.except === undefined) continue;
      const [channel] = entry.to ?? [];
      if (entry.to?.length === 1 && entry.except === undefined) {
        // Most private events are of this form.
        const found = groups.ofChannel(channel!);
        if (found instanceof SubscriberGroup) {
          this.#add(found, new Address(this, n));
          if (++this.#steps % STEPS_PER_YIELD === 0) yield;
          continue;
        }
      }
      if (this.#isForFew(entry)) {
        yield* this.#addAll(entry, new Address(this, n));
        continue;
      }
      const key = JSON.stringify([entry.to, entry.except]);
      const address = merged.get(key);
      if (address === undefined) merged.set(key, new Address(this, n));
      else address.numbers.push(n);
    }
    for (const address of merged.values()) yield* this.#addAll(ring.at(address.numbers[0]!), address);
  }

  /** Returns the entries for every connection; `undefined` if there are none. */
  #forEveryone(): Selection | undefined {
    const { ring } = this;
    let address: Address | undefined;
    for (let n = this.from + 1; n <= this.to; n++) {
      const { to, except, body } = ring.at(n);
      this.bytes += body.byteLength;
      if (to !== undefined || except !== undefined) continue;
      if (address === undefined) address = new Address(this, n);
      else address.numbers.push(n);
    }
    if (address === undefined) return undefined;
    const selection = new Selection(undefined, address);
    selection.groupCount = 2; // it is nobody's own
    return selection;
  }

  /** Whether an entry is for at most {@link MAX_UNMERGED_GROUPS} groups. */
  #isForFew({ to }: Entry): boolean {
    if (to === undefined) return false;
    let count = 0;
    for (const channel of to) {
      const found = this.#groups.ofChannel(channel);
      if (found !== undefined) count += found instanceof SubscriberGroup ? 1 : found.groups.size;
      if (count > MAX_UNMERGED_GROUPS) return false;
    }
    return true;
  }

  /** Adds an address to all groups that receive it. */
  *#addAll(entry: Entry, address: Address): Generator<void, void> {
    const { to, except } = entry;
    if (to === undefined) {
      for (const group of this.#groups.all()) {
        if (group.matches(entry)) this.#add(group, address);
        if (++this.#steps % STEPS_PER_YIELD === 0) yield;
      }
      return;
    }
    for (const channel of to) {
      const found = this.#groups.ofChannel(channel);
      const groups = found instanceof SubscriberGroup ? [found] : (found?.groups ?? []);
      for (const group of groups) {
        if (except === undefined || group.matches(entry)) this.#add(group, address);
        if (++this.#steps % STEPS_PER_YIELD === 0) yield;
      }
      if (++this.#steps % STEPS_PER_YIELD === 0) yield;
    }
  }

  #add(group: SubscriberGroup<M>, address: Address): void {
    let { selection } = group;
    if (selection?.address.segment === this) {
      if (selection.address === address) return; // the group is in several channels of the entry
      selection.groupCount--;
    } else {
      selection = this.#base;
      this.#selected.push(group);
    }
    const next = selection === undefined ? this.#first(address) : selection.with(address);
    next.groupCount++;
    group.selection = next;
  }

  #first(address: Address): Selection {
    if (this.#start?.address !== address) this.#start = new Selection(undefined, address);
    return this.#start;
  }
}
