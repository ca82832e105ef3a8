/*
 * The one scan of the log for all connections that are older than the ring, and the waiting room of those that are newer.
 * Knows the journal's contract, readers and runs.
 * Invariant: a reader is attached to the scan only where the scan meets its id in the log; that meeting is the proof of its id.
 */

import { SseError } from '../errors.ts';
import type { Entry, ReadResult } from '../journal/journal.ts';
import { MAX_WRITE_BYTES } from '../connection/delivery.ts';
import type { DeliveryHost } from '../connection/host.ts';
import type { Reader } from '../connection/resume.ts';
import { ReplayBatch } from './replay-batch.ts';

/** Entries read at once: a hundred at a time cost 40 % of the throughput, more only memory. */
const PAGE_SIZE = 1000;
/** How long an engine that does not answer is waited for before the stream is ended. A browser then comes back by itself. */
const ANSWER_TIMEOUT_MS = 30_000;
/** Between two tries of an engine that does not answer. */
const RETRY_DELAY_MS = 500;

/**
 * Between two passes others have as long as the pass took, this at most: milliseconds. libuv accepts one connection a turn, and a
 * turn of the scan is a page: of 2,000 clients about twelve came in during each pass, and waited for the next one.
 */
const MAX_GATHER_MS = 250;

/** How long it may hold the event loop before others have a turn: milliseconds. 8,000 writes in one go took 0.3 s. */
const MAX_SLICE_MS = 10;

export class Replayer {
  readonly #hub: DeliveryHost;
  readonly #waiting = new Map<string, Set<Reader>>();
  readonly #ahead = new Set<Reader>();
  readonly #attached = new Set<Reader>();
  readonly #since = new Map<Reader, number>(); // of all who wait for the engine
  #scanning = false;
  #turned = 0; // when others last had a turn
  #answered = 0; // when the engine last answered the scan: the hub's milliseconds
  #closed = false;

  constructor(hub: DeliveryHost) {
    this.#hub = hub;
  }

  /** How many are behind the ring or ahead of it. */
  get size(): number {
    return this.#since.size;
  }

  /** Takes a reader whose `at` is not in the ring and not newer than it. */
  enqueue(reader: Reader): void {
    if (reader.blocked) {
      reader.phase = 'parked';
      return;
    }
    reader.phase = 'waiting';
    this.#mark(reader);
    const those = this.#waiting.get(reader.cursorId);
    if (those) those.add(reader);
    else this.#waiting.set(reader.cursorId, new Set([reader]));
    if (!this.#scanning) void this.#scan();
  }

  /** Takes a reader whose `at` is newer than the ring's head: this process lags, or the id is not of this log. */
  awaitAhead(reader: Reader): void {
    reader.phase = 'ahead';
    this.#mark(reader);
    void this.#verify(reader, reader.cursorId);
  }

  /** Lets go of a reader, whatever it waits for. */
  remove(reader: Reader): void {
    if (!this.#since.has(reader)) return;
    this.#leave(reader);
    const those = this.#waiting.get(reader.cursorId);
    if (those?.delete(reader) && those.size === 0) this.#waiting.delete(reader.cursorId);
  }

  /** The ring has new entries: those ahead of it may be in it now. */
  onAppended(): void {
    for (const reader of this.#ahead) this.#join(reader);
  }

  /** Ends who has waited too long: its client comes back. @returns when to look again */
  expire(now: number): number {
    const why = `The journal has not answered for ${ANSWER_TIMEOUT_MS} ms: the stream is ended.`;
    for (const [reader, since] of this.#since) {
      // A long way through the log is no silence; who is ahead of this process waits for something else.
      const from = reader.phase === 'ahead' ? since : Math.max(since, this.#answered);
      if (now - from >= ANSWER_TIMEOUT_MS) reader.closeWithError(new SseError('ERR_SSE_TIMEOUT', why));
    }
    return this.size > 0 ? now + 1000 : Infinity;
  }

  close(): void {
    this.#closed = true;
  }

  #mark(reader: Reader): void {
    if (this.#since.has(reader)) return;
    this.#since.set(reader, this.#hub.now);
    this.#hub.wakeAt(this.#hub.now + 1000); // so that the hub's time moves on
  }

  #leave(reader: Reader): void {
    this.#since.delete(reader);
    this.#ahead.delete(reader);
    this.#attached.delete(reader);
  }

  async #verify(reader: Reader, id: string): Promise<void> {
    const result = await this.#read(id, 0, () => reader.phase === 'ahead' && reader.cursorId === id);
    if (result === undefined || reader.phase !== 'ahead' || reader.cursorId !== id) return;
    if (!result.ok) {
      this.#leave(reader);
      safely(reader, () => reader.reset(result.reason));
      return;
    }
    this.#ahead.add(reader);
    safely(reader, () => reader.confirmPosition());
    this.#join(reader);
  }

  #join(reader: Reader): void {
    const { ring, journal } = this.#hub;
    const n = ring.find(reader.cursorId);
    if (n === undefined && journal.compare(ring.headId, reader.cursorId) < 0) return; // still ahead
    this.#leave(reader);
    // Not in the ring, and not ahead of it: the ring went past it without it.
    safely(reader, () => (n === undefined ? reader.resumeAfter(reader.cursorId) : reader.continueInRing(n)));
  }

  async #scan(): Promise<void> {
    this.#scanning = true;
    while (this.#waiting.size > 0 && !this.#closed) {
      const start = performance.now();
      await this.#scanOnce();
      const took = Math.min(performance.now() - start, MAX_GATHER_MS);
      if (this.#waiting.size > 0 && took >= 1) await new Promise((resolve) => setTimeout(resolve, took).unref());
    }
    this.#scanning = false;
  }

  /** One way through the log, from the oldest id that is waited for to where the ring begins. */
  async #scanOnce(): Promise<void> {
    const { journal, ring } = this.#hub;
    let at = [...this.#waiting.keys()].reduce((a, b) => (journal.compare(b, a) < 0 ? b : a));
    for (let first = true; ; first = false) {
      const result = await this.#read(at, PAGE_SIZE, () => this.#attached.size > 0 || this.#waiting.has(at));
      if (result === undefined) return;
      this.#turned = performance.now();
      this.#answered = this.#hub.now;
      if (!result.ok) {
        const those = [...(this.#waiting.get(at) ?? []), ...this.#attached];
        this.#waiting.delete(at);
        for (const reader of those) this.#leave(reader);
        for (const reader of those) safely(reader, () => reader.reset(result.reason));
        return;
      }
      if (first) this.#attach(at);
      at = await this.#writePage(result.entries, at);
      if (ring.find(at) !== undefined || result.entries.length === 0) return this.#handOver(at);
      if (this.#attached.size === 0) return;
      await this.#yieldToEventLoop(); // a journal in memory answers within the turn, and others must have theirs
    }
  }

  /** Writes a page to the attached, in runs that end where somebody attaches or a write is full. */
  async #writePage(entries: readonly Entry[], from: string): Promise<string> {
    let run: Entry[] = [];
    let size = 0;
    let at = from;
    for (const entry of entries) {
      run.push(entry);
      size += entry.body.byteLength;
      at = entry.id;
      if (size < MAX_WRITE_BYTES && !this.#waiting.has(at)) continue;
      await this.#write(new ReplayBatch(run), at);
      this.#attach(at);
      run = [];
      size = 0;
    }
    if (run.length > 0) await this.#write(new ReplayBatch(run), at);
    return at;
  }

  /** (Who is dropped in a pause is passed over: it has been asked to go on from where it stands.) */
  async #write(run: ReplayBatch, at: string): Promise<void> {
    for (const reader of this.#attached) {
      const packet = run.packet(reader);
      safely(reader, () => reader.writeReplayed(packet, at));
      if (reader.phase !== 'attached') this.#leave(reader); // parked: it comes back when it has drained
      if (performance.now() - this.#turned > MAX_SLICE_MS) await this.#yieldToEventLoop();
    }
  }

  /** The scan has come to where the ring begins, or the log ends: they go on by themselves. */
  async #handOver(at: string): Promise<void> {
    let n = this.#hub.ring.find(at);
    for (const reader of this.#attached) {
      this.#leave(reader);
      safely(reader, () => (n === undefined ? reader.resumeAfter(at) : reader.continueInRing(n, 0)));
      if (performance.now() - this.#turned <= MAX_SLICE_MS) continue;
      await this.#yieldToEventLoop();
      n = this.#hub.ring.find(at);
    }
  }

  /** Others have a turn. */
  async #yieldToEventLoop(): Promise<void> {
    this.#turned = await new Promise((resolve) => setImmediate(() => resolve(performance.now())));
  }

  /** Everyone who waits at exactly this id goes along from here. */
  #attach(at: string): void {
    const those = this.#waiting.get(at);
    if (!those) return;
    this.#waiting.delete(at);
    for (const reader of those) {
      reader.phase = 'attached';
      this.#attached.add(reader);
      safely(reader, () => reader.confirmPosition());
      if (!reader.blocked || reader.phase !== 'attached') continue; // blocked by its first words alone
      this.#leave(reader);
      reader.phase = 'parked';
    }
  }

  /** Asks the journal until it answers, or until nobody wants to know any more. */
  async #read(after: string, limit: number, wanted: () => boolean): Promise<ReadResult | undefined> {
    while (wanted() && !this.#closed) {
      try {
        return await this.#hub.journal.read(after, limit);
      } catch {
        // The engine is down: that is not the readers' fault, and they stay. Who waits too long is ended by the hub.
        await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS).unref());
      }
    }
    return undefined;
  }
}

/** What one reader's response throws is that reader's end, and not the scan's. */
function safely(reader: Reader, act: () => void): void {
  try {
    act();
  } catch (error) {
    reader.onTransportError(error);
  }
}
