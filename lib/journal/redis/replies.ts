/*
 * Parses replies of Redis, in any form that a client returns them.
 * Invariant: every entry of the stream becomes an entry with its id, valid or not, so that no cursor skips one.
 */
import { encodeMessage, serializeDefault } from '../../wire/event-stream.ts';
import type { Entry } from '../journal.ts';

/** The part of an `XINFO STREAM` reply that the journal uses. */
export interface StreamInfo {
  /** The last id that the stream generated. It stays when the entry is trimmed. */
  readonly last: string;
  readonly first: Entry | undefined;
}

const MAX_UINT64 = '18446744073709551615'; // both numbers of an id have 64 bits
const EMPTY_BODY = new Uint8Array(0);
const ID_PATTERN = /^(0|[1-9]\d{0,19})-(0|[1-9]\d{0,19})$/; // without leading zeros, which would be a second name for one entry

/** Whether a text has the form of an entry's id. */
export function isStreamId(text: string): boolean {
  const parts = typeof text === 'string' ? ID_PATTERN.exec(text) : null;
  return parts !== null && compareNumerals(parts[1]!, MAX_UINT64) <= 0 && compareNumerals(parts[2]!, MAX_UINT64) <= 0;
}

/** Compares two ids by both numbers. They may be too large for a double, so they are compared as digits: longer is larger. */
export function compareStreamIds(a: string, b: string): number {
  const [a1 = '', a2 = ''] = a.split('-');
  const [b1 = '', b2 = ''] = b.split('-');
  return compareNumerals(a1, b1) || compareNumerals(a2, b2);
}

function compareNumerals(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a === b ? 0 : a < b ? -1 : 1;
}

/** Parses a reply of XRANGE. */
export function parseEntries(reply: unknown): Entry[] {
  const entries: Entry[] = [];
  for (const pair of toList(reply)) {
    const [id, fields] = toList(pair);
    entries.push(parseEntry(toText(id), fields));
  }
  return entries;
}

/**
 * Parses a reply of XREAD on one stream. RESP2 has `[[key, entries]]`. RESP3 has `{key: entries}`, which clients return as an
 * object, as a Map or flattened to `[key, entries]`. The name of the key is ignored: it may contain a `keyPrefix` or not.
 */
export function parseXread(reply: unknown): Entry[] {
  if (reply === null || reply === undefined) return [];
  if (!Array.isArray(reply)) return parseEntries(toList(reply)[1]);
  return parseEntries(Array.isArray(reply[0]) ? reply[0][1] : reply[1]);
}

/** Returns the first id in a reply of XRANGE, without parsing the fields. */
export function firstId(reply: unknown): string | undefined {
  const [first] = toList(reply);
  return first === undefined ? undefined : toText(toList(first)[0]);
}

/** Parses a reply of XINFO STREAM. */
export function parseStreamInfo(reply: unknown): StreamInfo {
  const pairs = toList(reply);
  const valueOf = (name: string): unknown =>
    pairs[pairs.findIndex((item, i) => i % 2 === 0 && toText(item) === name) + 1];
  const first = valueOf('first-entry');
  return { last: toText(valueOf('last-generated-id')), first: first ? parseEntries([first])[0] : undefined };
}

/** Converts a reply that is one text. */
export function toText(value: unknown): string {
  return value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString()
    : String(value);
}

/** Converts a reply that is a list, or a map as a list of names and values. */
export function toList(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  if (value instanceof Map) return [...value].flat();
  return typeof value === 'object' && value !== null ? Object.entries(value).flat() : [];
}

function parseEntry(id: string, reply: unknown): Entry {
  const fields = toList(reply);
  let to: unknown, except: unknown, body: unknown, event: unknown, data: unknown;
  for (let i = 0; i < fields.length; i += 2) {
    const value = fields[i + 1];
    switch (toText(fields[i])) {
      case 'to':
        to = value;
        break;
      case 'except':
        except = value;
        break;
      case 'body':
        body = value;
        break;
      case 'event':
        event = value;
        break;
      case 'data':
        data = value;
        break;
    }
  }
  const bytes = body === undefined ? encodeFields(event, data) : toBytes(body);
  const included = to === undefined ? undefined : parseChannels(toText(to));
  const excluded = except === undefined ? undefined : parseChannels(toText(except));
  // No connection receives an entry that cannot be parsed: sending it to all would be worse. Its id still counts.
  if (bytes === undefined || included === null || excluded === null) return { id, to: [], body: EMPTY_BODY };
  return {
    id,
    ...(included && { to: included }),
    ...(excluded && { except: excluded }),
    body: bytes,
  };
}

/** Encodes the plain fields of another producer as an event; undefined if they are not a valid event. */
function encodeFields(event: unknown, data: unknown): Uint8Array | undefined {
  if (event === undefined && data === undefined) return undefined;
  try {
    const message = {
      event: event === undefined ? undefined : toText(event),
      data: data === undefined ? '' : toText(data),
    };
    return Buffer.from(encodeMessage(message, serializeDefault).body);
  } catch {
    return undefined; // a line end in the event's name would start another field; «error» would call the page's onerror
  }
}

function toBytes(value: unknown): Uint8Array {
  return value instanceof Uint8Array ? value : Buffer.from(String(value));
}

/** Parses a JSON array of channels, or one channel's plain name; null if the value is neither. */
function parseChannels(value: string): readonly string[] | null {
  if (!value.startsWith('[')) return value === '' ? null : [value];
  try {
    const channels: unknown = JSON.parse(value);
    return Array.isArray(channels) && channels.every((channel) => typeof channel === 'string') ? channels : null;
  } catch {
    return null;
  }
}
