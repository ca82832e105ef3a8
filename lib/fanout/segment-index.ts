/*
 * The index of a segment, from its entries to the subscriber groups that receive them.
 *
 * Invariants: each entry is looked at once, and each group once for each of its entry classes, so the cost does not grow with entries for
 * others. The index is complete before the first packet of the segment is written. A group that is created meanwhile needs none: its
 * connections received the segment before they joined it.
 */

import type { Entry } from '../journal/journal.ts';
import { MAX_WRITE_BYTES } from '../wire/packet.ts';
import type { Ring } from './ring.ts';
import { EntryClass, Selection, type Segment } from './selection.ts';
import { SubscriberGroup, type SubscriberGroups } from './subscriber-groups.ts';

/**
 * The size of a segment without an entry for many groups. So the events of a user leave in one write although thousands of other users
 * have events between them. A segment with such an entry ends after {@link MAX_WRITE_BYTES}: of writes of 56 KB to 3,000 connections,
 * the kernel refused many in part, and the event loop was blocked for 34 ms instead of 13.
 */
const MAX_SEGMENT_BYTES = 1_048_576;
const MAX_SEGMENT_ENTRIES = 16_384;
/** How many entries, channels and groups are looked at between two readings of the clock: 30 µs, and more with exceptions. */
const STEPS_PER_YIELD = 256;
/** Up to this number of groups, an entry is a class by itself: it takes longer to find entries with the same receivers. */
const FEW_GROUPS = 8;

export class SegmentIndex<M> implements Segment {
  readonly ring: Ring;
  readonly from: number;
  to: number;
  /** The bytes of the bodies. */
  bytes = 0;
  everyone: EntryClass | undefined = undefined;
  readonly #groups: SubscriberGroups<M>;
  /** Whether many groups receive an entry. */
  #isBroad = false;
  /** The selection of the groups that receive nothing else than the entries for everyone. */
  #base: Selection | undefined = undefined;
  /** The newest selection of one class. */
  #single: Selection | undefined = undefined;
  /** The groups with more than the entries for everyone. */
  readonly #selected: SubscriberGroup<M>[] = [];
  #steps = 0;

  /** The segment begins after `from`. */
  constructor(ring: Ring, groups: SubscriberGroups<M>, from: number) {
    this.ring = ring;
    this.from = from;
    this.to = from;
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
    return selection?.entryClass.segment === this ? selection : this.#base;
  }

  /** Builds the index up to `head`, or until the segment is large enough. Yields when it is time to read the clock. */
  *build(head: number): Generator<void, void> {
    const { ring } = this;
    /** The entry classes of many groups, by their receivers. */
    const broad = new Map<string, EntryClass>();
    while (this.to < head && !this.#isLarge()) {
      const n = ++this.to;
      const entry = ring.at(n);
      const { to, except, body } = entry;
      this.bytes += body.byteLength;
      if (++this.#steps % STEPS_PER_YIELD === 0) yield;
      if (to === undefined && except === undefined) {
        this.#isBroad = true;
        if (this.everyone === undefined) this.everyone = new EntryClass(this, n);
        else this.everyone.numbers.push(n);
        continue;
      }
      const only = to?.length === 1 && except === undefined ? this.#groups.ofChannel(to[0]!) : undefined;
      if (only instanceof SubscriberGroup) this.#add(only, new EntryClass(this, n)); // most private events
      else if (this.#isForFew(entry)) yield* this.#addAll(entry, new EntryClass(this, n));
      else {
        this.#isBroad = true;
        const key = JSON.stringify([to, except]);
        const entryClass = broad.get(key);
        if (entryClass === undefined) broad.set(key, new EntryClass(this, n));
        else entryClass.numbers.push(n);
      }
    }
    for (const entryClass of broad.values()) yield* this.#addAll(ring.at(entryClass.numbers[0]!), entryClass);
    if (this.everyone === undefined) return;
    this.#base = new Selection(undefined, this.everyone);
    this.#base.groupCount = Infinity; // its packet is for no group alone
  }

  #isLarge(): boolean {
    if (this.bytes >= (this.#isBroad ? MAX_WRITE_BYTES : MAX_SEGMENT_BYTES)) return true;
    return this.to - this.from >= MAX_SEGMENT_ENTRIES;
  }

  /** Whether an entry is for at most {@link FEW_GROUPS} groups. */
  #isForFew({ to }: Entry): boolean {
    if (to === undefined) return false;
    let count = 0;
    for (const channel of to) {
      const found = this.#groups.ofChannel(channel);
      if (found !== undefined) count += found instanceof SubscriberGroup ? 1 : found.groups.size;
      if (count > FEW_GROUPS) return false;
    }
    return true;
  }

  /** Adds an entry class to all groups that receive it. */
  *#addAll(entry: Entry, entryClass: EntryClass): Generator<void, void> {
    const { to, except } = entry;
    if (to === undefined) {
      for (const group of this.#groups.all()) {
        if (group.matches(entry)) this.#add(group, entryClass);
        if (++this.#steps % STEPS_PER_YIELD === 0) yield;
      }
      return;
    }
    for (const channel of to) {
      const found = this.#groups.ofChannel(channel);
      const groups = found instanceof SubscriberGroup ? [found] : (found?.groups ?? []);
      for (const group of groups) {
        if (except === undefined || group.matches(entry)) this.#add(group, entryClass);
        if (++this.#steps % STEPS_PER_YIELD === 0) yield;
      }
      if (++this.#steps % STEPS_PER_YIELD === 0) yield;
    }
  }

  #add(group: SubscriberGroup<M>, entryClass: EntryClass): void {
    const { selection } = group;
    let next: Selection;
    if (selection?.entryClass.segment === this) {
      if (selection.entryClass === entryClass) return; // the group has joined several of the entry's channels
      selection.groupCount--;
      next = selection.with(entryClass);
    } else {
      this.#selected.push(group);
      if (this.#single?.entryClass !== entryClass) this.#single = new Selection(undefined, entryClass);
      next = this.#single;
    }
    next.groupCount++;
    group.selection = next;
  }
}
