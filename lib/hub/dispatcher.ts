/*
 * The turns of a hub: what was broadcast and said in one turn of the event loop leaves at its end, joined.
 * Knows the ring, ranges, audiences and readers.
 * Invariants: an entry is handed out before any later one; everything up to `base` has been written to, or left with, each reader;
 * no slice of it holds the event loop for long.
 */

import type { SubscriberGroups } from '../fanout/subscriber-groups.ts';
import type { Packet } from '../wire/packet.ts';
import type { PacketCache } from '../fanout/packet-cache.ts';
import { MAX_WRITE_BYTES } from '../connection/delivery.ts';
import type { Cursor } from '../connection/delivery.ts';
import type { Ring } from '../fanout/ring.ts';
import type { Counters } from '../diagnostics/stats.ts';
import { WriteBatch } from './write-batch.ts';

/** How long a hand-out may hold the event loop before others have a turn: milliseconds. */
const MAX_SLICE_MS = 10;
/** How much may wait for the end of a turn: an endless loop of `await broadcast()` lets none come. */
const MAX_TICK_ENTRIES = 1000;
const MAX_TICK_BYTES = 262_144;
/** How many flushes, which are large, and how many writes go between two looks at the clock. */
const FLUSHES_PER_YIELD = 16;
const WRITES_PER_YIELD = 64;

/** Who has something to say at the end of a turn. */
export interface Flushable {
  flushQueued: boolean;
  flush(): void;
  /** Writing to it threw: that is its end, and nobody else's. */
  onTransportError(error: unknown): void;
}

/** What a hand-out asks of its hub. */
export interface DispatcherHost {
  /** Something is about to be written. @returns the time */
  onTickStart(): number;
  readonly counters: Counters;
  /** So many entries have been handed out, so long after the first of them came. */
  onDispatched(entries: number, ms: number): void;
}

/** Entries of the ring, (from, to], on their way to everybody. */
class Segment {
  readonly from: number;
  readonly to: number;
  /** What those of an audience share. */
  shared: Packet | undefined;
  /** What those wait for who have lined up, and the others. */
  packet: Packet | undefined;
  /** Who wants it too, and is not written to with the rest. */
  others: Cursor[] = [];
  /** How many have been handed it, or asked whether they want it. */
  steps = 0;
  events = 0;
  bytes = 0;

  constructor(from: number, to: number) {
    this.from = from;
    this.to = to;
  }

  /** So many have been sent this. */
  count(packet: Packet, receivers: number): void {
    this.events += packet.entryCount * receivers;
    this.bytes += packet.payload.byteLength * receivers;
  }
}

export class Dispatcher {
  /** Everything up to this n has been handed to who is live. */
  dispatchedUpTo: number;
  /** Counts the turns. */
  tick = 1;
  readonly #ring: Ring;
  readonly #range: PacketCache;
  readonly #audiences: SubscriberGroups<Cursor>;
  readonly #host: DispatcherHost;
  readonly #volley = new WriteBatch();
  #now = 0;
  #speakers: Flushable[] = [];
  #spoken = 0; // of those
  #bytes = 0; // of entries that wait for the end of the turn
  #since = 0; // when the first of them came
  #scheduled = false;
  #running = false;
  #work: Generator<void, void> | undefined;

  constructor(ring: Ring, range: PacketCache, audiences: SubscriberGroups<Cursor>, host: DispatcherHost) {
    this.#ring = ring;
    this.#range = range;
    this.#audiences = audiences;
    this.#host = host;
    this.dispatchedUpTo = ring.head;
  }

  /** This one has something to say at the end of the turn. */
  scheduleFlush(speaker: Flushable): void {
    if (!speaker.flushQueued) {
      speaker.flushQueued = true;
      this.#speakers.push(speaker);
    }
    this.#schedule();
  }

  /** The ring has grown by so many bytes. */
  onAppended(bytes: number): void {
    if (this.#since === 0) this.#since = performance.now();
    this.#bytes += bytes;
    const much = this.#ring.head - this.dispatchedUpTo > MAX_TICK_ENTRIES || this.#bytes > MAX_TICK_BYTES;
    const canGoOn = this.#work === undefined || this.#spoken === 0; // not in the midst of own words
    if (much && canGoOn && !this.#running) this.#run(true);
    else this.#schedule();
  }

  /** The ring is another: nothing of what was being handed out is to be gone on with. */
  resetTo(n: number): void {
    this.dispatchedUpTo = n;
    this.#work = undefined;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.tick++;
      this.#run();
    });
  }

  /** `within`: in the midst of a turn, in which nobody's own words leave, or a stream would open before its tick is over. */
  #run(within = false): void {
    this.#now = this.#host.onTickStart();
    this.#running = true;
    const start = performance.now();
    const work = (this.#work ??= this.#steps(within));
    for (;;) {
      if (work.next().done) {
        if (this.#work === work) this.#work = undefined;
        break;
      }
      if (work !== this.#work || performance.now() - start > MAX_SLICE_MS) break;
    }
    this.#running = false;
    if (this.#work !== undefined || this.#speakers.length > 0 || this.dispatchedUpTo < this.#ring.head)
      this.#schedule();
  }

  /** Own words first: they may be older than what was broadcast in the same turn, and bring their reader up to the head. */
  *#steps(within: boolean): Generator<void, void> {
    const { counters } = this.#host;
    for (const until = within ? 0 : this.#speakers.length; this.#spoken < until;) {
      const speaker = this.#speakers[this.#spoken++]!;
      speaker.flushQueued = false;
      try {
        speaker.flush();
      } catch (error) {
        speaker.onTransportError(error);
      }
      if (this.#spoken % FLUSHES_PER_YIELD === 0) yield;
    }
    this.#speakers = this.#speakers.slice(this.#spoken);
    this.#spoken = 0;
    this.#bytes = 0;
    const since = this.#since;
    const first = this.dispatchedUpTo;
    this.#since = 0;
    while (this.dispatchedUpTo < this.#ring.head) {
      const from = this.dispatchedUpTo;
      const to = this.#ring.reach(from, this.#ring.head, MAX_WRITE_BYTES);
      const stretch = new Segment(from, to);
      for (const audience of this.#audiences.candidatesFor(this.#range.entries(from, to))) {
        stretch.shared = undefined;
        const readers = audience.members.values();
        while (this.#dispatchTo(stretch, readers)) {
          this.#flushBatch(stretch);
          yield;
        }
      }
      this.#flushBatch(stretch);
      counters.events += stretch.events;
      counters.bytes += stretch.bytes;
      this.dispatchedUpTo = to;
      this.#ring.settle(to);
    }
    if (this.dispatchedUpTo > first) this.#host.onDispatched(this.dispatchedUpTo - first, performance.now() - since);
  }

  /**
   * Hands a stretch to these readers, until it is time for a look at the clock. @returns whether there may be more of them
   * (No generator: what is kept for going on costs each write 0.05 µs there. A Set's iterator bears being left and come back to.)
   */
  #dispatchTo(stretch: Segment, readers: Iterable<Cursor>): boolean {
    const { from, to } = stretch;
    const range = this.#range;
    const now = this.#now;
    for (const reader of readers) {
      if (reader.phase !== 'live') continue;
      const packet = reader.usesAppIds
        ? range.packet(reader, from, to)
        : (stretch.shared ??= range.packet(reader, from, to));
      const isTime = ++stretch.steps % WRITES_PER_YIELD === 0;
      if (packet === undefined) return isTime; // nobody here wants any of it
      if (packet !== stretch.packet) {
        this.#flushBatch(stretch);
        stretch.packet = packet;
      }
      const socket = reader.takeForBatch(packet, from, to, now);
      if (socket === undefined) stretch.others.push(reader);
      else this.#volley.add(reader, socket);
      if (isTime) return true;
    }
    return false;
  }

  /** Writes the packet to all who have lined up for it, and then to the others: what those write to may call anything. */
  #flushBatch(stretch: Segment): void {
    const { from, to, packet, others } = stretch;
    if (packet === undefined) return;
    stretch.count(packet, this.#volley.size);
    this.#volley.writeAll(packet.chunk);
    stretch.others = [];
    for (const reader of others) {
      try {
        if (reader.writeDispatched(packet, from, to, this.#now)) stretch.count(packet, 1);
      } catch (error) {
        reader.onTransportError(error);
      }
    }
  }
}
