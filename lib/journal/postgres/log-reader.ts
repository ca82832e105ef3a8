/*
 * Reads the log: windows, verified pages, and why a position is invalid.
 * Invariant: an id is good only if an entry with its number and tag is in the log, or if it is the last removed one: nothing after it
 * is missing.
 * Invariant: a page, the begin of the log and the check of the position come from one snapshot of the database.
 */
import type { SseError } from '../../errors.ts';
import type { Entry, JournalWindow, ReadResult } from '../journal.ts';
import { entryOfRow, type LogRow } from './entry-columns.ts';
import { formatLogId, isLogId, parseLogId } from './log-id.ts';
import { type PostgresConnection, PostgresError } from './postgres-connection.ts';
import { STATE_MISSING } from './schema-setup.ts';
import type { Names } from './schema.ts';

/** Runs work on a connection, and again on the next one if the first is lost. */
export type Run = <T>(work: (connection: PostgresConnection) => Promise<T>) => Promise<T>;

/** The log at the time of one page. */
interface Header {
  readonly epoch: string;
  /** The number of the oldest entry; one more than the newest ever stored if there is none. */
  readonly first: number;
  /** The id just before it. */
  readonly floor: string;
  /** The tag of the entry that was asked about, if it is in the log. */
  readonly tag: string | null;
  /** Whether the outbox contains committed rows. */
  readonly hasOutbox: boolean;
}

/** What follows a position. */
export interface Page extends Header {
  /** Why the position is not good. */
  readonly reason?: 'lost' | 'unknown';
  readonly entries: readonly Entry[];
}

const PAGE_ENTRIES = 1000;
const FIRST_PAGE_ENTRIES = 64; // until the size of entries is known: a thousand of a mebibyte would be one gigabyte at once
const PAGE_BYTES = 8 * 1024 * 1024;
const BATCH = 1000;
const HEADER = '-1';
const NEWEST = '9223372036854775807';

export class LogReader {
  readonly #names: () => Names;
  #meanBytes: number | undefined; // of an entry, as lately seen

  constructor(names: () => Names) {
    this.#names = names;
  }

  /** How many entries to ask for at once. */
  pageSize(limit: number = PAGE_ENTRIES): number {
    if (this.#meanBytes === undefined) return Math.max(0, Math.min(limit, FIRST_PAGE_ENTRIES));
    return Math.max(
      Math.min(1, limit),
      Math.min(limit, PAGE_ENTRIES, Math.floor(PAGE_BYTES / Math.max(this.#meanBytes, 1))),
    );
  }

  /** At most `limit` entries after a position, and whether that position is good. `onUnsendable`: see {@link entryOfRow}. */
  async page(
    connection: PostgresConnection,
    after: string,
    limit: number,
    onUnsendable?: (error: SseError) => void,
  ): Promise<Page> {
    const { n, tag, epoch } = parseLogId(after);
    const { log, outbox, state } = this.#names();
    const text = (position: string, most: string): string =>
      `SELECT CAST(${HEADER} AS bigint) AS n, s.tag, s.epoch, CAST(s.first AS text),` +
      ` (SELECT l.tag FROM ${log} l WHERE l.n = ${position}), CAST(EXISTS (SELECT FROM ${outbox}) AS text), NULL FROM ${state} s` +
      ` UNION ALL (SELECT l.n, l.tag, l.channels, l.excepted, l.event, l.data, encode(l.body, 'hex')` +
      ` FROM ${log} l WHERE l.n > ${position} ORDER BY l.n LIMIT ${most})`;
    const [position, most] = [String(n), String(limit)];
    // Prepared only where the server process is proven to be ours alone: a pooler's next process does not have the statement.
    const rows = await connection.query(
      connection.isDirect
        ? {
            name: 'sse_page_1',
            text: text('CAST($1 AS bigint)', 'CAST($2 AS bigint)'),
            values: [position, most],
          }
        : text(position, most),
    );
    const header = this.#headerIn(rows);
    const entries = this.#entriesIn(rows, header.epoch, onUnsendable);
    let reason: 'lost' | 'unknown' | undefined;
    if (epoch !== header.epoch) reason = 'unknown';
    else if (n < header.first - 1) reason = 'lost';
    else if (header.tag !== tag && header.floor !== after) reason = 'unknown';
    if (reason !== undefined) return { ...header, reason, entries: [] };
    assertContiguous(entries, n + 1);
    return { ...header, entries };
  }

  async read(run: Run, after: string, limit: number): Promise<ReadResult> {
    if (!isLogId(after)) return { ok: false, reason: 'unknown' };
    const entries: Entry[] = [];
    let from = after;
    /* oxlint-disable no-await-in-loop -- each page begins where the one before it ends, and verifies that this is still in the log */
    for (;;) {
      const size = this.pageSize(limit - entries.length);
      const page = await run((connection) => this.page(connection, from, size));
      if (page.reason !== undefined) {
        if (from === after) return { ok: false, reason: page.reason };
        return this.read(run, after, limit); // the log has changed between two pages
      }
      entries.push(...page.entries);
      if (page.entries.length < size || entries.length >= limit) return { ok: true, entries };
      from = page.entries.at(-1)!.id;
    }
    /* oxlint-enable no-await-in-loop */
  }

  /** The newest entries. All pages come from one connection: a failover between two of them would mix two logs. */
  async window(connection: PostgresConnection, max: number): Promise<JournalWindow> {
    const newest: Entry[] = []; // newest first
    let below = NEWEST;
    /* oxlint-disable no-await-in-loop -- each page begins where the one before it ends */
    for (;;) {
      const size = this.pageSize(max + 1 - newest.length);
      const { epoch, first, floor, entries } = await this.#pageBelow(connection, below, size);
      newest.push(...entries);
      if (newest.length > max) {
        const last = newest.pop()!; // the entry before the window is its floor
        return { floor: last.id, entries: newest.reverse() };
      }
      if (entries.length < size) {
        // Entries may have been removed between two pages.
        const kept = newest.filter((entry) => parseLogId(entry.id).n >= first).reverse();
        if (kept.length > 0) assertContiguous(kept, first);
        if (kept.some((entry) => !entry.id.startsWith(epoch))) return this.window(connection, max);
        return { floor, entries: kept };
      }
      below = String(parseLogId(entries.at(-1)!.id).n - 1);
    }
    /* oxlint-enable no-await-in-loop */
  }

  /** The first of these ids that is in the log, or is its floor. They are given newest first. */
  async newestOf(connection: PostgresConnection, ids: Iterable<string>): Promise<string | undefined> {
    let batch: string[] = [];
    for (const id of ids) {
      if (!isLogId(id) || batch.push(id) < BATCH) continue;
      const found = await this.#newestIn(connection, batch); // oxlint-disable-line no-await-in-loop -- rarely more than one
      if (found !== undefined) return found;
      batch = [];
    }
    return this.#newestIn(connection, batch);
  }

  async #newestIn(connection: PostgresConnection, ids: readonly string[]): Promise<string | undefined> {
    if (ids.length === 0) return undefined;
    const { log, state } = this.#names();
    const rows = await connection.query(
      `SELECT CAST(${HEADER} AS bigint) AS n, s.tag, s.epoch, CAST(s.first AS text), NULL, 'false' FROM ${state} s` +
        ` UNION ALL SELECT l.n, l.tag, NULL, NULL, NULL, NULL FROM ${log} l` +
        ` WHERE l.n IN (${ids.map((id) => parseLogId(id).n).join(', ')})`,
    );
    const { epoch, floor } = this.#headerIn(rows);
    const present = new Set(rows.map(([n, tag]) => formatLogId(epoch, Number(n), tag!)));
    return ids.find((id) => id === floor || present.has(id));
  }

  async #pageBelow(connection: PostgresConnection, below: string, limit: number): Promise<Page> {
    const { log, state } = this.#names();
    const rows = await connection.query(
      `SELECT CAST(${HEADER} AS bigint) AS n, s.tag, s.epoch, CAST(s.first AS text), NULL, 'false', NULL FROM ${state} s` +
        ` UNION ALL (SELECT l.n, l.tag, l.channels, l.excepted, l.event, l.data, encode(l.body, 'hex')` +
        ` FROM ${log} l WHERE l.n <= ${below} ORDER BY l.n DESC LIMIT ${limit})`,
    );
    const header = this.#headerIn(rows);
    return { ...header, entries: this.#entriesIn(rows, header.epoch) };
  }

  /** @throws {PostgresError} without a state row: then the tables are in the middle of a restore. */
  #headerIn(rows: readonly (readonly (string | null)[])[]): Header {
    const row = rows.find(([n]) => n === HEADER);
    if (!row) throw new PostgresError(STATE_MISSING, new Error(`the row of ${this.#names().state} is missing`));
    const [, floorTag, epoch, firstText, tag, hasOutbox] = row;
    const first = Number(firstText);
    return {
      epoch: epoch!,
      first,
      floor: formatLogId(epoch!, first - 1, floorTag!),
      tag: tag ?? null,
      hasOutbox: hasOutbox === 'true',
    };
  }

  #entriesIn(
    rows: readonly (readonly (string | null)[])[],
    epoch: string,
    onUnsendable?: (error: SseError) => void,
  ): Entry[] {
    const entries: Entry[] = [];
    for (const row of rows)
      if (row[0] !== HEADER) entries.push(entryOfRow(epoch, row as unknown as LogRow, onUnsendable));
    if (entries.length === 0) return entries;
    // The mean follows at once when entries grow, slowly when they shrink.
    const mean = entries.reduce((sum, entry) => sum + entry.body.byteLength, 0) / entries.length;
    this.#meanBytes = Math.max(mean, (this.#meanBytes ?? 0) * 0.9);
    return entries;
  }
}

/** Numbers have no gaps. One that is missing was removed by another program, or is not restored yet. */
function assertContiguous(entries: readonly Entry[], first: number): void {
  for (const [i, { id }] of entries.entries()) {
    if (parseLogId(id).n === first + i) continue;
    throw new PostgresError(
      STATE_MISSING,
      new Error(`entry ${first + i} is missing: a restore is running, or the log is damaged`),
    );
  }
}
