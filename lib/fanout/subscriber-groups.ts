/*
 * Groups the connections that have joined the same channels, so that one decision and one packet serve all of them.
 *
 * Invariants: a member is in exactly one group. A group without members does not exist. An iterator that was taken before a change
 * ends, and visits each member that was there before and after the change.
 */

import type { Entry } from '../journal/journal.ts';
import { addTo, ReadOnlySet } from './read-only-set.ts';
import type { Selection } from './selection.ts';

/**
 * The members that have joined exactly these channels. Most groups are a user's, with one channel and one member: neither of the two
 * gets a Set, which takes some 200 bytes, until it is needed.
 */
export class SubscriberGroup<M> {
  readonly key: string;
  /** The channels, without duplicates. */
  readonly names: readonly string[];
  /** While a segment is dispatched: its entries that are for the members. */
  selection: Selection | undefined = undefined;
  #only: M | undefined = undefined;
  #several: Set<M> | undefined = undefined;
  #channels: ReadOnlySet<string> | undefined = undefined;

  constructor(key: string, names: readonly string[]) {
    this.key = key;
    this.names = names;
  }

  /** The channels. */
  get channels(): ReadonlySet<string> {
    if (this.#channels === undefined) {
      this.#channels = new ReadOnlySet<string>();
      for (const name of this.names) addTo(this.#channels, name);
    }
    return this.#channels;
  }

  /** The member, if there is exactly one. */
  get only(): M | undefined {
    return this.#only;
  }

  get members(): Iterable<M> {
    if (this.#several !== undefined) return this.#several;
    return this.#only === undefined ? [] : [this.#only];
  }

  get isEmpty(): boolean {
    return this.#only === undefined && this.#several === undefined;
  }

  add(member: M): void {
    if (this.#several !== undefined) this.#several.add(member);
    else if (this.#only === undefined) this.#only = member;
    else if (this.#only !== member) {
      this.#several = new Set([this.#only, member]);
      this.#only = undefined;
    }
  }

  remove(member: M): void {
    if (this.#only === member) this.#only = undefined;
    if (!this.#several?.delete(member) || this.#several.size > 1) return;
    [this.#only] = this.#several;
    this.#several = undefined;
  }

  /** Whether the members have joined this channel. */
  has(channel: string): boolean {
    return this.names.length > MAX_SEARCHED_NAMES ? this.channels.has(channel) : this.names.includes(channel);
  }

  /** Whether an entry is for the members of this group. */
  matches({ to, except }: Pick<Entry, 'to' | 'except'>): boolean {
    if (to !== undefined && !to.some((channel) => this.has(channel))) return false;
    return except === undefined || !except.some((channel) => this.has(channel));
  }
}

/** Up to this number of channels, a search in the array is as fast as a Set. */
const MAX_SEARCHED_NAMES = 8;

/** The groups of a channel that several groups have joined. */
export interface ChannelGroups<M> {
  readonly groups: Set<SubscriberGroup<M>>;
}

/** All groups of one router. */
export class SubscriberGroups<M> {
  readonly #byKey = new Map<string, SubscriberGroup<M>>();
  /** A channel that one group has joined has this group as its value. */
  readonly #byChannel = new Map<string, SubscriberGroup<M> | ChannelGroups<M>>();

  /** The number of channels that have at least one member. */
  get channelCount(): number {
    return this.#byChannel.size;
  }

  /** Moves a member to the group of these channels, which is created if necessary, and returns this group. */
  assign(member: M, from: SubscriberGroup<M> | undefined, channels: readonly string[]): SubscriberGroup<M> {
    const sorted = channels.length > 1 ? channels.toSorted() : channels;
    const key = keyOf(sorted);
    let group = this.#byKey.get(key);
    if (group === undefined) {
      group = new SubscriberGroup(key, sorted);
      this.#byKey.set(key, group);
      for (const channel of sorted) this.#addToChannel(channel, group);
    }
    group.add(member);
    if (from !== undefined && from !== group) this.remove(member, from);
    return group;
  }

  /** Removes a member from its group. */
  remove(member: M, group: SubscriberGroup<M>): void {
    group.remove(member);
    if (!group.isEmpty || this.#byKey.get(group.key) !== group) return;
    this.#byKey.delete(group.key);
    for (const channel of group.names) this.#removeFromChannel(channel, group);
  }

  /** Returns all groups. */
  all(): Iterable<SubscriberGroup<M>> {
    return this.#byKey.values();
  }

  /** Returns the group that has joined a channel, or the groups if there are several; `undefined` if there is none. */
  ofChannel(channel: string): SubscriberGroup<M> | ChannelGroups<M> | undefined {
    return this.#byChannel.get(channel);
  }

  /** Returns the groups that an entry with these receivers may be for. `except` is not considered. */
  candidatesFor(to: readonly string[] | undefined): Iterable<SubscriberGroup<M>> {
    if (to === undefined) return this.#byKey.values();
    const candidates = new Set<SubscriberGroup<M>>();
    for (const channel of to) {
      const found = this.#byChannel.get(channel);
      if (found instanceof SubscriberGroup) candidates.add(found);
      else for (const group of found?.groups ?? []) candidates.add(group);
    }
    return candidates;
  }

  #addToChannel(channel: string, group: SubscriberGroup<M>): void {
    const found = this.#byChannel.get(channel);
    if (found === undefined) this.#byChannel.set(channel, group);
    else if (found instanceof SubscriberGroup) this.#byChannel.set(channel, { groups: new Set([found, group]) });
    else found.groups.add(group);
  }

  #removeFromChannel(channel: string, group: SubscriberGroup<M>): void {
    const found = this.#byChannel.get(channel);
    if (found === group) this.#byChannel.delete(channel);
    if (found === undefined || found instanceof SubscriberGroup) return;
    found.groups.delete(group);
    if (found.groups.size === 1) for (const last of found.groups) this.#byChannel.set(channel, last);
  }
}

/** Returns the key of a group. The one channel of a user's group is its own key: a second string takes memory for each user. */
function keyOf(sorted: readonly string[]): string {
  if (sorted.length === 0) return ''; // the group of every new connection
  const [first] = sorted as [string];
  return sorted.length > 1 || first.startsWith('[') ? JSON.stringify(sorted) : first;
}
