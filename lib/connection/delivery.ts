/*
 * Where one connection stands in the log, and how it moves on: entry after entry, word after word.
 * Knows the ring, ranges, words and the outlet; its hub only as what it asks of it.
 * Invariants: every entry up to the cursor that is for it was written or precedes its start or its last reset, and none after the
 * cursor was; 'live' means that the cursor is at the head once this turn's entries are handed out; no queue of broadcasts exists.
 */

import type { Socket } from 'node:net';
import type { Audience } from '../fanout/subscriber-groups.ts';
import { Changes } from '../fanout/membership-history.ts';
import type { House } from './host.ts';
import type { Entry } from '../journal/journal.ts';
import type { Outlet } from '../wire/transport.ts';
import type { Packet } from '../wire/packet.ts';
import type { Words } from './outbox.ts';

/**
 * `connecting`: nothing is written yet. `ring`: the cursor is a number of the ring, behind the head. `live`: at the head.
 * `ahead`: its id is newer than this process's head. `waiting`: for the scan of the log. `attached`: carried by the scan.
 * `parked`: it left the scan blocked.
 */
export type Phase = 'connecting' | 'ring' | 'live' | 'ahead' | 'waiting' | 'attached' | 'parked' | 'closed';

/** The most that one write carries, unless a single event is larger. */
export const WRITE_BYTES = 65_536;

export abstract class Cursor {
  // What lineUp() touches stands together, and comes first: at a thousand readers every line of memory is a cache miss.
  phase: Phase = 'connecting';
  /** Its ids are the application's: it gets no positions. */
  own = false;
  /** What it says of its own and could not write yet. */
  protected words: Words | undefined;
  /** The n up to which it has been served; while live, the hub's `base` if that is higher. */
  cursor: number;
  /** The n of the last id that its client was sent. */
  told: number;
  /** When it was last written to. */
  lastWrite: number;
  /** Where packets go past the outlet, once it is open. */
  protected direct: Outlet['direct'];
  readonly outlet: Outlet;
  readonly hub: House;
  audience: Audience<Cursor> | undefined;
  /** Open, but its first words wait: for a verdict on its id, or for a snapshot. */
  held = false;
  /** The outlet said no, and has not drained yet. */
  blocked = false;
  /** The cursor's id, where it is not live. */
  at: string;
  /** The n at which it last changed its channels, once open: what it was sent before may have been for others. */
  changed = 0;
  /** Nothing after this n is for it; -1: everything is. */
  protected limit = -1;
  /** The bytes of its own that were written since the outlet was last seen empty. */
  protected written = 0;
  #late: Changes | undefined; // while it is behind

  constructor(hub: House, outlet: Outlet) {
    this.hub = hub;
    this.outlet = outlet;
    this.cursor = hub.ring.head;
    this.at = hub.ring.headId;
    this.told = this.cursor;
    this.lastWrite = hub.now;
  }

  /** Writing to it threw. */
  abstract broken(error: unknown): void;
  /** Goes on after this id, wherever that is. */
  abstract resume(id: string): void;
  /** What it has to go on from is not in the ring any more. */
  protected abstract fellOff(): void;
  protected abstract onBlocked(): void;
  protected abstract onDrained(): void;
  /** Everything that was due has been written. */
  protected abstract onLive(): void;

  /** Where it stands: live ones with the hub. */
  get position(): number {
    return this.phase === 'live' ? Math.max(this.cursor, this.hub.base) : this.cursor;
  }

  /** Writes down where it stands, before the ring that knows it is gone. */
  settleAt(): void {
    if (this.phase === 'live') this.at = this.hub.ring.idAt(this.position) as string;
  }

  /** Whether others who want the same entries may share its packets. */
  get shares(): boolean {
    return this.#late === undefined;
  }

  /** Whether an entry is for it. */
  wants(entry: Entry): boolean {
    const audience = this.audience!;
    return this.#late === undefined ? audience.wants(entry) : this.#late.wants(entry, audience.channels);
  }

  /** Writes what is due, entry after entry and word after word, until the head or until the outlet says no. */
  pump(): void {
    if (this.held || this.blocked || (this.phase !== 'live' && this.phase !== 'ring')) return;
    const { ring } = this.hub;
    const head = this.limit === -1 ? ring.head : this.limit;
    let from = this.position;
    if (from < ring.first - 1) return this.fellOff();
    for (let done = false; !done && !this.blocked;) {
      let budget = WRITE_BYTES;
      let more = true;
      this.outlet.cork();
      while (budget > 0 && !done) {
        const due = this.words?.due;
        if (from < (due ?? head)) {
          const to = ring.reach(from, due ?? head, budget);
          const packet = this.hub.range.packet(this, from, to);
          from = to;
          if (packet === undefined) continue;
          more = this.#send(packet) && more;
          budget -= packet.payload.byteLength;
        } else if (due !== undefined) {
          const text = this.nextWords();
          more = this.write(text) && more;
          budget -= text.length;
        } else done = true;
      }
      this.outlet.uncork();
      // A large write is refused for its size alone; the reader is behind only if the kernel did not take it.
      if (!more && this.outlet.waiting > 0) this.block();
    }
    this.cursor = from;
    this.phase = this.blocked ? 'ring' : 'live';
    if (this.blocked) this.at = ring.idAt(from) as string;
    else {
      this.#late = undefined;
      this.onLive();
    }
  }

  /**
   * A live reader's part of one hand-out of (from, to], the shortest way: it counts as served, and this is where the packet has to be
   * written to before anybody's code runs, {@link refused} if that said no. `undefined`: it takes {@link deliver}.
   */
  lineUp(packet: Packet, from: number, to: number, now: number): Socket | undefined {
    const isInStep = this.phase === 'live' && this.words === undefined && this.cursor <= from;
    // Where something waits it may be the end, that the application has made itself: `deliver` asks.
    if (!isInStep || this.direct?.writableLength !== 0) return undefined;
    this.#served(packet, to, now);
    return this.direct;
  }

  /** The same, whatever is in its way. @returns whether it was this packet that was written */
  deliver(packet: Packet, from: number, to: number, now: number): boolean {
    if (this.phase !== 'live' || this.cursor >= to) return false;
    if (this.words !== undefined || this.cursor > from) {
      this.pump();
      return false;
    }
    this.#served(packet, to, now);
    if (!this.outlet.write(packet)) this.refused();
    return true;
  }

  /** What was written last was more than it wanted: it is behind, if the kernel has not taken it. */
  refused(): void {
    if (this.outlet.waiting === 0) return;
    this.phase = 'ring';
    this.at = this.hub.ring.idAt(this.cursor) as string;
    this.block();
  }

  #served(packet: Packet, to: number, now: number): void {
    this.cursor = to;
    if (packet.last > 0) this.told = packet.last;
    this.lastWrite = now;
  }

  /** What the scan of the log has for it, up to the entry with this id. */
  carry(packet: Packet | undefined, id: string): void {
    this.at = id;
    if (packet === undefined || this.#send(packet) || this.outlet.waiting === 0) return;
    this.phase = 'parked';
    this.block();
  }

  /** The log has lost what came after `id`: what is newer there now comes after any joining. */
  protected clampLate(id: string): void {
    this.#late?.clamp(id);
  }

  /** Nothing of the past of later joined channels is owed any more. */
  protected forgetLate(): void {
    this.#late = undefined;
  }

  /** Channels joined or left while it is behind are so from here on, and not in the past. */
  protected changeLate(channels: readonly string[]): void {
    this.cursor = this.position;
    if (this.phase === 'live') return;
    const { journal, ring } = this.hub;
    (this.#late ??= new Changes((a, b) => journal.compare(a, b))).note(channels, ring.headId);
  }

  /** Writes everything of its own that waits, cursor or not: nothing follows. */
  protected sayTheRest(): void {
    while (this.words !== undefined) this.write(this.nextWords());
  }

  protected write(text: string | Buffer): boolean {
    this.lastWrite = this.hub.now;
    this.written = this.outlet.waiting === 0 ? text.length : this.written + text.length;
    this.hub.counters.bytes += text.length;
    return this.outlet.writeText(text);
  }

  protected nextWords(): string | Buffer {
    const text = this.words!.next();
    if (this.words!.size === 0) this.words = undefined;
    return text;
  }

  #send(packet: Packet): boolean {
    if (packet.last > 0) this.told = packet.last;
    this.lastWrite = this.hub.now;
    this.hub.counters.events += packet.events;
    this.hub.counters.bytes += packet.payload.byteLength;
    return this.outlet.write(packet);
  }

  protected block(): void {
    this.blocked = true;
    this.onBlocked();
    this.outlet.whenDrained(() => this.#unblock());
  }

  #unblock(): void {
    if (!this.blocked || this.phase === 'closed' || this.outlet.answered === 'ended') return; // by the application itself
    this.blocked = false;
    try {
      if (this.phase === 'parked') this.resume(this.at);
      else this.pump();
      if (!this.blocked) this.onDrained();
    } catch (error) {
      this.broken(error);
    }
  }
}
