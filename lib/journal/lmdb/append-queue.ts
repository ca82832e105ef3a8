/*
 * What has been appended and is not on disk yet: one transaction at a time takes all that has gathered meanwhile.
 * Knows the store's commit, and the errors.
 * Invariant: an append is resolved when it is on disk, or rejected; whether it was stored is unknown only after `ERR_SSE_TIMEOUT`.
 */
import { SseError } from '../../errors.ts';
import type { Draft } from './entry-codec.ts';
import type { Store } from './store.ts';

const MOST_WAITING = 10_000;
const MOST_WAITING_BYTES = 64 * 1024 * 1024;
const MOST_AT_ONCE = 1000; // per transaction: the lock and the event loop are held for some ms at most
const MOST_BYTES_AT_ONCE = 4 * 1024 * 1024;
export const PATIENCE = 10_000; // ms that an append may take
const LOOK = 1000; // ms between two looks for what has waited too long

interface Waiting {
  readonly draft: Draft;
  readonly since: number;
  readonly resolve: (id: string) => void;
  readonly reject: (error: Error) => void;
}

/** Gathers appends into transactions. */
export class Queue {
  readonly #store: () => Store;
  readonly #committed: () => void;
  #waiting: Waiting[] = [];
  #taken: Waiting[] = [];
  #bytes = 0; // of both
  #running: Promise<void> | undefined;
  #trim = false;

  /** `store`: the database of now. `committed`: called after each transaction, before its appends are resolved. */
  constructor(store: () => Store, committed: () => void) {
    this.#store = store;
    this.#committed = committed;
  }

  append(draft: Draft): Promise<string> {
    const waiting = this.#waiting.length + this.#taken.length;
    if (waiting >= MOST_WAITING || (waiting > 0 && this.#bytes + draft.size > MOST_WAITING_BYTES)) {
      const what = `${waiting} entries of ${this.#bytes} bytes wait for the disk: append less, or wait for what was appended`;
      return Promise.reject(new SseError('ERR_SSE_QUEUE_FULL', `lmdbJournal: ${what}`));
    }
    this.#bytes += draft.size;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ draft, since: performance.now(), resolve, reject });
      this.#start();
    });
  }

  /** Lets go of what is too old although nothing is appended. */
  trim(): void {
    this.#trim = true;
    this.#start();
  }

  /** Rejects what no transaction has taken yet, and waits for the one that is under way. */
  async close(): Promise<void> {
    this.#reject(this.#waiting, new SseError('ERR_SSE_CLOSED', 'this journal was closed before the entry was stored'));
    await this.#running;
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0 || this.#trim) {
      this.#trim = false;
      const late = setInterval(() => this.#tooLate(), LOOK).unref();
      try {
        const ids = await this.#commit();
        this.#committed();
        const done = this.#taken.splice(0); // empty when it was too late for them
        for (const [i, { draft, resolve }] of done.entries()) {
          this.#bytes -= draft.size;
          resolve(ids[i]!);
        }
      } catch (error) {
        // A commit that failed before the lock was held has taken none: then all that wait are told, or they would spin.
        this.#reject(this.#taken.length > 0 ? this.#taken : this.#waiting, error as Error);
      } finally {
        clearInterval(late);
      }
    }
  }

  /** One transaction; once more on the log that is at the path now, if somebody has replaced the file meanwhile. */
  async #commit(): Promise<string[]> {
    const store = this.#store();
    const ids = await store.commit(() => {
      this.#taken = this.#waiting.splice(0, this.#atOnce());
      return this.#taken.map(({ draft }) => draft);
    });
    if (store.present || this.#taken.length === 0) return ids;
    return this.#store().commit(() => this.#taken.map(({ draft }) => draft));
  }

  /** How many of those that wait go into one transaction. */
  #atOnce(): number {
    let bytes = 0;
    const beyond = this.#waiting
      .slice(0, MOST_AT_ONCE)
      .findIndex(({ draft }) => (bytes += draft.size) > MOST_BYTES_AT_ONCE);
    return beyond < 0 ? MOST_AT_ONCE : Math.max(1, beyond);
  }

  #tooLate(): void {
    const why = `lmdbJournal: no commit within ${PATIENCE} ms: another process holds the lock, or the disk hangs`;
    const then = performance.now() - PATIENCE;
    // Ids come for all that were taken together, so they go together.
    if (this.#taken.some(({ since }) => since <= then))
      this.#reject(this.#taken, new SseError('ERR_SSE_TIMEOUT', `${why}; whether it was stored is not known`));
    const first = this.#waiting.findIndex(({ since }) => since > then);
    const late = this.#waiting.splice(0, first < 0 ? Infinity : first);
    this.#reject(late, new SseError('ERR_SSE_TIMEOUT', `${why}; it was not stored`));
  }

  #reject(which: Waiting[], error: Error): void {
    for (const { draft, reject } of which.splice(0)) {
      this.#bytes -= draft.size;
      reject(error);
    }
  }
}
