/*
 * Groups the connections that have joined the same channels, so that one decision and one packet serve all of them.
 *
 * Invariants: a member is in exactly one group. A group without members does not exist.
 */

import type { Entry } from '../journal/journal.ts';
import { addTo, ReadOnlySet } from './read-only-set.ts';

/** The members that have joined exactly these channels. */
export class SubscriberGroup<M> {
  readonly key: string;
  readonly channels = new ReadOnlySet<string>();
  readonly members = new Set<M>();

  constructor(key: string, channels: readonly string[]) {
    this.key = key;
    for (const channel of channels) addTo(this.channels, channel);
  }

  /** Whether an entry is for the members of this group. */
  matches({ to, except }: Entry): boolean {
    if (to !== undefined && !to.some((channel) => this.channels.has(channel))) return false;
    return except === undefined || !except.some((channel) => this.channels.has(channel));
  }
}

/** All groups of one router. */
export class SubscriberGroups<M> {
  readonly #byKey = new Map<string, SubscriberGroup<M>>();
  readonly #byChannel = new Map<string, Set<SubscriberGroup<M>>>();

  /** The number of channels that have at least one member. */
  get channelCount(): number {
    return this.#byChannel.size;
  }

  /** Moves a member to the group of these channels, which is created if necessary, and returns this group. */
  assign(member: M, from: SubscriberGroup<M> | undefined, channels: readonly string[]): SubscriberGroup<M> {
    const sorted = channels.length > 1 ? channels.toSorted() : channels;
    const key = sorted.length === 0 ? '' : JSON.stringify(sorted); // the group of every new connection
    let group = this.#byKey.get(key);
    if (group === undefined) {
      group = new SubscriberGroup(key, sorted);
      this.#byKey.set(key, group);
      for (const channel of sorted) this.#groupsOf(channel).add(group);
    }
    group.members.add(member);
    if (from !== undefined && from !== group) this.remove(member, from);
    return group;
  }

  /** Removes a member from its group. */
  remove(member: M, group: SubscriberGroup<M>): void {
    group.members.delete(member);
    if (group.members.size > 0) return;
    this.#byKey.delete(group.key);
    for (const channel of group.channels) {
      const groups = this.#groupsOf(channel);
      groups.delete(group);
      if (groups.size === 0) this.#byChannel.delete(channel);
    }
  }

  /** Returns the groups that at least one of these entries may be for. `except` is not considered. */
  candidatesFor(entries: readonly Entry[]): Iterable<SubscriberGroup<M>> {
    const candidates = new Set<SubscriberGroup<M>>();
    for (const { to } of entries) {
      if (to === undefined) return this.#byKey.values();
      for (const channel of to) for (const group of this.#byChannel.get(channel) ?? []) candidates.add(group);
    }
    return candidates;
  }

  #groupsOf(channel: string): Set<SubscriberGroup<M>> {
    let groups = this.#byChannel.get(channel);
    if (groups === undefined) this.#byChannel.set(channel, (groups = new Set()));
    return groups;
  }
}
