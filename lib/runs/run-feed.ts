/*
 * The chunks of one run as they reach this process: from the production in this process, or from the store.
 * Invariants: a subscriber receives every chunk after the feed's position at its subscription, in order and without a gap, and then
 * the end. The store is asked to follow a run at most once per process, and only while the feed has subscribers.
 */

import type { ChunkPage, RunFollower, RunKey, RunState } from './run-store.ts';

export interface RunFeed {
  readonly run: RunKey;
  /** The number of the newest chunk that this process has received; `subscribe()` begins after it. Older chunks are read. */
  readonly position: number;
  /** The end of the run, once this process has received it. A subscriber after the end receives it, too. */
  readonly ended: RunState | undefined;
  /** Delivers what follows {@link position}, never within the call, until the returned function is called. */
  subscribe(follower: RunFollower): () => void;
  /** Reads chunks from the store. `undefined`: the log is not there. */
  read(after: number, limit: number): Promise<ChunkPage | undefined>;
}
