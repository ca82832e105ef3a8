/*
 * One run as a journal: what the core's resume and replay read.
 * Invariants: the id of an entry is the event id of its chunk. Nothing is appended here, and the log never loses entries that were
 * delivered, so it neither rewinds nor restarts.
 */

import { SseError } from '../errors.ts';
import type { Entry, Journal, ReadResult } from '../journal/journal.ts';
import type { RunFeed } from './run-feed.ts';
import { END_NUMBER, eventIdPrefix, parseEventId } from './run-id.ts';
import type { ChunkReader } from './run-service.ts';

export class RunJournal implements Journal {
  readonly #feed: RunFeed;
  readonly #chunks: Pick<ChunkReader, 'frameOf'>;
  /** What every id of this log begins with. */
  readonly #prefix: string;

  constructor(feed: RunFeed, chunks: Pick<ChunkReader, 'frameOf'>) {
    this.#feed = feed;
    this.#chunks = chunks;
    this.#prefix = eventIdPrefix(feed.run);
  }

  /** Returns the entries of chunks; `first` is the number of the first one. */
  entriesOf(first: number, chunks: readonly Uint8Array[]): Entry[] {
    return chunks.map((chunk, index) => ({ id: `${this.#prefix}${first + index}`, body: this.#chunks.frameOf(chunk) }));
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    const n = this.#numberOf(after);
    const page = await this.#feed.read(n, Math.max(limit, 1));
    // An engine that lost writes has fewer chunks than this process received: a reader that lacks one of them never gets it.
    if (page === undefined || (page.chunks.length === 0 && n < this.#feed.position))
      return { ok: false, reason: 'lost' };
    if (n > page.state.chunks) return { ok: false, reason: 'unknown' };
    return { ok: true, entries: this.entriesOf(n + 1, page.chunks.slice(0, limit)) };
  }

  compare(a: string, b: string): number {
    return a === b ? 0 : this.#numberOf(a) - this.#numberOf(b);
  }

  isId(text: string): boolean {
    return text.startsWith(this.#prefix) && parseEventId(text) !== undefined;
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  append(): Promise<string> {
    return Promise.reject(new SseError('ERR_SSE_JOURNAL', 'The log of a run must be appended to by its producer.'));
  }

  window(): Promise<never> {
    return Promise.reject(new SseError('ERR_SSE_JOURNAL', 'The log of a run must be read by its position.'));
  }

  follow(): () => void {
    return () => {};
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #numberOf(id: string): number {
    const number = Number(id.slice(this.#prefix.length));
    return Number.isNaN(number) ? END_NUMBER : number; // `end`
  }
}
