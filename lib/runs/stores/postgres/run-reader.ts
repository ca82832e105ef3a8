/*
 * Reads the runs that this process follows: one loop and one connection for all of them.
 * Invariant: a follower receives chunks in order, and the end only after all chunks that its run counted in the same snapshot.
 * Invariant: a failure of the connection ends no run.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresConnection, Row } from '../../../journal/postgres/postgres-connection.ts';
import { lostState } from '../../run-state.ts';
import type { RunFollower, RunKey } from '../../run-store.ts';
import { IS_KEPT, keyList, RUN_COLUMNS, runRowOf, stateOf } from './run-rows.ts';
import type { RunNames } from './run-schema.ts';

const PAGE_RUNS = 64; // in one query
const FIRST_PAGE_CHUNKS = 8; // of a run, until the size of its chunks is known
const MAX_PAGE_CHUNKS = 500;
const PAGE_BYTES = 512 * 1024; // of one run
const READ_INTERVAL_MS = 5; // between two reads while chunks come: a lone chunk is read at once
const ROW_COLUMNS = 12; // of RUN_COLUMNS

interface FollowerState {
  readonly run: RunKey;
  readonly key: string;
  readonly follower: RunFollower;
  position: number;
  pageChunks: number;
}

/** How the reader reaches the rest of the store. */
export interface RunReaderHost {
  names(): RunNames;
  /** Runs work on the reading connection, and again on the next one if the first is lost. */
  run<T>(work: (connection: PostgresConnection) => Promise<T>): Promise<T>;
  /** Milliseconds between two looks if nothing wakes the reader. */
  pollMs(): number;
  /** Whether this process produces a run. */
  produces(key: string): boolean;
  /** Looks for stops of the runs that this process produces. */
  checkStops(connection: PostgresConnection): Promise<void>;
}

export class RunReader {
  readonly #host: RunReaderHost;
  readonly #abort = new AbortController();
  readonly #states = new Map<string, Set<FollowerState>>();
  /** The followers to read for; those that have no news are read with the next poll. */
  readonly #due = new Set<FollowerState>();
  #isRunning = false;
  #hasNews = false;
  #mayBeStopped = true; // a run that this process produces
  #wakeUp: (() => void) | undefined;

  constructor(host: RunReaderHost) {
    this.#host = host;
  }

  add({ id, generation }: RunKey, key: string, after: number, follower: RunFollower): () => void {
    const state: FollowerState = {
      run: { id, generation },
      key,
      follower,
      position: after,
      pageChunks: FIRST_PAGE_CHUNKS,
    };
    const states = this.#states.get(key);
    if (states) states.add(state);
    else this.#states.set(key, new Set([state]));
    this.#due.add(state);
    this.#wake();
    return () => this.#remove(state);
  }

  /** These runs may have changed; without `keys`, all of them. */
  wake(keys?: readonly string[]): void {
    for (const key of keys ?? this.#states.keys())
      for (const state of this.#states.get(key) ?? []) this.#due.add(state);
    if (this.#due.size > 0) this.#wake();
  }

  /** Another process has changed these runs; without `keys`, any of them. */
  onNews(keys?: readonly string[]): void {
    if (keys === undefined || keys.some((key) => this.#host.produces(key))) {
      this.#mayBeStopped = true;
      this.#wake();
    }
    this.wake(keys);
  }

  /** Begins to read and poll, until {@link RunReader.stop}. */
  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#loop();
  }

  stop(): void {
    this.#abort.abort(new Error('the store is closed'));
    this.#states.clear();
    this.#due.clear();
    this.#wakeUp?.();
  }

  get #stopped(): boolean {
    return this.#abort.signal.aborted;
  }

  #wake(): void {
    this.#hasNews = true;
    this.#wakeUp?.();
  }

  #remove(state: FollowerState): void {
    this.#due.delete(state);
    const states = this.#states.get(state.key);
    if (states?.delete(state) && states.size === 0) this.#states.delete(state.key);
  }

  async #loop(): Promise<void> {
    /* oxlint-disable no-await-in-loop -- one read after the other */
    while (!this.#stopped) {
      this.#hasNews = false;
      try {
        if (this.#mayBeStopped) {
          this.#mayBeStopped = false; // a wake-up during the query sets it again
          await this.#host.run((connection) => this.#host.checkStops(connection));
        }
        while (this.#due.size > 0 && !this.#stopped) {
          const page = [...this.#due].slice(0, PAGE_RUNS);
          await this.#host.run((connection) => this.#read(connection, page));
        }
      } catch {
        // Closed, or refused: the server may accept the next attempt.
      }
      await sleep(READ_INTERVAL_MS, undefined, { ref: false, signal: this.#abort.signal }).catch(() => {});
      await this.#news();
    }
    /* oxlint-enable no-await-in-loop */
  }

  /** Settles when something may have happened since the last read began, or after the poll interval. Then all runs are due. */
  async #news(): Promise<void> {
    if (this.#hasNews || this.#stopped) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        for (const states of this.#states.values()) for (const state of states) this.#due.add(state);
        this.#mayBeStopped = true;
        resolve();
      }, this.#host.pollMs()).unref();
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wakeUp = undefined;
  }

  async #read(connection: PostgresConnection, page: readonly FollowerState[]): Promise<void> {
    const { run, chunk } = this.#host.names();
    for (const state of page) this.#due.delete(state); // a wake-up during the query adds it again
    const places = page.map(
      ({ key, position, pageChunks }, i) => `(${i}, CAST('${key}' AS uuid), ${position}, ${pageChunks})`,
    );
    let rows: Row[];
    try {
      rows = await connection.query(
        `SELECT ${RUN_COLUMNS}, f.place, c.n, encode(c.data, 'hex') FROM (VALUES ${places.join(', ')}) f (place, key, position, size)` +
          ` JOIN ${run} r ON r.key = f.key AND ${IS_KEPT}` +
          ` LEFT JOIN LATERAL (SELECT i.n, i.data FROM ${chunk} i WHERE i.run = f.key AND i.n > f.position ORDER BY i.n LIMIT f.size) c ON true` +
          ' ORDER BY f.place, c.n',
      );
    } catch (error) {
      for (const state of page) if (this.#states.get(state.key)?.has(state)) this.#due.add(state);
      throw error;
    }
    const found = new Map<number, Row[]>();
    for (const row of rows) {
      const place = Number(row[ROW_COLUMNS]);
      const list = found.get(place);
      if (list) list.push(row);
      else found.set(place, [row]);
    }
    for (const [place, state] of page.entries()) if (this.#isFollowing(state)) this.#deliver(state, found.get(place));
  }

  #isFollowing(state: FollowerState): boolean {
    return this.#states.get(state.key)?.has(state) === true;
  }

  #deliver(state: FollowerState, rows: readonly Row[] | undefined): void {
    if (rows === undefined) return this.#endAsLost(state);
    const run = runRowOf(rows[0]!);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for (const row of rows) {
      const [n, hex] = row.slice(ROW_COLUMNS + 1);
      if (n === null || n === undefined) break; // no chunk after the position
      if (Number(n) !== state.position + 1 + chunks.length) return this.#endAsLost(state);
      const data = Buffer.from(hex!, 'hex');
      bytes += data.byteLength;
      chunks.push(data);
    }
    if (chunks.length === 0 && state.position < run.chunks) return this.#endAsLost(state);
    if (chunks.length > 0) {
      state.pageChunks = Math.min(Math.max(Math.floor(PAGE_BYTES / (bytes / chunks.length)), 1), MAX_PAGE_CHUNKS);
      const first = state.position + 1;
      state.position += chunks.length;
      state.follower.chunks(first, chunks);
      if (!this.#isFollowing(state)) return;
    }
    if (state.position < run.chunks) this.#due.add(state);
    else if (run.status !== 'running') {
      this.#remove(state);
      state.follower.end(stateOf(state.run.id, run));
    }
  }

  /** The log was dropped, or chunks of it were. */
  #endAsLost(state: FollowerState): void {
    this.#remove(state);
    state.follower.end(lostState(state.run, state.position));
  }
}

/** The stopped ones of these runs. */
export async function stoppedOf(
  connection: PostgresConnection,
  { run }: RunNames,
  producer: string,
  keys: ReadonlySet<string>,
): Promise<string[]> {
  if (keys.size === 0) return [];
  const rows = await connection.query(
    `SELECT r.key FROM ${run} r WHERE r.producer = '${producer}' AND r.stop AND (r.status = 'running' OR r.ended > clock_timestamp() - interval '10 seconds')`,
  );
  return rows.map(([key]) => key!).filter((key) => keys.has(key));
}

/** At most `limit` chunks of one run after a position, and as many as fit into a page: at least one, if there is one. */
export async function readPage(
  connection: PostgresConnection,
  { run, chunk }: RunNames,
  { key, after, limit }: { readonly key: string; readonly after: number; readonly limit: number },
): Promise<{ readonly row: ReturnType<typeof runRowOf>; readonly chunks: Uint8Array[] } | undefined> {
  const rows = await connection.query(
    `SELECT ${RUN_COLUMNS}, c.n, encode(c.data, 'hex') FROM ${run} r LEFT JOIN (SELECT s.n, s.data FROM` +
      ` (SELECT i.n, i.data, sum(octet_length(i.data)) OVER (ORDER BY i.n) AS total FROM ${chunk} i` +
      ` WHERE i.run = ${keyList([key])} AND i.n > ${after} AND i.n <= ${after + limit}) s` +
      ` WHERE s.total <= ${2 * PAGE_BYTES} OR s.n = ${after + 1}) c ON true WHERE r.key = ${keyList([key])} AND ${IS_KEPT} ORDER BY c.n`,
  );
  if (rows.length === 0) return undefined;
  const chunks: Uint8Array[] = [];
  for (const row of rows) {
    const hex = row[ROW_COLUMNS + 1];
    if (typeof hex === 'string') chunks.push(Buffer.from(hex, 'hex'));
  }
  return { row: runRowOf(rows[0]!), chunks };
}
