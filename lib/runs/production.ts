/*
 * One run that this process produces: it iterates over the source once, and appends its chunks to the store.
 *
 * Invariant: at most one append is in flight. Chunks that the source yields meanwhile are in the next one, and beyond a bound the
 * source waits.
 * Invariant: a chunk is reported as stored only after the store's reply to its append.
 * Invariant: the end is written after every stored chunk, and never waits for the source: the `finally` of a generator may never run.
 */

import { AsyncResource } from 'node:async_hooks';
import { isPromiseLike } from '../api/source.ts';
import { type SourceIterator, iterate } from '../connection/source-iterator.ts';
import { SseError, SseTypeError } from '../errors.ts';
import type { Run, RunSource, Wire } from './api.ts';
import { encodeChunk } from './chunk-codec.ts';
import type { RunKey, RunState, RunStatus, RunStore } from './run-store.ts';

/**
 * The chunks and bytes that may wait for the append in flight. At 50 tokens a second this is 20 s of an engine that does not answer. The
 * next append takes all that wait, so it has no more chunks.
 */
export const MAX_WAITING_CHUNKS = 1024;
const MAX_WAITING_BYTES = 256 * 1024;
/** `maxBytes` counts this for each chunk, so that a run of many small chunks is bounded, too. */
const CHUNK_OVERHEAD_BYTES = 64;
/** After this many chunks the event loop continues, however fast the source and the store are. */
const CHUNKS_PER_YIELD = 256;

const SOURCE_CURE = 'Return an async generator, for example.';
/** No result of a source is the same. */
const WOKEN = Symbol('woken');

type EndStatus = Exclude<RunStatus, 'running'>;

/** What a production uses of its hub. */
export interface ProductionHost<C> {
  readonly store: RunStore;
  readonly wire: Wire<C>;
  readonly maxBytes: number;
  /** The least time from the start of one append to the start of the next, in milliseconds. */
  readonly batch: number;
  /** Receives chunks that are in the log now. `first` is the number of the first one. */
  onStored(run: RunKey, first: number, chunks: readonly Uint8Array[]): void;
  /** Receives what is on record at the end. `stored` is the number of the last chunk that was reported as stored. */
  onEnd(run: RunKey, state: RunState, stored: number): void;
  report(error: unknown): void;
  /** Reports an error of the store, once in an outage. */
  reportStore(error: unknown): void;
}

/** Makes the source of a run. It is called at most once. */
export interface MakeSource<C> {
  (run: Run): RunSource<C> | Promise<RunSource<C>>;
  /** Releases a source that was made before. Called instead of the function, if the run does not iterate. */
  readonly release?: () => void;
}

export class Production<C> {
  readonly run: RunKey;
  readonly #host: ProductionHost<C>;
  readonly #controller = new AbortController();
  /** A generator runs in the context of each call of its methods: here that of the call that started the run. */
  readonly #context = new AsyncResource('SseRun');
  #state: RunState | undefined;
  #iterator: SourceIterator | undefined;
  /** The chunks that wait for the next append. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #stored = 0;
  #storedBytes = 0;
  /** What `maxBytes` limits. */
  #countedBytes = 0;
  #isAppending = false;
  #appendedAt = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  /** The status that the end will have; `undefined` while the source is iterated. */
  #status: EndStatus | undefined;
  #isWritingEnd = false;
  #hasEnded = false;
  /** Continues the iteration, which waits for the source or for the store. */
  #wake: (() => void) | undefined;

  constructor(run: RunKey, host: ProductionHost<C>) {
    this.run = run;
    this.#host = host;
  }

  /** Whether the store has begun the run, so that its lease must be renewed until it has ended. */
  get isRenewed(): boolean {
    return this.#state !== undefined && !this.#hasEnded;
  }

  /** Whether the source may yield further chunks. */
  get isProducing(): boolean {
    return this.#status === undefined;
  }

  /**
   * Starts to produce, in the next tick: readers of this process then follow before the first chunk is stored, so the log is not read
   * back for them. If the run was stopped before that, the source is never made, and one that was made before is released.
   */
  begin(state: RunState, make: MakeSource<C>): void {
    this.#state = state;
    if (!this.isProducing) {
      make.release?.();
      return this.#schedule();
    }
    setImmediate(() => {
      if (this.isProducing) void this.#produce(make);
      else make.release?.();
    });
  }

  /** Ends the run as `stopped`, with the chunks that were produced until now. */
  stop(): void {
    this.#end('stopped', 'The run was stopped.');
  }

  /** Ends the run as `lost`, because its process exits. */
  cut(): void {
    this.#end('lost', 'The process of the run is being shut down.');
  }

  /** Ends without a further append: another process has ended the run, or the store has lost its log. */
  fence(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    if (this.#status === undefined) this.#end('lost', 'The run has ended in the store.');
    else this.#schedule();
  }

  async #produce(make: MakeSource<C>): Promise<void> {
    /* oxlint-disable no-await-in-loop -- chunks are taken in sequence */
    try {
      const made = make({ id: this.run.id, signal: this.#controller.signal });
      const source = isPromiseLike(made) ? await made : made;
      const iterator = iterate(source, `The result of the producer of the run ${this.#name}`, SOURCE_CURE);
      if (!this.isProducing) return iterator.release(); // it was stopped while it was made
      this.#iterator = iterator;
      for (let taken = 1; ; taken++) {
        const pending = iterator.next();
        const step = isPromiseLike(pending) ? await this.#orEnd(pending) : pending;
        if (step === WOKEN || !this.isProducing) return;
        const { done, value } = iterator.check(step);
        if (done) {
          this.#iterator = undefined;
          return this.#end('done');
        }
        this.#accept(value as C, taken);
        while (this.isProducing && this.#isFull) await this.#orEnd(undefined);
        if (taken % CHUNKS_PER_YIELD === 0) await new Promise(setImmediate);
        if (!this.isProducing) return;
      }
    } catch (error) {
      if (!this.isProducing) return; // an error because of the end has no meaning
      this.#host.report(error);
      this.#end('failed', 'The run has failed.');
    }
    /* oxlint-enable no-await-in-loop */
  }

  /** Resolves with the result of a promise, or with WOKEN as soon as the run ends or the store has taken the waiting chunks. */
  async #orEnd(promise: PromiseLike<unknown> | undefined): Promise<unknown> {
    return new Promise<unknown>((resolve, reject) => {
      this.#wake = () => (promise === undefined || !this.isProducing) && resolve(WOKEN);
      promise?.then(resolve, reject);
    });
  }

  /** The id as error messages print it. */
  get #name(): string {
    return JSON.stringify(this.run.id);
  }

  /** @throws what the wire throws, and errors of chunks that cannot be sent */
  #encode(chunk: C, number: number): Buffer {
    try {
      return encodeChunk(this.#host.wire, chunk);
    } catch (error) {
      if (!(error instanceof SseTypeError)) throw error;
      const { code, message, cause } = error;
      // `onError` receives the error without the run.
      const where = `It is chunk ${number} of the run ${this.#name}.`;
      throw new SseTypeError(code, `${message} ${where}`, cause === undefined ? {} : { cause });
    }
  }

  /** @throws as {@link #encode}, and `ERR_SSE_TOO_LARGE` */
  #accept(chunk: C, number: number): void {
    const stored = this.#encode(chunk, number);
    this.#countedBytes += stored.byteLength + CHUNK_OVERHEAD_BYTES;
    const { maxBytes } = this.#host;
    if (this.#countedBytes > maxBytes) {
      throw new SseError(
        'ERR_SSE_TOO_LARGE',
        `A run must have at most ${maxBytes} bytes (maxBytes), with ${CHUNK_OVERHEAD_BYTES} for each chunk; the run ${this.#name} has more, so it has failed. Raise maxBytes, or yield less.`,
      );
    }
    this.#waiting.push(stored);
    this.#waitingBytes += stored.byteLength;
    this.#schedule();
  }

  get #isFull(): boolean {
    return this.#waiting.length >= MAX_WAITING_CHUNKS || this.#waitingBytes >= MAX_WAITING_BYTES;
  }

  /** Sets the status of the end, once. `reason` is given if the source has not ended by itself. */
  #end(status: EndStatus, reason?: string): void {
    if (this.#status !== undefined) return;
    this.#status = status;
    if (reason !== undefined) this.#abort(reason);
    this.#wake?.();
    this.#schedule();
  }

  /** Aborts the signal, with an error that clients of models recognise by its name, and releases the source. */
  #abort(reason: string): void {
    this.#context.runInAsyncScope(() => {
      this.#controller.abort(new DOMException(reason, 'AbortError'));
      this.#iterator?.release();
    });
    this.#iterator = undefined;
  }

  /** Appends, now or when `batch` allows it, or writes the end if nothing is left to append. */
  #schedule(): void {
    if (this.#isAppending || this.#isWritingEnd || this.#state === undefined) return;
    if (this.#waiting.length === 0) {
      if (this.#status !== undefined) void this.#writeEnd(this.#status);
      return;
    }
    const isUrgent = this.#status !== undefined || this.#isFull;
    const wait = isUrgent ? 0 : Math.ceil(this.#appendedAt + this.#host.batch - performance.now());
    if (wait <= 0) void this.#append();
    else this.#timer ??= setTimeout(() => void this.#append(), wait);
  }

  async #append(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#isAppending || this.#waiting.length === 0) return;
    const [chunks, first] = [this.#waiting, this.#stored + 1];
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#isAppending = true;
    this.#appendedAt = performance.now();
    this.#wake?.();
    try {
      if ((await this.#host.store.append(this.run, first, chunks)) === 'stored') {
        this.#stored += chunks.length;
        for (const chunk of chunks) this.#storedBytes += chunk.byteLength;
        this.#host.onStored(this.run, first, chunks);
      } else {
        this.fence();
      }
    } catch (error) {
      this.#waiting = []; // what follows a missing chunk must not be stored
      this.#waitingBytes = 0;
      if (this.isProducing) this.#host.reportStore(error);
      this.#end('failed', 'The store has refused a chunk of the run.');
    } finally {
      this.#isAppending = false;
      this.#schedule();
    }
  }

  async #writeEnd(status: EndStatus): Promise<void> {
    this.#isWritingEnd = true;
    let state: RunState | undefined;
    try {
      state = await this.#host.store.end(this.run, status);
    } catch (error) {
      this.#host.reportStore(error);
    }
    this.#hasEnded = true;
    // The log is not there: it was dropped, or the store has lost it, or it does not answer any more.
    const { startedAt } = this.#state!;
    const counts = { chunks: this.#stored, bytes: this.#storedBytes };
    state ??= { ...this.run, status: 'lost', startedAt, endedAt: Date.now(), ...counts };
    this.#host.onEnd(this.run, state, this.#stored);
  }
}
