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
import { SegmentIndex } from '../fanout/segment-index.ts';
import type { Selection } from '../fanout/selection.ts';
import { SubscriberGroup, type SubscriberGroups } from '../fanout/subscriber-groups.ts';
import { isEvent, Packet } from '../wire/packet.ts';
import type { SweepTimer } from './sweep-timer.ts';
import { WriteBatch } from './write-batch.ts';

/** How long one slice may hold the event loop. */
const MAX_SLICE_MS = 10;
/**
 * How much is appended within a tick before a slice runs in it: an endless loop of `await broadcast()` prevents the end of the tick. A
 * loop of 10,000 broadcasts of 100 bytes ends before, and its events leave after the tick, as fast as those of a small one. (After
 * 1,000 entries or 256 KiB, each further call ran a slice of 10 ms: with 4,000 connections, 5,000 private events took 0.4 s.)
 */
const MAX_TICK_ENTRIES = 16_384;
const MAX_TICK_BYTES = 1_048_576;
/** How many of these may wait before each call runs a slice: a loop that broadcasts faster than the dispatcher would take all memory. */
const MAX_WAITING_TICKS = 8;
/** How many flushes, which take long, and how many writes there are between two readings of the clock. */
const FLUSHES_PER_YIELD = 16;
const WRITES_PER_YIELD = 64;
/** How many bytes there are between two readings of the clock. A packet of 500 entries takes 0.3 ms. */
const BYTES_PER_YIELD = 131_072;

/** The entries (from, to] of the ring. */
interface Segment {
  readonly from: number;
  readonly to: number;
}

/** The parts of the hub that the dispatcher uses. */
interface Parts {
  readonly ring: Ring;
  readonly packets: PacketCache;
  readonly groups: SubscriberGroups<ServerConnection>;
  readonly timer: Pick<SweepTimer, 'refresh'>;
  readonly counters: Counters;
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
  /** The connections that cannot be in the batch, and their packets; `undefined`: the entries need several writes. */
  #others: [ServerConnection, Packet | undefined][] = [];
  #bytesToYield = 0; // of the batch and of the others
  #flushQueue: ServerConnection[] = [];
  #flushed = 0; // of the queue
  #tickBytes = 0; // appended since the last slice
  #checkedHead = 0; // the head at the last slice
  #waitingBytes = 0; // of entries that are not dispatched
  #firstAppendAt = 0; // when the first of them was appended; 0: none waits
  #isScheduled = false;
  #isRunning = false;
  #work: Generator<void, void> | undefined;
  // Both are made once: a tick with one private event would otherwise leave two functions and their variables as garbage.
  readonly #runTick = (): void => this.#runSlice(false);
  readonly #endTick = (): void => {
    this.#isScheduled = false;
    this.tick++;
    this.#context.runInAsyncScope(this.#runTick);
  };

  /** @param onDispatched Called with the number of entries dispatched, and the time since the first of them was appended. */
  constructor(parts: Parts, onDispatched: (entries: number, ms: number) => void) {
    this.#parts = parts;
    this.#onDispatched = onDispatched;
    this.dispatchedUpTo = parts.ring.head;
    this.#checkedHead = parts.ring.head;
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
    this.#waitingBytes += bytes;
    if (!this.#isRunning && this.#isTooMuch() && !this.#isFlushing) this.#runSlice(true);
    else this.#schedule();
  }

  /** Makes n the position: the ring was replaced or rewound, so work in progress ends. */
  resetTo(n: number): void {
    this.dispatchedUpTo = n;
    this.#checkedHead = n;
    this.#waitingBytes = 0;
    this.#work = undefined;
    this.#schedule();
  }

  /** Whether so much has been appended within the tick that a slice must not wait for its end. */
  #isTooMuch(): boolean {
    const { head } = this.#parts.ring;
    if (this.#tickBytes > MAX_TICK_BYTES || head - this.#checkedHead > MAX_TICK_ENTRIES) return true;
    const isFar = head - this.dispatchedUpTo > MAX_WAITING_TICKS * MAX_TICK_ENTRIES;
    return isFar || this.#waitingBytes > MAX_WAITING_TICKS * MAX_TICK_BYTES;
  }

  /** Whether a run is in the midst of its flushes, which must not continue within a tick. */
  get #isFlushing(): boolean {
    return this.#work !== undefined && this.#flushed > 0;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#endTick);
  }

  /** @param midTick Whether the tick has not ended. Own pushes are not flushed then; flushing would open a stream too early. */
  #runSlice(midTick: boolean): void {
    this.#now = this.#parts.timer.refresh();
    this.#tickBytes = 0;
    this.#checkedHead = this.#parts.ring.head;
    this.#isRunning = true;
    if (!this.#dispatchPrivate()) {
      const start = performance.now();
      const work = (this.#work ??= this.#run(midTick));
      for (;;) {
        if (work.next().done) {
          if (this.#work === work) this.#work = undefined;
          break;
        }
        if (work !== this.#work || performance.now() - start > MAX_SLICE_MS) break;
      }
    }
    this.#isRunning = false;
    const hasMore = this.#work !== undefined || this.#flushQueue.length > 0;
    if (hasMore || this.dispatchedUpTo < this.#parts.ring.head) this.#schedule();
  }

  /**
   * Dispatches the only entry that waits if it is for one connection, or for none. An index and a generator would take 1.1 µs, twice as
   * long as the packet. @returns false if there is more to do
   */
  #dispatchPrivate(): boolean {
    const { ring, groups, packets } = this.#parts;
    const n = ring.head;
    if (this.#work !== undefined || this.#flushQueue.length > 0 || this.dispatchedUpTo !== n - 1) return false;
    const entry = ring.at(n);
    if (entry.to?.length !== 1 || entry.except !== undefined) return false;
    const group = groups.ofChannel(entry.to[0]!);
    if (group !== undefined) {
      if (!(group instanceof SubscriberGroup) || group.only === undefined) return false;
      const connection = group.only;
      if (connection.source === 'live') {
        const withIds = packets.hasIdsFor(connection);
        const segment = { from: n - 1, to: n };
        this.#take(segment, Packet.forOne([entry], withIds, isEvent(entry) ? n : 0), connection);
        this.#writeBatch(segment);
      }
    }
    const firstAppendAt = this.#firstAppendAt;
    this.#firstAppendAt = 0;
    this.dispatchedUpTo = n;
    this.#waitingBytes = 0;
    ring.settle(n);
    this.#onDispatched(1, performance.now() - firstAppendAt);
    return true;
  }

  /** Flushes, then dispatches: own pushes may be older than the broadcasts of the tick, and a flush moves its connection to the head. */
  *#run(midTick: boolean): Generator<void, void> {
    const { ring, groups } = this.#parts;
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
    if (this.#flushed > 0) this.#flushQueue = this.#flushQueue.slice(this.#flushed);
    this.#flushed = 0;
    const firstAppendAt = this.#firstAppendAt;
    const first = this.dispatchedUpTo;
    this.#firstAppendAt = 0;
    while (this.dispatchedUpTo < ring.head) {
      const index = new SegmentIndex(ring, groups, this.dispatchedUpTo);
      yield* index.build(ring.head);
      for (const group of index.receivers()) {
        const selection = index.take(group);
        if (selection === undefined) continue;
        const { only } = group;
        if (only !== undefined) {
          if (this.#dispatchToOne(index, selection, only)) {
            this.#writeBatch(index);
            yield;
          }
          continue;
        }
        const members = group.members[Symbol.iterator]();
        while (this.#dispatchTo(index, selection, members)) {
          this.#writeBatch(index);
          yield;
        }
      }
      this.#writeBatch(index);
      this.dispatchedUpTo = index.to;
      this.#waitingBytes -= index.bytes;
      ring.settle(index.to);
    }
    const dispatched = this.dispatchedUpTo - first;
    if (dispatched > 0) this.#onDispatched(dispatched, performance.now() - firstAppendAt);
  }

  /**
   * Dispatches a selection to these connections until it is time to read the clock. @returns whether there may be more of them
   * (This is no generator: the state that a generator keeps costs each write 0.05 µs. A Set's iterator can be left and continued.)
   */
  #dispatchTo(segment: Segment, selection: Selection, members: Iterator<ServerConnection>): boolean {
    const withIds = this.#parts.packets.sendsPositions;
    let shared: Packet | undefined;
    for (let step = members.next(); !step.done; step = members.next()) {
      const connection = step.value;
      if (connection.source !== 'live') continue;
      // The packet of a fan-out is looked up once, not once for each connection.
      const packet = connection.usesAppIds
        ? selection.packet(false, false)
        : (shared ??= selection.packet(withIds, false));
      if (this.#take(segment, packet, connection)) return true;
    }
    return false;
  }

  /** Dispatches a selection to the only connection of its group. @returns whether it is time to read the clock */
  #dispatchToOne(segment: Segment, selection: Selection, connection: ServerConnection): boolean {
    if (connection.source !== 'live') return false;
    const withIds = this.#parts.packets.hasIdsFor(connection);
    return this.#take(segment, selection.packet(withIds, selection.groupCount === 1), connection);
  }

  #take({ from, to }: Segment, packet: Packet | undefined, connection: ServerConnection): boolean {
    const socket = packet && takeForBatch(connection, packet, from, to, this.#now);
    if (socket === undefined) this.#others.push([connection, packet]);
    else {
      this.#batch.add(connection, socket, packet!.chunk);
      this.#count(packet!);
    }
    this.#bytesToYield += packet?.size ?? BYTES_PER_YIELD;
    return this.#batch.size + this.#others.length >= WRITES_PER_YIELD || this.#bytesToYield >= BYTES_PER_YIELD;
  }

  /** Writes the batch, then to the others: a write to those may call any code. */
  #writeBatch({ from, to }: Segment): void {
    this.#bytesToYield = 0;
    this.#batch.writeAll();
    if (this.#others.length === 0) return;
    const others = this.#others;
    this.#others = [];
    for (const [connection, packet] of others) {
      try {
        if (connection.writeDispatched(packet, from, to, this.#now)) this.#count(packet!);
      } catch (error) {
        connection.onTransportError(error);
      }
    }
  }

  #count(packet: Packet): void {
    const { counters } = this.#parts;
    counters.events += packet.entryCount;
    counters.bytes += packet.size;
  }
}
