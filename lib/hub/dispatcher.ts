/*
 * The ticks of a hub: what was broadcast and pushed in one tick of the event loop leaves together at its end. Many broadcasts leave earlier.
 * Invariants: an entry is dispatched before any later one. Every entry up to `dispatchedUpTo` was written to each live connection,
 * or the connection is behind and continues by itself. No slice of the work holds the event loop for long.
 */

import { AsyncResource } from 'node:async_hooks';
import { takeForBatch } from '../connection/delivery.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { Counters } from '../diagnostics/stats.ts';
import type { PacketCache } from '../fanout/packet-cache.ts';
import type { Ring } from '../fanout/ring.ts';
import type { SubscriberGroups } from '../fanout/subscriber-groups.ts';
import { MAX_WRITE_BYTES, type Packet } from '../wire/packet.ts';
import type { SweepTimer } from './sweep-timer.ts';
import { WriteBatch } from './write-batch.ts';

/** How long one slice may hold the event loop. */
const MAX_SLICE_MS = 10;
/** How much may wait for the end of a tick: an endless loop of `await broadcast()` prevents that end. */
const MAX_TICK_ENTRIES = 1000;
const MAX_TICK_BYTES = 262_144;
/** How many flushes, which take long, and how many writes there are between two readings of the clock. */
const FLUSHES_PER_YIELD = 16;
const WRITES_PER_YIELD = 64;

/** The parts of the hub that the dispatcher uses. */
interface Parts {
  readonly ring: Ring;
  readonly packets: PacketCache;
  readonly groups: SubscriberGroups<ServerConnection>;
  readonly timer: Pick<SweepTimer, 'refresh'>;
  readonly counters: Counters;
}

/** The entries (from, to] of the ring while they are dispatched. */
class Segment {
  readonly from: number;
  readonly to: number;
  /** The packet that the connections of the current group share. */
  shared: Packet | undefined;
  /** The packet of the connections in the batch and in `others`. */
  packet: Packet | undefined;
  /** The connections that receive the packet and cannot be in the batch. */
  others: ServerConnection[] = [];
  /** How many connections have been considered. */
  steps = 0;
  events = 0;
  bytes = 0;

  constructor(from: number, to: number) {
    this.from = from;
    this.to = to;
  }

  /** Counts a packet that was written to some receivers. */
  count(packet: Packet, receivers: number): void {
    this.events += packet.entryCount * receivers;
    this.bytes += packet.payload.byteLength * receivers;
  }
}

export class Dispatcher {
  /** Every entry up to this n has been dispatched to the live connections. */
  dispatchedUpTo: number;
  /** Counts the ticks. */
  tick = 1;
  readonly #parts: Parts;
  readonly #onDispatched: (entries: number, ms: number) => void;
  readonly #batch = new WriteBatch();
  /** Of the router: a tick is shared, so it must not run in the context of the request that has scheduled it. */
  readonly #context = new AsyncResource('SseDispatcher');
  #now = 0;
  #flushQueue: ServerConnection[] = [];
  #flushed = 0; // of the queue
  #tickBytes = 0; // of entries that wait for the end of the tick
  #firstAppendAt = 0; // when the first of them was appended; 0: none waits
  #isScheduled = false;
  #isRunning = false;
  #work: Generator<void, void> | undefined;

  /** @param onDispatched Called with the number of entries dispatched, and the time since the first of them was appended. */
  constructor(parts: Parts, onDispatched: (entries: number, ms: number) => void) {
    this.#parts = parts;
    this.#onDispatched = onDispatched;
    this.dispatchedUpTo = parts.ring.head;
  }

  /** Flushes the connection at the end of this tick. */
  scheduleFlush(connection: ServerConnection): void {
    if (!connection.flushQueued) {
      connection.flushQueued = true;
      this.#flushQueue.push(connection);
    }
    this.#schedule();
  }

  /** The ring has grown by this many bytes. */
  onAppended(bytes: number): void {
    if (this.#firstAppendAt === 0) this.#firstAppendAt = performance.now();
    this.#tickBytes += bytes;
    const waiting = this.#parts.ring.head - this.dispatchedUpTo;
    const isTooMuch = waiting > MAX_TICK_ENTRIES || this.#tickBytes > MAX_TICK_BYTES;
    const isFlushing = this.#work !== undefined && this.#flushed > 0;
    if (isTooMuch && !isFlushing && !this.#isRunning) this.#runSlice(true);
    else this.#schedule();
  }

  /** Makes n the position: the ring was replaced or rewound, so work in progress ends. */
  resetTo(n: number): void {
    this.dispatchedUpTo = n;
    this.#work = undefined;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.tick++;
      this.#context.runInAsyncScope(() => this.#runSlice(false));
    });
  }

  /** @param midTick Whether the tick has not ended. Own pushes are not flushed then; flushing would open a stream too early. */
  #runSlice(midTick: boolean): void {
    this.#now = this.#parts.timer.refresh();
    this.#isRunning = true;
    const start = performance.now();
    const work = (this.#work ??= this.#run(midTick));
    for (;;) {
      if (work.next().done) {
        if (this.#work === work) this.#work = undefined;
        break;
      }
      if (work !== this.#work || performance.now() - start > MAX_SLICE_MS) break;
    }
    this.#isRunning = false;
    const hasMore = this.#work !== undefined || this.#flushQueue.length > 0;
    if (hasMore || this.dispatchedUpTo < this.#parts.ring.head) this.#schedule();
  }

  /** Flushes, then dispatches: own pushes may be older than the broadcasts of the tick, and a flush moves its connection to the head. */
  *#run(midTick: boolean): Generator<void, void> {
    const { ring, packets, groups, counters } = this.#parts;
    for (const until = midTick ? 0 : this.#flushQueue.length; this.#flushed < until;) {
      const connection = this.#flushQueue[this.#flushed++]!;
      connection.flushQueued = false;
      try {
        connection.flush();
      } catch (error) {
        connection.onTransportError(error);
      }
      if (this.#flushed % FLUSHES_PER_YIELD === 0) yield;
    }
    this.#flushQueue = this.#flushQueue.slice(this.#flushed);
    this.#flushed = 0;
    this.#tickBytes = 0;
    const firstAppendAt = this.#firstAppendAt;
    const first = this.dispatchedUpTo;
    this.#firstAppendAt = 0;
    while (this.dispatchedUpTo < ring.head) {
      const from = this.dispatchedUpTo;
      const to = ring.reach(from, ring.head, MAX_WRITE_BYTES);
      const segment = new Segment(from, to);
      for (const group of groups.candidatesFor(packets.entries(from, to))) {
        segment.shared = undefined;
        const members = group.members.values();
        while (this.#dispatchTo(segment, members)) {
          this.#writeBatch(segment);
          yield;
        }
      }
      this.#writeBatch(segment);
      counters.events += segment.events;
      counters.bytes += segment.bytes;
      this.dispatchedUpTo = to;
      ring.settle(to);
    }
    const dispatched = this.dispatchedUpTo - first;
    if (dispatched > 0) this.#onDispatched(dispatched, performance.now() - firstAppendAt);
  }

  /**
   * Dispatches a segment to these connections until it is time to read the clock. @returns whether there may be more of them
   * (This is no generator: the state that a generator keeps costs each write 0.05 µs. A Set's iterator can be left and continued.)
   */
  #dispatchTo(segment: Segment, members: Iterable<ServerConnection>): boolean {
    const { from, to } = segment;
    const { packets } = this.#parts;
    const now = this.#now;
    for (const connection of members) {
      if (connection.source !== 'live') continue;
      const packet = connection.usesAppIds
        ? packets.packet(connection, from, to)
        : (segment.shared ??= packets.packet(connection, from, to));
      const mustYield = ++segment.steps % WRITES_PER_YIELD === 0;
      if (packet === undefined) return mustYield; // the group receives nothing of this segment
      if (packet !== segment.packet) {
        this.#writeBatch(segment);
        segment.packet = packet;
      }
      const socket = takeForBatch(connection, packet, from, to, now);
      if (socket === undefined) segment.others.push(connection);
      else this.#batch.add(connection, socket);
      if (mustYield) return true;
    }
    return false;
  }

  /** Writes the packet to the batch, then to the others: a write to those may call any code. */
  #writeBatch(segment: Segment): void {
    const { from, to, packet, others } = segment;
    if (packet === undefined) return;
    segment.count(packet, this.#batch.size);
    this.#batch.writeAll(packet.chunk);
    segment.others = [];
    for (const connection of others) {
      try {
        if (connection.writeDispatched(packet, from, to, this.#now)) segment.count(packet, 1);
      } catch (error) {
        connection.onTransportError(error);
      }
    }
  }
}
