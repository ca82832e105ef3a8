/*
 * Runs in an LMDB database: one machine, several processes, no server.
 * Invariant: a run that has ended, or whose lease has expired, is never answered as running, unless its producer may be about to renew.
 * Invariant: a lease counts as expired only if the write lock was available while it expired: a producer that waits for the lock
 * renews first.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SseError } from '../../../errors.ts';
import { journalError } from '../../../journal/lmdb/lmdb-errors.ts';
import { WakeFile } from '../../../journal/lmdb/wake-file.ts';
import { boolean, nonEmptyString, rejectUnknownKeys } from '../../../validation/validate.ts';
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
import { currentProcess, hasEnded, type ProcessIdentity } from './process-identity.ts';
import { isDropped, keyOf, RunDatabase, type RunRecord, stateOf } from './run-database.ts';
import { RunFollowers } from './run-followers.ts';
import { type Step, StepQueue } from './step-queue.ts';

/** How safely {@link lmdbRuns} writes. */
export interface LmdbRunsOptions {
  /**
   * Whether each commit waits until the disk has it (`fdatasync`).
   * `false`: chunks and ends survive the end of any process. If the machine restarts, the runs from before are discarded, because the
   * file may be damaged. Their producers have ended with the machine.
   * `true`: ended runs survive a power failure. A commit takes some tenths of a ms to some ms on an SSD. It blocks the event loop for
   * that time. All processes of a directory should use the same value.
   * @defaultValue false
   */
  readonly sync?: boolean;
}

const MAINTENANCE_INTERVAL_MS = 250; // also the delay of new chunks if a signal is lost
/** After a gap of this length between two maintenance runs, this process did not run for a while, or the clock was set. */
const STALL_MS = 1000;
/** The time that a producer which waits for the write lock has to renew an expired lease, once the lock is available. */
const CONFIRM_MS = 250;

/**
 * Keeps runs in the directory `path`; the directory is created if it does not exist. Any number of processes on one machine share them
 * by using the same path: a chunk reaches the readers in all processes within a few milliseconds, and so does a stop. Runs survive
 * the restart of a process that reads them. If the process that produces a run ends, the run is `lost`: within a quarter of a second
 * where the process id shows it, otherwise after its lease.
 * While a process is stopped (SIGSTOP, a debugger) in the middle of a commit, all calls that write wait, and no run is lost.
 * The directory must be on a local disk, and no journal may use it: LMDB works neither on network file systems nor across containers.
 * The file has the size of the runs that are kept, and never shrinks.
 *
 * @example
 * ```ts
 * const answers = runs(produce, { store: lmdbRuns('./answers') });
 * ```
 * @throws {SseTypeError} `ERR_SSE_OPTION` if the path or an option is not valid.
 */
export function lmdbRuns(path: string, options: LmdbRunsOptions = {}): RunStore {
  rejectUnknownKeys('option of lmdbRuns()', options, { sync: true });
  nonEmptyString('lmdbRuns: path', path, { cure: 'Pass the path of a directory.' });
  return new LmdbRuns(path, boolean('lmdbRuns: sync', options.sync)) satisfies RunStore;
}

class LmdbRuns implements RunStore {
  readonly #path: string;
  readonly #sync: boolean;
  readonly #handle = randomBytes(9).toString('base64url');
  readonly #process: ProcessIdentity = currentProcess();
  readonly #steps = new StepQueue(
    () => this.#currentDatabase(),
    (changed) => this.#onCommitted(changed),
  );
  readonly #followers = new RunFollowers(
    () => this.#currentDatabase(),
    (error) => this.#reportStatus(error),
  );
  /** The runs that this handle has begun, without those that it has ended. */
  readonly #produced = new Map<string, RunKey>();
  /** The checks of expired leases that are under way. */
  readonly #checks = new Map<string, Promise<void>>();
  readonly #abort = new AbortController();
  #listener: RunStoreListener | undefined;
  #database: RunDatabase | undefined;
  #wakeFile: WakeFile | undefined;
  #timer: NodeJS.Timeout | undefined;
  #wake: NodeJS.Immediate | undefined;
  /** The number of the newest change that this handle has seen; `Infinity`: none of this database. */
  #head = Infinity;
  #ranAt = 0; // when the maintenance last ran
  #resumedAt = -Infinity; // when this process continued after a pause
  #isDown = false;
  #closed: SseError | undefined;
  #closing: Promise<void> | undefined;

  constructor(path: string, sync: boolean) {
    this.#path = path;
    this.#sync = sync;
  }

  async open(listener: RunStoreListener): Promise<void> {
    this.#assertOpen();
    this.#listener = listener;
    this.#currentDatabase();
  }

  async begin(run: NewRun): Promise<BeginResult> {
    this.#assertOpen();
    const newest = this.#find(run.id);
    if (newest) await this.#endIfExpired(newest);
    const result = await this.#run((database, now) => {
      if (run.signal?.aborted) return undefined; // it has waited for the lock; an exception would undo the other steps
      const begun = database.begin(run, this.#process, now);
      this.#trim(database, now);
      return begun;
    });
    if (result === undefined) throw run.signal!.reason;
    const { id, generation } = result.state;
    if (result.started) this.#produced.set(keyOf(run), { id, generation });
    return result;
  }

  async append(run: RunKey, first: number, chunks: readonly Uint8Array[]): Promise<'stored' | 'refused'> {
    this.#assertOpen();
    const size = chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const result = await this.#run((database, now) => database.append(keyOf(run), first, chunks, now), size);
    if (result === 'refused') this.#produced.delete(keyOf(run));
    return result;
  }

  async end(run: RunKey, status: Exclude<RunStatus, 'running'>): Promise<RunState | undefined> {
    this.#assertOpen();
    return this.#run((database, now) => {
      this.#produced.delete(keyOf(run));
      const state = database.end(keyOf(run), status, now);
      this.#trim(database, now);
      return state;
    });
  }

  async renew(runs: readonly RunKey[]): Promise<readonly Renewal[]> {
    this.#assertOpen();
    if (runs.length === 0) return [];
    return this.#run((database, now) => runs.map((run) => database.renew(keyOf(run), now)));
  }

  async stop(id: string, generation?: string): Promise<boolean> {
    this.#assertOpen();
    const key = this.#find(id, generation);
    if (key === undefined) return false;
    await this.#endIfExpired(key);
    return this.#run((database) => database.stop(key));
  }

  async state(id: string, generation?: string): Promise<RunState | undefined> {
    this.#assertOpen();
    const key = this.#find(id, generation);
    if (key === undefined) return undefined;
    await this.#endIfExpired(key);
    const record = this.#record(key);
    return record && stateOf(record, Date.now());
  }

  async read(run: RunKey, after: number, limit: number): Promise<ChunkPage | undefined> {
    this.#assertOpen();
    const key = keyOf(run);
    await this.#endIfExpired(key);
    const record = this.#record(key);
    // In the same tick: both are of one snapshot.
    return record && { chunks: this.#currentDatabase().chunks(key, after, limit), state: stateOf(record, Date.now()) };
  }

  follow(run: RunKey, after: number, follower: RunFollower): () => void {
    if (this.#closed) return () => {};
    const { id, generation } = run;
    return this.#followers.add({ id, generation }, keyOf(run), after, follower);
  }

  async noteReaders(runs: readonly RunKey[], ms: number): Promise<void> {
    this.#assertOpen();
    await this.#run((database, now) => {
      for (const run of runs) database.noteReaders(keyOf(run), now + ms);
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = new SseError('ERR_SSE_CLOSED', 'This store of runs is closed. Create a new one.');
    this.#abort.abort(this.#closed);
    this.#followers.clear();
    clearInterval(this.#timer);
    clearImmediate(this.#wake);
    await this.#steps.close(this.#closed);
    this.#wakeFile?.close();
    this.#wakeFile = undefined;
    const database = this.#database;
    // If another process was stopped while it held the lock, a commit waits for as long as that lasts. A shutdown must not.
    const closed = this.#steps.idle().then(() => database?.close());
    if (!database?.isCommitting) await closed;
  }

  #assertOpen(): void {
    if (this.#closed) throw this.#closed;
  }

  async #run<T>(step: Step<T>, size?: number): Promise<T> {
    this.#currentDatabase(); // throws why it cannot be opened
    const result = await this.#steps.run(step, size);
    this.#assertOpen();
    return result;
  }

  /** Returns the database that is at the path now. If the directory was removed or replaced, opens it again. */
  #currentDatabase(): RunDatabase {
    const database = this.#database;
    // Keep the database while its commit holds the lock or waits for it: a second lock in one process would deadlock.
    if (database && (this.#closed || database.isCommitting || database.isCurrent)) return database;
    this.#assertOpen();
    if (database) {
      this.#wakeFile?.close();
      this.#wakeFile = undefined;
      this.#database = undefined;
      void database.close();
    }
    return this.#openDatabase();
  }

  #openDatabase(): RunDatabase {
    const database = new RunDatabase(this.#path, this.#sync, this.#handle);
    try {
      this.#wakeFile = new WakeFile(this.#path, () => this.#onSignal());
    } catch (error) {
      void database.close();
      throw journalError(this.#path, error, 'lmdbRuns');
    }
    this.#database = database;
    this.#head = Infinity;
    this.#ranAt = Date.now();
    this.#timer ??= setInterval(() => this.#maintain(), MAINTENANCE_INTERVAL_MS).unref();
    return database;
  }

  /** Returns the key of one generation, or of the newest one. */
  #find(id: string, generation?: string): string | undefined {
    const database = this.#currentDatabase();
    database.refresh();
    return generation === undefined ? database.newestOf(id) : keyOf({ id, generation });
  }

  /** Returns the record of a run that has not been dropped. */
  #record(key: string): RunRecord | undefined {
    this.#assertOpen();
    const database = this.#currentDatabase();
    database.refresh();
    const record = database.record(key);
    return record && !isDropped(record, Date.now()) ? record : undefined;
  }

  async #endIfExpired(key: string): Promise<void> {
    const database = this.#currentDatabase();
    database.refresh();
    const record = database.record(key);
    if (record?.status !== 'running') return;
    if (hasEnded(record.producer, this.#process)) return this.#endOfEndedProducer(key);
    if (!this.#hasExpired(record, Date.now())) return;
    let check = this.#checks.get(key);
    if (check === undefined) {
      check = this.#endExpired(key).finally(() => this.#checks.delete(key));
      this.#checks.set(key, check);
    }
    await check;
  }

  async #endOfEndedProducer(key: string): Promise<void> {
    await this.#run((database, now) => {
      database.end(key, 'lost', now, ({ producer }) => hasEnded(producer, this.#process));
    });
  }

  /**
   * Ends a run whose lease has expired. If a stopped process holds the write lock, no producer can renew. So the lease must be expired
   * in two transactions that follow each other without a delay by the lock: a producer that waited for it commits in between.
   */
  async #endExpired(key: string): Promise<void> {
    const isExpired = await this.#run((database, now) => {
      const record = database.record(key);
      return record !== undefined && this.#hasExpired(record, now);
    });
    if (!isExpired) return;
    const since = performance.now();
    await sleep(CONFIRM_MS, undefined, { signal: this.#abort.signal }).catch(() => this.#assertOpen());
    await this.#run((database, now) => {
      if (performance.now() - since > CONFIRM_MS + STALL_MS) return;
      database.end(key, 'lost', now, (record) => this.#hasExpired(record, now));
    });
  }

  /** Whether the lease of a running run has expired, and its producer had the time to renew it since this process did not run. */
  #hasExpired({ status, lease, leaseEnd }: RunRecord, now: number): boolean {
    this.#noteStall(now);
    return status === 'running' && leaseEnd <= now && now - this.#resumedAt >= lease;
  }

  /** All processes may have been suspended, or the clock set forward: then the producers need the time to renew. */
  #noteStall(now: number): void {
    if (Math.abs(now - this.#ranAt) <= STALL_MS + MAINTENANCE_INTERVAL_MS) return;
    this.#resumedAt = now;
    this.#ranAt = now;
  }

  #trim(database: RunDatabase, now: number): void {
    database.trim(now, (record) => this.#hasExpired(record, now));
  }

  #onCommitted(changed: ReadonlySet<string>): void {
    this.#wakeFile?.signal();
    this.#onChanged(changed);
  }

  /** Many commits of other processes may come in one tick. */
  #onSignal(): void {
    this.#wake ??= setImmediate(() => {
      this.#wake = undefined;
      this.#readChanges();
    });
  }

  #readChanges(): void {
    if (this.#closed) return;
    try {
      const database = this.#currentDatabase();
      database.refresh();
      const { head, keys } = database.changesSince(this.#head);
      this.#head = head;
      this.#onChanged(keys);
      this.#reportStatus();
    } catch (error) {
      this.#reportStatus(error as Error);
    }
  }

  /** `keys`: the changed runs; `undefined`: any run may have changed. */
  #onChanged(keys: ReadonlySet<string> | undefined): void {
    if (this.#closed || keys?.size === 0) return;
    this.#followers.deliver(keys);
    for (const key of keys ?? this.#produced.keys()) {
      const run = this.#produced.get(key);
      if (run !== undefined) this.#reportStop(key, run);
    }
  }

  #reportStop(key: string, run: RunKey): void {
    const database = this.#currentDatabase();
    database.refresh();
    const record = database.record(key);
    const isOver = record?.status !== 'running';
    if (!isOver && !record.stopRequested) return;
    this.#produced.delete(key);
    if (record?.stopRequested) this.#listener?.onStop(run);
  }

  #maintain(): void {
    const now = Date.now();
    this.#noteStall(now);
    this.#ranAt = now;
    try {
      const database = this.#currentDatabase();
      database.releaseDeadReaders();
      this.#readChanges();
      for (const [key, producer] of this.#followers.producers()) {
        if (hasEnded(producer, this.#process)) void this.#endOfEndedProducer(key).catch(() => {});
      }
      if (database.needsTrim(now)) void this.#run((each, time) => this.#trim(each, time)).catch(() => {});
    } catch (error) {
      this.#reportStatus(error as Error);
    }
  }

  #reportStatus(error?: Error): void {
    if (this.#isDown === (error !== undefined)) return;
    this.#isDown = error !== undefined;
    this.#listener?.onStatus?.(!this.#isDown, error && journalError(this.#path, error, 'lmdbRuns'));
  }
}
