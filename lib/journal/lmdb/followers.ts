/*
 * Those who follow the log in this process, each with the position up to which it has been told.
 * Knows the contract and the store's read.
 * Invariant: with every batch the position is verified anew; who stands on one that is gone is restarted.
 */
import type { Follower } from '../journal.ts';
import type { Store } from './store.ts';

const PAGE = 1000; // entries told at once; then the event loop gets its turn
const RESTART_WINDOW = 1024;

interface Reader {
  readonly follower: Follower;
  at: string;
  telling: boolean;
  down: boolean;
}

/** The followers of one journal. */
export class Readers {
  readonly #store: () => Store;
  readonly #all = new Set<Reader>();

  constructor(store: () => Store) {
    this.#store = store;
  }

  add(at: string, follower: Follower): () => void {
    const reader: Reader = { follower, at, telling: false, down: false };
    this.#all.add(reader);
    this.#tell(reader);
    return () => void this.#all.delete(reader);
  }

  /** Tells everybody what is new. */
  wake(): void {
    for (const reader of this.#all) this.#tell(reader);
  }

  /** The engine has failed: everybody is told once. */
  fail(error: Error): void {
    for (const reader of this.#all) this.#down(reader, error);
  }

  clear(): void {
    this.#all.clear();
  }

  #tell(reader: Reader): void {
    if (reader.telling || !this.#all.has(reader)) return;
    reader.telling = true;
    try {
      if (this.#tellPage(reader)) setImmediate(() => this.#tell(reader));
    } catch (error) {
      this.#down(reader, error as Error);
    } finally {
      reader.telling = false;
    }
  }

  /** Whether there may be more. */
  #tellPage(reader: Reader): boolean {
    const store = this.#store();
    const result = store.read(reader.at, PAGE);
    if (reader.down) reader.follower.status?.(!(reader.down = false));
    if (!result.ok) {
      const window = store.window(RESTART_WINDOW);
      reader.at = window.entries.at(-1)?.id ?? window.floor;
      reader.follower.restart(window, result.reason);
      return true;
    }
    const last = result.entries.at(-1);
    if (!last) return false;
    reader.at = last.id;
    reader.follower.entries(result.entries);
    return result.entries.length === PAGE;
  }

  #down(reader: Reader, error: Error): void {
    if (reader.down) return;
    reader.down = true;
    reader.follower.status?.(false, error);
  }
}
