/*
 * Reads the log: windows, verified pages, and what an id means that is not in the log.
 * Invariant: an id is valid only if its entry is in the log, or if it is the last id that the log generated.
 */
import type { Entry, ReadResult, JournalWindow } from '../journal.ts';
import { type Arg, RedisError } from './redis-connection.ts';
import { compareStreamIds, firstId, isStreamId, parseEntries, parseStreamInfo, type StreamInfo } from './replies.ts';
import { CREATE_LOG } from './scripts.ts';

/** Sends commands in one round trip. The command connection may send them twice; a follower's connection sends them once. */
export type Query = (commands: readonly (readonly Arg[])[]) => Promise<unknown[]>;

/** The position of an id relative to the log. */
export interface IdLookup {
  /** Why the id is not valid; absent if it is valid. */
  readonly reason?: 'lost' | 'unknown';
  /** Whether the id is the last one that the log generated, perhaps of a trimmed entry: no entry follows it. */
  readonly atEnd?: boolean;
  /** The first id of the log: no smaller id is in the log. '' if there is no log. */
  readonly start: string;
}

const MAX_PAGE_BYTES = 8 * 1024 * 1024; // of one reply: a thousand entries of a mebibyte would be one gigabyte at once
const PAGE_SIZE = 1000;
const ID_BATCH_SIZE = 128;

/** Reads one log. */
export class LogReader {
  readonly #log: string;
  readonly #query: Query;
  #meanBytes = 0; // of recent entries

  constructor(log: string, query: Query) {
    this.#log = log;
    this.#query = query;
  }

  /** Returns how many entries to request at once. */
  pageSize(limit: number = PAGE_SIZE): number {
    return Math.max(1, Math.min(limit, PAGE_SIZE, Math.floor(MAX_PAGE_BYTES / Math.max(this.#meanBytes, 1))));
  }

  /** Records how large entries are. The mean follows growth at once and shrinks slowly. */
  recordSizes(entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    const mean = entries.reduce((sum, entry) => sum + entry.body.byteLength, 0) / entries.length;
    this.#meanBytes = Math.max(mean, this.#meanBytes * 0.9);
  }

  /** Creates the log with its first entry, if it does not exist. */
  async ensureExists(): Promise<void> {
    await this.#query([['EVAL', CREATE_LOG, '1', this.#log]]);
  }

  async window(max: number): Promise<JournalWindow> {
    const newest: Entry[] = []; // newest first
    let to = '+';
    while (newest.length <= max) {
      const count = this.pageSize(Math.min(max + 1 - newest.length, PAGE_SIZE));
      const [reply] = await this.#query([['XREVRANGE', this.#log, to, '-', 'COUNT', String(count)]]);
      const page = parseEntries(reply);
      this.recordSizes(page);
      newest.push(...page);
      if (page.length < count) break;
      to = idBefore(page.at(-1)!.id);
    }
    // The entry before the window is its floor. If the log has no more entries, the floor is its first: the marker, or an entry
    // whose predecessor was trimmed.
    const floor = newest.pop();
    if (floor) return { floor: floor.id, entries: newest.reverse() };
    const info = await this.#info();
    if (info) return { floor: info.last, entries: [] };
    await this.ensureExists();
    return this.window(max);
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    if (!isStreamId(after)) return { ok: false, reason: 'unknown' };
    const entries: Entry[] = [];
    let from = after;
    for (;;) {
      const wanted = limit - entries.length;
      const count = wanted > 0 ? this.pageSize(wanted) : 0;
      const [reply] = await this.#query([['XRANGE', this.#log, from, '+', 'COUNT', String(count + 1)]]);
      const page = parseEntries(reply);
      // Every page begins with the last entry of the page before. If the log changed between them, this detects it.
      if (page[0]?.id !== from) break;
      page.shift();
      this.recordSizes(page);
      entries.push(...page);
      if (page.length < count || entries.length >= limit) return { ok: true, entries };
      from = page.at(-1)!.id;
    }
    const { reason, atEnd } = await this.lookUp(after);
    if (reason) return { ok: false, reason };
    return atEnd ? { ok: true, entries: [] } : this.read(after, limit); // the entry is in the log again
  }

  /**
   * Looks an id up. XTRIM does not move `max-deleted-entry-id`, so the first entry decides. An id before it is `lost`, unless the
   * log still begins with its marker: then this log never contained the id. Any other id that is not in the log is `unknown`.
   */
  async lookUp(id: string): Promise<IdLookup> {
    const info = await this.#info();
    if (!info) return { reason: 'unknown', start: '' };
    const { last, first } = info;
    const start = first?.id ?? last;
    if (!isStreamId(id)) return { reason: 'unknown', start };
    if (id === last) return { atEnd: true, start };
    if (compareStreamIds(id, start) >= 0) {
      return (await this.#firstPresent([id])) ? { start } : { reason: 'unknown', start };
    }
    return { reason: first && isMarker(first) ? 'unknown' : 'lost', start };
  }

  /** Returns the first of these ids, which are newest first, that is in the log. Skips ids before `start`. */
  async newestPresent(ids: Iterable<string>, start: string): Promise<string | undefined> {
    let batch: string[] = [];
    for (const id of ids) {
      if (!isStreamId(id) || start === '' || compareStreamIds(id, start) < 0) continue;
      if (batch.push(id) < ID_BATCH_SIZE) continue;
      const found = await this.#firstPresent(batch);
      if (found) return found;
      batch = [];
    }
    return this.#firstPresent(batch);
  }

  async #firstPresent(ids: readonly string[]): Promise<string | undefined> {
    if (ids.length === 0) return undefined;
    const replies = await this.#query(ids.map((id) => ['XRANGE', this.#log, id, id]));
    return ids.find((id, i) => firstId(replies[i]) === id);
  }

  /** Returns undefined if the key does not exist. */
  async #info(): Promise<StreamInfo | undefined> {
    try {
      const [reply] = await this.#query([['XINFO', 'STREAM', this.#log]]);
      return parseStreamInfo(reply);
    } catch (error) {
      const cause = error instanceof RedisError ? error : (error as Error).cause;
      if (cause instanceof RedisError && /no such key/i.test(cause.message)) return undefined;
      throw error;
    }
  }
}

/** Whether this is the first entry of a new log, which {@link CREATE_LOG} adds. */
function isMarker(entry: Entry): boolean {
  return entry.to?.length === 0 && entry.body.byteLength === 0;
}

/** Returns the id just before. Exclusive ranges, «(id», exist only since Redis 6.2. */
function idBefore(id: string): string {
  const [ms = '0', seq = '0'] = id.split('-');
  return seq === '0' ? `${BigInt(ms) - 1n}` : `${ms}-${BigInt(seq) - 1n}`;
}
