/*
 * Builds the packets for ranges of the ring, and caches them. Connections that receive the same entries of a range share one packet.
 *
 * Invariant: the same entries are joined once, however many connections receive them.
 */

import type { Entry } from '../journal/journal.ts';
import { isEvent, Packet } from '../wire/packet.ts';
import { type PacketReceiver, receives } from './packet-receiver.ts';
import type { Ring } from './ring.ts';

/** Packets are kept for a while, because clients reconnect in large groups and with the same id. */
const MAX_CACHED_PACKETS = 64;

/** The packets of the most recent ranges of a ring. */
export class PacketCache {
  /** Whether packets contain the ids of their entries, for receivers without ids of the application. */
  readonly sendsPositions: boolean;
  readonly #ring: Ring;
  readonly #packets = new Map<string, Packet>();
  #from = -1;
  #to = -1;
  #entries: readonly Entry[] = [];
  #isForAll = true; // none of the entries has a `to` or `except`
  /** For each group the entries that are for it, as a string of 0 and 1: evaluated once per group, not per connection. */
  readonly #selections = new Map<object | undefined, string>();

  /** @param sendsPositions Whether packets contain the ids of their entries. */
  constructor(ring: Ring, sendsPositions: boolean) {
    this.#ring = ring;
    this.sendsPositions = sendsPositions;
  }

  /** Returns the entries (from, to]. */
  entries(from: number, to: number): readonly Entry[] {
    if (from !== this.#from || to !== this.#to) {
      const entries: Entry[] = [];
      for (let n = from + 1; n <= to; n++) entries.push(this.#ring.at(n));
      this.#from = from;
      this.#to = to;
      this.#entries = entries;
      this.#isForAll = entries.every((entry) => entry.to === undefined && entry.except === undefined);
      this.#selections.clear();
    }
    return this.#entries;
  }

  /** Returns the entries (from, to] without caching them. */
  slice(from: number, to: number): readonly Entry[] {
    return Array.from({ length: to - from }, (_, index) => this.#ring.at(from + 1 + index));
  }

  /** Returns the entries of (from, to] that are for the receiver, as one packet; `undefined` if there are none. */
  packet(receiver: PacketReceiver, from: number, to: number): Packet | undefined {
    const entries = this.entries(from, to);
    let selection = '';
    if (!this.#isForAll) {
      // Receivers that receive the same entries share a packet, whichever channels they have joined.
      const { group, membership } = receiver;
      const cached = membership === undefined ? this.#selections.get(group) : undefined;
      selection = cached ?? entries.map((entry) => (receives(receiver, entry) ? '1' : '0')).join('');
      if (cached === undefined && membership === undefined) this.#selections.set(group, selection);
      if (!selection.includes('1')) return undefined;
    }
    const withIds = this.hasIdsFor(receiver);
    const key = `${from} ${to} ${withIds} ${selection}`;
    let packet = this.#packets.get(key);
    if (packet === undefined) {
      const isSelected = (index: number): boolean => selection === '' || selection[index] === '1';
      const lastIndex = entries.findLastIndex((entry, index) => isSelected(index) && isEvent(entry));
      const selected = entries.filter((_, index) => isSelected(index));
      packet = Packet.fromEntries(selected, withIds, lastIndex === -1 ? 0 : from + 1 + lastIndex);
      this.#packets.set(key, packet);
      if (this.#packets.size > MAX_CACHED_PACKETS) this.#packets.delete(this.#packets.keys().next().value as string);
    }
    return packet;
  }

  /** Whether the packets of a receiver contain the ids of their entries. */
  hasIdsFor(receiver: Pick<PacketReceiver, 'usesAppIds'>): boolean {
    return this.sendsPositions && !receiver.usesAppIds;
  }

  /** Drops all packets: the numbers now identify other entries, or the packets are not worth their memory. */
  clear(): void {
    this.#packets.clear();
    this.#from = -1;
    this.#to = -1;
    this.#entries = [];
    this.#selections.clear();
  }
}
