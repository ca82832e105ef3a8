/*
 * The followers of the log in this process, each with the position up to which it has received entries.
 * Invariant: the position is verified again with every batch. A follower whose position is no longer in the log is restarted.
 */
import type { Follower } from '../journal.ts';
import type { Store } from './store.ts';

const PAGE_SIZE = 1000; // entries delivered at once; other events run in between
const RESTART_WINDOW_SIZE = 1024;

interface FollowerState {
  readonly follower: Follower;
  position: string;
  trimmed: string; // the last id that `trim` reported to it
  isReceiving: boolean;
  isDown: boolean;
}

/** The followers of one journal. */
export class Followers {
  readonly #store: () => Store;
  readonly #states = new Set<FollowerState>();

  constructor(store: () => Store) {
    this.#store = store;
  }

  add(position: string, follower: Follower): () => void {
    const state: FollowerState = { follower, position, trimmed: '', isReceiving: false, isDown: false };
    this.#states.add(state);
    this.#deliver(state);
    return () => void this.#states.delete(state);
  }

  /** Delivers new entries to all followers. */
  deliver(): void {
    for (const state of this.#states) this.#deliver(state);
  }

  /** Reports an engine failure to each follower, once. */
  reportDown(error: Error): void {
    for (const state of this.#states) this.#reportDown(state, error);
  }

  clear(): void {
    this.#states.clear();
  }

  #deliver(state: FollowerState): void {
    if (state.isReceiving || !this.#states.has(state)) return;
    state.isReceiving = true;
    try {
      if (this.#deliverPage(state)) setImmediate(() => this.#deliver(state));
    } catch (error) {
      this.#reportDown(state, error as Error);
    } finally {
      state.isReceiving = false;
    }
  }

  /** Delivers one page. Returns whether there may be more entries. */
  #deliverPage(state: FollowerState): boolean {
    const store = this.#store();
    const result = store.read(state.position, PAGE_SIZE);
    if (state.isDown) {
      state.isDown = false;
      state.follower.status?.(true);
    }
    if (!result.ok) {
      const window = store.window(RESTART_WINDOW_SIZE);
      state.position = window.entries.at(-1)?.id ?? window.floor;
      state.follower.restart(window, result.reason);
      return true;
    }
    const last = result.entries.at(-1);
    if (last) {
      state.position = last.id;
      state.follower.entries(result.entries);
    }
    this.#reportTrimmed(state, store.newestLost);
    return result.entries.length === PAGE_SIZE;
  }

  /** The limits apply to what the follower holds in memory, too: it must not send an entry that the log has trimmed. */
  #reportTrimmed(state: FollowerState, id: string): void {
    if (id === state.trimmed || id === '') return;
    state.trimmed = id;
    state.follower.trim?.(id);
  }

  #reportDown(state: FollowerState, error: Error): void {
    if (state.isDown) return;
    state.isDown = true;
    state.follower.status?.(false, error);
  }
}
