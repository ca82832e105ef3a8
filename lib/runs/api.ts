/*
 * The public types of runs.
 */

import type { Request, RequestHandler as Middleware, Router } from 'express';
import type { Connection } from '../api/connection.ts';
import type { Message } from '../api/message.ts';
import type { SseStats } from '../diagnostics/stats.ts';
import type { SseOptions } from '../options/options.ts';
import type { RunStatus, RunStore } from './run-store.ts';

/** One generation of a run, as its producer receives it. */
export interface Run {
  readonly id: string;
  /** Aborts on stop, when `close()` exceeds its wait, and when the lease is lost; never because a reader disconnected. */
  readonly signal: AbortSignal;
}

/** Produces the answer. Iterated once, in one process, whether or not there is a reader. */
export type Producer<C> = (run: Run, req: Request) => RunSource<C> | Promise<RunSource<C>>;

/** What a run iterates over: a generator, an array, a Node readable or a web stream. */
export type RunSource<C> = AsyncIterable<C> | Iterable<C> | ReadableStream<C>;

/** What is known about a run. Times are milliseconds since 1970. */
export interface RunInfo {
  readonly id: string;
  readonly status: RunStatus;
  readonly startedAt: number;
  readonly endedAt?: number;
  /** The number of chunks so far. */
  readonly chunks: number;
  /** The bytes that the store holds for them: their events, and a byte or more for each. */
  readonly bytes: number;
}

/** One step of `follow()`. `id` is the event id of its position: pass it as `after` to continue there. */
export type RunEvent<C> =
  | { type: 'chunk'; id: string; chunk: C }
  | { type: 'end'; id: string; status: Exclude<RunStatus, 'running'>; info: RunInfo };

/** How the chunks of a run become events. */
export interface Wire<C> {
  /** Makes the event of a chunk. It runs in the producer, before the chunk is stored; if it throws, the run fails. */
  message(chunk: C): Message | string;
  /** Makes the last events. Without it, or if it returns nothing, the body of a run that is not `done` is cut off. */
  end?(info: RunInfo): Message | string | readonly (Message | string)[] | undefined;
  /** Further headers of the response. */
  headers?: Record<string, string>;
  /** Whether the router may write ids and events of its own. */
  control: boolean;
}

export interface RunsOptions<C> extends Pick<
  SseOptions,
  'cors' | 'headers' | 'heartbeat' | 'limits' | 'compress' | 'maxAge' | 'slowTimeout' | 'onError'
> {
  /** The id of the run that a POST starts: 1 to 256 characters. @defaultValue a random UUID */
  id?: ((req: Request) => string) | undefined;
  /** The effect of a POST while a run with this id is running. @defaultValue `'join'`; `'replace'` with `uiMessages()` */
  again?: 'join' | 'reject' | 'replace' | undefined;
  /** Whether this request may start, read or stop this run; false: 403. @defaultValue every request may */
  allow?: ((req: Request, id: string, what: 'start' | 'read' | 'stop') => boolean | Promise<boolean>) | undefined;
  /** Belongs to this router: another router of the process needs another one. @defaultValue memoryRuns() */
  store?: RunStore | undefined;
  /** The milliseconds that an ended run stays readable. @defaultValue 600000 */
  keep?: number | undefined;
  /** The bytes that one run may have; a run that exceeds it fails. 64 bytes per chunk are added. @defaultValue 8388608 */
  maxBytes?: number | undefined;
  /** The milliseconds after which a run is `lost` if its process has ended without ending it. @defaultValue 10000 */
  lease?: number | undefined;
  /** The minimum time between two appends, in milliseconds; after a pause, a chunk is appended at once. @defaultValue 20 */
  batch?: number | undefined;
  /** The milliseconds without any reader after which the run is stopped. @defaultValue false */
  stopUnread?: number | false | undefined;
  /** @defaultValue events() */
  wire?: Wire<C> | undefined;
}

/** Counters since the router was made, and gauges of the present state. Those of the connections are the same as of `sse()`. */
export interface RunsStats extends SseStats {
  runs: {
    /** Gauge: runs that this process produces. */
    running: number;
    /** Counter: runs that this process has produced, by the status with which they ended. */
    ended: Record<Exclude<RunStatus, 'running'>, number>;
    /** Counter: chunks that this process has stored. */
    chunks: number;
    /** Counter: bytes of these chunks. */
    bytes: number;
  };
}

/** The router that `runs()` returns. */
export interface RunsRouter<C> extends Router {
  /**
   * Starts a run without a request: from a worker, a queue or a cron job. Joins it if it is running. If the run is joined, or the call
   * rejects, a function is not called and any other source is released: pass a function to be able to call again.
   * @throws {SseError} by rejecting: `ERR_SSE_TIMEOUT` if the store does not answer within ten seconds, as `stop()` and `status()` do;
   * `ERR_SSE_QUEUE_FULL`, `ERR_SSE_JOURNAL`, and `ERR_SSE_CLOSED` from `close()` on
   */
  start(id: string, source: RunSource<C> | ((run: Run) => RunSource<C> | Promise<RunSource<C>>)): Promise<RunInfo>;
  /**
   * Iterates over the chunks of a run, and then its end: for tRPC, GraphQL, WebSockets or a webhook. An abort of `signal`, `return()`
   * and `close()` of the router end the iteration.
   */
  follow(id: string, options?: { after?: string; signal?: AbortSignal }): AsyncIterableIterator<RunEvent<C>>;
  /** Stops a run in whichever process it runs. For a run of this process it does not wait for the store. @returns Whether it was running. */
  stop(id: string): Promise<boolean>;
  status(id: string): Promise<RunInfo | undefined>;
  /** The open connections of this process: its readers. */
  readonly connections: ReadonlySet<Connection>;
  /** Counters since the start and gauges of this moment, as plain numbers. */
  stats(): RunsStats;
  /** The option `cors` as a middleware, for use in front of authentication. */
  readonly cors: Middleware;
  /**
   * For a deployment: new POSTs get 503 with `Retry-After`. Running runs have `wait` milliseconds to finish (default 0); then they are
   * cut and end as `lost`. Resolves when no stream is left and the store is closed. A store that does not answer delays it by 2 s.
   */
  close(options?: { wait?: number }): Promise<void>;
}
