/*
 * Reads the log for the connections whose cursor is not in the ring: one shared scan for all that are older than the ring, and a
 * waiting list for those that are newer.
 * Invariant: a connection joins the scan only where the scan finds its id in the log. This proves that the id is valid.
 */

import type { ServerConnection } from '../connection/server-connection.ts';
import { SseError } from '../errors.ts';
import type { PacketCache } from '../fanout/packet-cache.ts';
import type { Ring } from '../fanout/ring.ts';
import type { Entry, Journal, ReadResult } from '../journal/journal.ts';
import { MAX_WRITE_BYTES } from '../wire/packet.ts';
import { forRing } from './disconnects.ts';
import { checkReadResult } from './journal-faults.ts';
import { ReplayBatch } from './replay-batch.ts';
import type { SweepTimer } from './sweep-timer.ts';

/** Entries per read: pages of a hundred reduced the throughput by 40 %, larger pages only take more memory. */
const PAGE_SIZE = 1000;
/** How long a connection waits for an answer of the engine before it is closed. A browser then reconnects by itself. */
const ANSWER_TIMEOUT_MS = 30_000;
/** The pause after a failed read. */
const RETRY_DELAY_MS = 500;
/** How often waiting connections are checked for {@link ANSWER_TIMEOUT_MS}. */
const CHECK_INTERVAL_MS = 1000;
/**
 * Between two scans there is a pause as long as the scan took, at most this long. libuv accepts one connection a tick, and a tick of
 * the scan is a page: of 2,000 clients about twelve arrived during each scan, and waited for the next one.
 */
const MAX_GATHER_MS = 250;
/** How long the scan may hold the event loop: 8,000 writes at once took 0.3 s. */
const MAX_SLICE_MS = 10;

/** The parts of the hub that the replayer uses. */
interface Parts {
  readonly journal: Pick<Journal, 'compare' | 'read'>;
  readonly ring: Pick<Ring, 'find' | 'headId'>;
  readonly packets: Pick<PacketCache, 'hasIdsFor'>;
  readonly timer: Pick<SweepTimer, 'now' | 'wakeAt'>;
}

export class Replayer {
  readonly #parts: Parts;
  /** Connections that wait for the scan, by the id that they wait for. */
  readonly #queued = new Map<string, Set<ServerConnection>>();
  /** Connections whose id is confirmed and newer than the ring. */
  readonly #ahead = new Set<ServerConnection>();
  /** Connections that the scan writes to. */
  readonly #replaying = new Set<ServerConnection>();
  /** Every connection that waits or replays, and since when. */
  readonly #since = new Map<ServerConnection, number>();
  #readError: unknown; // of the last read, if it failed
  #isScanning = false;
  #yieldedAt = 0; // when the event loop last ran
  #answeredAt = 0; // when the engine last answered the scan: the timer's milliseconds
  #isClosed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** How many connections are here. */
  get size(): number {
    return this.#since.size;
  }

  /** Takes a connection whose `cursorId` is neither in the ring nor newer than it. */
  enqueue(connection: ServerConnection): void {
    this.#add(connection);
    const { cursorId } = connection;
    const others = this.#queued.get(cursorId);
    if (others) others.add(connection);
    else this.#queued.set(cursorId, new Set([connection]));
    if (!this.#isScanning) void this.#scan();
  }

  /** Takes a connection whose `cursorId` is newer than the ring's head: this process lags, or the id is not of this log. */
  awaitAhead(connection: ServerConnection): void {
    this.#add(connection);
    void this.#verify(connection, connection.cursorId);
  }

  /** Removes a connection, whatever it waits for. */
  remove(connection: ServerConnection): void {
    if (!this.#since.has(connection)) return;
    this.#forget(connection);
    const queued = this.#queued.get(connection.cursorId);
    if (queued?.delete(connection) && queued.size === 0) this.#queued.delete(connection.cursorId);
  }

  /** The ring has new entries: it may contain the ids of connections that were ahead of it. */
  onAppended(): void {
    for (const connection of this.#ahead) this.#continueInRing(connection);
  }

  /** Closes connections that have waited too long; their clients reconnect. @returns when to call this again */
  expire(now: number): number {
    const message = `The journal did not answer within ${ANSWER_TIMEOUT_MS} ms, so the stream was closed. The client reconnects; check the journal's engine.`;
    for (const [connection, since] of this.#since) {
      // While the scan gets answers, its connections do not time out, however long the log is. A connection that is ahead of this process does not wait for the scan.
      const silentSince = connection.source === 'ahead' ? since : Math.max(since, this.#answeredAt);
      if (now - silentSince >= ANSWER_TIMEOUT_MS)
        connection.closeWithError(new SseError('ERR_SSE_TIMEOUT', message, { cause: this.#readError }));
    }
    return this.size > 0 ? now + CHECK_INTERVAL_MS : Infinity;
  }

  close(): void {
    this.#isClosed = true;
  }

  #add(connection: ServerConnection): void {
    if (this.#since.has(connection)) return;
    const { timer } = this.#parts;
    this.#since.set(connection, timer.now);
    timer.wakeAt(timer.now + CHECK_INTERVAL_MS); // so that the timer's clock advances
  }

  #forget(connection: ServerConnection): void {
    this.#since.delete(connection);
    this.#ahead.delete(connection);
    this.#replaying.delete(connection);
  }

  /** Reads from the log whether it has an id that is newer than the ring. */
  async #verify(connection: ServerConnection, id: string): Promise<void> {
    const isCurrent = (): boolean => connection.source === 'ahead' && connection.cursorId === id;
    const result = await this.#read(id, 0, isCurrent);
    if (result === undefined || !isCurrent()) return;
    if (!result.ok) {
      this.#forget(connection);
      guarded(connection, () => connection.reset(result.reason));
      return;
    }
    this.#ahead.add(connection);
    guarded(connection, () => connection.confirmPosition());
    this.#continueInRing(connection);
  }

  #continueInRing(connection: ServerConnection): void {
    const { ring, journal } = this.#parts;
    const { cursorId } = connection;
    guarded(connection, () => {
      const n = ring.find(cursorId);
      if (n === undefined && journal.compare(ring.headId, cursorId) < 0) return; // still ahead
      this.#forget(connection);
      // Neither in the ring nor ahead of it: the ring has passed the id without having it.
      if (n === undefined) connection.resumeAfter(cursorId);
      else connection.continueInRing(n);
    });
  }

  async #scan(): Promise<void> {
    this.#isScanning = true;
    while (this.#queued.size > 0 && !this.#isClosed) {
      const start = performance.now();
      await this.#scanOnce().catch((error: unknown) => this.#onScanFailed(error));
      const pause = Math.min(performance.now() - start, MAX_GATHER_MS);
      if (this.#queued.size > 0 && pause >= 1) await new Promise((resolve) => setTimeout(resolve, pause).unref());
    }
    this.#isScanning = false;
  }

  /** The journal's `compare()` threw, or an entry of it is none: closes the connections of the scan, whose clients reconnect. */
  #onScanFailed(error: unknown): void {
    const connections = [...[...this.#queued.values()].flatMap((waiting) => [...waiting]), ...this.#replaying];
    this.#queued.clear();
    for (const connection of connections) this.#forget(connection);
    for (const connection of connections) guarded(connection, () => connection.closeWithError(error));
  }

  /** Reads the log once, from the oldest id in the queue to where the ring begins. */
  async #scanOnce(): Promise<void> {
    const { journal, ring, timer } = this.#parts;
    let at = [...this.#queued.keys()].reduce((a, b) => (journal.compare(b, a) < 0 ? b : a));
    for (let isFirst = true; ; isFirst = false) {
      const result = await this.#read(at, PAGE_SIZE, () => this.#replaying.size > 0 || this.#queued.has(at));
      if (result === undefined) return;
      this.#yieldedAt = performance.now();
      this.#answeredAt = timer.now;
      if (!result.ok) {
        const connections = [...(this.#queued.get(at) ?? []), ...this.#replaying];
        this.#queued.delete(at);
        for (const connection of connections) this.#forget(connection);
        for (const connection of connections) guarded(connection, () => connection.reset(result.reason));
        return;
      }
      if (isFirst) this.#startReplay(at);
      const entries = this.#upToHead(result.entries);
      at = await this.#writePage(entries, at);
      if (ring.find(at) !== undefined || result.entries.length === 0) return this.#handOver(at);
      if (this.#replaying.size === 0) return;
      // Without an entry up to the head, the log does not continue at the ring: the follower is about to notice lost writes.
      if (entries.length === 0) await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS).unref());
      else await this.#yieldToEventLoop(); // a journal in memory answers within the tick
    }
  }

  /** Drops newer entries than the head: the scan must not overtake the follower, which applies disconnects and the limits of closes. */
  #upToHead(entries: readonly Entry[]): readonly Entry[] {
    const { journal, ring } = this.#parts;
    const last = entries.at(-1);
    if (last === undefined || journal.compare(last.id, ring.headId) <= 0) return entries;
    return entries.filter(({ id }) => journal.compare(id, ring.headId) <= 0);
  }

  /** Writes a page, in batches that end where a connection joins the scan or a write is full. @returns the last entry's id */
  async #writePage(entries: readonly Entry[], from: string): Promise<string> {
    let batch: Entry[] = [];
    let bytes = 0;
    let at = from;
    for (const entry of entries) {
      batch.push(forRing(entry));
      bytes += entry.body.byteLength;
      at = entry.id;
      if (bytes < MAX_WRITE_BYTES && !this.#queued.has(at)) continue;
      await this.#writeBatch(new ReplayBatch(batch, this.#parts.packets), at);
      this.#startReplay(at);
      batch = [];
      bytes = 0;
    }
    if (batch.length > 0) await this.#writeBatch(new ReplayBatch(batch, this.#parts.packets), at);
    return at;
  }

  /** (A connection that blocks or ends removes itself. One that another caller removed in a pause continues from its own position.) */
  async #writeBatch(batch: ReplayBatch, at: string): Promise<void> {
    const { journal } = this.#parts;
    const compare = (a: string, b: string): number => journal.compare(a, b);
    for (const connection of this.#replaying) {
      const { closing } = connection;
      const isLimited = closing !== undefined && journal.compare(at, closing.limitId) > 0;
      const packet = (isLimited ? batch.upTo(closing.limitId, compare) : batch).packet(connection);
      guarded(connection, () => connection.onReplayPage(packet, at));
      if (performance.now() - this.#yieldedAt > MAX_SLICE_MS) await this.#yieldToEventLoop();
    }
  }

  /** The scan has reached the ring, or the end of the log: each connection continues by itself. */
  async #handOver(at: string): Promise<void> {
    const { ring } = this.#parts;
    let n = ring.find(at);
    for (const connection of this.#replaying) {
      this.#forget(connection);
      guarded(connection, () => (n === undefined ? connection.resumeAfter(at) : connection.continueInRing(n, 0)));
      if (performance.now() - this.#yieldedAt <= MAX_SLICE_MS) continue;
      await this.#yieldToEventLoop();
      n = ring.find(at);
    }
  }

  async #yieldToEventLoop(): Promise<void> {
    this.#yieldedAt = await new Promise((resolve) => setImmediate(() => resolve(performance.now())));
  }

  /** The scan is at this id: the connections that wait for it join. */
  #startReplay(at: string): void {
    const connections = this.#queued.get(at);
    if (!connections) return;
    this.#queued.delete(at);
    for (const connection of connections) {
      this.#replaying.add(connection);
      guarded(connection, () => connection.onReplayStarted());
    }
  }

  /** Reads until the journal answers, or until no connection needs the answer. */
  async #read(after: string, limit: number, isNeeded: () => boolean): Promise<ReadResult | undefined> {
    while (isNeeded() && !this.#isClosed) {
      try {
        const result = checkReadResult(await this.#parts.journal.read(after, limit));
        this.#readError = undefined;
        return result;
      } catch (error) {
        this.#readError = error;
        // The engine does not answer. The connections stay open; expire() closes those that wait too long.
        await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS).unref());
      }
    }
    return undefined;
  }
}

/** An error of one connection's response ends this connection, and not the scan. */
function guarded(connection: ServerConnection, act: () => void): void {
  try {
    act();
  } catch (error) {
    connection.onTransportError(error);
  }
}
