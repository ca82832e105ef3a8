/*
 * The journal in a PostgreSQL database: any number of processes and machines share it, and a broadcast can commit with a row.
 * Invariant: the log is the tables alone; a process keeps nothing that another one would need.
 */
import { type JournalLimit, checkJournalLimits } from '../journal-limits.ts';
import { Opening } from '../opening.ts';
import { SseError } from '../../errors.ts';
import { invalid, MAX_TIMER_MS } from '../../validation/validate.ts';
import type { Follower, Journal, NewEntry, ReadResult, JournalWindow } from '../journal.ts';
import { LogFollower } from './follower.ts';
import { compareLogIds, isLogId } from './log-id.ts';
import { LogReader } from './log-reader.ts';
import { Trimmer, warn, warnOfSettings } from './maintenance.ts';
import { Notifications } from './notifications.ts';
import { Outbox } from './outbox.ts';
import { ConnectionSource, type PostgresPool } from './pool.ts';
import { type PostgresConnection, PostgresError } from './postgres-connection.ts';
import { Producer, type ProducerLimits } from './producer.ts';
import { LARGEST_ENTRY_BYTES, type Names, namesOf, schemaObjects } from './schema.ts';
import { checkSchemaName, checkTableName } from './place-options.ts';
import { ensureSchema } from './schema-setup.ts';
import { Session } from './session.ts';

export type { PostgresPool } from './pool.ts';
export { postgresRuns, type PostgresRunsOptions } from '../../runs/stores/postgres/postgres-runs.ts';

/** Where {@link postgresJournal} keeps its log, how much of it, and how long it waits. */
export interface PostgresJournalOptions {
  /**
   * What the names of the journal's tables and functions begin with: `sse_log`, `sse_outbox`, `sse_state`, `sse_producer`,
   * `sse_publish` and so on. At most 40 of the characters `a-z`, `0-9` and `_`. Each router of an application needs its own.
   * @defaultValue 'sse'
   */
  readonly table?: string;
  /**
   * The schema of the tables, a name of at most 63 bytes without `?`, `:` and `\`. It is created if it is missing.
   * @defaultValue the first schema of the search path (`current_schema()`)
   */
  readonly schema?: string;
  /**
   * How this process notices what others store. By default it executes LISTEN on its reading connection. `false`: neither LISTEN
   * nor NOTIFY, it only polls. A pool: the reading connection is made from its options; give one that connects directly if the
   * first pool connects through PgBouncer in transaction mode.
   * @defaultValue the pool
   */
  readonly listen?: false | PostgresPool;
  /**
   * Milliseconds between two looks at the log and the outbox when nothing wakes the process. It is the latency of events that are
   * published in SQL, and of all events where LISTEN does not work.
   * @defaultValue 250
   */
  readonly poll?: number;
  /**
   * Entries that the log keeps: a positive integer, or `Infinity`. It may have 64 more, or those of one transaction.
   * @defaultValue 100000
   */
  readonly maxLength?: number;
  /**
   * Milliseconds that an entry stays at least, by the server's clock, or `Infinity`. Trimmed with appends, and at intervals of a
   * sixteenth of it (1 s to 60 s).
   * @defaultValue 3600000 (an hour)
   */
  readonly maxAge?: number;
  /**
   * Milliseconds that an append, a read or `within()` waits for Postgres before it is rejected.
   * @defaultValue 5000
   */
  readonly wait?: number;
  /**
   * Appends that may wait for Postgres at the same time; one more is rejected with `ERR_SSE_QUEUE_FULL`.
   * @defaultValue 10000
   */
  readonly maxPending?: number;
  /**
   * Bytes of all appends that wait.
   * @defaultValue 67108864 (64 MiB)
   */
  readonly maxPendingBytes?: number;
  /**
   * Bytes of one entry, its channels included; a larger one is rejected with `ERR_SSE_TOO_LARGE`. At most 16 MiB, also for events
   * that are published in SQL.
   * @defaultValue 1048576 (1 MiB)
   */
  readonly maxEntryBytes?: number;
  /**
   * Milliseconds for which the `key` of an append is remembered, so that its retry stores nothing. A key is forgotten with its entry.
   * @defaultValue 3600000 (an hour)
   */
  readonly keyAge?: number;
}

const LONGEST_MS = 10 * 365 * 86_400_000; // make_interval() refuses what is much longer
const LIMITS: Readonly<Record<keyof ProducerLimits | 'poll', JournalLimit>> = {
  poll: { default: 250, integer: false },
  maxLength: { default: 100_000, integer: true },
  maxAge: { default: 3_600_000, integer: false },
  wait: { default: 5_000, integer: false },
  maxPending: { default: 10_000, integer: true },
  maxPendingBytes: { default: 64 * 1024 * 1024, integer: true },
  maxEntryBytes: { default: 1024 * 1024, integer: true },
  keyAge: { default: 3_600_000, integer: false },
};

/**
 * A log in PostgreSQL (13 or later), in tables that are made if they are missing. It takes no connection of the pool: each process
 * has two of its own, one that reads and one that writes, made from the pool's options.
 *
 * A broadcast can belong to a transaction of the application: the event exists if and only if the transaction commits.
 *
 * ```ts
 * await client.query('BEGIN');
 * await client.query('INSERT INTO orders …');
 * await events.within(client).broadcast({ event: 'order', data: order });
 * await client.query('COMMIT');
 * ```
 *
 * Triggers and workers in any language publish in SQL, in a transaction or alone:
 *
 * ```sql
 * SELECT sse_publish('order', '{"id":1}', '["room:7"]', NULL); -- event, data, channels (NULL: everyone), key
 * ```
 *
 * @example
 * ```ts
 * const events = sse(handler, { history: postgresJournal(new pg.Pool({ connectionString })) });
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` if the pool is none of `pg`, or an option is unknown or out of range.
 */
export function postgresJournal(pool: PostgresPool, options: PostgresJournalOptions = {}): Journal {
  const limits = checkJournalLimits('postgresJournal', options, LIMITS, ['table', 'schema', 'listen']);
  limits.maxAge = limits.maxAge === Infinity ? Infinity : Math.min(limits.maxAge, LONGEST_MS);
  limits.keyAge = limits.keyAge === Infinity ? Infinity : Math.min(limits.keyAge, LONGEST_MS);
  limits.maxEntryBytes = Math.min(limits.maxEntryBytes, LARGEST_ENTRY_BYTES);
  limits.poll = Math.min(limits.poll, MAX_TIMER_MS);
  const { listen } = options;
  const table = checkTableName('postgresJournal', options.table);
  const schema = checkSchemaName('postgresJournal', options.schema, EXCLUDED);
  const writer = new ConnectionSource(pool, 'postgresJournal: pool');
  if (listen !== undefined && listen !== false && (typeof listen !== 'object' || listen === null)) {
    throw invalid('postgresJournal: listen', 'false or a pool', listen, {
      cure: 'Leave it out to listen on a connection like those of the pool.',
    });
  }
  const reader = listen ? new ConnectionSource(listen, 'postgresJournal: listen') : writer;
  return new PostgresJournal({ reader, writer, table, schema, listens: listen !== false }, limits) satisfies Journal;
}

/** Query builders take `?` and `:name` for parameters, and the names are part of statements that they run. */
const EXCLUDED = { pattern: /[?:\\\0]/, list: '?, :, \\ and NUL' };

interface Place {
  readonly reader: ConnectionSource;
  readonly writer: ConnectionSource;
  readonly table: string;
  readonly schema: string | undefined;
  readonly listens: boolean;
}

class PostgresJournal implements Journal {
  readonly #place: Place;
  readonly #limits: ProducerLimits & { readonly poll: number };
  readonly #reading: Session;
  readonly #writing: Session;
  readonly #notifications: Notifications;
  readonly #producer: Producer;
  readonly #outbox: Outbox;
  readonly #reader: LogReader;
  readonly #trimmer: Trimmer;
  readonly #followers = new Set<LogFollower>();
  #names: Names | undefined;
  readonly #opening = new Opening(() => this.#open());
  #closed: SseError | undefined;
  #closing: Promise<void> | undefined;

  constructor(place: Place, limits: ProducerLimits & { readonly poll: number }) {
    this.#place = place;
    this.#limits = limits;
    const names = (): Names => this.#names!; // each connection finds them out before it is used
    this.#notifications = new Notifications({
      enabled: place.listens,
      channel: () => this.#names!.channel,
      pollMs: limits.poll,
      onNews: (payload) => {
        if (payload !== this.#notifications.payload) this.#wakeFollowers(); // its own followers have been woken already
      },
      send: () => this.#producer.notify(),
    });
    this.#reading = new Session(
      { connect: (signal) => this.#connectReader(signal), onClose: () => this.#wakeFollowers() },
      limits.wait,
    );
    this.#producer = new Producer(limits, {
      connect: () => this.#writing.start(),
      failure: () => this.#writing.failure,
      names,
      notification: () => this.#notifications.payload,
      onStored: () => this.#wakeFollowers(),
      onNotified: () => this.#notifications.onNotified(),
    });
    this.#writing = new Session(
      {
        connect: (signal) => this.#connectWriter(signal),
        onConnect: (connection) => this.#producer.onConnected(connection),
        onClose: () => this.#producer.onDisconnected(),
      },
      limits.wait,
    );
    this.#reader = new LogReader(names);
    this.#trimmer = new Trimmer((work) => this.#reading.run(work), names, limits);
    this.#outbox = new Outbox({
      maxEntryBytes: limits.maxEntryBytes,
      waitMs: limits.wait,
      opened: () => this.open(),
      names,
      hasRows: () => this.#reading.run((connection) => this.#hasRows(connection)),
      move: () => this.#producer.move(),
    });
  }

  /** Waits for as long as Postgres is away, with a warning; rejects only what waiting does not cure, such as a wrong password. */
  open(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    return this.#opening.get();
  }

  async #open(): Promise<void> {
    const timer = setTimeout(
      () => {
        const reason = this.#reading.failure?.message ?? 'no answer';
        warn(
          'SSE_POSTGRES_UNREACHABLE',
          `The log in Postgres has not been opened for ${this.#limits.wait} ms (${reason}); trying on.`,
        );
      },
      Math.min(this.#limits.wait, MAX_TIMER_MS),
    ).unref();
    const mayCreateSchema = this.#place.schema !== undefined;
    try {
      await this.#reading.run(
        (connection) => ensureSchema(connection, schemaObjects(this.#names!), mayCreateSchema),
        Infinity,
      );
    } finally {
      clearTimeout(timer);
    }
    this.#trimmer.start();
    await this.#reading.run((connection) => warnOfSettings(connection, this.#names!));
    if (this.#closed) throw this.#closed;
  }

  async append(entry: NewEntry): Promise<string> {
    if (this.#closed) throw this.#closed;
    return this.#producer.append(entry);
  }

  async window(max: number): Promise<JournalWindow> {
    if (this.#closed) throw this.#closed;
    return this.#reading.run((connection) => this.#reader.window(connection, max));
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    if (this.#closed) throw this.#closed;
    return this.#reader.read((work) => this.#reading.run(work), after, limit);
  }

  follow(after: string, follower: Follower): () => void {
    if (this.#closed) return () => {};
    const onOutbox = (): void => this.#producer.move();
    const pollMs = this.#limits.poll;
    const following = new LogFollower(this.#reading, this.#reader, { after, follower, pollMs, onOutbox });
    this.#followers.add(following);
    return () => {
      following.stop();
      this.#followers.delete(following);
    };
  }

  within(transaction: unknown): { append(entry: NewEntry): Promise<void> } {
    if (this.#closed) throw this.#closed;
    return this.#outbox.within(transaction);
  }

  compare(a: string, b: string): number {
    return compareLogIds(a, b);
  }

  isId(text: string): boolean {
    return isLogId(text);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = new SseError('ERR_SSE_CLOSED', 'This journal is closed. Create a new one.');
    this.#trimmer.stop();
    this.#notifications.stop();
    this.#outbox.close();
    for (const following of this.#followers) following.stop();
    this.#followers.clear();
    await this.#producer.close();
    this.#writing.close(this.#closed);
    this.#reading.close(this.#closed);
  }

  #wakeFollowers(): void {
    for (const following of this.#followers) following.wake();
  }

  async #connectReader(signal: AbortSignal): Promise<PostgresConnection> {
    const connection = await this.#place.reader.connect(signal, (payload) =>
      this.#notifications.onNotification(payload),
    );
    return this.#prepare(connection, () => this.#notifications.listenOn(connection));
  }

  async #connectWriter(signal: AbortSignal): Promise<PostgresConnection> {
    return this.#prepare(await this.#place.writer.connect(signal));
  }

  async #prepare(connection: PostgresConnection, then?: () => Promise<void>): Promise<PostgresConnection> {
    try {
      this.#names ??= namesOf(this.#place.schema ?? (await currentSchema(connection)), this.#place.table);
      await then?.();
      return connection;
    } catch (error) {
      connection.destroy(error as Error);
      throw error;
    }
  }

  async #hasRows(connection: PostgresConnection): Promise<boolean> {
    const text = `SELECT EXISTS (SELECT FROM ${this.#names!.outbox})`;
    const [row] = await connection.query(connection.isDirect ? { name: 'sse_outbox_1', text, values: [] } : text);
    return row?.[0] === 't';
  }
}

async function currentSchema(connection: PostgresConnection): Promise<string> {
  const [row] = await connection.query('SELECT current_schema()');
  const name = row?.[0];
  if (name && !EXCLUDED.pattern.test(name)) return name;
  const reason = name
    ? `the schema ${JSON.stringify(name)} has a character that query builders replace`
    : 'the search path names no schema';
  throw new PostgresError('SSE02', new Error(`${reason}. Set the option schema`));
}
