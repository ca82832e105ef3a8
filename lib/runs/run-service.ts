/*
 * What the router of runs calls: the contract between the requests and the hub of runs.
 */

import type { Run, RunEvent } from './api.ts';
import type { RunFeed } from './run-feed.ts';
import type { RunState, RunStatus } from './run-store.ts';

/** A source of chunks, or a promise of one. */
export type RunSource<C> = Iterable<C> | AsyncIterable<C> | Promise<Iterable<C> | AsyncIterable<C>>;

/** Figures of this process since the router was made. `running`: runs that this process produces now. */
export interface RunFigures {
  readonly running: number;
  /** Runs that this process has produced, by the status with which they ended. */
  readonly ended: Readonly<Record<Exclude<RunStatus, 'running'>, number>>;
  /** Chunks and bytes that this process has stored. */
  readonly chunks: number;
  readonly bytes: number;
}

/** All runs of one router, as the requests see them. */
export interface RunService<C> extends ChunkReader {
  /**
   * Begins a generation, or returns the running one; see `NewRun.again`. `produce` is called once, after the run has begun, and only if
   * this call has begun it. If it throws, the run fails. @throws {SseError} `ERR_SSE_CLOSED` after {@link finish} was called.
   */
  begin(
    id: string,
    again: 'join' | 'reject' | 'replace',
    produce: (run: Run) => RunSource<C>,
  ): Promise<{ readonly started: boolean; readonly state: RunState }>;
  state(id: string, generation?: string): Promise<RunState | undefined>;
  stop(id: string, generation?: string): Promise<boolean>;
  /**
   * The chunks of a run that {@link begin} or {@link state} has returned. It is the production of this process if it runs here;
   * otherwise the store is followed from the chunks of `state` on. So its position is 0 for a run that has just begun.
   */
  feed(state: RunState): RunFeed;
  /** Waits until the runs of this process have ended, at most `wait` milliseconds; then ends the others as `lost`. Idempotent. */
  finish(wait: number): Promise<void>;
  /** Closes the store, when no reader is left. */
  close(): Promise<void>;
  figures(): RunFigures;
  follow(id: string, options?: { after?: string; signal?: AbortSignal }): AsyncIterableIterator<RunEvent<C>>;
}

/** What a hub of runs reports to its router. */
export interface RunServiceListener {
  /** Receives an error that no caller can catch. */
  report(error: unknown): void;
  /** Called when this process has begun a run, and when a run has ended that it produced. */
  onStarted(state: RunState): void;
  onEnded(state: RunState): void;
  /** Receives whether the store's engine answers. */
  onStatus(up: boolean): void;
}

/** How the wire of a router writes and reads what a store keeps. Errors of the wire go to the run or to `onError`. */
export interface ChunkReader {
  /** Returns the event in a stored chunk, without its `id` line. */
  frameOf(stored: Uint8Array): Uint8Array;
  /** Returns the last event of an ended run, without its `id` line; `undefined` if the wire has none. */
  endOf(state: RunState): Uint8Array | undefined;
}

