/*
 * The followers of runs in this process, each with the number of the chunk that it has received.
 * Invariant: a follower receives chunks and the end from one snapshot of the database, never within the call of `follow()`.
 */
import { lostState } from '../../run-state.ts';
import type { RunFollower, RunKey } from '../../run-store.ts';
import type { ProcessIdentity } from './process-identity.ts';
import { isDropped, type RunDatabase, stateOf } from './run-database.ts';

const PAGE_CHUNKS = 1000; // delivered at once; other events run in between

interface FollowerState {
  readonly run: RunKey;
  readonly key: string;
  readonly follower: RunFollower;
  position: number;
  producer: ProcessIdentity | undefined;
  isScheduled: boolean;
}

/** The followers of one handle. */
export class RunFollowers {
  readonly #database: () => RunDatabase;
  readonly #onError: (error: Error) => void;
  readonly #states = new Map<string, Set<FollowerState>>();

  constructor(database: () => RunDatabase, onError: (error: Error) => void) {
    this.#database = database;
    this.#onError = onError;
  }

  add(run: RunKey, key: string, after: number, follower: RunFollower): () => void {
    const state: FollowerState = { run, key, follower, position: after, producer: undefined, isScheduled: false };
    const states = this.#states.get(key);
    if (states) states.add(state);
    else this.#states.set(key, new Set([state]));
    this.#schedule(state);
    return () => this.#remove(state);
  }

  /** Delivers what these runs have become; without `keys`, all runs. */
  deliver(keys: Iterable<string> = this.#states.keys()): void {
    for (const key of keys) for (const state of this.#states.get(key) ?? []) this.#deliver(state);
  }

  /** The followed runs and the processes that produce them. */
  *producers(): Iterable<readonly [key: string, producer: ProcessIdentity]> {
    for (const [key, states] of this.#states) {
      for (const { producer } of states) {
        if (producer !== undefined) yield [key, producer];
        break; // the others are of the same run
      }
    }
  }

  clear(): void {
    this.#states.clear();
  }

  #remove(state: FollowerState): void {
    const states = this.#states.get(state.key);
    if (states?.delete(state) && states.size === 0) this.#states.delete(state.key);
  }

  #schedule(state: FollowerState): void {
    if (state.isScheduled) return;
    state.isScheduled = true;
    setImmediate(() => {
      state.isScheduled = false;
      this.#deliver(state);
    });
  }

  #deliver(state: FollowerState): void {
    if (state.isScheduled || !this.#isFollowing(state)) return;
    try {
      if (this.#deliverPage(state)) this.#schedule(state);
    } catch (error) {
      this.#onError(error as Error); // the next maintenance tries again
    }
  }

  #isFollowing(state: FollowerState): boolean {
    return this.#states.get(state.key)?.has(state) === true;
  }

  /** Delivers one page. Returns whether there is more. */
  #deliverPage(state: FollowerState): boolean {
    const database = this.#database();
    database.refresh();
    const now = Date.now();
    const record = database.record(state.key);
    if (record === undefined || isDropped(record, now)) {
      this.#remove(state);
      state.follower.end(lostState(state.run, state.position));
      return false;
    }
    state.producer = record.status === 'running' ? record.producer : undefined;
    const chunks = state.position < record.chunks ? database.chunks(state.key, state.position, PAGE_CHUNKS) : [];
    if (chunks.length > 0) {
      const first = state.position + 1;
      state.position += chunks.length;
      state.follower.chunks(first, chunks);
      if (!this.#isFollowing(state)) return false;
    }
    if (state.position < record.chunks) return true;
    if (record.status === 'running') return false;
    this.#remove(state);
    state.follower.end(stateOf(record, now));
    return false;
  }
}
