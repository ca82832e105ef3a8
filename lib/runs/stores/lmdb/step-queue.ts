/*
 * The changes that are not committed yet. One transaction runs at a time; it takes all changes that arrived during the previous one.
 * Invariant: a change resolves when it is committed. If it rejects, it was not committed; after `close()`, it may have been.
 */
import type { SseError } from '../../../errors.ts';
import type { RunDatabase } from './run-database.ts';

const MAX_STEPS = 1000; // a transaction holds the lock and blocks the event loop for at most some ms
const MAX_BYTES = 4 * 1024 * 1024;
const CLOSE_TIMEOUT_MS = 1000; // a process that is stopped while it holds the write lock must not delay a shutdown

/** A change: called in a transaction, possibly a second time if the file was replaced meanwhile. */
export type Step<T> = (database: RunDatabase, now: number) => T;

interface PendingStep {
  readonly step: Step<unknown>;
  readonly size: number;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Groups changes into transactions. */
export class StepQueue {
  readonly #database: () => RunDatabase;
  readonly #onCommitted: (changed: ReadonlySet<string>) => void;
  #waiting: PendingStep[] = [];
  #inTransaction: PendingStep[] = [];
  #running: Promise<void> | undefined;

  /** `database` returns the current one. `onCommitted` is called after each transaction that changed runs, before its steps resolve. */
  constructor(database: () => RunDatabase, onCommitted: (changed: ReadonlySet<string>) => void) {
    this.#database = database;
    this.#onCommitted = onCommitted;
  }

  /** `size`: the bytes that the step writes, if they are many. */
  run<T>(step: Step<T>, size = 0): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ step, size, resolve: resolve as (result: unknown) => void, reject });
      this.#running ??= this.#run().finally(() => (this.#running = undefined));
    });
  }

  /** Rejects the changes that are in no transaction yet. Waits for the running transaction, for a second at most. */
  async close(closed: SseError): Promise<void> {
    reject(this.#waiting, closed);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, CLOSE_TIMEOUT_MS)));
    await Promise.race([this.#running, timeout]).finally(() => clearTimeout(timer));
    reject(this.#inTransaction, closed);
  }

  /** Settles when the last transaction is over, however long it takes. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      try {
        const { result: results, changed } = await this.#commit();
        if (changed.size > 0) this.#onCommitted(changed);
        for (const [i, { resolve }] of this.#inTransaction.splice(0).entries()) resolve(results[i]);
      } catch (error) {
        // A commit that fails before it holds the lock has taken no step. Then reject all waiting ones, or this loop never ends.
        reject(this.#inTransaction.length > 0 ? this.#inTransaction : this.#waiting, error as Error);
      }
    }
  }

  /** Runs one transaction. If the file was replaced meanwhile, runs it again on the database that is at the path now. */
  async #commit(): Promise<{ result: unknown[]; changed: ReadonlySet<string> }> {
    const database = this.#database();
    const committed = await database.commit(() => {
      this.#inTransaction = this.#waiting.splice(0, this.#transactionLength());
      return this.#apply(database);
    });
    if (database.isCurrent || this.#inTransaction.length === 0) return committed;
    const current = this.#database();
    return current.commit(() => this.#apply(current));
  }

  #apply(database: RunDatabase): unknown[] {
    const now = Date.now();
    return this.#inTransaction.map(({ step }) => step(database, now));
  }

  #transactionLength(): number {
    let bytes = 0;
    const excess = this.#waiting.slice(0, MAX_STEPS).findIndex(({ size }) => (bytes += size) > MAX_BYTES);
    return excess < 0 ? MAX_STEPS : Math.max(1, excess);
  }
}

function reject(steps: PendingStep[], error: Error): void {
  for (const each of steps.splice(0)) each.reject(error);
}
