/*
 * Publishes entries: numbered, in order, each at most once, although connections break.
 * Invariant: an unsettled entry is in exactly one place. #queue: waits to be sent. #inFlight: was sent on this connection,
 * in the order of seq. #retries: to be sent again, in the order of seq.
 */
import { randomBytes } from 'node:crypto';
import { SseError } from '../../errors.ts';
import { MAX_TIMER_MS } from '../../validation/validate.ts';
import { Deque } from '../deque.ts';
import type { NewEntry } from '../journal.ts';
import { entryFields } from './entry-fields.ts';
import { type Arg, ConnectionLost, isTransient, type RedisConnection } from './redis-connection.ts';
import { type ConnectionListener, journalError } from './command-connection.ts';
import { MAX_EXPIRY_MS, MAX_IN_FLIGHT, PUBLISH, sha1 } from './scripts.ts';
import { toText } from './replies.ts';

/** The limits of a producer. */
export interface ProducerLimits {
  readonly maxLength: number;
  readonly wait: number;
  readonly maxPending: number;
  readonly maxPendingBytes: number;
  readonly maxEntryBytes: number;
  readonly keyAge: number;
}

interface PendingEntry {
  fields: readonly Arg[]; // emptied when settled: a settled entry may still be in the queue
  readonly key: string | undefined;
  readonly size: number;
  readonly deadline: number;
  readonly resolve: (id: string) => void;
  readonly reject: (error: Error) => void;
  seq: number; // 0 until it is first sent
  maybeStored: boolean; // it was sent, and Redis has not reported that it was not stored
  settled: boolean;
}

const PUBLISH_SHA1 = sha1(PUBLISH);
const PRODUCER_AGE_MS = 3_600_000; // longer than an entry may be sent again
const CLOSE_TIMEOUT_MS = 1000; // for replies that are on their way when the journal is closed

/** The publisher of one journal. */
export class Producer implements ConnectionListener {
  readonly #log: string;
  readonly #keyPrefix: string;
  readonly #producerKey: string;
  readonly #limits: ProducerLimits;
  readonly #maxLength: string;
  readonly #producerAge: string;
  readonly #downReason: () => Error | undefined;
  readonly #pending = new Set<PendingEntry>();
  readonly #inFlight = new Set<PendingEntry>();
  readonly #queue = new Deque<PendingEntry>();
  #retries: PendingEntry[] = []; // not stored on this connection, although they are valid: they are sent again in order
  #bytes = 0;
  #seq = 0;
  #previousSeq = ''; // the seq sent before on this connection
  #halted = false;
  #connection: RedisConnection | undefined;
  #timer: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | undefined;

  /** `keyPrefix`: the prefix of the other keys. `downReason` returns why there is no connection. */
  constructor(log: string, keyPrefix: string, limits: ProducerLimits, downReason: () => Error | undefined) {
    this.#log = log;
    this.#keyPrefix = keyPrefix;
    this.#producerKey = `${keyPrefix}:p:${randomBytes(9).toString('base64url')}`;
    this.#limits = limits;
    this.#maxLength = Number.isFinite(limits.maxLength) ? String(limits.maxLength) : '';
    this.#producerAge = String(Math.ceil(Math.min(Math.max(PRODUCER_AGE_MS, limits.wait * 2), MAX_EXPIRY_MS)));
    this.#downReason = downReason;
  }

  append(entry: NewEntry): Promise<string> {
    const { maxEntryBytes, maxPending, maxPendingBytes, wait } = this.#limits;
    const { key } = entry;
    const { fields, size } = entryFields(entry, maxEntryBytes);
    if (this.#pending.size >= maxPending || this.#bytes + size > maxPendingBytes) {
      throw new SseError(
        'ERR_SSE_QUEUE_FULL',
        `append: pending entries must be at most ${maxPending} (maxPending) and ${maxPendingBytes} bytes (maxPendingBytes); ` +
          `${this.#pending.size} entries of ${this.#bytes} bytes already wait for Redis${this.#reasonText()}. ` +
          'The entry was not stored. Append less often, or await earlier appends first.',
        { cause: this.#downReason() },
      );
    }
    const appended = new Promise<string>((resolve, reject) => {
      const deadline = performance.now() + wait;
      const pending: PendingEntry = {
        fields,
        key,
        size,
        deadline,
        resolve,
        reject,
        seq: 0,
        maybeStored: false,
        settled: false,
      };
      this.#pending.add(pending);
      this.#bytes += size;
      this.#queue.push(pending);
      this.#timer ??= this.#startTimer(wait);
    });
    // Outside the function above: an error refers to the functions of its stack, and that function refers to the entry.
    this.#sendQueued();
    return appended;
  }

  onConnected(connection: RedisConnection): void {
    this.#connection = connection;
    this.#resume();
  }

  onDisconnected(): void {
    this.#connection = undefined;
    this.#retries.push(...this.#inFlight);
    this.#inFlight.clear();
  }

  /** Rejects unsent entries at once. A sent entry may be in the log already: waits for its reply, at most a second. */
  async close(error: SseError): Promise<void> {
    for (const entry of this.#pending) if (!entry.maybeStored) this.#settle(entry, error);
    if (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
        this.#onEmpty = () => resolve(clearTimeout(timer));
      });
    }
    clearTimeout(this.#timer);
    for (const entry of this.#pending) {
      this.#settle(entry, entry.maybeStored ? this.#timeoutError('before the journal was closed') : error);
    }
  }

  /** Sends all unsettled entries again in order, before any new one. */
  #resume(): void {
    if (this.#retries.length > 0) {
      this.#queue.prepend(this.#retries);
      this.#retries = [];
    }
    this.#previousSeq = '';
    this.#halted = false;
    this.#sendQueued();
  }

  #sendQueued(): void {
    const now = performance.now();
    while (this.#queue.length > 0) {
      const entry = this.#queue.at(0)!;
      // After a pause of this process, replies arrive before entries expire. What has expired by then must not be sent.
      if (entry.deadline <= now) this.#timeOut(entry);
      // Remove settled entries even without a connection: until one is open, no other code removes them.
      if (!entry.settled && (!this.#connection || this.#halted || this.#inFlight.size >= MAX_IN_FLIGHT)) break;
      this.#queue.shift();
      if (!entry.settled) this.#send(this.#connection!, entry);
    }
  }

  #send(connection: RedisConnection, entry: PendingEntry): void {
    entry.seq ||= ++this.#seq;
    entry.maybeStored = true;
    const seq = String(entry.seq);
    const keys = entry.key === undefined ? [] : [`${this.#keyPrefix}:k:${entry.key}`];
    const slot = String(entry.seq % MAX_IN_FLIGHT);
    this.#inFlight.add(entry);
    connection
      .command([
        'EVALSHA',
        PUBLISH_SHA1,
        String(2 + keys.length),
        this.#log,
        this.#producerKey,
        ...keys,
        seq,
        this.#previousSeq,
        slot,
        this.#producerAge,
        String(this.#limits.keyAge),
        this.#maxLength,
        ...entry.fields,
      ])
      .then(
        (reply) => this.#onReply(entry, reply),
        (error: Error) => this.#onError(connection, entry, error),
      );
    this.#previousSeq = seq;
  }

  #onReply(entry: PendingEntry, reply: unknown): void {
    this.#inFlight.delete(entry);
    if (reply === null || reply === undefined) this.#retry(entry);
    else this.#settle(entry, undefined, toText(reply));
    this.#continue();
  }

  #onError(connection: RedisConnection, entry: PendingEntry, error: Error): void {
    if (error instanceof ConnectionLost) return; // onDisconnected() has added the entry to #retries
    this.#inFlight.delete(entry);
    if (isTransient(error)) {
      this.#retry(entry);
      connection.destroy(error); // a new connection, after a pause, may reach a node that accepts the entry
      return;
    }
    this.#settle(entry, journalError('returned an error', error));
    this.#halted = true; // Redis replies nil to the entries sent after this one; they are sent again
    this.#continue();
  }

  /** Redis has reported that the entry was not stored, so it counts as never sent. */
  #retry(entry: PendingEntry): void {
    entry.maybeStored = false;
    this.#retries.push(entry);
    this.#halted = true;
  }

  #continue(): void {
    if (!this.#halted) this.#sendQueued();
    else if (this.#inFlight.size === 0 && this.#connection) this.#resume();
  }

  #settle(entry: PendingEntry, error: Error | undefined, id = ''): void {
    if (entry.settled) return; // already rejected with «the outcome is unknown»
    entry.settled = true;
    entry.fields = [];
    this.#pending.delete(entry);
    this.#bytes -= entry.size;
    if (error) entry.reject(error);
    else entry.resolve(id);
    if (this.#pending.size === 0) this.#onEmpty?.();
  }

  #startTimer(ms: number): NodeJS.Timeout {
    // After a pause of this process, replies may wait in the socket: they are read before entries expire.
    return setTimeout(() => setImmediate(() => this.#expire()), Math.min(Math.max(ms, 1), MAX_TIMER_MS)).unref();
  }

  /** Rejects expired entries. One timer is enough: all entries wait equally long, so #pending is in the order of the deadlines. */
  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const entry of this.#pending) {
      if (entry.deadline > now) {
        this.#timer = this.#startTimer(entry.deadline - now);
        break;
      }
      this.#timeOut(entry);
    }
    this.#sendQueued();
  }

  #timeOut(entry: PendingEntry): void {
    if (!entry.settled) this.#settle(entry, this.#timeoutError(`within ${this.#limits.wait} ms`, entry.maybeStored));
  }

  #timeoutError(when: string, maybeStored = true): SseError {
    const outcome = maybeStored
      ? 'The outcome is unknown, the entry may be in the log. With a key, it is safe to append it again.'
      : 'The entry was not stored. Append it again.';
    const message = `append: no reply from Redis ${when}${this.#reasonText()}. ${outcome}`;
    return new SseError('ERR_SSE_TIMEOUT', message, { cause: this.#downReason() });
  }

  #reasonText(): string {
    const reason = this.#downReason();
    return reason ? ` (${reason.message})` : '';
  }
}
