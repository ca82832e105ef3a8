/*
 * A run of the log's entries, as the readers of the scan want it.
 * Knows packets.
 * Invariant: what the readers of an audience want is found once, however many they are, and made once for all who want the same.
 */

import type { Entry } from '../journal/journal.ts';
import { Packet } from '../wire/packet.ts';
import type { Receiver } from '../fanout/packet-cache.ts';

export class Run {
  readonly #entries: readonly Entry[];
  /** By what is wanted. */
  readonly #packets = new Map<string, Packet>();
  // What a herd wants is found once for each audience: 4,000 readers of 20,000 entries asked for each spent most of their time so.
  readonly #own = new Map<Receiver['audience'], Packet | undefined>();
  readonly #withIds = new Map<Receiver['audience'], Packet | undefined>();

  constructor(entries: readonly Entry[]) {
    this.#entries = entries;
  }

  /** What of it is for this receiver; `undefined`: nothing. */
  packet(receiver: Receiver): Packet | undefined {
    if (!receiver.shares) return this.#make(receiver);
    const known = receiver.own ? this.#own : this.#withIds;
    if (known.has(receiver.audience)) return known.get(receiver.audience);
    const packet = this.#make(receiver);
    known.set(receiver.audience, packet);
    return packet;
  }

  #make(receiver: Receiver): Packet | undefined {
    const wanted = this.#entries.filter((entry) => receiver.wants(entry));
    if (wanted.length === 0) return undefined;
    const key = `${receiver.own} ${wanted.map(({ id }) => id).join()}`;
    let packet = this.#packets.get(key);
    if (packet === undefined) this.#packets.set(key, (packet = Packet.of(wanted, !receiver.own, 0)));
    return packet;
  }
}
