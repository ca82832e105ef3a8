/*
 * Runs in a PostgreSQL database: any number of processes and machines share them.
 * Invariant: the server's clock decides leases. A run is ended as lost only if its lease was expired twice, with an undisturbed
 * connection in between: after an outage, its producer renews first.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SseError } from '../../../errors.ts';
import { warn } from '../../../journal/postgres/maintenance.ts';
import { Notifications } from '../../../journal/postgres/notifications.ts';
import { Opening } from '../../../journal/opening.ts';
import { ConnectionSource, type PostgresPool } from '../../../journal/postgres/pool.ts';
import { type PostgresConnection, PostgresError, type Row } from '../../../journal/postgres/postgres-connection.ts';
import { checkSchemaName, checkTableName } from '../../../journal/postgres/place-options.ts';
import { ensureSchema } from '../../../journal/postgres/schema-setup.ts';
import { postgresError, Session } from '../../../journal/postgres/session.ts';
import { hexBytes } from '../../../journal/postgres/sql-text.ts';
import { invalid, rejectUnknownKeys } from '../../../validation/validate.ts';
import type {
  BeginResult,
  ChunkPage,
  NewRun,
  Renewal,
  RunFollower,
  RunKey,
  RunState,
  RunStatus,
  RunStore,
  RunStoreListener,
} from '../../run-store.ts';
import { Announcer, keysIn } from './announcer.ts';
import { AppendGroups } from './append-groups.ts';
import { readPage, RunReader, stoppedOf } from './run-reader.ts';
import { IS_KEPT, keyList, keyOf, RUN_COLUMNS, type RunRow, runRowOf, stateOf } from './run-rows.ts';
import { type RunNames, runNames, runSchemaObjects } from './run-schema.ts';

/** Where {@link postgresRuns} keeps its runs, and how it notices what other processes store. */
export interface PostgresRunsOptions {
  /**
   * What the names of the tables and functions begin with: `sse_run`, `sse_run_chunk`, `sse_run_append_1` and so on. At most 40 of the
   * characters `a-z`, `0-9` and `_`. It may be the same as that of a journal. Each router of runs needs its own.
   * @defaultValue 'sse'
   */
  readonly table?: string;
  /**
   * The schema of the tables, a name of at most 63 bytes. It is created if it is missing.
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
   * Milliseconds between two looks at the tables where LISTEN does not work. It is the latency of chunks and stops there.
   * @defaultValue 50
   */
  readonly poll?: number;
}

/** The function that the application calls; errors begin with it. */
const OWNER = 'postgresRuns';
const DEFAULT_POLL_MS = 50;
const LISTENING_POLL_MS = 1000; // between two looks while LISTEN works: a notification may be lost
const MAX_POLL_MS = 60_000;
const OPEN_WARNING_MS = 5000;
/** The time that a producer has to renew an expired lease. It waits for its own connection, which may have been reopened. */
const CONFIRM_MS = 250;
/** An answer or a pause that takes longer means that the server or this process did not run for a while. */
const STALL_MS = 1000;
const BEAT_MS = 500;
const TRIM_INTERVAL_MS = 10_000;
/** Shorter than a connection waits for an answer: the server gives up first, and then the outcome is known. */
const STATEMENT_TIMEOUT_MS = 4000;
/** Several statements in one message are one transaction: a process that stops holds no lock. */
const TRANSACTION =
  'SET TRANSACTION ISOLATION LEVEL READ COMMITTED; ' +
  `SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}; SET LOCAL synchronous_commit = on; `;

/**
 * Keeps runs in PostgreSQL (13 or later), in tables that are made if they are missing. Any number of processes and machines share
 * them. It takes no connection of the pool: each process has two of its own, one that reads and one that writes, made from the pool's
 * options. A chunk and a stop reach the other processes by LISTEN and NOTIFY, within a few milliseconds.
 *
 * @example
 * ```ts
 * const answers = runs(produce, { store: postgresRuns(new pg.Pool({ connectionString })) });
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` if the pool is none of `pg`, or an option is unknown or out of range.
 */
export function postgresRuns(pool: PostgresPool, options: PostgresRunsOptions = {}): RunStore {
  rejectUnknownKeys('option of postgresRuns()', options, { table: true, schema: true, listen: true, poll: true });
  const { listen, poll = DEFAULT_POLL_MS } = options;
  const table = checkTableName('postgresRuns', options.table);
  const schema = checkSchemaName('postgresRuns', options.schema, { pattern: /\0/, list: 'NUL' });
  if (typeof poll !== 'number' || !(poll > 0) || poll > MAX_POLL_MS) {
    throw invalid('postgresRuns: poll', `a number of milliseconds above 0, at most ${MAX_POLL_MS}`, poll, {
      cure: `Leave it out for ${DEFAULT_POLL_MS}.`,
    });
  }
  const writer = new ConnectionSource(pool, 'postgresRuns: pool');
  if (listen !== undefined && listen !== false && (typeof listen !== 'object' || listen === null)) {
    throw invalid('postgresRuns: listen', 'false or a pool', listen, {
      cure: 'Leave it out to listen on a connection like those of the pool.',
    });
  }
  const reader = listen ? new ConnectionSource(listen, 'postgresRuns: listen') : writer;
  return new PostgresRuns({
    reader,
    writer,
    table,
    schema,
    listens: listen !== false,
    pollMs: poll,
  }) satisfies RunStore;
}

interface Place {
  readonly reader: ConnectionSource;
  readonly writer: ConnectionSource;
  readonly table: string;
  readonly schema: string | undefined;
  readonly listens: boolean;
  readonly pollMs: number;
}

class PostgresRuns implements RunStore {
  readonly #place: Place;
  /** Names this handle in the tables. */
  readonly #producer = randomBytes(9).toString('base64url');
  readonly #reading: Session;
  readonly #writing: Session;
  readonly #notifications: Notifications;
  readonly #announcer: Announcer;
  readonly #appends: AppendGroups;
  readonly #reader: RunReader;
  readonly #abort = new AbortController();
  /** The runs that this handle has begun, without those that it has ended. */
  readonly #produced = new Map<string, RunKey>();
  /** The checks of expired leases that are under way. */
  readonly #checks = new Map<string, Promise<void>>();
  #names: RunNames | undefined;
  #listener: RunStoreListener | undefined;
  readonly #opening = new Opening(() => this.#openOnce());
  #closed: SseError | undefined;
  #timer: NodeJS.Timeout | undefined;
  #beatAt = 0;
  #trimmedAt = 0;
  #isTrimming = false;
  /** When a connection was last disturbed: lost, refused, slow, or made again. A first connection at once is no disturbance. */
  #disturbedAt = -Infinity;
  /** The sessions that have lost their connection. */
  readonly #down = new Set<Session>();
  #isReconnecting = false; // an attempt to connect came before

  constructor(place: Place) {
    this.#place = place;
    const names = (): RunNames => this.#names!; // each connection finds them out before it is used
    this.#notifications = new Notifications({
      enabled: place.listens,
      channel: () => names().channel,
      pollMs: place.pollMs,
      onNews: (payload) => {
        if (!payload.startsWith(`${this.#notifications.payload} `)) this.#reader.onNews(keysIn(payload));
      },
      send: () => this.#announcer.announce(),
    });
    this.#reading = new Session(
      {
        connect: (signal) => this.#connectReader(signal),
        onConnect: () => this.#onConnect(),
        onClose: () => this.#onDisconnect(this.#reading),
      },
      Infinity,
      OWNER,
    );
    this.#writing = new Session(
      {
        connect: (signal) => this.#connectWriter(signal),
        onConnect: () => this.#noteUp(this.#writing),
        onClose: () => this.#onDisconnect(this.#writing),
      },
      Infinity,
      OWNER,
    );
    this.#announcer = new Announcer({
      prefix: () => this.#notifications.payload,
      channel: () => names().channel,
      run: (work) => this.#writing.run(work),
      onNotified: () => this.#notifications.onNotified(),
    });
    this.#appends = new AppendGroups(
      async (args) => (await this.#write(`SELECT ${names().append}(${args})`))[0]![0]!,
      (keys) => this.#onChanged(keys),
    );
    this.#reader = new RunReader({
      names,
      run: (work) => this.#reading.run(work),
      pollMs: () => (this.#notifications.works ? LISTENING_POLL_MS : place.pollMs),
      produces: (key) => this.#produced.has(key),
      checkStops: (connection) => this.#checkStops(connection),
    });
  }

  open(listener: RunStoreListener): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    this.#listener = listener;
    return this.#open();
  }

  async begin(run: NewRun): Promise<BeginResult> {
    await this.#open();
    const { id, generation, again, lease, keep, signal } = run;
    const key = keyOf(run);
    /* oxlint-disable no-await-in-loop -- only if the run that is joined is dropped meanwhile */
    for (;;) {
      const newest = await this.#row(this.#newest(id));
      if (newest) await this.#endIfExpired(newest);
      const { begin } = this.#names!;
      const text = `SELECT b.key, b.replaced FROM ${begin}(${keyList([key])}, ${idText(id)}, '${generation}', '${again}', ${lease}, ${keep}, '${this.#producer}') b`;
      let isSent = false;
      const send = async (connection: PostgresConnection): Promise<Row[]> => {
        if (!isSent && signal?.aborted) return []; // it has waited for a connection
        isSent = true;
        return connection.query(TRANSACTION + text);
      };
      const [found] = await this.#timed(() => this.#writing.run(send));
      if (found === undefined) throw signal!.reason;
      const [current, replaced] = found;
      const started = current === key;
      if (started) this.#produced.set(key, { id, generation });
      if (replaced) this.#onChanged([replaced]);
      const row = await this.#row(this.#byKey(current!));
      void this.#trim();
      if (row) return { started, state: stateOf(id, row) };
    }
    /* oxlint-enable no-await-in-loop */
  }

  async append(run: RunKey, first: number, chunks: readonly Uint8Array[]): Promise<'stored' | 'refused'> {
    await this.#open();
    const key = keyOf(run);
    const result = await this.#appends.append({ key, first, chunks });
    if (result === 'refused' && this.#produced.has(key)) {
      // Without LISTEN, this may be the first that this process notices of a replacement.
      const row = await this.#row(this.#byKey(key));
      if (row?.stopRequested) this.#reportStop(key);
      this.#produced.delete(key);
    }
    return result;
  }

  async end(run: RunKey, status: Exclude<RunStatus, 'running'>): Promise<RunState | undefined> {
    await this.#open();
    const key = keyOf(run);
    this.#produced.delete(key);
    const row = await this.#end(key, status);
    void this.#trim();
    return row && stateOf(run.id, row);
  }

  async renew(runs: readonly RunKey[]): Promise<readonly Renewal[]> {
    if (runs.length === 0) return [];
    await this.#open();
    const { run } = this.#names!;
    const keys = runs.map(keyOf);
    const rows = await this.#write(
      `WITH l AS (SELECT r.key FROM ${run} r WHERE r.key IN (${keyList(keys)}) AND r.status = 'running' ORDER BY r.key FOR NO KEY UPDATE)` +
        ` UPDATE ${run} r SET lease_end = clock_timestamp() + make_interval(secs => r.lease / 1000) FROM l WHERE r.key = l.key;` +
        ` SELECT ${RUN_COLUMNS} FROM ${run} r WHERE r.key IN (${keyList(keys)})`,
    );
    const found = new Map(rows.map((row) => [row[0]!, runRowOf(row)]));
    return keys.map((key) => {
      const row = found.get(key);
      const running = row?.status === 'running';
      return { running, stopRequested: row?.stopRequested === true, hasReaders: row?.hasReaders === true };
    });
  }

  async stop(id: string, generation?: string): Promise<boolean> {
    await this.#open();
    const row = await this.#row(generation === undefined ? this.#newest(id) : this.#byKey(keyOf({ id, generation })));
    if (row === undefined) return false;
    await this.#endIfExpired(row);
    const [stopped] = await this.#write(
      `UPDATE ${this.#names!.run} r SET stop = true WHERE r.key = ${keyList([row.key])} AND r.status = 'running' RETURNING r.key`,
    );
    if (stopped === undefined) return false;
    this.#onChanged([row.key]);
    this.#reportStop(row.key);
    return true;
  }

  async state(id: string, generation?: string): Promise<RunState | undefined> {
    await this.#open();
    const which = generation === undefined ? this.#newest(id) : this.#byKey(keyOf({ id, generation }));
    const row = await this.#row(which);
    if (row === undefined) return undefined;
    if (!(await this.#endIfExpired(row))) return stateOf(id, row);
    const current = await this.#row(this.#byKey(row.key));
    return current && stateOf(id, current);
  }

  async read(run: RunKey, after: number, limit: number): Promise<ChunkPage | undefined> {
    await this.#open();
    const key = keyOf(run);
    const read = (): ReturnType<typeof readPage> =>
      this.#read((connection) => readPage(connection, this.#names!, { key, after, limit }));
    let page = await read();
    if (page && (await this.#endIfExpired(page.row))) page = await read();
    return page && { chunks: page.chunks, state: stateOf(run.id, page.row) };
  }

  follow(run: RunKey, after: number, follower: RunFollower): () => void {
    if (this.#closed) return () => {};
    this.#open().catch(() => {}); // other calls report why
    return this.#reader.add(run, keyOf(run), after, follower);
  }

  async noteReaders(runs: readonly RunKey[], ms: number): Promise<void> {
    if (runs.length === 0) return;
    await this.#open();
    const { run } = this.#names!;
    // In the order of the keys, as the groups of appends.
    await this.#write(
      `WITH l AS (SELECT r.key FROM ${run} r WHERE r.key IN (${keyList(runs.map(keyOf))}) AND r.status = 'running' ORDER BY r.key FOR NO KEY UPDATE)` +
        ` UPDATE ${run} r SET readers = clock_timestamp() + make_interval(secs => CAST(${ms} AS double precision) / 1000) FROM l WHERE r.key = l.key`,
    );
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = new SseError('ERR_SSE_CLOSED', 'This store of runs is closed. Create a new one.');
    this.#abort.abort(this.#closed);
    clearInterval(this.#timer);
    this.#notifications.stop();
    this.#reader.stop();
    this.#writing.close(this.#closed);
    this.#reading.close(this.#closed);
  }

  /** Waits for as long as Postgres is away, with a warning; rejects only what waiting does not cure, such as a wrong password. */
  #open(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    return this.#opening.get();
  }

  async #openOnce(): Promise<void> {
    const timer = setTimeout(() => {
      const reason = this.#writing.failure?.message ?? 'no answer';
      warn(
        'SSE_POSTGRES_UNREACHABLE',
        `The runs in Postgres have not been opened for ${OPEN_WARNING_MS} ms (${reason}); trying on.`,
      );
    }, OPEN_WARNING_MS).unref();
    const mayCreateSchema = this.#place.schema !== undefined;
    try {
      await this.#writing.run((connection) =>
        ensureSchema(connection, runSchemaObjects(this.#names!), mayCreateSchema),
      );
    } finally {
      clearTimeout(timer);
    }
    if (this.#closed) throw this.#closed;
    this.#beatAt = Date.now();
    this.#timer = setInterval(() => this.#beat(), BEAT_MS).unref();
    this.#reader.start();
  }

  /** A transaction on the writing connection; again on the next one if it is lost: only for what may be done twice. */
  async #write(text: string): Promise<Row[]> {
    return this.#timed(() => this.#writing.run((connection) => connection.query(TRANSACTION + text)));
  }

  /** Reads on the writing connection, so that a delivery of large chunks does not delay it, and its own writes come before. */
  async #read<T>(work: (connection: PostgresConnection) => Promise<T>): Promise<T> {
    return this.#timed(() => this.#writing.run(work));
  }

  async #timed<T>(work: () => Promise<T>): Promise<T> {
    const since = performance.now();
    const result = await work();
    if (performance.now() - since > STALL_MS) this.#noteDisturbance();
    if (this.#closed) throw this.#closed;
    return result;
  }

  async #row(condition: string): Promise<RunRow | undefined> {
    const [row] = await this.#read((connection) =>
      connection.query(`SELECT ${RUN_COLUMNS} FROM ${this.#names!.run} r WHERE ${condition}`),
    );
    return row && runRowOf(row);
  }

  #byKey(key: string): string {
    return `r.key = ${keyList([key])} AND ${IS_KEPT}`;
  }

  #newest(id: string): string {
    return `r.id = ${idText(id)} AND ${IS_KEPT} ORDER BY r.n DESC LIMIT 1`;
  }

  async #end(key: string, status: Exclude<RunStatus, 'running'>, condition = 'true'): Promise<RunRow | undefined> {
    const { run } = this.#names!;
    const [row] = await this.#write(
      `UPDATE ${run} r SET status = CASE WHEN '${status}' = 'lost' AND r.stop THEN 'stopped' ELSE '${status}' END, ended = clock_timestamp(),` +
        ` expires = clock_timestamp() + make_interval(secs => r.keep / 1000) WHERE r.key = ${keyList([key])} AND r.status = 'running' AND ${condition};` +
        ` SELECT ${RUN_COLUMNS} FROM ${run} r WHERE ${this.#byKey(key)}`,
    );
    this.#onChanged([key]);
    return row && runRowOf(row);
  }

  /** Returns whether the run may have ended here. */
  async #endIfExpired(row: RunRow): Promise<boolean> {
    if (!this.#hasExpired(row)) return false;
    let check = this.#checks.get(row.key);
    if (check === undefined) {
      check = this.#endExpired(row.key).finally(() => this.#checks.delete(row.key));
      this.#checks.set(row.key, check);
    }
    await check;
    return true;
  }

  async #endExpired(key: string): Promise<void> {
    await sleep(CONFIRM_MS, undefined, { signal: this.#abort.signal }).catch(() => {});
    const row = await this.#row(this.#byKey(key));
    if (row && this.#hasExpired(row)) await this.#end(key, 'lost', 'r.lease_end <= clock_timestamp()');
  }

  /** Whether the lease has expired, and its producer had the time to renew it since the server or this process was disturbed. */
  #hasExpired({ status, leaseLeft, lease, serverAge }: RunRow): boolean {
    return status === 'running' && leaseLeft <= 0 && serverAge >= lease && this.#quietMs() >= lease;
  }

  /** The milliseconds for which the connection and this process have been undisturbed. */
  #quietMs(): number {
    this.#noteStall();
    return Date.now() - this.#disturbedAt;
  }

  #noteStall(): void {
    const now = Date.now();
    if (Math.abs(now - this.#beatAt) > STALL_MS + BEAT_MS) this.#disturbedAt = now;
    this.#beatAt = now;
  }

  #noteDisturbance(): void {
    this.#disturbedAt = Date.now();
  }

  #beat(): void {
    this.#noteStall();
    if (Date.now() - this.#trimmedAt > TRIM_INTERVAL_MS) void this.#trim();
  }

  /** Removes a part of what is dropped. */
  async #trim(): Promise<void> {
    if (this.#isTrimming || this.#closed) return;
    this.#isTrimming = true;
    this.#trimmedAt = Date.now();
    try {
      const quiet = Math.min(this.#quietMs(), Number.MAX_SAFE_INTEGER);
      await this.#write(`SELECT ${this.#names!.trim}(${quiet})`);
    } catch {
      // Closed, or refused: the next trim, of this process or another one, removes it.
    } finally {
      this.#isTrimming = false;
    }
  }

  /** This process has changed these runs. */
  #onChanged(keys: readonly string[]): void {
    if (this.#closed) return;
    this.#reader.wake(keys);
    this.#announcer.announce(keys);
  }

  async #checkStops(connection: PostgresConnection): Promise<void> {
    const keys = new Set(this.#produced.keys());
    for (const key of await stoppedOf(connection, this.#names!, this.#producer, keys)) this.#reportStop(key);
  }

  /** Reports a stop once, if this handle produces the run. */
  #reportStop(key: string): void {
    const run = this.#produced.get(key);
    if (run === undefined || this.#closed) return;
    this.#produced.delete(key);
    this.#listener?.onStop(run);
  }

  #onConnect(): void {
    this.#reader.onNews(); // notifications may have been lost
    this.#noteUp(this.#reading);
  }

  #noteUp(session: Session): void {
    if (this.#down.delete(session) && this.#down.size === 0) this.#listener?.onStatus?.(true);
  }

  #onDisconnect(session: Session): void {
    this.#noteDisturbance();
    if (this.#closed) return;
    this.#down.add(session);
    if (this.#down.size > 1) return; // reported
    const cause = session.failure ?? new Error('the connection was closed');
    this.#listener?.onStatus?.(false, postgresError(OWNER, 'cannot be reached', cause));
  }

  async #connectReader(signal: AbortSignal): Promise<PostgresConnection> {
    const connection = await this.#place.reader.connect(signal, (payload) =>
      this.#notifications.onNotification(payload),
    );
    return this.#prepare(connection, () => this.#notifications.listenOn(connection));
  }

  async #connectWriter(signal: AbortSignal): Promise<PostgresConnection> {
    const since = performance.now();
    try {
      return await this.#prepare(await this.#place.writer.connect(signal));
    } catch (error) {
      this.#isReconnecting = true;
      throw error;
    } finally {
      // After an outage, this process may connect before the producers of other processes do.
      if (this.#isReconnecting || performance.now() - since > STALL_MS) this.#noteDisturbance();
      this.#isReconnecting = true;
    }
  }

  async #prepare(connection: PostgresConnection, then?: () => Promise<void>): Promise<PostgresConnection> {
    try {
      this.#names ??= runNames(this.#place.schema ?? (await currentSchema(connection)), this.#place.table);
      await then?.();
      return connection;
    } catch (error) {
      connection.destroy(error as Error);
      throw error;
    }
  }
}

/** A run id as a literal: bytes, because not every database encoding has every character. */
function idText(id: string): string {
  return hexBytes(Buffer.from(id));
}

async function currentSchema(connection: PostgresConnection): Promise<string> {
  const [row] = await connection.query('SELECT current_schema()');
  const name = row?.[0];
  if (name) return name;
  throw new PostgresError('SSE02', new Error('the search path names no schema. Set the option schema'));
}
