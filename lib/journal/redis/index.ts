/*
 * A log on a Redis or Valkey stream: one broadcast is one stream entry; many processes and machines follow the stream.
 * Invariant: the stream alone is the log. A process has no state that another process would need.
 */
import { type JournalLimit, checkJournalLimits } from '../journal-limits.ts';
import { Opening } from '../opening.ts';
import { SseError } from '../../errors.ts';
import type { Follower, Journal, NewEntry, ReadResult, JournalWindow } from '../journal.ts';
import { invalid, MAX_TIMER_MS } from '../../validation/validate.ts';
import { Trimmer, warn, warnAboutSettings } from './maintenance.ts';
import { adapterFor, keyCure, type ClientAdapter, type IORedis, type NodeRedisClient } from './clients.ts';
import { StreamFollower } from './follower.ts';
import { CommandConnection } from './command-connection.ts';
import { Producer, type ProducerLimits } from './producer.ts';
import { LogReader } from './log-reader.ts';
import { compareStreamIds, isStreamId } from './replies.ts';
import { keyPrefixFor, MAX_EXPIRY_MS, PUBLISH } from './scripts.ts';

export type { IORedis, NodeRedisClient } from './clients.ts';
export { redisRuns, type RedisRunsOptions } from '../../runs/stores/redis/redis-runs.ts';

/** Where {@link redisJournal} keeps its log, how much of it, and how long it waits. */
export interface RedisJournalOptions {
  /**
   * The key of the stream. If the client has a `keyPrefix`, it is added in front. The journal has a few other keys. They begin
   * with this key and are in the same slot of a cluster, so an ACL needs one pattern: `~{sse}:log*`. Each journal needs its own
   * key.
   * @defaultValue '{sse}:log'
   */
  readonly key?: string;
  /**
   * Entries that the log keeps at least: a positive integer, or `Infinity`. Redis trims whole blocks, so some hundred more may
   * stay.
   * @defaultValue 100000
   */
  readonly maxLength?: number;
  /**
   * Milliseconds that an entry is kept at least, or `Infinity`. Trimmed at intervals of a sixteenth of it (1 s to 60 s).
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
   * Bytes of one entry, its channels included; a larger one is rejected with `ERR_SSE_TOO_LARGE`. At most 512 MiB, the limit of
   * Redis.
   * @defaultValue 1048576 (1 MiB)
   */
  readonly maxEntryBytes?: number;
  /**
   * Milliseconds for which the `key` of an append is stored. Until then, a retry with the same key stores nothing.
   * @defaultValue 3600000 (an hour)
   */
  readonly keyAge?: number;
}

const DEFAULT_KEY = '{sse}:log';
const LIMITS: Readonly<Record<keyof ProducerLimits | 'maxAge', JournalLimit>> = {
  maxLength: { default: 100_000, integer: true },
  maxAge: { default: 3_600_000, integer: false },
  wait: { default: 5_000, integer: false },
  maxPending: { default: 10_000, integer: true },
  maxPendingBytes: { default: 64 * 1024 * 1024, integer: true },
  maxEntryBytes: { default: 1024 * 1024, integer: true },
  keyAge: { default: 3_600_000, integer: true },
};

/**
 * Creates a log on one Redis or Valkey stream (version 5 or later; trimming by age needs 6.2). The client is only duplicated: each
 * process uses two connections of its own, one for commands and one that follows the stream. A plain client and a cluster client
 * both work, with TLS, ACL and `keyPrefix`.
 *
 * The fields of an entry, all optional:
 *
 * | field | value |
 * |---|---|
 * | `to` | the channels that receive it, as a JSON array or as one channel's plain name; absent: every connection |
 * | `except` | the channels that do not receive it, in the same form |
 * | `data` | text; each of its lines becomes a `data:` line |
 * | `event` | the event's name |
 * | `body` | instead of `data` and `event`: the encoded event without its `id` line, which is what this package writes |
 *
 * So a worker in any language publishes with one command. No connection receives an entry that cannot be sent, such as one with a
 * line end in `event` or with a `to` that is not a list of names:
 *
 * ```sh
 * redis-cli XADD '{sse}:log' '*' event order data '{"id":1}' to '["room:7"]'
 * ```
 *
 * @example
 * ```ts
 * const events = sse(handler, { history: redisJournal(createClient({ url: 'redis://localhost' })) });
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` if the client is of neither package, or if an option is unknown or out of range.
 */
export function redisJournal(client: IORedis | NodeRedisClient, options: RedisJournalOptions = {}): Journal {
  const adapter = adapterFor(client);
  const limits = checkJournalLimits('redisJournal', options, LIMITS, ['key']);
  limits.keyAge = Math.min(limits.keyAge, MAX_EXPIRY_MS);
  const { key = DEFAULT_KEY } = options;
  const log = typeof key === 'string' && key !== '' ? adapter.keyPrefix + key : '';
  const keyPrefix = log === '' ? undefined : keyPrefixFor(log);
  if (keyPrefix === undefined) {
    throw invalid('redisJournal: key', 'a non-empty string without braces, or with one {hash tag}', key, {
      cure: keyCure(adapter, DEFAULT_KEY),
    });
  }
  return new RedisJournal(adapter, log, keyPrefix, limits) satisfies Journal;
}

class RedisJournal implements Journal {
  readonly #adapter: ClientAdapter;
  readonly #log: string;
  readonly #waitMs: number;
  readonly #commands: CommandConnection;
  readonly #producer: Producer;
  readonly #reader: LogReader;
  readonly #trimmer: Trimmer;
  readonly #followers = new Set<StreamFollower>();
  readonly #opening = new Opening(() => this.#open());
  #closed: SseError | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    adapter: ClientAdapter,
    log: string,
    keyPrefix: string,
    limits: ProducerLimits & { readonly maxAge: number },
  ) {
    this.#adapter = adapter;
    this.#log = log;
    this.#waitMs = limits.wait;
    this.#producer = new Producer(log, keyPrefix, limits, () => this.#commands.downReason);
    const settings = { owner: 'redisJournal', scripts: [PUBLISH], waitMs: limits.wait };
    this.#commands = new CommandConnection(adapter, log, settings, this.#producer);
    this.#reader = new LogReader(log, (commands) => this.#commands.query(commands));
    this.#trimmer = new Trimmer(
      log,
      (commands) => this.#commands.query(commands),
      limits.maxLength,
      limits.maxAge,
      (first) => {
        for (const follower of this.#followers) follower.reportTrimmed(first);
      },
    );
  }

  /** Waits for as long as Redis is unreachable, with a warning. Rejects only if waiting is no cure, as with a wrong password. */
  open(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    return this.#opening.get();
  }

  async #open(): Promise<void> {
    const warningTimer = setTimeout(
      () => {
        const reason = this.#commands.downReason?.message ?? 'no reply';
        warn(
          'SSE_REDIS_UNREACHABLE',
          `Redis has been unreachable for ${this.#waitMs} ms (${reason}); the journal keeps trying.`,
        );
      },
      Math.min(this.#waitMs, MAX_TIMER_MS),
    ).unref();
    const reader = new LogReader(this.#log, (commands) => this.#commands.query(commands, Infinity));
    try {
      await reader.ensureExists();
    } finally {
      clearTimeout(warningTimer);
    }
    this.#trimmer.start();
    await warnAboutSettings(this.#log, (commands) => this.#commands.query(commands));
    if (this.#closed) throw this.#closed;
  }

  async append(entry: NewEntry): Promise<string> {
    if (this.#closed) throw this.#closed;
    this.#commands.start();
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
    const streamFollower = new StreamFollower(this.#adapter, this.#log, after, follower);
    this.#followers.add(streamFollower);
    return () => {
      streamFollower.stop();
      this.#followers.delete(streamFollower);
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
    this.#closed = new SseError('ERR_SSE_CLOSED', 'This journal is closed. Create a new one.');
    this.#trimmer.stop();
    for (const follower of this.#followers) follower.stop();
    this.#followers.clear();
    await this.#producer.close();
    this.#commands.close(this.#closed);
  }
}
