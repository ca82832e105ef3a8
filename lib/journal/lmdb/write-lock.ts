/*
 * A lock between processes. A process holds it while it opens the database or commits to it.
 * Invariant: at most one process holds the lock. If the holder dies, the lock is released.
 *
 * Opening a database sets the number of the newest transaction in the lock file to the number that the header had some µs before,
 * without a lock (mdb_env_open2 in the LMDB of lmdb 3.5). The next commits of other processes then overwrite what they committed
 * in between. Three writers lost acknowledged entries, or pages, within seconds and without any kill while two processes did
 * nothing but open and close: 4 runs of 6. So no process opens the database while another one commits.
 * The lock belongs to a second database that is never written to: opening that one overwrites nothing.
 */
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { assertFileIntact } from './file-check.ts';
import type { DatabaseKind } from './lmdb-errors.ts';

const LOCK_FILE = 'turn.mdb'; // processes of different versions of this package must use the same name

/** The write lock of one database. */
export class WriteLock {
  static readonly files: readonly string[] = [LOCK_FILE, `${LOCK_FILE}-lock`];
  readonly #database: RootDatabase;

  constructor(path: string, kind: DatabaseKind) {
    assertFileIntact(path, join(path, LOCK_FILE), kind);
    this.#database = open(join(path, LOCK_FILE), { noSubdir: true, noSync: true, eventTurnBatching: false });
  }

  /** Runs `action` with the lock. Waits in lmdb's thread: a holder that is stopped does not block the event loop. */
  async run<T>(action: () => T): Promise<T> {
    return this.#database.transaction(action);
  }

  /** Runs `action` with the lock. Waits in the main thread. */
  runSync<T>(action: () => T): T {
    return this.#database.transactionSync(action);
  }

  releaseDeadReaders(): void {
    this.#database.readerCheck();
  }

  async close(): Promise<void> {
    await this.#database.close();
  }
}
