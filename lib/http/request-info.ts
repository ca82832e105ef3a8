/*
 * Reads from a request what Express does not: its path, its last event id, its padding, and the client that it counts as.
 *
 * Invariant: every result is text, whatever the client sent. The padding is a constant, so it echoes nothing of the request.
 */

import { isIPv6 } from 'node:net';
import type { Request } from 'express';
import { MAX_ID_LENGTH } from '../wire/event-stream.ts';

/** The bytes that the polyfills of Yaffle and amvtek need, in some browsers, before they read a stream. */
const PADDING = `:${' '.repeat(2056)}\n`;

/** Returns the path without its query, relative to the mount point of the router: '/' for the mount point itself. */
export function pathOf(req: Request): string {
  const { url } = req;
  // [spec] A request to a proxy contains the host as well, and every server must accept that: RFC 9112 3.2.2.
  if (!url.startsWith('/')) return req.path;
  const query = url.indexOf('?');
  return query === -1 ? url : url.slice(0, query);
}

/** Returns the id of the last event that the client received: from the header or, without it, the query; '' if there is none. */
export function lastEventIdOf(req: Request, query: URLSearchParams | undefined): string {
  const header = req.headers['last-event-id'];
  const id = typeof header === 'string' && header !== '' ? decodeHeader(header) : idFromQuery(query);
  return id.length > MAX_ID_LENGTH ? '' : id; // no event has a longer id
}

/** Returns the query, if there is one. (The application may have replaced Express' parser, so `req.query` may be anything.) */
export function queryOf(req: Request): URLSearchParams | undefined {
  const start = req.url.indexOf('?');
  return start === -1 ? undefined : new URLSearchParams(req.url.slice(start + 1));
}

/** Returns the padding that a polyfill requests in the query; '' for every other client. */
export function paddingOf(query: URLSearchParams | undefined): string {
  if (query === undefined) return '';
  const padding = query.get('padding');
  return query.has('evs_preamble') || (padding !== null && padding !== 'false' && padding !== '0') ? PADDING : '';
}

/** Returns the client that an address counts as. All addresses of an IPv6 /64 are one client, because one host may use any of them. */
export function clientOf(address: string | undefined): string {
  if (address === undefined) return 'unknown';
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  if (!isIPv6(address)) return address;
  const [head = '', tail] = (address.split('%', 1)[0] as string).split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const tailGroups = tail === '' ? [] : tail.split(':');
    while (groups.length + tailGroups.length < 8) groups.push('0');
    groups.push(...tailGroups);
  }
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}

/** Decodes a header. Browsers send UTF-8, undici and eventsource-client send Latin-1, and Node decodes both as Latin-1. */
function decodeHeader(header: string): string {
  // oxlint-disable-next-line no-control-regex -- ASCII is the same in both encodings
  if (/^[\0-\x7f]*$/.test(header)) return header;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(header, 'latin1'));
  } catch {
    return header;
  }
}

function idFromQuery(query: URLSearchParams | undefined): string {
  for (const name of ['lastEventId', 'last_event_id', 'evs_last_event_id']) {
    // The last of several is the newest: reconnecting-eventsource appends its own to the one that the page has set.
    const id = query?.getAll(name).at(-1);
    if (id) return id;
  }
  return '';
}
