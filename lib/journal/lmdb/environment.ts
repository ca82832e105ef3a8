/*
 * One open LMDB database that several processes share: opened and written to under the write lock.
 * Invariant: an action that throws within a commit has changed nothing.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Key, open, type RootDatabase } from 'lmdb';
import { damagedFile, type DatabaseKind, DATABASE_FILES, foreignDirectory, journalError } from './lmdb-errors.ts';
import { assertFileIntact } from './file-check.ts';
import { WriteLock } from './write-lock.ts';

/*
 * - `maxFreeSpaceToRetain`: free pages kept between transactions become wrong after another process has committed.
 * - `overlappingSync` treats a page as free according to what this process has flushed, not what the others have.
 * - `eventTurnBatching` rejects a promise of its own if a commit fails. No code can handle that promise: the process would end.
 * With these settings and the write lock, three processes that wrote with `noSync` while one of them was killed every 20 to
 * 120 ms and restarted lost nothing in 1600 kills. Without the lock (every 80 to 300 ms), 4 runs of 7 failed within 374 kills.
 */
const OPEN_OPTIONS = {
  encoding: 'binary',
  maxFreeSpaceToRetain: 0,
  overlappingSync: false,
  eventTurnBatching: false,
} as const;

/** How an environment is opened. */
export interface EnvironmentOptions {
  readonly kind: DatabaseKind;
  /** Whether each commit waits until the disk has it. */
  readonly sync: boolean;
  /** Called under the write lock before the database is opened. */
  readonly prepare?: () => void;
}

/** One open database. */
export class Environment<K extends Key> {
  readonly path: string;
  readonly db: RootDatabase<Buffer, K>;
  isCommitting = false; // a commit holds the write lock or waits for it
  readonly #kind: DatabaseKind;
  readonly #files: readonly string[];
  readonly #writeLock: WriteLock;
  readonly #identity: string | undefined;

  /** Opens the database in the directory, and runs `initialise` in a first transaction. @throws {SseError} `ERR_SSE_JOURNAL` */
  constructor(
    path: string,
    { kind, sync, prepare }: EnvironmentOptions,
    initialise: (db: RootDatabase<Buffer, K>) => void,
  ) {
    this.path = path;
    this.#kind = kind;
    this.#files = [...DATABASE_FILES[kind], ...WriteLock.files];
    let db: RootDatabase<Buffer, K> | undefined;
    try {
      mkdirSync(path, { recursive: true });
      this.#writeLock = new WriteLock(path, kind);
    } catch (error) {
      throw journalError(path, error, kind);
    }
    try {
      this.db = db = this.#writeLock.runSync(() => {
        this.#assertOwnDirectory();
        prepare?.();
        return this.#open(sync);
      });
      this.#writeLock.runSync(() => this.db.transactionSync(() => initialise(this.db)));
      this.#identity = this.#fileIdentity();
    } catch (error) {
      void Promise.resolve(db?.close()).then(() => this.#writeLock.close());
      throw journalError(path, error, kind);
    }
  }

  /** Whether the files at the path are still the ones that are open here. */
  get isCurrent(): boolean {
    return this.#identity !== undefined && this.#fileIdentity() === this.#identity;
  }

  /**
   * Runs `action` in a transaction, once the lock is held. Resolves with its result when it is on disk.
   * Commits in the main thread: a commit in another thread would need a second of libuv's few threads while one holds the lock.
   * @throws {SseError} `ERR_SSE_JOURNAL`: nothing was stored.
   */
  async commit<T>(action: () => T): Promise<T> {
    this.isCommitting = true;
    try {
      return await this.#writeLock.run(() => this.db.transactionSync(action));
    } catch (error) {
      throw journalError(this.path, await commitError(error), this.#kind);
    } finally {
      this.isCommitting = false;
    }
  }

  /** The error for content that is not valid. */
  damaged(problem: string): Error {
    return damagedFile(this.path, problem, this.#kind);
  }

  /** Releases LMDB's reader slots of processes that have ended: a page that such a slot refers to would never become free. */
  releaseDeadReaders(): void {
    this.db.readerCheck();
    this.#writeLock.releaseDeadReaders();
  }

  async close(): Promise<void> {
    await this.db.close();
    await this.#writeLock.close();
  }

  #open(sync: boolean): RootDatabase<Buffer, K> {
    const file = join(this.path, DATABASE_FILES[this.#kind][0]);
    assertFileIntact(this.path, file, this.#kind);
    // In a directory, LMDB names the files of the journal; see DATABASE_FILES.
    const isJournal = this.#kind === 'lmdbJournal';
    return open(isJournal ? this.path : file, { ...OPEN_OPTIONS, noSubdir: !isJournal, noSync: !sync });
  }

  /** A journal and runs in one directory would wait for each other, and one lock file would belong to both. */
  #assertOwnDirectory(): void {
    for (const [kind, [dataFile]] of Object.entries(DATABASE_FILES)) {
      if (kind === this.#kind || !existsSync(join(this.path, dataFile))) continue;
      throw foreignDirectory(this.path, this.#kind, kind as DatabaseKind);
    }
  }

  /** Covers all files: a process with another lock file than the others would write into the same data at the same time. */
  #fileIdentity(): string | undefined {
    try {
      return this.#files.map((name) => statSync(join(this.path, name)).ino).join(' ');
    } catch {
      return undefined;
    }
  }
}

/** Returns why a commit failed: LMDB's own error arrives in a separate promise, before the next tick. */
async function commitError(thrown: unknown): Promise<unknown> {
  const { commitError: cause } = thrown as { commitError?: Promise<never> };
  const nextTick = new Promise<never>((_, reject) => setImmediate(reject, thrown));
  try {
    return await Promise.race([cause ?? nextTick, nextTick]);
  } catch (reason) {
    return reason;
  }
}
