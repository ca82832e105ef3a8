/*
 * The readers of one process: which of them follows a run.
 * Invariant: the number of blocking connections is bounded, whatever the number of followed runs.
 */
import { StreamReader, type FollowedRun, MAX_RUNS_PER_READ, type ReaderHost } from './stream-reader.ts';

/** The largest number of readers for one slot of a cluster, and for all runs without a cluster. */
const MAX_READERS_PER_SLOT = 4;
const MAX_READERS = 16;

/** What the readers need besides {@link ReaderHost}. */
export interface ReadersHost extends Omit<ReaderHost, 'onIdle' | 'onEnd'> {
  /** Returns the key of a wake stream of this process. */
  wakeKey(bucket: number, name: string): string;
}

/** Assigns runs to readers. */
export class StreamReaders {
  readonly #host: ReaderHost;
  readonly #wakeKey: (bucket: number, name: string) => string;
  readonly #isCluster: boolean;
  readonly #home: { readonly bucket: number; readonly name: string };
  readonly #readers = new Map<number, StreamReader[]>();
  readonly #readerOf = new Map<FollowedRun, StreamReader>();
  #count = 0;

  /** `home`: the bucket and the name of the wake stream on which stops arrive. */
  constructor(host: ReadersHost, isCluster: boolean, home: { readonly bucket: number; readonly name: string }) {
    this.#wakeKey = (bucket, name) => host.wakeKey(bucket, name);
    this.#isCluster = isCluster;
    this.#home = home;
    this.#host = {
      get blockMs() {
        return host.blockMs;
      },
      adapter: host.adapter,
      stalls: host.stalls,
      wake: (reader) => host.wake(reader),
      onStopEntry: (run) => host.onStopEntry(run),
      onStatus: (reader, up, error) => host.onStatus(reader, up, error),
      missingOf: (runs) => host.missingOf(runs),
      onGap: (run) => host.onGap(run),
      onEnd: (followed) => this.#readerOf.delete(followed),
      onIdle: (reader) => this.#remove(reader),
    };
  }

  /** Starts the reader of the wake stream on which stops arrive, once. */
  listen(): StreamReader {
    const slot = this.#isCluster ? this.#home.bucket : 0;
    return this.#readersOf(slot)[0] ?? this.#create(slot);
  }

  follow(followed: FollowedRun): void {
    if (!this.#isCluster) this.listen();
    const slot = this.#isCluster ? followed.keys.bucket : 0;
    const readers = this.#readersOf(slot);
    let reader = readers.find(({ size }) => size < MAX_RUNS_PER_READ);
    if (!reader && readers.length < (this.#isCluster ? MAX_READERS_PER_SLOT : MAX_READERS)) reader = this.#create(slot);
    reader ??= readers.reduce((least, other) => (other.size < least.size ? other : least));
    this.#readerOf.set(followed, reader);
    reader.add(followed);
  }

  unfollow(followed: FollowedRun): void {
    this.#readerOf.get(followed)?.remove(followed);
    this.#readerOf.delete(followed);
  }

  stop(): void {
    for (const readers of this.#readers.values()) for (const reader of readers) reader.stop();
    this.#readers.clear();
    this.#readerOf.clear();
  }

  #readersOf(slot: number): StreamReader[] {
    let readers = this.#readers.get(slot);
    if (!readers) this.#readers.set(slot, (readers = []));
    return readers;
  }

  #create(slot: number): StreamReader {
    const readers = this.#readersOf(slot);
    const isHome = readers.length === 0 && (!this.#isCluster || slot === this.#home.bucket);
    const bucket = this.#isCluster ? slot : this.#home.bucket;
    const name = isHome ? this.#home.name : `${this.#home.name}.${++this.#count}`;
    const reader = new StreamReader(this.#host, bucket, this.#wakeKey(bucket, name), isHome);
    readers.push(reader);
    return reader;
  }

  #remove(reader: StreamReader): void {
    for (const readers of this.#readers.values()) {
      const index = readers.indexOf(reader);
      if (index !== -1) readers.splice(index, 1);
    }
  }
}
