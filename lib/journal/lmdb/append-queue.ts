/*
 * The appends that are not on disk yet. One transaction runs at a time; it stores all appends that arrived during the previous one.
 * Invariant: an append that was called before close() is stored as any other, for as long as the close waits.
 * Invariant: an append resolves when the entry is on disk, or it rejects. Only after `ERR_SSE_TIMEOUT` may the outcome be unknown.
 *
 * `PendingAppends` of the other journals is a different concept: it settles each append on its own, by a timer for its deadline. Here
 * the appends of a transaction expire together, an append waits only while a transaction runs, and the limits are constants.
 */
import { SseError } from '../../errors.ts';
import type { EncodedEntry } from './entry-codec.ts';
import type { Store } from './store.ts';

const MAX_PENDING_ENTRIES = 10_000;
const MAX_PENDING_BYTES = 64 * 1024 * 1024;
const MAX_TRANSACTION_ENTRIES = 1000; // a transaction holds the lock and blocks the event loop for at most some ms
const MAX_TRANSACTION_BYTES = 4 * 1024 * 1024;
export const APPEND_TIMEOUT_MS = 10_000;
const TIMEOUT_CHECK_INTERVAL_MS = 1000;

interface PendingAppend {
  readonly entry: EncodedEntry;
  readonly since: number;
  readonly resolve: (id: string) => void;
  readonly reject: (error: Error) => void;
}

/** Groups appends into transactions. */
export class AppendQueue {
  readonly #store: () => Store;
  readonly #onCommitted: () => void;
  #waiting: PendingAppend[] = [];
  #inTransaction: PendingAppend[] = [];
  #bytes = 0; // of both lists
  #running: Promise<void> | undefined;
  #trimRequested = false;

  /** `store` returns the current database. `onCommitted` is called after each transaction, before its appends resolve. */
  constructor(store: () => Store, onCommitted: () => void) {
    this.#store = store;
    this.#onCommitted = onCommitted;
  }

  append(entry: EncodedEntry): Promise<string> {
    const pending = this.#waiting.length + this.#inTransaction.length;
    if (pending >= MAX_PENDING_ENTRIES || (pending > 0 && this.#bytes + entry.size > MAX_PENDING_BYTES)) {
      return Promise.reject(
        new SseError(
          'ERR_SSE_QUEUE_FULL',
          `lmdbJournal: pending appends must be at most ${MAX_PENDING_ENTRIES} entries and ${MAX_PENDING_BYTES} bytes; ` +
            `${pending} entries of ${this.#bytes} bytes already wait for the disk. The entry was not stored. ` +
            'Append less often, or await earlier appends first.',
        ),
      );
    }
    this.#bytes += entry.size;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ entry, since: performance.now(), resolve, reject });
      this.#start();
    });
  }

  /** Removes expired entries while nothing is appended. */
  trim(): void {
    this.#trimRequested = true;
    this.#start();
  }

  /** Waits until every append is stored or rejected. The caller adds no append after this call. */
  async close(): Promise<void> {
    await this.#running;
  }

  /** Rejects every append: the close does not wait any longer. What is in no transaction by now is never stored. */
  abandon(): void {
    this.#rejectOlderThan(0, 'before the journal was closed');
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0 || this.#trimRequested) {
      this.#trimRequested = false;
      // After a pause of this process, the transaction may have finished: its result is read before appends expire.
      const check = (): void => void setImmediate(() => this.#rejectExpired());
      const timeoutCheck = setInterval(check, TIMEOUT_CHECK_INTERVAL_MS).unref();
      try {
        const ids = await this.#commit();
        this.#onCommitted();
        const stored = this.#inTransaction.splice(0); // empty if these appends have timed out
        for (const [i, { entry, resolve }] of stored.entries()) {
          this.#bytes -= entry.size;
          resolve(ids[i]!);
        }
      } catch (error) {
        // A commit that fails before it holds the lock has taken no append. Then reject all waiting ones, or this loop never ends.
        this.#reject(this.#inTransaction.length > 0 ? this.#inTransaction : this.#waiting, error as Error);
      } finally {
        clearInterval(timeoutCheck);
      }
    }
  }

  /** Runs one transaction. If the file was replaced meanwhile, runs it again on the log that is at the path now. */
  async #commit(): Promise<string[]> {
    const store = this.#store();
    const ids = await store.commit(() => {
      this.#rejectExpired(); // after a pause of this process: what has expired by then must not be stored
      this.#inTransaction = this.#waiting.splice(0, this.#transactionLength());
      return this.#inTransaction.map(({ entry }) => entry);
    });
    if (store.isCurrent || this.#inTransaction.length === 0) return ids;
    return this.#store().commit(() => this.#inTransaction.map(({ entry }) => entry));
  }

  /** Returns how many waiting appends go into one transaction. */
  #transactionLength(): number {
    let bytes = 0;
    const excess = this.#waiting
      .slice(0, MAX_TRANSACTION_ENTRIES)
      .findIndex(({ entry }) => (bytes += entry.size) > MAX_TRANSACTION_BYTES);
    return excess < 0 ? MAX_TRANSACTION_ENTRIES : Math.max(1, excess);
  }

  #rejectExpired(): void {
    this.#rejectOlderThan(APPEND_TIMEOUT_MS, `within ${APPEND_TIMEOUT_MS} ms`);
  }

  /** `when`: the end of the wait, for the errors. */
  #rejectOlderThan(ms: number, when: string): void {
    const problem = `lmdbJournal: no commit ${when}`;
    const cause = 'Another process holds the lock, or the disk does not respond.';
    const expiry = performance.now() - ms;
    // The transaction returns the ids of all its appends together, so they are rejected together.
    if (this.#inTransaction.some(({ since }) => since <= expiry)) {
      this.#reject(
        this.#inTransaction,
        new SseError('ERR_SSE_TIMEOUT', `${problem}; the outcome is unknown, the entry may be in the log. ${cause}`),
      );
    }
    const first = this.#waiting.findIndex(({ since }) => since > expiry);
    const expired = this.#waiting.splice(0, first < 0 ? Infinity : first);
    this.#reject(expired, new SseError('ERR_SSE_TIMEOUT', `${problem}; the entry was not stored. ${cause}`));
  }

  #reject(appends: PendingAppend[], error: Error): void {
    for (const { entry, reject } of appends.splice(0)) {
      this.#bytes -= entry.size;
      reject(error);
    }
  }
}
