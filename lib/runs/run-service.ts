/*
 * What the router of runs calls: the contract between the requests and the hub of runs.
 */

import type { NewRun, RunState } from './run-store.ts';
import type { Run, RunSource } from './api.ts';
import type { RunFeed } from './run-feed.ts';

/**
 * The hub of runs, as the requests see it. `BoundedRuns` implements it. A call waits for the store for ten seconds at most. It rejects with
 * the reason of `departed` if that aborts first.
 */
export interface RunService<C> {
  /** Whether the store answers at present. */
  readonly isAnswering: boolean;
  /** Begins a run, unless one with this id is running; see `NewRun.again`. Only then is `make` called, after the run has begun. */
  start(
    id: string,
    make: (run: Run) => RunSource<C> | Promise<RunSource<C>>,
    again: NewRun['again'],
    departed?: AbortSignal,
  ): Promise<{ readonly started: boolean; readonly state: RunState; readonly feed: RunFeed }>;
  /** Returns the chunks of a run, from a state that the store has just returned. */
  feed(state: RunState): RunFeed;
  state(id: string, generation?: string, departed?: AbortSignal): Promise<RunState | undefined>;
  stop(id: string, generation?: string, departed?: AbortSignal): Promise<boolean>;
  /** Reports an error of the store, once in an outage. */
  reportStore(error: unknown): void;
}

/** How the wire of a router reads what a store keeps. None of the functions throws. */
export interface ChunkReader {
  /** Returns the event in a stored chunk, without its `id` line. */
  frameOf(stored: Uint8Array): Uint8Array;
  /** Returns the last event of an ended run, without its `id` line; `undefined` if the wire has none. */
  endOf(state: RunState): Uint8Array | undefined;
}
