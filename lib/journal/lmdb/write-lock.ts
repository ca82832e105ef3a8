/*
 * Whose turn it is to open the log's database or to commit to it: a lock between processes that a dead holder sets free.
 * Knows LMDB; nothing of what lies in the log.
 * Invariant: while one process has the turn, no other one has it.
 *
 * Opening a database sets the number of the newest transaction in the lock file to what the header said some µs before, under
 * no lock (mdb_env_open2 in the LMDB of lmdb 3.5): what others commit in between is overwritten by their next commits. Three
 * writers lost acknowledged entries, or pages, within seconds and without any kill while two processes did nothing but open and
 * close: 4 runs of 6. So nobody opens while somebody commits.
 * The lock is that of a second database, in which nothing is ever written: opening that one overwrites nothing.
 */
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { mustBeIntact } from './file-check.ts';

const NAME = 'turn.mdb';

/** The turn of one log. */
export class Turn {
  static readonly files: readonly string[] = [NAME, `${NAME}-lock`];
  readonly #lock: RootDatabase;

  constructor(path: string) {
    mustBeIntact(path, join(path, NAME));
    this.#lock = open(join(path, NAME), { noSubdir: true, noSync: true, eventTurnBatching: false });
  }

  /** Waits in lmdb's thread, so that a process that was stopped while it had its turn holds nobody's event loop. */
  async take<T>(act: () => T): Promise<T> {
    return this.#lock.transaction(act);
  }

  /** Waits in the main thread. */
  takeSync<T>(act: () => T): T {
    return this.#lock.transactionSync(act);
  }

  forgetTheDead(): void {
    this.#lock.readerCheck();
  }

  async close(): Promise<void> {
    await this.#lock.close();
  }
}
