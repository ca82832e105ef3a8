/*
 * What a request says of itself, beyond what Express has read.
 * Knows node:http's requests, and nothing of the package.
 * Invariant: whatever a client sends, what leaves here is text; nothing of it is echoed.
 */

import { isIPv6 } from 'node:net';
import type { Request } from 'express';

/** Longer ids are nobody's: a frame does not take them either. */
const ID_MAX = 1024;
/** What Yaffle's and amvtek's polyfills wait for before they believe in a stream, in some browsers. */
const PADDING = `:${' '.repeat(2056)}\n`;

/** The path without its query, as the router sees it: '/' where a router is mounted. */
export function pathOf(req: Request): string {
  const { url } = req;
  // [spec] A request to a proxy names the host as well, and every server takes that: RFC 9112 3.2.2.
  if (!url.startsWith('/')) return req.path;
  const query = url.indexOf('?');
  return query === -1 ? url : url.slice(0, query);
}

/** What the client says it has seen last: the header, failing that the query; '' for nothing. */
export function lastEventIdOf(req: Request, query: URLSearchParams | undefined): string {
  const header = req.headers['last-event-id'];
  const id = typeof header === 'string' && header !== '' ? decode(header) : fromQuery(query);
  return id.length > ID_MAX ? '' : id;
}

/** The query, if there is one. (Express' own may have been replaced by the application's parser.) */
export function queryOf(req: Request): URLSearchParams | undefined {
  const at = req.url.indexOf('?');
  return at === -1 ? undefined : new URLSearchParams(req.url.slice(at + 1));
}

/** The bytes that a polyfill asked to have in front; '' for everybody else. */
export function paddingOf(query: URLSearchParams | undefined): string {
  if (query === undefined) return '';
  const padding = query.get('padding');
  return query.has('evs_preamble') || (padding !== null && padding !== 'false' && padding !== '0') ? PADDING : '';
}

/** Who an address counts as: all of one IPv6 network's hosts are one client, as it may have as many as it likes. */
export function clientOf(address: string | undefined): string {
  if (address === undefined) return 'unknown';
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  if (!isIPv6(address)) return address;
  const [head = '', tail] = (address.split('%', 1)[0] as string).split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':');
    while (groups.length + rest.length < 8) groups.push('0');
    groups.push(...rest);
  }
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}

/** Browsers send UTF-8, undici and eventsource-client Latin-1; Node hands over both as Latin-1. */
function decode(header: string): string {
  // oxlint-disable-next-line no-control-regex -- ASCII is the same in both
  if (/^[\0-\x7f]*$/.test(header)) return header;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(header, 'latin1'));
  } catch {
    return header;
  }
}

function fromQuery(query: URLSearchParams | undefined): string {
  for (const name of ['lastEventId', 'last_event_id', 'evs_last_event_id']) {
    // The last of several is the newest: reconnecting-eventsource adds its own to what the page has put there.
    const id = query?.getAll(name).at(-1);
    if (id) return id;
  }
  return '';
}
