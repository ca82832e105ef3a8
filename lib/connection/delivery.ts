/*
 * Where one connection stands in the log, and how it moves on: entry after entry, word after word.
 * Knows the ring, ranges, words and the outlet; its hub only as what it asks of it.
 * Invariants: every entry up to the cursor that is for it was written or precedes its start or its last reset, and none after the
 * cursor was; 'live' means that the cursor is at the head once this turn's entries are handed out; no queue of broadcasts exists.
 */

import type { Socket } from 'node:net';
import type { SubscriberGroup } from '../fanout/subscriber-groups.ts';
import { MembershipHistory } from '../fanout/membership-history.ts';
import type { DeliveryHost } from './host.ts';
import type { Entry } from '../journal/journal.ts';
import type { Transport } from '../wire/transport.ts';
import type { Packet } from '../wire/packet.ts';
import type { Outbox } from './outbox.ts';

/**
 * `connecting`: nothing is written yet. `ring`: the cursor is a number of the ring, behind the head. `live`: at the head.
 * `ahead`: its id is newer than this process's head. `waiting`: for the scan of the log. `attached`: carried by the scan.
 * `parked`: it left the scan blocked.
 */
export type DeliverySource = 'connecting' | 'ring' | 'live' | 'ahead' | 'waiting' | 'attached' | 'parked' | 'closed';

/** The most that one write carries, unless a single event is larger. */
export const MAX_WRITE_BYTES = 65_536;

export abstract class Cursor {
  // What lineUp() touches stands together, and comes first: at a thousand readers every line of memory is a cache miss.
  phase: DeliverySource = 'connecting';
  /** Its ids are the application's: it gets no positions. */
  usesAppIds = false;
  /** What it says of its own and could not write yet. */
  protected outbox: Outbox | undefined;
  /** The n up to which it has been served; while live, the hub's `base` if that is higher. */
  cursor: number;
  /** The n of the last id that its client was sent. */
  lastSent: number;
  /** When it was last written to. */
  lastWrite: number;
  /** Where packets go past the outlet, once it is open. */
  protected socket: Transport['socket'];
  readonly transport: Transport;
  readonly hub: DeliveryHost;
  group: SubscriberGroup<Cursor> | undefined;
  /** Open, but its first words wait: for a verdict on its id, or for a snapshot. */
  preamblePending = false;
  /** The outlet said no, and has not drained yet. */
  blocked = false;
  /** The cursor's id, where it is not live. */
  cursorId: string;
  /** The n at which it last changed its channels, once open: what it was sent before may have been for others. */
  channelsChangedAt = 0;
  /** Nothing after this n is for it; -1: everything is. */
  protected limit = -1;
  /** The bytes of its own that were written since the outlet was last seen empty. */
  protected ownBytes = 0;
  membership: MembershipHistory | undefined; // while it is behind

  constructor(hub: DeliveryHost, outlet: Transport) {
    this.hub = hub;
    this.transport = outlet;
    this.cursor = hub.ring.head;
    this.cursorId = hub.ring.headId;
    this.lastSent = this.cursor;
    this.lastWrite = hub.now;
  }

  /** Writing to it threw. */
  abstract onTransportError(error: unknown): void;
  /** Goes on after this id, wherever that is. */
  abstract resumeAfter(id: string): void;
  /** What it has to go on from is not in the ring any more. */
  protected abstract onOverrun(): void;
  protected abstract onBlocked(): void;
  protected abstract onDrained(): void;
  /** Everything that was due has been written. */
  protected abstract onCaughtUp(): void;

  /** Where it stands: live ones with the hub. */
  get position(): number {
    return this.phase === 'live' ? Math.max(this.cursor, this.hub.dispatchedUpTo) : this.cursor;
  }

  /** Writes down where it stands, before the ring that knows it is gone. */
  saveCursorId(): void {
    if (this.phase === 'live') this.cursorId = this.hub.ring.idAt(this.position) as string;
  }

  /** Whether others who want the same entries may share its packets. */
  get canSharePackets(): boolean {
    return this.membership === undefined;
  }

  /** Whether an entry is for it. */
  wants(entry: Entry): boolean {
    const audience = this.group!;
    return this.membership === undefined ? audience.matches(entry) : this.membership.matches(entry, audience.channels);
  }

  /** Writes what is due, entry after entry and word after word, until the head or until the outlet says no. */
  writeDue(): void {
    if (this.preamblePending || this.blocked || (this.phase !== 'live' && this.phase !== 'ring')) return;
    const { ring } = this.hub;
    const head = this.limit === -1 ? ring.head : this.limit;
    let from = this.position;
    if (from < ring.first - 1) return this.onOverrun();
    for (let done = false; !done && !this.blocked;) {
      let budget = MAX_WRITE_BYTES;
      let more = true;
      this.transport.cork();
      while (budget > 0 && !done) {
        const due = this.outbox?.nextPosition;
        if (from < (due ?? head)) {
          const to = ring.reach(from, due ?? head, budget);
          const packet = this.hub.packets.packet(this, from, to);
          from = to;
          if (packet === undefined) continue;
          more = this.#writePacket(packet) && more;
          budget -= packet.payload.byteLength;
        } else if (due !== undefined) {
          const text = this.takeOwn();
          more = this.write(text) && more;
          budget -= text.length;
        } else done = true;
      }
      this.transport.uncork();
      // A large write is refused for its size alone; the reader is behind only if the kernel did not take it.
      if (!more && this.transport.bufferedBytes > 0) this.onBlock();
    }
    this.cursor = from;
    this.phase = this.blocked ? 'ring' : 'live';
    if (this.blocked) this.cursorId = ring.idAt(from) as string;
    else {
      this.membership = undefined;
      this.onCaughtUp();
    }
  }

  /**
   * A live reader's part of one hand-out of (from, to], the shortest way: it counts as served, and this is where the packet has to be
   * written to before anybody's code runs, {@link onWriteRefused} if that said no. `undefined`: it takes {@link writeDispatched}.
   */
  takeForBatch(packet: Packet, from: number, to: number, now: number): Socket | undefined {
    const isInStep = this.phase === 'live' && this.outbox === undefined && this.cursor <= from;
    // Where something waits it may be the end, that the application has made itself: `deliver` asks.
    if (!isInStep || this.socket?.writableLength !== 0) return undefined;
    this.#recordDispatched(packet, to, now);
    return this.socket;
  }

  /** The same, whatever is in its way. @returns whether it was this packet that was written */
  writeDispatched(packet: Packet, from: number, to: number, now: number): boolean {
    if (this.phase !== 'live' || this.cursor >= to) return false;
    if (this.outbox !== undefined || this.cursor > from) {
      this.writeDue();
      return false;
    }
    this.#recordDispatched(packet, to, now);
    if (!this.transport.writePacket(packet)) this.onWriteRefused();
    return true;
  }

  /** What was written last was more than it wanted: it is behind, if the kernel has not taken it. */
  onWriteRefused(): void {
    if (this.transport.bufferedBytes === 0) return;
    this.phase = 'ring';
    this.cursorId = this.hub.ring.idAt(this.cursor) as string;
    this.onBlock();
  }

  #recordDispatched(packet: Packet, to: number, now: number): void {
    this.cursor = to;
    if (packet.lastN > 0) this.lastSent = packet.lastN;
    this.lastWrite = now;
  }

  /** What the scan of the log has for it, up to the entry with this id. */
  writeReplayed(packet: Packet | undefined, id: string): void {
    this.cursorId = id;
    if (packet === undefined || this.#writePacket(packet) || this.transport.bufferedBytes === 0) return;
    this.phase = 'parked';
    this.onBlock();
  }

  /** The log has lost what came after `id`: what is newer there now comes after any joining. */
  protected truncateMembership(id: string): void {
    this.membership?.truncate(id);
  }

  /** Nothing of the past of later joined channels is owed any more. */
  protected clearMembership(): void {
    this.membership = undefined;
  }

  /** Channels joined or left while it is behind are so from here on, and not in the past. */
  protected recordChange(channels: readonly string[]): void {
    this.cursor = this.position;
    if (this.phase === 'live') return;
    const { journal, ring } = this.hub;
    (this.membership ??= new MembershipHistory((a, b) => journal.compare(a, b))).record(channels, ring.headId);
  }

  /** Writes everything of its own that waits, cursor or not: nothing follows. */
  protected writeRest(): void {
    while (this.outbox !== undefined) this.write(this.takeOwn());
  }

  protected write(text: string | Buffer): boolean {
    this.lastWrite = this.hub.now;
    this.ownBytes = this.transport.bufferedBytes === 0 ? text.length : this.ownBytes + text.length;
    this.hub.counters.bytes += text.length;
    return this.transport.writeText(text);
  }

  protected takeOwn(): string | Buffer {
    const text = this.outbox!.take();
    if (this.outbox!.size === 0) this.outbox = undefined;
    return text;
  }

  #writePacket(packet: Packet): boolean {
    if (packet.lastN > 0) this.lastSent = packet.lastN;
    this.lastWrite = this.hub.now;
    this.hub.counters.events += packet.entryCount;
    this.hub.counters.bytes += packet.payload.byteLength;
    return this.transport.writePacket(packet);
  }

  protected onBlock(): void {
    this.blocked = true;
    this.onBlocked();
    this.transport.onceDrained(() => this.#onTransportDrained());
  }

  #onTransportDrained(): void {
    if (!this.blocked || this.phase === 'closed' || this.transport.responseState === 'ended') return; // by the application itself
    this.blocked = false;
    try {
      if (this.phase === 'parked') this.resumeAfter(this.cursorId);
      else this.writeDue();
      if (!this.blocked) this.onDrained();
    } catch (error) {
      this.onTransportError(error);
    }
  }
}
