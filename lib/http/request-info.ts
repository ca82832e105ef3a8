/*
 * Reads from a request what Express does not: its path, its last event id, its padding, and the client that it counts as.
 *
 * Invariant: every result is text, whatever the client sent. The padding is a constant, so it echoes nothing of the request.
 */

import { isIPv4, isIPv6 } from 'node:net';
import type { Request } from 'express';

/** The bytes that the polyfills of Yaffle and amvtek need, in some browsers, before they read a stream. */
const PADDING = `:${' '.repeat(2056)}\n`;

/** An IPv6 address in brackets, perhaps with a port, or anything else with a port. Some proxies send ports in `X-Forwarded-For`. */
const WITH_PORT = /^(?:\[([^\]]+)\](?::\d+)?|([^:]+):\d+)$/;

/** What proxies write where they have no address: nginx for a Unix socket, and RFC 7239 6.2. */
const NO_ADDRESS = /^(?:unix:.*|unknown)?$/i;

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
  return typeof header === 'string' && header !== '' ? decodeHeader(header) : idFromQuery(query);
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

/** What `limits.perClient` counts a request as. */
export interface Client {
  /** The key of its counter; `undefined` if nothing identifies the client, and it is not counted. */
  readonly key: string | undefined;
  /** Whether the key comes from an IP address. */
  readonly isAddress: boolean;
}

/**
 * Returns the client that an address counts as, whatever its notation. All addresses of an IPv6 /64 are one client, because one
 * host may use any of them. A text that is no address counts as itself, except for the words of proxies for "no address".
 */
export function clientOf(address: string | undefined): Client {
  if (address === undefined || NO_ADDRESS.test(address)) return { key: undefined, isAddress: false };
  const [, bracketed, beforePort] = WITH_PORT.exec(address) ?? [];
  const host = bracketed ?? beforePort ?? address;
  const withoutZone = host.split('%', 1)[0] as string;
  if (isIPv4(withoutZone)) return { key: withoutZone, isAddress: true };
  if (isIPv6(withoutZone)) return { key: clientOfIPv6(groupsOf(withoutZone)), isAddress: true };
  return { key: host, isAddress: false };
}

/** The eight groups of an IPv6 address. */
type Groups = [number, number, number, number, number, number, number, number];

/**
 * Returns the groups of a valid address. `URL` writes all notations in one form, without dots. (ipaddr.js 1.9, which Express uses,
 * throws for some of them: 1:2:3:4:5::192.0.2.1.)
 */
function groupsOf(address: string): Groups {
  const [head = '', tail = ''] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const [before, after] = [head, tail].map((part) => (part === '' ? [] : part.split(':'))) as [string[], string[]];
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...zeros, ...after].map((group) => Number.parseInt(group, 16)) as Groups;
}

function clientOfIPv6(groups: Groups): string {
  const ipv4 = embeddedIPv4(groups);
  if (ipv4 !== undefined) return ipv4.flatMap((group) => [group >> 8, group & 0xff]).join('.');
  const isLinkLocal = (groups[0] & 0xffc0) === 0xfe80; // all hosts of a link have the same /64
  return isLinkLocal ? toHex(groups) : `${toHex(groups.slice(0, 4))}::/64`;
}

/** Returns the two groups of the IPv4 address that an IPv6 address stands for; `undefined` if it stands for none. */
function embeddedIPv4([a, b, c, d, e, f, g, h]: Groups): readonly [number, number] | undefined {
  if (a === 0x2002) return [b, c]; // 6to4: 2002:V4ADDR::/48, RFC 3056
  if (a === 0x2001 && b === 0) return [g ^ 0xffff, h ^ 0xffff]; // Teredo: RFC 4380; the bits are inverted
  if (a === 0x64 && b === 0xff9b && (c | d | e | f) === 0) return [g, h]; // translated: 64:ff9b::/96, RFC 6052
  if ((a | b | c | d) !== 0) return undefined;
  if (e === 0 && f === 0xffff) return [g, h]; // mapped: ::ffff:0:0/96, RFC 4291 2.5.5.2
  if (e === 0xffff && f === 0) return [g, h]; // translated: ::ffff:0:0:0/96, RFC 2765 2.1
  if ((e | f) === 0 && g !== 0) return [g, h]; // compatible: ::/96, RFC 4291 2.5.5.1, without :: and ::1
  return undefined;
}

function toHex(groups: readonly number[]): string {
  return groups.map((group) => group.toString(16)).join(':');
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
    const id = query?.getAll(name).findLast((text) => text !== '');
    if (id !== undefined) return id;
  }
  return '';
}
