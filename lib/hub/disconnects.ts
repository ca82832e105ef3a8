/*
 * Applies the disconnects of the log: each ends the connections in its channels that were admitted before it.
 * Invariants: a disconnect is an entry of the log, so it has one place among the broadcasts in every process. It applies when the hub
 * receives it, wherever the cursors of its connections are. No client receives its body.
 */

import type { Disconnect, ServerConnection } from '../connection/server-connection.ts';
import type { SubscriberGroups } from '../fanout/subscriber-groups.ts';
import type { Entry, JournalWindow } from '../journal/journal.ts';
import { isDisconnect, isFinalDisconnect } from '../wire/event-stream.ts';
import type { Registry } from './registry.ts';

/**
 * For how many channels the newest disconnect is kept. A handler that never settles keeps its connection connecting: 50,000 disconnects
 * took 13.7 MB during one such request (Node 20).
 */
const MAX_RECENT_CHANNELS = 10_000;

/** The parts of the hub that `Disconnects` uses. */
interface Parts {
  readonly groups: SubscriberGroups<ServerConnection>;
  readonly registry: Registry;
}

export class Disconnects {
  readonly #parts: Parts;
  /** The newest disconnect of each channel since the oldest connecting connection was admitted: it may still join the channel. */
  readonly #recent = new Map<string, Disconnect>();
  /** The newest disconnect that `#recent` has dropped. Any channel may have been its own. */
  #dropped: Disconnect | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Applies an entry. @param n Its number in the ring. */
  apply(entry: Entry, n: number): void {
    const { groups, registry } = this.#parts;
    const disconnect = { n, id: entry.id, isFinal: isFinalDisconnect(entry.body) };
    for (const group of groups.candidatesFor(entry.to)) {
      for (const connection of group.members) connection.disconnect(disconnect);
    }
    if (registry.oldestConnecting === undefined) {
      this.#recent.clear();
      this.#dropped = undefined;
    } else for (const channel of entry.to ?? []) this.#remember(channel, disconnect);
  }

  /**
   * Ends a connecting connection that joins a channel of a disconnect that followed its admission. If a disconnect was dropped since
   * its admission, ends it whichever channel it joins: its client reconnects, and the application decides again.
   */
  onJoined(connection: ServerConnection, channels: readonly string[]): void {
    if (this.#recent.size === 0 && this.#dropped === undefined) return;
    const applicable = channels
      .map((channel) => this.#recent.get(channel))
      .filter((disconnect) => disconnect !== undefined && disconnect.n > connection.cursor);
    const disconnect = applicable.find((one) => one!.isFinal) ?? applicable[0];
    if (disconnect !== undefined) connection.disconnect(disconnect);
    else if (this.#dropped !== undefined && this.#dropped.n > connection.cursor && channels.length > 0)
      connection.disconnect(this.#dropped);
  }

  /** The log lost the entries after n. */
  onRewind(n: number): void {
    for (const [channel, disconnect] of this.#recent) if (disconnect.n > n) this.#recent.delete(channel);
    if (this.#dropped !== undefined) this.#dropped = { ...this.#dropped, n: Math.min(this.#dropped.n, n) };
  }

  #remember(channel: string, disconnect: Disconnect): void {
    this.#recent.delete(channel); // a Map is in the order of insertion: the oldest disconnect comes first
    this.#recent.set(channel, disconnect);
    if (this.#recent.size <= MAX_RECENT_CHANNELS) return;
    const [[oldest, dropped]] = this.#recent as unknown as [[string, Disconnect]];
    this.#recent.delete(oldest);
    this.#dropped = { ...dropped, isFinal: false };
  }
}

/** Returns an entry as the ring stores it: a disconnect is for no connection. */
export function forRing(entry: Entry): Entry {
  return isDisconnect(entry.body) ? { id: entry.id, to: [], body: entry.body } : entry;
}

/** Returns a window as the ring stores it. */
export function windowForRing({ floor, entries }: JournalWindow): JournalWindow {
  return { floor, entries: entries.map((entry) => forRing(entry)) };
}
