/*
 * A log in an LMDB database: one machine, several processes, no server.
 * Knows the contract, its own rooms and nothing else of the package; the only folder that needs npm `lmdb`.
 * Invariant: what append has resolved is on disk and will be told to the followers of every process, in one order.
 */
import { checkJournalLimits, type JournalLimit } from '../journal-limits.ts';
import { SseError, SseTypeError, describe } from '../../errors.ts';
import type { Follower, Journal, NewEntry, ReadResult, JournalWindow } from '../journal.ts';
import { comparePositions, isPosition } from '../sequence-id.ts';
import { Bell } from './wake-file.ts';
import { failure } from './lmdb-errors.ts';
import { PATIENCE, Queue } from './append-queue.ts';
import { Readers } from './followers.ts';
import { draftOf } from './entry-codec.ts';
import { Store, type Bounds } from './store.ts';

/** How much {@link lmdbJournal} keeps, and how safely. All bounds hold at once; the oldest entries leave first. */
export interface LmdbJournalOptions {
  /**
   * Entries: a positive integer, or `Infinity`.
   * @defaultValue 100000
   */
  readonly maxLength?: number;
  /**
   * Milliseconds that an entry stays, by the system's clock, which must be the processes' common one: a positive number, or `Infinity`.
   * An entry leaves with the first append after its time, or within a quarter of a second.
   * @defaultValue 3600000 (an hour)
   */
  readonly maxAge?: number;
  /**
   * Bytes of all bodies together: a positive integer, or `Infinity`. A body that is larger on its own is refused.
   * The file is about twice as large, and never shrinks.
   * @defaultValue 268435456 (256 MiB)
   */
  readonly maxBytes?: number;
  /**
   * Whether each commit waits until the disk has it (`fdatasync`). What has been appended at once shares a commit.
   * `true`: what `append` has resolved survives the loss of power. On an SSD a commit takes some tenths of a ms to some ms,
   * during which the event loop stands still.
   * `false`: several times as fast, and it survives the end of the process; but when the machine goes down, the last entries
   * may be lost, and the file may be damaged. All processes of a log should say the same.
   * @defaultValue true
   */
  readonly sync?: boolean;
}

const BOUNDS: Readonly<Record<keyof Bounds, JournalLimit>> = {
  maxLength: { default: 100_000, integer: true },
  maxAge: { default: 3_600_000, integer: false },
  maxBytes: { default: 256 * 1024 * 1024, integer: true },
};

const BEAT = 250; // ms between two looks after what is done now and then, and at the log if a ring has been lost

/**
 * A log in the directory `path`, which is made if need be. It survives a restart, and any number of processes
 * of one machine share it by naming the same path: a broadcast in one reaches the clients of all within a few milliseconds.
 * The directory must lie on a local disk: LMDB does not work on network file systems, nor across containers.
 * A process may be killed with SIGKILL at any time, also while it writes: what was acknowledged stays, the others go on.
 * While another process does not let go of its turn (it was stopped in it), `process.exit()` waits for it as well; a signal does not.
 * Nothing else may open the database: npm lmdb loses commits when one process opens it while another one writes.
 * @throws {SseTypeError} `ERR_SSE_OPTION` when the path or an option cannot be used.
 */
export function lmdbJournal(path: string, options: LmdbJournalOptions = {}): Journal {
  const bounds = checkJournalLimits('lmdbJournal', options, BOUNDS, ['sync']);
  if (typeof path !== 'string' || path === '') {
    throw new SseTypeError('ERR_SSE_OPTION', `lmdbJournal: the path must name a directory; got ${describe(path)}`);
  }
  const { sync = true } = options;
  if (typeof sync !== 'boolean') {
    throw new SseTypeError('ERR_SSE_OPTION', `lmdbJournal: sync must be true or false; got ${describe(sync)}`);
  }
  return new LmdbJournal(path, bounds, sync) satisfies Journal;
}

class LmdbJournal implements Journal {
  readonly #path: string;
  readonly #bounds: Bounds;
  readonly #sync: boolean;
  readonly #readers = new Readers(() => this.#present());
  readonly #queue = new Queue(
    () => this.#present(),
    () => this.#committed(),
  );
  #store: Store | undefined;
  #bell: Bell | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(path: string, bounds: Bounds, sync: boolean) {
    this.#path = path;
    this.#bounds = bounds;
    this.#sync = sync;
  }

  async open(): Promise<void> {
    this.#open();
  }

  async append(entry: NewEntry): Promise<string> {
    this.#open();
    const { body } = entry;
    if (!(body instanceof Uint8Array)) {
      throw new SseTypeError('ERR_SSE_DATA', `append: body must be a Uint8Array; got ${describe(body)}`);
    }
    if (body.byteLength > this.#bounds.maxBytes) {
      const what = `a body of ${body.byteLength} bytes is larger than maxBytes, ${this.#bounds.maxBytes}: the log could not keep it`;
      throw new SseError('ERR_SSE_TOO_LARGE', `lmdbJournal: ${what}`);
    }
    return this.#queue.append(draftOf(entry));
  }

  async window(max: number): Promise<JournalWindow> {
    return this.#present().window(max);
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    return this.#present().read(after, limit);
  }

  /** Tells what is already there before it returns. */
  follow(after: string, follower: Follower): () => void {
    if (this.#closing) return () => {};
    return this.#readers.add(after, follower);
  }

  compare(a: string, b: string): number {
    return comparePositions(a, b);
  }

  isId(text: string): boolean {
    return isPosition(text);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#readers.clear();
    clearInterval(this.#timer);
    this.#bell?.close();
    this.#bell = undefined;
    const closed = this.#queue.close().then(async () => {
      const store = this.#store;
      this.#store = undefined;
      await store?.close();
    });
    // A commit waits for another process that was stopped in its turn for as long as that lasts; nobody's shutdown should.
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE)));
    await Promise.race([closed, patience]).finally(() => clearTimeout(timer));
  }

  #open(): Store {
    if (this.#closing) throw new SseError('ERR_SSE_CLOSED', 'this journal is closed: make a new one');
    return this.#store ?? this.#begin();
  }

  #begin(): Store {
    const store = new Store(this.#path, this.#bounds, this.#sync);
    try {
      this.#bell = new Bell(this.#path, () => this.#readers.wake());
    } catch (error) {
      void store.close();
      throw failure(this.#path, error);
    }
    this.#store = store;
    this.#timer ??= setInterval(() => this.#beat(), BEAT).unref();
    return store;
  }

  /** The log that is at the path now: when somebody has removed or replaced it, that one, and everybody who follows is restarted. */
  #present(): Store {
    const store = this.#store;
    // Not while its commit has its turn, or waits for it: two turns at once in one process would end neither.
    if (store && (store.present || store.busy || this.#closing)) return store;
    if (!store) return this.#open();
    this.#bell?.close();
    this.#bell = undefined;
    this.#store = undefined;
    void store.close();
    return this.#begin();
  }

  #committed(): void {
    this.#bell?.ring();
    this.#readers.wake();
  }

  #beat(): void {
    try {
      const store = this.#present();
      store.forgetTheDead();
      if (store.overdue) this.#queue.trim();
      this.#readers.wake();
    } catch (error) {
      this.#readers.fail(error as Error);
    }
  }
}
