/*
 * The contract of a run store: one log of chunks per run, with one producer at a time.
 * Invariants: a chunk in the log never changes. After the end of a run, its log never grows. At most one producer can append.
 * A store has no timers of its own for runs: its caller renews leases, and asks for the state of the runs that it reads.
 */

/** `running` until the end is in the log. A run ends once, with one of the other statuses. */
export type RunStatus = 'running' | 'done' | 'stopped' | 'failed' | 'lost';

/** Identifies one generation of a run: the same run id may be started again, and gets another generation then. */
export interface RunKey {
  /** The run id: well-formed Unicode of 1 to 256 characters. */
  readonly id: string;
  /** 1 to 32 characters of `A-Z a-z 0-9 - _`; two generations of one id are never the same. */
  readonly generation: string;
}

/** What is on record about one generation. Times are milliseconds since 1970, of the store's clock. */
export interface RunState extends RunKey {
  readonly status: RunStatus;
  readonly startedAt: number;
  /** Absent while the run is running. */
  readonly endedAt?: number;
  /** The number of chunks in the log: the newest one has this number, the first one has 1. */
  readonly chunks: number;
  /** The size of all chunks in the log. */
  readonly bytes: number;
  /**
   * While the run is running: the milliseconds after which it is lost if its producer does not renew it. It is not 0, because a run
   * whose lease has expired is ended before its state is returned.
   */
  readonly leaseLeft?: number;
}

/** The argument of {@link RunStore.begin}. */
export interface NewRun extends RunKey {
  /**
   * What happens if a generation with this id is running. `join` and `reject` begin nothing and return the running one. `replace` ends
   * it as `stopped`, which fences its producer, and reports the stop to that producer's process.
   */
  readonly again: 'join' | 'reject' | 'replace';
  /** Milliseconds. */
  readonly lease: number;
  /** Milliseconds that the log stays readable after the end. */
  readonly keep: number;
  /**
   * Aborts when its caller does not wait any more. If the store has not asked its engine yet, it begins nothing and rejects with the
   * reason. A store may ignore it.
   */
  readonly signal?: AbortSignal | undefined;
}

/** The result of {@link RunStore.begin}: the generation that has begun, or the one that is running already. */
export interface BeginResult {
  readonly started: boolean;
  readonly state: RunState;
}

/** Chunks of one log in a row. */
export interface ChunkPage {
  /** The chunks from number `after + 1` on; fewer than asked for if they are large, but not empty unless there is none. */
  readonly chunks: readonly Uint8Array[];
  readonly state: RunState;
}

/** What a producer receives about one of its runs. */
export interface Renewal {
  /** Whether the run is still running, so that its lease has been extended. */
  readonly running: boolean;
  /** Whether a stop is on record. The producer then ends the run. */
  readonly stopRequested: boolean;
  /** Whether a process has noted readers for it: see {@link RunStore.noteReaders}. */
  readonly hasReaders: boolean;
}

/** Receives the log of one run. The store calls every method synchronously, never within `follow()`; none may throw. */
export interface RunFollower {
  /** Receives chunks in order, without a gap. `first` is the number of the first one. A batch is never empty. */
  chunks(first: number, chunks: readonly Uint8Array[]): void;
  /** Receives the end, after every chunk. Nothing follows. If the log is no longer there, the status is `lost`. */
  end(state: RunState): void;
}

/** What a store reports to the process that opened it. */
export interface RunStoreListener {
  /** A stop was requested, by any process, for a run that this handle has begun. */
  onStop(run: RunKey): void;
  /** Whether the engine answers. An engine that is down ends no run. */
  onStatus?(up: boolean, error?: Error): void;
}

/**
 * Keeps the logs of runs: in memory, in LMDB, in Redis or in Postgres. `sse-router/conformance` has the suite that an
 * implementation must pass (`runStoreConformance`).
 *
 * Every method that asks the engine waits while the engine is unavailable, and rejects only if the store is closed
 * (`ERR_SSE_CLOSED`) or if the engine refuses for a reason that no retry cures (`ERR_SSE_JOURNAL`).
 *
 * A run whose lease has expired is ended by the store itself, before any answer about it: as `stopped` if a stop is on record, else
 * as `lost`. A store does not do that within one lease after its own connection to the engine was reopened, or after its process did
 * not run for a while: producers renew first.
 *
 * A store belongs to one router of runs: `runs()` throws for a second one. The router opens it when it is created, and closes it at the
 * end of `close()`.
 */
export interface RunStore {
  /** Opens the store. Idempotent. */
  open(listener: RunStoreListener): Promise<void>;
  /** Begins a generation, unless one with this id is running; see {@link NewRun.again}. One of concurrent callers begins it. */
  begin(run: NewRun): Promise<BeginResult>;
  /**
   * Adds chunks at the end of the log; each has at least one byte. The store does not change them and may keep them without a copy.
   * The first one gets the number `first`, which must follow the last number in the log.
   * Resolves with `stored` when all of them are in the log: at most once, even if connections to the engine break. `refused`: none
   * is in the log, because the run is no longer running or the log does not continue at `first` (it lost writes; the run is `lost`
   * then). Its caller has at most one append of a run in flight.
   */
  append(run: RunKey, first: number, chunks: readonly Uint8Array[]): Promise<'stored' | 'refused'>;
  /**
   * Ends a run, unless it has ended. Resolves with what is on record then; `undefined` if the log is not there.
   * If a stop is on record, `lost` becomes `stopped`.
   */
  end(run: RunKey, status: Exclude<RunStatus, 'running'>): Promise<RunState | undefined>;
  /** Extends the leases of runs that this handle has begun. The results have the order of `runs`. */
  renew(runs: readonly RunKey[]): Promise<readonly Renewal[]>;
  /**
   * Puts a stop on record and reports it to the producer's process, within 100 ms. It writes no end: the producer does, or the
   * expiry of its lease. Without `generation`, the newest generation. @returns Whether the run was running.
   */
  stop(id: string, generation?: string): Promise<boolean>;
  /** Returns the state of one generation, or without `generation` of the newest one; `undefined` if it is unknown or was dropped. */
  state(id: string, generation?: string): Promise<RunState | undefined>;
  /** Reads at most `limit` chunks after the number `after`. `undefined`: the log is not there. */
  read(run: RunKey, after: number, limit: number): Promise<ChunkPage | undefined>;
  /**
   * Delivers the chunks after the number `after`, and the end, until the returned function is called. Its caller follows each run
   * once. However many runs a handle follows, it has one blocking read at the engine (or a fixed number of them).
   * It does not check leases: its caller calls {@link RunStore.state} when the lease may have expired.
   */
  follow(run: RunKey, after: number, follower: RunFollower): () => void;
  /** Notes that these runs have readers for the next `ms` milliseconds. Called only if a router stops unread runs. */
  noteReaders(runs: readonly RunKey[], ms: number): Promise<void>;
  /** Releases all resources. Followers receive nothing more; pending calls reject with `ERR_SSE_CLOSED`. Idempotent. */
  close(): Promise<void>;
}
