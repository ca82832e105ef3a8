/*
 * Who listens to what: connections that have joined the same channels are one audience, and are served as one.
 * Knows the journal's entries and packets; its members are opaque.
 * Invariant: a member is in exactly one audience, and an audience without members is forgotten.
 */

import type { Entry } from '../journal/journal.ts';
import { addTo, ReadOnlySet } from './read-only-set.ts';

/** Those who have joined exactly these channels. */
export class SubscriberGroup<M> {
  readonly key: string;
  readonly channels = new ReadOnlySet<string>();
  readonly members = new Set<M>();

  constructor(key: string, channels: readonly string[]) {
    this.key = key;
    for (const channel of channels) addTo(this.channels, channel);
  }

  /** Whether an entry is for this audience. */
  matches({ to, except }: Entry): boolean {
    if (to !== undefined && !to.some((channel) => this.channels.has(channel))) return false;
    return except === undefined || !except.some((channel) => this.channels.has(channel));
  }
}

export class SubscriberGroups<M> {
  readonly #byKey = new Map<string, SubscriberGroup<M>>();
  readonly #byChannel = new Map<string, Set<SubscriberGroup<M>>>();

  /** How many channels have somebody in them. */
  get channelCount(): number {
    return this.#byChannel.size;
  }

  /** Puts a member among those with these channels, and out of where it was. */
  assign(member: M, from: SubscriberGroup<M> | undefined, channels: readonly string[]): SubscriberGroup<M> {
    const sorted = channels.length > 1 ? channels.toSorted() : channels;
    const key = sorted.length === 0 ? '' : JSON.stringify(sorted); // where every connection begins
    let audience = this.#byKey.get(key);
    if (audience === undefined) {
      audience = new SubscriberGroup(key, sorted);
      this.#byKey.set(key, audience);
      for (const channel of sorted) this.#in(channel).add(audience);
    }
    audience.members.add(member);
    if (from !== undefined && from !== audience) this.remove(member, from);
    return audience;
  }

  remove(member: M, audience: SubscriberGroup<M>): void {
    audience.members.delete(member);
    if (audience.members.size > 0) return;
    this.#byKey.delete(audience.key);
    for (const channel of audience.channels) {
      const those = this.#in(channel);
      those.delete(audience);
      if (those.size === 0) this.#byChannel.delete(channel);
    }
  }

  /** The audiences that any of these entries may be for. */
  candidatesFor(entries: readonly Entry[]): Iterable<SubscriberGroup<M>> {
    const those = new Set<SubscriberGroup<M>>();
    for (const { to } of entries) {
      if (to === undefined) return this.#byKey.values();
      for (const channel of to) for (const audience of this.#byChannel.get(channel) ?? []) those.add(audience);
    }
    return those;
  }

  #in(channel: string): Set<SubscriberGroup<M>> {
    let those = this.#byChannel.get(channel);
    if (those === undefined) this.#byChannel.set(channel, (those = new Set()));
    return those;
  }
}
