/*
 * `follow()`: server code receives the chunks of a run as an async iterator.
 * Invariants: the iterator yields every chunk after its position, once and in order, and then the end. It holds a bounded number of
 * chunks, however slowly its consumer iterates. A consumer that keeps up causes no read from the store.
 */

import { endableIterator } from '../api/endable-iterator.ts';
import { invalid, optionalSignal, rejectUnknownKeys } from '../validation/validate.ts';
import type { RunEvent } from './api.ts';
import { chunkOf } from './chunk-codec.ts';
import type { RunFeed } from './run-feed.ts';
import { END_NUMBER, RUN_ID_EXPECTATION, type RunPosition, formEventId, isRunId, parseEventId } from './run-id.ts';
import type { ChunkPage, RunKey, RunState } from './run-store.ts';
import { continuesAfter } from './feed-after.ts';
import { infoOf, lostState } from './run-state.ts';

export interface FollowRunOptions {
  /** The event id of a step of this run: the iterator begins with the next one. @defaultValue the first chunk */
  after?: string;
  /** Ends the iteration. */
  signal?: AbortSignal;
}

/** What an iteration uses of the hub. */
interface Runs {
  /** Pauses while the store does not answer. */
  stateToFollow(id: string, generation?: string): Promise<RunState | undefined>;
  feed(state: RunState): RunFeed;
  /** Aborts when nothing more is delivered, because the store is closed. */
  readonly closed: AbortSignal;
}

/** The chunks that a consumer may be behind before they are read from the store. */
const MAX_QUEUED_CHUNKS = 256;
const PAGE_SIZE = 256;

/**
 * Iterates over a run, from its newest generation's first chunk, or from a position. It yields nothing for an unknown run.
 * @throws {SseTypeError} `ERR_SSE_ID` for what is no run id, and for an `after` that is no event id of this run; `ERR_SSE_OPTION` for what
 * is no signal
 */
export function followRun<C>(runs: Runs, id: string, options: FollowRunOptions): AsyncIterableIterator<RunEvent<C>> {
  rejectUnknownKeys('option of follow()', options, { after: true, signal: true });
  const { after, signal } = options;
  if (!isRunId(id)) throw invalid('The run id', RUN_ID_EXPECTATION, id, { code: 'ERR_SSE_ID' });
  optionalSignal('signal', signal);
  const position = typeof after === 'string' ? parseEventId(after) : undefined;
  if (after !== undefined && position?.id !== id) {
    const cure = 'Use the id of a step that follow() has yielded, or leave it out.';
    throw invalid('after', 'an event id of this run', after, { code: 'ERR_SSE_ID', cure });
  }
  return endableIterator([signal, runs.closed], (ended) => iterate<C>(runs, id, position, ended));
}

async function* iterate<C>(
  runs: Runs,
  id: string,
  position: RunPosition | undefined,
  signal: AbortSignal,
): AsyncGenerator<RunEvent<C>, void> {
  if (position?.n === END_NUMBER) return;
  const stopped = (): boolean => signal.aborted; // a function: it changes while the iterator waits
  const asked = runs.stateToFollow(id, position?.generation);
  const state = await (runs.closed.aborted ? asked : untilAborted(asked, signal)); // after the close it rejects
  if (stopped()) return;
  if (state === undefined) {
    // The generation was dropped, and its end was not received.
    if (position !== undefined) yield endOf(position, lostState(position));
    return;
  }
  const feed = runs.feed(state);
  const news = new News(feed, signal);
  try {
    // The number of the newest chunk that was yielded.
    let n = continuesAfter(position?.n ?? 0, state, feed);
    while (!stopped()) {
      let chunks: readonly Uint8Array[] | undefined = news.take(n);
      if (chunks === undefined && n < feed.position) {
        // oxlint-disable-next-line no-await-in-loop -- pages follow each other
        const page: ChunkPage | undefined = await untilAborted(feed.read(n, PAGE_SIZE), signal);
        if (stopped()) return;
        if (page === undefined || page.chunks.length === 0) return yield endOf(feed.run, lostState(feed.run));
        ({ chunks } = page);
      }
      if (chunks === undefined) {
        if (feed.ended !== undefined) return yield endOf(feed.run, feed.ended);
        if (runs.closed.aborted) return;
        await news.wait(); // oxlint-disable-line no-await-in-loop
        continue;
      }
      for (const chunk of chunks) {
        if (stopped()) return;
        n++;
        yield { type: 'chunk', id: formEventId(feed.run, n), chunk: chunkOf(chunk) as C };
      }
    }
  } finally {
    news.stop();
  }
}

/** Settles as the promise does, or resolves with nothing when the signal aborts: the store may not answer for as long as an outage takes. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => resolve(undefined);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** The newest chunks of a feed, as far as they fit, and the wait for further ones. */
class News {
  #first = 0;
  #chunks: Uint8Array[] = [];
  #wake: (() => void) | undefined;
  readonly #signal: AbortSignal;
  readonly #unsubscribe: () => void;

  constructor(feed: RunFeed, signal: AbortSignal) {
    this.#signal = signal;
    this.#unsubscribe = feed.subscribe({
      chunks: (first, chunks) => this.#add(first, chunks),
      end: () => this.#wake?.(),
    });
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Removes and returns the chunks after number `n`, or returns `undefined` if they must be read, or are not there yet. */
  take(n: number): readonly Uint8Array[] | undefined {
    const last = this.#first + this.#chunks.length - 1;
    if (this.#chunks.length === 0 || this.#first > n + 1) return undefined;
    const chunks = this.#chunks.slice(n + 1 - this.#first);
    this.#chunks = [];
    return last <= n ? undefined : chunks;
  }

  /** Resolves at the next news, or when a signal aborts. */
  async wait(): Promise<void> {
    if (this.#signal.aborted) return;
    await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
  }

  stop(): void {
    this.#unsubscribe();
    this.#signal.removeEventListener('abort', this.#onAbort);
  }

  readonly #onAbort = (): void => this.#wake?.();

  #add(first: number, chunks: readonly Uint8Array[]): void {
    // What does not fit is read from the store. The newest chunks are kept: the pages reach them.
    if (this.#chunks.length + chunks.length > MAX_QUEUED_CHUNKS) this.#chunks = [];
    if (chunks.length <= MAX_QUEUED_CHUNKS) {
      if (this.#chunks.length === 0) this.#first = first;
      this.#chunks.push(...chunks);
    }
    this.#wake?.();
  }
}

function endOf<C>(run: RunKey, state: RunState): RunEvent<C> {
  const info = infoOf(state);
  return { type: 'end', id: formEventId(run, END_NUMBER), status: info.status as 'done', info };
}
