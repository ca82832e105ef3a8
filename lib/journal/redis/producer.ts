/*
 * Publishes entries: numbered, in order, each at most once, although connections break.
 * Invariant: an unsettled append is in exactly one place. The queue of #pending: waits to be sent. #inFlight: was sent on this
 * connection, in the order of seq. #retries: to be sent again, in the order of seq.
 */
import { randomBytes } from 'node:crypto';
import type { NewEntry } from '../journal.ts';
import { type PendingAppend, PendingAppends, type PendingLimits } from '../pending-appends.ts';
import { entryFields } from './entry-fields.ts';
import { type Arg, ConnectionLost, isTransient, type RedisConnection } from './redis-connection.ts';
import { type ConnectionListener, journalError } from './command-connection.ts';
import { MAX_EXPIRY_MS, MAX_IN_FLIGHT, PUBLISH, sha1 } from './scripts.ts';
import { toText } from './replies.ts';

/** The limits of a producer. */
export interface ProducerLimits extends PendingLimits {
  readonly maxLength: number;
  readonly maxEntryBytes: number;
  readonly keyAge: number;
}

interface StreamEntry {
  readonly fields: readonly Arg[];
  readonly key: string | undefined;
  seq: number; // 0 until it is first sent
}

type Append = PendingAppend<StreamEntry>;

const PUBLISH_SHA1 = sha1(PUBLISH);
const PRODUCER_AGE_MS = 3_600_000; // longer than an entry may be sent again

/** The publisher of one journal. */
export class Producer implements ConnectionListener {
  readonly #log: string;
  readonly #keyPrefix: string;
  readonly #producerKey: string;
  readonly #limits: ProducerLimits;
  readonly #maxLength: string;
  readonly #producerAge: string;
  readonly #pending: PendingAppends<StreamEntry>;
  readonly #inFlight = new Set<Append>();
  #retries: Append[] = []; // not stored on this connection, although they are valid: they are sent again in order
  #seq = 0;
  #previousSeq = ''; // the seq sent before on this connection
  #halted = false;
  #connection: RedisConnection | undefined;

  /** `keyPrefix`: the prefix of the other keys. `downReason` returns why there is no connection. */
  constructor(log: string, keyPrefix: string, limits: ProducerLimits, downReason: () => Error | undefined) {
    this.#log = log;
    this.#keyPrefix = keyPrefix;
    this.#producerKey = `${keyPrefix}:p:${randomBytes(9).toString('base64url')}`;
    this.#limits = limits;
    this.#maxLength = Number.isFinite(limits.maxLength) ? String(limits.maxLength) : '';
    this.#producerAge = String(Math.ceil(Math.min(Math.max(PRODUCER_AGE_MS, limits.wait * 2), MAX_EXPIRY_MS)));
    this.#pending = new PendingAppends('Redis', limits, downReason);
  }

  append(entry: NewEntry): Promise<string> {
    const { fields, size } = entryFields(entry, this.#limits.maxEntryBytes);
    const appended = this.#pending.add({ fields, key: entry.key, seq: 0 }, size);
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

  /** Closes as {@link PendingAppends.close}. */
  close(): Promise<void> {
    return this.#pending.close('before the journal was closed');
  }

  /** Sends all unsettled entries again in order, before any new one. */
  #resume(): void {
    if (this.#retries.length > 0) {
      this.#pending.requeue(this.#retries);
      this.#retries = [];
    }
    this.#previousSeq = '';
    this.#halted = false;
    this.#sendQueued();
  }

  #sendQueued(): void {
    while (this.#connection && !this.#halted && this.#inFlight.size < MAX_IN_FLIGHT) {
      const append = this.#pending.take();
      if (!append) return;
      this.#send(this.#connection, append);
    }
  }

  #send(connection: RedisConnection, append: Append): void {
    const entry = append.entry!;
    entry.seq ||= ++this.#seq;
    append.maybeStored = true;
    const seq = String(entry.seq);
    const keys = entry.key === undefined ? [] : [`${this.#keyPrefix}:k:${entry.key}`];
    const slot = String(entry.seq % MAX_IN_FLIGHT);
    this.#inFlight.add(append);
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
        (reply) => this.#onReply(append, reply),
        (error: Error) => this.#onError(connection, append, error),
      );
    this.#previousSeq = seq;
  }

  #onReply(append: Append, reply: unknown): void {
    this.#inFlight.delete(append);
    if (reply === null || reply === undefined) this.#retry(append);
    else this.#pending.resolve(append, toText(reply));
    this.#continue();
  }

  #onError(connection: RedisConnection, append: Append, error: Error): void {
    if (error instanceof ConnectionLost) return; // onDisconnected() has added the entry to #retries
    this.#inFlight.delete(append);
    if (isTransient(error)) {
      this.#retry(append);
      connection.destroy(error); // a new connection, after a pause, may reach a node that accepts the entry
      return;
    }
    this.#pending.reject(append, journalError('returned an error', error));
    this.#halted = true; // Redis replies nil to the entries sent after this one; they are sent again
    this.#continue();
  }

  /** Redis has reported that the entry was not stored, so it counts as never sent. */
  #retry(append: Append): void {
    append.maybeStored = false;
    this.#retries.push(append);
    this.#halted = true;
  }

  #continue(): void {
    if (!this.#halted) this.#sendQueued();
    else if (this.#inFlight.size === 0 && this.#connection) this.#resume();
  }
}
