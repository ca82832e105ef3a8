/*
 * A run of the log's entries, as the readers of the scan want it.
 * Knows packets.
 * Invariant: what the readers of an audience want is found once, however many they are, and made once for all who want the same.
 */

import type { Entry } from '../journal/journal.ts';
import { Packet } from '../wire/packet.ts';
import type { PacketReceiver } from '../fanout/packet-cache.ts';

export class ReplayBatch {
  readonly #entries: readonly Entry[];
  /** By what is wanted. */
  readonly #packets = new Map<string, Packet>();
  // What a herd wants is found once for each audience: 4,000 readers of 20,000 entries asked for each spent most of their time so.
  readonly #own = new Map<PacketReceiver['group'], Packet | undefined>();
  readonly #withIds = new Map<PacketReceiver['group'], Packet | undefined>();

  constructor(entries: readonly Entry[]) {
    this.#entries = entries;
  }

  /** What of it is for this receiver; `undefined`: nothing. */
  packet(receiver: PacketReceiver): Packet | undefined {
    if (!receiver.canSharePackets) return this.#make(receiver);
    const known = receiver.usesAppIds ? this.#own : this.#withIds;
    if (known.has(receiver.group)) return known.get(receiver.group);
    const packet = this.#make(receiver);
    known.set(receiver.group, packet);
    return packet;
  }

  #make(receiver: PacketReceiver): Packet | undefined {
    const wanted = this.#entries.filter((entry) => receiver.wants(entry));
    if (wanted.length === 0) return undefined;
    const key = `${receiver.usesAppIds} ${wanted.map(({ id }) => id).join()}`;
    let packet = this.#packets.get(key);
    if (packet === undefined) this.#packets.set(key, (packet = Packet.fromEntries(wanted, !receiver.usesAppIds, 0)));
    return packet;
  }
}
