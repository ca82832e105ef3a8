/*
 * Encodes new entries as columns, and decodes rows as entries.
 * Invariant: an entry that cannot be stored is rejected before it counts as pending.
 * Invariant: each row becomes an entry with its id, usable or not, so no follower misses an id.
 */
import { createHash } from 'node:crypto';
import { describe, SseError } from '../../errors.ts';
import type { Entry, NewEntry } from '../journal.ts';
import { checkBody } from '../journal-limits.ts';
import { encodeMessage, serializeDefault } from '../../wire/event-stream.ts';
import { formatLogId } from './log-id.ts';

/** An entry that can be stored. */
export interface EncodedEntry {
  /** JSON arrays in ASCII: neither `text[]` nor `jsonb` accepts NUL in a name, and not every database encoding has every character. */
  readonly channels: string | undefined;
  readonly excepted: string | undefined;
  /** SHA-256: keys of any length and content have one size in the index. */
  readonly key: Uint8Array | undefined;
  readonly body: Uint8Array;
  /** Bytes, the channels included. */
  readonly size: number;
}

/** What a row of the log contains, in the order in which {@link entryOfRow} expects it. Columns are texts as the server writes them. */
export type LogRow = readonly [
  n: string,
  tag: string,
  channels: string | null,
  excepted: string | null,
  event: string | null,
  data: string | null,
  hexBody: string | null,
];

const EMPTY = new Uint8Array(0);

/** @throws {SseTypeError} `ERR_SSE_DATA`; {SseError} `ERR_SSE_TOO_LARGE`. */
export function encodeEntry({ to, except, body, key }: NewEntry, maxEntryBytes: number): EncodedEntry {
  checkBody(body);
  const channels = to && asciiJson(to);
  const excepted = except && asciiJson(except);
  const size = body.byteLength + (channels?.length ?? 0) + (excepted?.length ?? 0);
  if (size > maxEntryBytes) {
    throw new SseError(
      'ERR_SSE_TOO_LARGE',
      `append: the entry must be at most ${maxEntryBytes} bytes (maxEntryBytes); received ${size} bytes. ` +
        'The entry was not stored. Increase maxEntryBytes or send less data.',
    );
  }
  return { channels, excepted, key: key === undefined ? undefined : sha256(key), body, size };
}

/**
 * Returns the entry of a row. With channels or data that cannot be read, the entry reaches no connection rather than all.
 * @param onUnsendable - receives an error for a row that SQL has published and that reaches no connection
 */
export function entryOfRow(
  epoch: string,
  [n, tag, channels, excepted, event, data, hexBody]: LogRow,
  onUnsendable?: (error: SseError) => void,
): Entry {
  const id = formatLogId(epoch, Number(n), tag);
  const to = channels === null ? undefined : parseChannels(channels);
  const except = excepted === null ? undefined : parseChannels(excepted);
  const body = hexBody === null ? encodeEvent(event, data) : Buffer.from(hexBody, 'hex');
  if (to === null || except === null || body === undefined) {
    onUnsendable?.(unsendable(id, event, channels));
    return { id, to: [], body: EMPTY };
  }
  // The function of an older version accepts empty names. No connection can join such a channel.
  if (hexBody === null && to !== undefined && to.length > 0 && to.every((channel) => channel === '')) {
    onUnsendable?.(unsendable(id, event, channels));
  }
  return { id, ...(to && { to }), ...(except && { except }), body };
}

function unsendable(id: string, event: string | null, channels: string | null): SseError {
  const received = `the event ${describe(event)} to the channels ${describe(channels)} (entry ${id})`;
  return new SseError(
    'ERR_SSE_JOURNAL',
    `An event that SQL publishes must have a name and channels that broadcast() accepts; received ${received}, which no client ` +
      'receives. Publish it with another name or other channels.',
  );
}

function sha256(key: string): Uint8Array {
  return createHash('sha256').update(key).digest();
}

function asciiJson(channels: readonly string[]): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(channels).replace(/[\u0080-\uffff]/g, escape);
}

function parseChannels(json: string): readonly string[] | null {
  try {
    const channels: unknown = JSON.parse(json);
    return Array.isArray(channels) && channels.every((channel) => typeof channel === 'string') ? channels : null;
  } catch {
    return null;
  }
}

/** The bytes of an event that was published in SQL; undefined if no event stream can carry it. */
function encodeEvent(event: string | null, data: string | null): Uint8Array | undefined {
  if (event === null && data === null) return undefined;
  try {
    return Buffer.from(encodeMessage({ event: event ?? undefined, data: data ?? '' }, serializeDefault).body);
  } catch {
    return undefined; // the outbox refuses such names; another program may have written into the log itself
  }
}
