/*
 * Applies the disconnects of the log: each ends the connections in its channels that were admitted before it.
 * Invariants: a disconnect is an entry of the log, so it has one place among the broadcasts in every process. It applies when the hub
 * receives it, wherever the cursors of its connections are. No client receives its body.
 */

import type { ServerConnection } from '../connection/server-connection.ts';
import type { Ring } from '../fanout/ring.ts';
import type { SubscriberGroups } from '../fanout/subscriber-groups.ts';
import type { Entry } from '../journal/journal.ts';
import { isDisconnect, isFinalDisconnect } from '../wire/event-stream.ts';
import type { Registry } from './registry.ts';

/** The newest disconnect of one channel. */
interface Disconnect {
  readonly n: number;
  readonly isFinal: boolean;
}

/** The parts of the hub that it uses. */
interface Parts {
  readonly ring: Ring;
  readonly groups: SubscriberGroups<ServerConnection>;
  readonly registry: Registry;
}

export class Disconnects {
  readonly #parts: Parts;
  /** By channel, since the oldest connecting connection was admitted: it may still join the channel. */
  readonly #recent = new Map<string, Disconnect>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Applies the entry that the ring has just received. */
  apply(entry: Entry): void {
    const { ring, groups, registry } = this.#parts;
    const disconnect = { n: ring.head, isFinal: isFinalDisconnect(entry.body) };
    for (const group of [...groups.candidatesFor([entry])]) {
      for (const connection of [...group.members]) connection.disconnect(disconnect.isFinal);
    }
    if (registry.oldestConnecting === undefined) this.#recent.clear();
    else for (const channel of entry.to ?? []) this.#recent.set(channel, disconnect);
  }

  /** Ends a connecting connection that joins a channel of a disconnect that followed its admission. */
  onJoined(connection: ServerConnection, channels: readonly string[]): void {
    if (this.#recent.size === 0) return;
    const applicable = channels
      .map((channel) => this.#recent.get(channel))
      .filter((disconnect) => disconnect !== undefined && disconnect.n > connection.cursor);
    if (applicable.length > 0) connection.disconnect(applicable.some((disconnect) => disconnect!.isFinal));
  }

  /** The log lost the entries after n. */
  onRewind(n: number): void {
    for (const [channel, disconnect] of this.#recent) if (disconnect.n > n) this.#recent.delete(channel);
  }
}

/** Returns an entry as the ring stores it: a disconnect is for no connection. */
export function forRing(entry: Entry): Entry {
  return isDisconnect(entry.body) ? { id: entry.id, to: [], body: entry.body } : entry;
}
