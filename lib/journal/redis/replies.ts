/*
 * Redis' replies → entries and facts, whatever shape a client gives them.
 * Knows the journal's entry and the grammar of frames; nothing of connections.
 * Invariant: every entry of the stream becomes an entry with its id, usable or not, so that no cursor has a hole.
 */
import { encodeMessage, serializeDefault } from '../../wire/event-stream.ts';
import type { Entry } from '../journal.ts';

/** What `XINFO STREAM` tells that matters here. */
export interface StreamInfo {
  /** The last id ever given: it stays when the entry is trimmed. */
  readonly last: string;
  readonly first: Entry | undefined;
}

const LARGEST = '18446744073709551615'; // Redis counts both numbers in 64 bits
const NOTHING = new Uint8Array(0);
const ID = /^(0|[1-9]\d{0,19})-(0|[1-9]\d{0,19})$/; // without leading zeros, which would be a second name for one entry

/** Whether a text has the form of an entry's id. */
export function isStreamId(text: string): boolean {
  const parts = typeof text === 'string' ? ID.exec(text) : null;
  return parts !== null && compareNumerals(parts[1]!, LARGEST) <= 0 && compareNumerals(parts[2]!, LARGEST) <= 0;
}

/** Compares by both numbers, which may be larger than a double counts exactly: the longer is larger. */
export function compareStreamIds(a: string, b: string): number {
  const [a1 = '', a2 = ''] = a.split('-');
  const [b1 = '', b2 = ''] = b.split('-');
  return compareNumerals(a1, b1) || compareNumerals(a2, b2);
}

function compareNumerals(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a === b ? 0 : a < b ? -1 : 1;
}

/** The reply of XRANGE. */
export function entriesIn(reply: unknown): Entry[] {
  const entries: Entry[] = [];
  for (const pair of list(reply)) {
    const [id, fields] = list(pair);
    entries.push(entryOf(text(id), fields));
  }
  return entries;
}

/**
 * The reply of XREAD on one stream. RESP2 says `[[key, entries]]`, RESP3 `{key: entries}`, which clients show as an object, a Map or
 * flattened to `[key, entries]`. Key names are not looked at: a `keyPrefix` may be in them or not.
 */
export function entriesRead(reply: unknown): Entry[] {
  if (reply === null || reply === undefined) return [];
  if (!Array.isArray(reply)) return entriesIn(list(reply)[1]);
  return entriesIn(Array.isArray(reply[0]) ? reply[0][1] : reply[1]);
}

/** The ids in a reply of XRANGE, without a look at the fields. */
export function firstId(reply: unknown): string | undefined {
  const [first] = list(reply);
  return first === undefined ? undefined : text(list(first)[0]);
}

/** The reply of XINFO STREAM. */
export function streamInfo(reply: unknown): StreamInfo {
  const facts = list(reply);
  const fact = (name: string): unknown => facts[facts.findIndex((word, i) => i % 2 === 0 && text(word) === name) + 1];
  const first = fact('first-entry');
  return { last: text(fact('last-generated-id')), first: first ? entriesIn([first])[0] : undefined };
}

/** Any reply that is one text. */
export function text(value: unknown): string {
  return value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString()
    : String(value);
}

/** A list, or a map written out flat. */
export function list(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  if (value instanceof Map) return [...value].flat();
  return typeof value === 'object' && value !== null ? Object.entries(value).flat() : [];
}

function entryOf(id: string, reply: unknown): Entry {
  const fields = list(reply);
  let to: unknown, except: unknown, body: unknown, event: unknown, data: unknown;
  for (let i = 0; i < fields.length; i += 2) {
    const value = fields[i + 1];
    switch (text(fields[i])) {
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
  const bytes = body === undefined ? framed(event, data) : bytesOf(body);
  const channels = to === undefined ? undefined : channelsIn(text(to));
  const others = except === undefined ? undefined : channelsIn(text(except));
  // What cannot be read is for nobody rather than for everybody; its id still counts.
  if (bytes === undefined || channels === null || others === null) return { id, to: [], body: NOTHING };
  return {
    id,
    ...(channels && { to: channels }),
    ...(others && { except: others }),
    body: bytes,
  };
}

/** The frame of a foreign producer's plain fields; undefined when no frame can be made of them. */
function framed(event: unknown, data: unknown): Uint8Array | undefined {
  if (event === undefined && data === undefined) return undefined;
  try {
    const message = {
      event: event === undefined ? undefined : text(event),
      data: data === undefined ? '' : text(data),
    };
    return Buffer.from(encodeMessage(message, serializeDefault).body);
  } catch {
    return undefined; // a line end in the event's name would be a field of its own; «error» would call the page's onerror
  }
}

function bytesOf(value: unknown): Uint8Array {
  return value instanceof Uint8Array ? value : Buffer.from(String(value));
}

/** A JSON array of channels, or one channel's name as it is; null when it is neither. */
function channelsIn(value: string): readonly string[] | null {
  if (!value.startsWith('[')) return value === '' ? null : [value];
  try {
    const channels: unknown = JSON.parse(value);
    return Array.isArray(channels) && channels.every((channel) => typeof channel === 'string') ? channels : null;
  } catch {
    return null;
  }
}
