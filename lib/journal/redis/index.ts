/*
 * The log on a Redis or Valkey stream: one broadcast is one entry, many processes and machines follow it.
 * Knows the contract, bounds and the rooms beside it.
 * Invariant: the log is the stream alone; a process keeps nothing that another one would need.
 */
import { type JournalLimit, checkJournalLimits } from '../journal-limits.ts';
import { SseError, SseTypeError, describe } from '../../errors.ts';
import type { Follower, Journal, NewEntry, ReadResult, JournalWindow } from '../journal.ts';
import { Trimmer, warn, warnOfSettings } from './maintenance.ts';
import { type IORedis, type NodeRedisClient, type Source, sourceOf } from './clients.ts';
import { Following } from './follower.ts';
import { Line } from './command-connection.ts';
import { type Limits, Producer } from './producer.ts';
import { LogReader } from './log-reader.ts';
import { compareStreamIds, isStreamId } from './replies.ts';
import { besideOf, LONGEST } from './scripts.ts';

export type { IORedis, NodeRedisClient } from './clients.ts';

/** Where {@link redisJournal} keeps its log, how much of it, and how long it waits. */
export interface RedisJournalOptions {
  /**
   * The stream's key. The client's `keyPrefix`, if it has one, is put in front. The few other keys of a journal begin with this one
   * and are in its slot of a cluster (an ACL needs one pattern: `~{sse}:log*`), so use a key of its own for each journal.
   * @defaultValue '{sse}:log'
   */
  readonly key?: string;
  /**
   * Entries that the log keeps at least (Redis trims whole blocks, some hundred more may stay). A positive integer, or `Infinity`.
   * @defaultValue 100000
   */
  readonly maxLength?: number;
  /**
   * Milliseconds that an entry stays at least, or `Infinity`. Trimmed at intervals of a sixteenth of it (1 s to 60 s).
   * @defaultValue 3600000 (an hour)
   */
  readonly maxAge?: number;
  /**
   * Milliseconds that an append or a read waits for Redis before it is rejected.
   * @defaultValue 5000
   */
  readonly wait?: number;
  /**
   * Appends that may wait for Redis at the same time; one more is rejected with `ERR_SSE_QUEUE_FULL`.
   * @defaultValue 10000
   */
  readonly maxPending?: number;
  /**
   * Bytes of all appends that wait.
   * @defaultValue 67108864 (64 MiB)
   */
  readonly maxPendingBytes?: number;
  /**
   * Bytes of one entry, its channels included; a larger one is rejected with `ERR_SSE_TOO_LARGE`. At most 512 MiB, Redis' own limit.
   * @defaultValue 1048576 (1 MiB)
   */
  readonly maxEntryBytes?: number;
  /**
   * Milliseconds for which the `key` of an append is remembered, so that its retry stores nothing.
   * @defaultValue 3600000 (an hour)
   */
  readonly keyAge?: number;
}

const DEFAULT_KEY = '{sse}:log';
const BOUNDS: Readonly<Record<keyof Limits | 'maxAge', JournalLimit>> = {
  maxLength: { default: 100_000, integer: true },
  maxAge: { default: 3_600_000, integer: false },
  wait: { default: 5_000, integer: false },
  maxPending: { default: 10_000, integer: true },
  maxPendingBytes: { default: 64 * 1024 * 1024, integer: true },
  maxEntryBytes: { default: 1024 * 1024, integer: true },
  keyAge: { default: 3_600_000, integer: true },
};

/**
 * A log on one Redis or Valkey stream (5 or later; trimming by age needs 6.2). The client is only duplicated: two connections of our
 * own per process, one for commands and one that follows. A plain client and a cluster's both work, with TLS, ACL and `keyPrefix`.
 *
 * An entry's fields, all optional:
 *
 * | field | value |
 * |---|---|
 * | `to` | the channels that it is for, as a JSON array, or one channel's name as it is; absent: everyone |
 * | `except` | the channels that do not get it, in the same form |
 * | `data` | text; each of its lines becomes a `data:` line |
 * | `event` | the event's name |
 * | `body` | instead of `data` and `event`: the finished frame without its `id` line, which is what this package writes |
 *
 * So a worker in any language publishes with one command, and an entry that cannot be sent (a line end in `event`, a `to` that is
 * no list of names) reaches nobody:
 *
 * ```sh
 * redis-cli XADD '{sse}:log' '*' event order data '{"id":1}' to '["room:7"]'
 * ```
 *
 * @example
 * ```ts
 * const events = sse(handler, { history: redisJournal(createClient({ url: 'redis://localhost' })) });
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` when the client is of neither kind, or an option is unknown or out of range.
 */
export function redisJournal(client: IORedis | NodeRedisClient, options: RedisJournalOptions = {}): Journal {
  const source = sourceOf(client);
  const bounds = checkJournalLimits('redisJournal', options, BOUNDS, ['key']);
  bounds.keyAge = Math.min(bounds.keyAge, LONGEST);
  const { key = DEFAULT_KEY } = options;
  const log = source.keyPrefix + key;
  const beside = typeof key === 'string' && key !== '' ? besideOf(log) : undefined;
  if (beside === undefined) {
    throw new SseTypeError(
      'ERR_SSE_OPTION',
      `redisJournal: key must be a text without braces, or with one {hash tag}; got ${describe(key)}` +
        (source.keyPrefix ? ` behind the keyPrefix ${JSON.stringify(source.keyPrefix)}` : ''),
    );
  }
  return new RedisJournal(source, log, beside, bounds) satisfies Journal;
}

class RedisJournal implements Journal {
  readonly #source: Source;
  readonly #log: string;
  readonly #wait: number;
  readonly #line: Line;
  readonly #producer: Producer;
  readonly #reader: LogReader;
  readonly #trimmer: Trimmer;
  readonly #followings = new Set<Following>();
  #opening: Promise<void> | undefined;
  #closed: SseError | undefined;
  #closing: Promise<void> | undefined;

  constructor(source: Source, log: string, beside: string, bounds: Limits & { readonly maxAge: number }) {
    this.#source = source;
    this.#log = log;
    this.#wait = bounds.wait;
    this.#producer = new Producer(log, beside, bounds, () => this.#line.trouble);
    this.#line = new Line(source, log, bounds.wait, this.#producer);
    this.#reader = new LogReader(log, (commands) => this.#line.ask(commands));
    this.#trimmer = new Trimmer(log, (commands) => this.#line.ask(commands), bounds.maxLength, bounds.maxAge);
  }

  /** Waits for as long as Redis is away, with a warning; rejects only what no waiting cures, such as a wrong password. */
  open(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    this.#opening ??= this.#open().catch((error: Error) => {
      this.#opening = undefined; // another try may go better
      throw error;
    });
    return this.#opening;
  }

  async #open(): Promise<void> {
    const impatient = setTimeout(
      () => {
        const why = this.#line.trouble?.message ?? 'no answer';
        warn('SSE_REDIS_UNREACHABLE', `Redis has not been reached for ${this.#wait} ms (${why}); trying on.`);
      },
      Math.min(this.#wait, 2 ** 31 - 1),
    ).unref();
    const patient = new LogReader(this.#log, (commands) => this.#line.ask(commands, Infinity));
    try {
      await patient.begin();
    } finally {
      clearTimeout(impatient);
    }
    this.#trimmer.start();
    await warnOfSettings(this.#log, (commands) => this.#line.ask(commands));
    if (this.#closed) throw this.#closed;
  }

  async append(entry: NewEntry): Promise<string> {
    if (this.#closed) throw this.#closed;
    this.#line.start();
    return this.#producer.append(entry);
  }

  async window(max: number): Promise<JournalWindow> {
    if (this.#closed) throw this.#closed;
    return this.#reader.window(max);
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    if (this.#closed) throw this.#closed;
    return this.#reader.read(after, limit);
  }

  follow(after: string, follower: Follower): () => void {
    if (this.#closed) return () => {};
    const following = new Following(this.#source, this.#log, after, follower);
    this.#followings.add(following);
    return () => {
      following.stop();
      this.#followings.delete(following);
    };
  }

  compare(a: string, b: string): number {
    return compareStreamIds(a, b);
  }

  isId(text: string): boolean {
    return isStreamId(text);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = new SseError('ERR_SSE_CLOSED', 'this journal is closed: make a new one');
    this.#trimmer.stop();
    for (const following of this.#followings) following.stop();
    this.#followings.clear();
    await this.#producer.close(this.#closed);
    this.#line.close(this.#closed);
  }
}
