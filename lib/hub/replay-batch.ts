/*
 * Some consecutive entries of the log, as the connections of one scan receive them.
 * Invariant: what a group of connections receives is selected once, and encoded once for all groups that receive the same entries.
 */

import type { PacketCache } from '../fanout/packet-cache.ts';
import { type PacketReceiver, receives } from '../fanout/packet-receiver.ts';
import type { Entry } from '../journal/journal.ts';
import { Packet } from '../wire/packet.ts';

export class ReplayBatch {
  readonly #entries: readonly Entry[];
  readonly #packetCache: Pick<PacketCache, 'hasIdsFor'>;
  /** By the selected entries. */
  readonly #packets = new Map<string, Packet>();
  // The selection is stored per group: when each of 4,000 connections selected from 20,000 entries itself, that took most of the time.
  readonly #withoutIds = new Map<PacketReceiver['group'], Packet | undefined>();
  readonly #withIds = new Map<PacketReceiver['group'], Packet | undefined>();

  /** @param packetCache Decides which packets contain the ids of their entries. */
  constructor(entries: readonly Entry[], packetCache: Pick<PacketCache, 'hasIdsFor'>) {
    this.#entries = entries;
    this.#packetCache = packetCache;
  }

  /** Returns the batch without the entries that are newer than `id`. */
  upTo(id: string, compare: (a: string, b: string) => number): ReplayBatch {
    return new ReplayBatch(
      this.#entries.filter((entry) => compare(entry.id, id) <= 0),
      this.#packetCache,
    );
  }

  /** The entries that are for this receiver; `undefined`: none is. */
  packet(receiver: PacketReceiver): Packet | undefined {
    const { group, membership, usesAppIds } = receiver;
    if (membership !== undefined) return this.#create(receiver);
    const known = usesAppIds ? this.#withoutIds : this.#withIds;
    if (known.has(group)) return known.get(group);
    const packet = this.#create(receiver);
    known.set(group, packet);
    return packet;
  }

  #create(receiver: PacketReceiver): Packet | undefined {
    const selected = this.#entries.filter((entry) => receives(receiver, entry));
    if (selected.length === 0) return undefined;
    const key = `${receiver.usesAppIds} ${selected.map(({ id }) => id).join()}`;
    let packet = this.#packets.get(key);
    if (packet === undefined) {
      packet = Packet.fromEntries(selected, this.#packetCache.hasIdsFor(receiver), 0);
      this.#packets.set(key, packet);
    }
    return packet;
  }
}
