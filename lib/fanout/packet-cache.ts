/*
 * A stretch of the ring as packets: one for all whom the same entries of it concern.
 * Knows the ring and packets.
 * Invariant: entries that go to many are joined once, however many connections they go to.
 */

import type { Entry } from '../journal/journal.ts';
import { isEvent, Packet } from '../wire/packet.ts';
import { type PacketReceiver, wants } from './packet-receiver.ts';
import type { Ring } from './ring.ts';

/** Packets kept for the next who asks: reconnecting clients come in herds, all with the same id. */
const MAX_CACHED_PACKETS = 64;

export class PacketCache {
  readonly #ring: Ring;
  readonly #resumable: boolean;
  readonly #packets = new Map<string, Packet>();
  #from = -1;
  #to = -1;
  #entries: readonly Entry[] = [];
  #plain = true; // none of them is for some only
  readonly #chosen = new Map<object | undefined, string>(); // what of them each audience wants: a herd asks once

  constructor(ring: Ring, resumable: boolean) {
    this.#ring = ring;
    this.#resumable = resumable;
  }

  /** The entries (from, to]. */
  entries(from: number, to: number): readonly Entry[] {
    if (from !== this.#from || to !== this.#to) {
      const entries: Entry[] = [];
      for (let n = from + 1; n <= to; n++) entries.push(this.#ring.at(n));
      this.#from = from;
      this.#to = to;
      this.#entries = entries;
      this.#plain = entries.every((entry) => entry.to === undefined && entry.except === undefined);
      this.#chosen.clear();
    }
    return this.#entries;
  }

  /** What of (from, to] is for this receiver; `undefined`: nothing. */
  packet(receiver: PacketReceiver, from: number, to: number): Packet | undefined {
    const entries = this.entries(from, to);
    let chosen = '';
    if (!this.#plain) {
      // Receivers share a packet when they want the same of these entries, whichever channels they have joined.
      const { group, membership } = receiver;
      const known = membership === undefined ? this.#chosen.get(group) : undefined;
      chosen = known ?? entries.map((entry) => (wants(receiver, entry) ? '1' : '0')).join('');
      if (known === undefined && membership === undefined) this.#chosen.set(group, chosen);
      if (!chosen.includes('1')) return undefined;
    }
    const withIds = this.#resumable && !receiver.usesAppIds;
    const key = `${from} ${to} ${withIds} ${chosen}`;
    let packet = this.#packets.get(key);
    if (packet === undefined) {
      const isWanted = (index: number): boolean => chosen === '' || chosen[index] === '1';
      const last = entries.findLastIndex((entry, index) => isWanted(index) && isEvent(entry));
      const wanted = entries.filter((_, index) => isWanted(index));
      packet = Packet.fromEntries(wanted, withIds, last === -1 ? 0 : from + 1 + last);
      this.#packets.set(key, packet);
      if (this.#packets.size > MAX_CACHED_PACKETS) this.#packets.delete(this.#packets.keys().next().value as string);
    }
    return packet;
  }

  /** The numbers have changed their meaning, or what is kept is not worth it. */
  clear(): void {
    this.#packets.clear();
    this.#from = -1;
    this.#to = -1;
    this.#entries = [];
    this.#chosen.clear();
  }
}
