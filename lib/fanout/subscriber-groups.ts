/*
 * Who listens to what: connections that have joined the same channels are one audience, and are served as one.
 * Knows the journal's entries and packets; its members are opaque.
 * Invariant: a member is in exactly one audience, and an audience without members is forgotten.
 */

import type { Entry } from '../journal/journal.ts';
import { put, View } from './read-only-set.ts';

/** Those who have joined exactly these channels. */
export class Audience<M> {
  readonly key: string;
  readonly channels = new View<string>();
  readonly members = new Set<M>();

  constructor(key: string, channels: readonly string[]) {
    this.key = key;
    for (const channel of channels) put(this.channels, channel);
  }

  /** Whether an entry is for this audience. */
  wants({ to, except }: Entry): boolean {
    if (to !== undefined && !to.some((channel) => this.channels.has(channel))) return false;
    return except === undefined || !except.some((channel) => this.channels.has(channel));
  }
}

export class Audiences<M> {
  readonly #byKey = new Map<string, Audience<M>>();
  readonly #byChannel = new Map<string, Set<Audience<M>>>();

  /** How many channels have somebody in them. */
  get channels(): number {
    return this.#byChannel.size;
  }

  /** Puts a member among those with these channels, and out of where it was. */
  move(member: M, from: Audience<M> | undefined, channels: readonly string[]): Audience<M> {
    const sorted = channels.length > 1 ? channels.toSorted() : channels;
    const key = sorted.length === 0 ? '' : JSON.stringify(sorted); // where every connection begins
    let audience = this.#byKey.get(key);
    if (audience === undefined) {
      audience = new Audience(key, sorted);
      this.#byKey.set(key, audience);
      for (const channel of sorted) this.#in(channel).add(audience);
    }
    audience.members.add(member);
    if (from !== undefined && from !== audience) this.leave(member, from);
    return audience;
  }

  leave(member: M, audience: Audience<M>): void {
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
  of(entries: readonly Entry[]): Iterable<Audience<M>> {
    const those = new Set<Audience<M>>();
    for (const { to } of entries) {
      if (to === undefined) return this.#byKey.values();
      for (const channel of to) for (const audience of this.#byChannel.get(channel) ?? []) those.add(audience);
    }
    return those;
  }

  #in(channel: string): Set<Audience<M>> {
    let those = this.#byChannel.get(channel);
    if (those === undefined) this.#byChannel.set(channel, (those = new Set()));
    return those;
  }
}
