/*
 * A run as a client receives it that is ahead of this process: the process has not received the newest chunks yet, or the engine has
 * lost an append after the client had received its chunks, and the producer, which has no reply to it, sends it again.
 * Invariants: no chunk up to the client's position is delivered again. What follows is delivered, and the end.
 */

import { MAX_WAITING_CHUNKS } from './production.ts';
import type { RunFeed } from './run-feed.ts';
import type { ChunkPage, RunFollower, RunKey, RunState } from './run-store.ts';

/**
 * Returns the number of the chunk after which a client continues that has received the chunk `n`. It is `n`, also if the engine has lost
 * this chunk. One append of a run is in flight at most, so a position that is further ahead is none of this log: the client continues
 * after the newest chunk that the store or this process has.
 */
export function continuesAfter(n: number, state: RunState, feed: RunFeed): number {
  const newest = Math.max(state.chunks, feed.position);
  return n <= newest + MAX_WAITING_CHUNKS ? n : newest;
}

export class FeedAfter implements RunFeed {
  readonly #feed: RunFeed;
  readonly #after: number;

  constructor(feed: RunFeed, after: number) {
    this.#feed = feed;
    this.#after = after;
  }

  get run(): RunKey {
    return this.#feed.run;
  }

  get position(): number {
    return Math.max(this.#feed.position, this.#after);
  }

  get ended(): RunState | undefined {
    return this.#feed.ended;
  }

  subscribe(follower: RunFollower): () => void {
    return this.#feed.subscribe({
      chunks: (first, chunks) => {
        const received = Math.max(0, this.#after + 1 - first);
        if (received < chunks.length) follower.chunks(first + received, chunks.slice(received));
      },
      end: (state) => follower.end(state),
    });
  }

  read(after: number, limit: number): Promise<ChunkPage | undefined> {
    return this.#feed.read(after, limit);
  }
}
