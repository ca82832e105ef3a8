/*
 * Reading the log: windows, verified pages, and where an id stands that is not in it.
 * Knows replies and how to ask; nothing of what a connection is.
 * Invariant: an id is good only if that entry is in the log, or is the last one that the log ever had.
 */
import type { Entry, ReadResult, JournalWindow } from '../journal.ts';
import { type Arg, Refusal } from './redis-connection.ts';
import { compareStreamIds, entriesIn, firstId, isStreamId, type StreamInfo, streamInfo } from './replies.ts';
import { GENESIS } from './scripts.ts';

/** Sends commands in one round trip. The standing connection may do so twice, a follower's own does it once. */
export type Ask = (commands: readonly (readonly Arg[])[]) => Promise<unknown[]>;

/** Where an id stands. */
export interface Standing {
  /** Why it is not good; absent when it is. */
  readonly reason?: 'lost' | 'unknown';
  /** It is the last that the log gave, perhaps of an entry that has been trimmed: nothing comes after it. */
  readonly atEnd?: boolean;
  /** The first id of the log, below which nothing need be looked for. '' when there is no log. */
  readonly start: string;
}

const PAGE_BYTES = 8 * 1024 * 1024; // of one reply: a thousand entries of a mebibyte would otherwise be one gigabyte at once
const PAGE = 1000;
const BATCH = 128;

export class LogReader {
  readonly #log: string;
  readonly #ask: Ask;
  #mean = 0; // bytes of an entry, as lately seen

  constructor(log: string, ask: Ask) {
    this.#log = log;
    this.#ask = ask;
  }

  /** How many entries to ask for at once. */
  page(limit: number = PAGE): number {
    return Math.max(1, Math.min(limit, PAGE, Math.floor(PAGE_BYTES / Math.max(this.#mean, 1))));
  }

  /** Learns how large entries are: at once when they grow, slowly when they shrink. */
  learn(entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    const mean = entries.reduce((sum, entry) => sum + entry.body.byteLength, 0) / entries.length;
    this.#mean = Math.max(mean, this.#mean * 0.9);
  }

  /** Makes the first entry of a log that does not exist. */
  async begin(): Promise<void> {
    await this.#ask([['EVAL', GENESIS, '1', this.#log]]);
  }

  async window(max: number): Promise<JournalWindow> {
    const newest: Entry[] = []; // newest first
    let to = '+';
    while (newest.length <= max) {
      const count = this.page(Math.min(max + 1 - newest.length, PAGE));
      const [reply] = await this.#ask([['XREVRANGE', this.#log, to, '-', 'COUNT', String(count)]]);
      const page = entriesIn(reply);
      this.learn(page);
      newest.push(...page);
      if (page.length < count) break;
      to = before(page.at(-1)!.id);
    }
    // The entry before the window is its floor: also in a log that has no more, whose first entry is the marker or known to nobody.
    const floor = newest.pop();
    if (floor) return { floor: floor.id, entries: newest.reverse() };
    const info = await this.#info();
    if (info) return { floor: info.last, entries: [] };
    await this.begin();
    return this.window(max);
  }

  async read(after: string, limit: number): Promise<ReadResult> {
    if (!isStreamId(after)) return { ok: false, reason: 'unknown' };
    const entries: Entry[] = [];
    let from = after;
    for (;;) {
      const wanted = limit - entries.length;
      const count = wanted > 0 ? this.page(wanted) : 0;
      const [reply] = await this.#ask([['XRANGE', this.#log, from, '+', 'COUNT', String(count + 1)]]);
      const page = entriesIn(reply);
      // Every page begins with the last entry of the one before: a log that changed between them is noticed.
      if (page[0]?.id !== from) break;
      page.shift();
      this.learn(page);
      entries.push(...page);
      if (page.length < count || entries.length >= limit) return { ok: true, entries };
      from = page.at(-1)!.id;
    }
    const { reason, atEnd } = await this.locate(after);
    if (reason) return { ok: false, reason };
    return atEnd ? { ok: true, entries: [] } : this.read(after, limit); // it has come back meanwhile
  }

  /**
   * Where an id stands. XTRIM does not move `max-deleted-entry-id`, so the first entry decides: before it is `lost`,
   * unless the log still begins with its marker: then it never had that id in this life. Anything else is `unknown`.
   */
  async locate(id: string): Promise<Standing> {
    const info = await this.#info();
    if (!info) return { reason: 'unknown', start: '' };
    const { last, first } = info;
    const start = first?.id ?? last;
    if (!isStreamId(id)) return { reason: 'unknown', start };
    if (id === last) return { atEnd: true, start };
    if (compareStreamIds(id, start) >= 0) return (await this.#exist([id])) ? { start } : { reason: 'unknown', start };
    return { reason: first && isMarker(first) ? 'unknown' : 'lost', start };
  }

  /** The first of these ids that is in the log, newest first; none before `start` is. */
  async newestOf(ids: Iterable<string>, start: string): Promise<string | undefined> {
    let batch: string[] = [];
    for (const id of ids) {
      if (!isStreamId(id) || start === '' || compareStreamIds(id, start) < 0) continue;
      if (batch.push(id) < BATCH) continue;
      const found = await this.#exist(batch);
      if (found) return found;
      batch = [];
    }
    return this.#exist(batch);
  }

  async #exist(ids: readonly string[]): Promise<string | undefined> {
    if (ids.length === 0) return undefined;
    const replies = await this.#ask(ids.map((id) => ['XRANGE', this.#log, id, id]));
    return ids.find((id, i) => firstId(replies[i]) === id);
  }

  /** Undefined when there is no such key. */
  async #info(): Promise<StreamInfo | undefined> {
    try {
      const [reply] = await this.#ask([['XINFO', 'STREAM', this.#log]]);
      return streamInfo(reply);
    } catch (error) {
      const cause = error instanceof Refusal ? error : (error as Error).cause;
      if (cause instanceof Refusal && /no such key/i.test(cause.message)) return undefined;
      throw error;
    }
  }
}

/** The first entry of a log that nobody has published to. */
function isMarker(entry: Entry): boolean {
  return entry.to?.length === 0 && entry.body.byteLength === 0;
}

/** The id just before: exclusive ranges «(id» came only with Redis 6.2. */
function before(id: string): string {
  const [ms = '0', seq = '0'] = id.split('-');
  return seq === '0' ? `${BigInt(ms) - 1n}` : `${ms}-${BigInt(seq) - 1n}`;
}
