/*
 * A log in an LMDB database: one machine, several processes, no server. Only this folder needs the npm package `lmdb`.
 * Invariant: an entry whose append has resolved is on disk; the followers of every process receive all entries in one order.
 */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { LOG_NAME } from '../claim.ts';
import { checkBody, checkJournalLimits, type JournalLimit } from '../journal-limits.ts';
import { SseError } from '../../errors.ts';
import type { Follower, Journal, NewEntry, ReadResult, JournalWindow } from '../journal.ts';
import { compareSequenceIds, isSequenceId } from '../sequence-id.ts';
import { boolean, nonEmptyString } from '../../validation/validate.ts';
import { WakeFile } from './wake-file.ts';
import { journalError } from './lmdb-errors.ts';
import { APPEND_TIMEOUT_MS, AppendQueue } from './append-queue.ts';
import { Followers } from './followers.ts';
import { encodeEntry } from './entry-codec.ts';
import { Store, type LogLimits } from './store.ts';

export { lmdbRuns, type LmdbRunsOptions } from '../../runs/stores/lmdb/lmdb-runs.ts';

/** How much {@link lmdbJournal} keeps, and how safely. All limits apply at once; the oldest entries are removed first. */
export interface LmdbJournalOptions {
  /**
   * Entries: a positive integer, or `Infinity`.
   * @defaultValue 100000
   */
  readonly maxLength?: number;
  /**
   * Milliseconds that an entry is kept: a positive number, or `Infinity`. The system clock measures them; all processes must
   * share it. An expired entry is removed by the next append, or within a quarter of a second.
   * @defaultValue 3600000 (an hour)
   */
  readonly maxAge?: number;
  /**
   * Bytes of all bodies together: a positive integer, or `Infinity`. A single body that is larger is rejected.
   * The file is about twice as large, and never shrinks.
   * @defaultValue 268435456 (256 MiB)
   */
  readonly maxBytes?: number;
  /**
   * Whether each commit waits until the disk has it (`fdatasync`). Appends that arrive together share a commit.
   * `true`: an entry whose `append` has resolved survives a power failure. On an SSD a commit takes some tenths of a ms to some
   * ms. It blocks the event loop for that time.
   * `false`: several times as fast. Entries survive the end of the process. If the machine goes down, the last entries may be
   * lost and the file may be damaged. All processes of a log should use the same value.
   * @defaultValue true
   */
  readonly sync?: boolean;
}

const LIMITS: Readonly<Record<keyof LogLimits, JournalLimit>> = {
  maxLength: { default: 100_000, integer: true },
  maxAge: { default: 3_600_000, integer: false },
  maxBytes: { default: 256 * 1024 * 1024, integer: true },
};

const MAINTENANCE_INTERVAL_MS = 250; // also the delay of new entries if a signal is lost

/**
 * Creates a log in the directory `path`; the directory is created if it does not exist. The log survives a restart. Any number of
 * processes on one machine share it by using the same path: a broadcast in one process reaches the clients of all within a few
 * milliseconds.
 * The directory must be on a local disk: LMDB works neither on network file systems nor across containers.
 * A process may be killed with SIGKILL at any time, also during a write: acknowledged entries stay, the other processes continue.
 * If another process was stopped while it held the write lock, `process.exit()` waits for it as well; a signal does not.
 * No other program may open the database: npm lmdb loses commits if one process opens it while another one writes.
 * @throws {SseTypeError} `ERR_SSE_OPTION` if the path or an option is not valid.
 */
export function lmdbJournal(path: string, options: LmdbJournalOptions = {}): Journal {
  const limits = checkJournalLimits('lmdbJournal', options, LIMITS, ['sync']);
  nonEmptyString('lmdbJournal: path', path, { cure: 'Pass the path of a directory.' });
  const { sync = true } = options;
  boolean('lmdbJournal: sync', sync, { cure: 'Leave it out for true.' });
  return new LmdbJournal(path, limits, sync) satisfies Journal;
}

class LmdbJournal implements Journal {
  readonly #path: string;
  readonly #limits: LogLimits;
  readonly #sync: boolean;
  readonly #followers = new Followers(() => this.#currentStore());
  readonly #appends = new AppendQueue(
    () => this.#currentStore(),
    () => this.#onCommitted(),
  );
  #store: Store | undefined;
  #wakeFile: WakeFile | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(path: string, limits: LogLimits, sync: boolean) {
    this.#path = path;
    this.#limits = limits;
    this.#sync = sync;
  }

  [LOG_NAME](): string {
    return `the directory ${JSON.stringify(realPath(resolve(this.#path)))}`;
  }

  async open(): Promise<void> {
    this.#ensureStore();
  }

  async append(entry: NewEntry): Promise<string> {
    this.#ensureStore();
    const { body } = entry;
    checkBody(body);
    const { maxBytes } = this.#limits;
    if (body.byteLength > maxBytes) {
      throw new SseError(
        'ERR_SSE_TOO_LARGE',
        `append: body must be at most ${maxBytes} bytes (maxBytes); received ${body.byteLength} bytes. ` +
          'The entry was not stored. Increase maxBytes or send less data.',
      );
    }
    return this.#appends.append(encodeEntry(entry));
  }

  async window(max: number): Promise<JournalWindow> {
    return this.#currentStore().window(max);
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    return this.#currentStore().read(after, limit);
  }

  /** Delivers the entries that are already in the log before it returns. */
  follow(after: string, follower: Follower): () => void {
    if (this.#closing) return () => {};
    return this.#followers.add(after, follower);
  }

  compare(a: string, b: string): number {
    return compareSequenceIds(a, b);
  }

  isId(text: string): boolean {
    return isSequenceId(text);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#followers.clear();
    clearInterval(this.#timer);
    const closed = this.#appends.close().then(async () => {
      const store = this.#store;
      this.#store = undefined;
      await store?.close();
    });
    // If another process was stopped while it held the lock, a commit waits for as long as that lasts. A shutdown must not.
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, APPEND_TIMEOUT_MS)));
    try {
      await Promise.race([closed, timeout]);
    } finally {
      clearTimeout(timer);
      this.#appends.abandon();
      this.#wakeFile?.close(); // the appends of the close have signalled the other processes
      this.#wakeFile = undefined;
    }
  }

  #ensureStore(): Store {
    if (this.#closing) throw new SseError('ERR_SSE_CLOSED', 'This journal is closed. Create a new one.');
    return this.#store ?? this.#openStore();
  }

  #openStore(): Store {
    const store = new Store(this.#path, this.#limits, this.#sync);
    try {
      this.#wakeFile = new WakeFile(this.#path, () => this.#followers.deliver());
    } catch (error) {
      void store.close();
      throw journalError(this.#path, error, 'lmdbJournal');
    }
    this.#store = store;
    this.#timer ??= setInterval(() => this.#maintain(), MAINTENANCE_INTERVAL_MS).unref();
    return store;
  }

  /** Returns the log that is at the path now. If the directory was removed or replaced, opens it again; followers then restart. */
  #currentStore(): Store {
    const store = this.#store;
    // Keep the store while its commit holds the lock or waits for it: a second lock in one process would deadlock.
    if (store && (store.isCurrent || store.isCommitting || this.#closing)) return store;
    if (!store) return this.#ensureStore();
    this.#wakeFile?.close();
    this.#wakeFile = undefined;
    this.#store = undefined;
    void store.close();
    return this.#openStore();
  }

  #onCommitted(): void {
    this.#wakeFile?.signal();
    this.#followers.deliver();
  }

  #maintain(): void {
    try {
      const store = this.#currentStore();
      store.releaseDeadReaders();
      if (store.needsTrim) this.#appends.trim();
      this.#followers.deliver();
    } catch (error) {
      this.#followers.reportDown(error as Error);
    }
  }
}

/** Returns an absolute path without symbolic links. What does not exist yet has none. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return dirname(path) === path ? path : join(realPath(dirname(path)), basename(path));
  }
}
