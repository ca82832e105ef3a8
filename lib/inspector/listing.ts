/*
 * The connections, a page at a time, and one in full.
 * Knows connections, the insight, views and masking.
 * Invariant: all may be counted, but only a page of them is ever looked at closely or written down.
 */

import type { Request } from 'express';
import type { Connection } from '../api/connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import { addressOf, headersOf } from './redaction.ts';
import type { Filter, Order, View } from './view-query.ts';

const ROWS = 25;
const CHANNELS = 4; // in a row
const TOP = 16; // channels by members
const ALL_CHANNELS = 200; // of one connection

export interface Listing {
  readonly total: number;
  readonly offset: number;
  readonly rows: readonly ReturnType<typeof rowOf>[];
}

export function listing(connections: ReadonlySet<Connection>, insight: Introspection, view: View): Listing {
  const found = sorted(
    view.channel === undefined ? [...connections] : membersOf(connections, view.channel),
    view.order,
  );
  const last = Math.max(0, Math.ceil(found.length / ROWS) - 1);
  const offset = Math.min(view.page, last) * ROWS;
  return {
    total: found.length,
    offset,
    rows: found.slice(offset, offset + ROWS).map((connection) => rowOf(connection, insight)),
  };
}

function membersOf(connections: ReadonlySet<Connection>, channel: Filter): Connection[] {
  const known = new Map<ReadonlySet<string>, boolean>(); // members of the same channels share a set of them
  return [...connections].filter(({ channels }) => {
    let is = known.get(channels);
    if (is === undefined) known.set(channels, (is = [...channels].some(channel)));
    return is;
  });
}

function sorted(found: Connection[], order: Order): Connection[] {
  if (order === 'newest') return found.toReversed();
  if (order === 'oldest') return found; // as they came
  const queued = new Map(found.map((connection) => [connection, connection.bufferedBytes]));
  return found.toSorted((a, b) => queued.get(b)! - queued.get(a)!);
}

function rowOf(connection: Connection, insight: Introspection) {
  const { age, lastId, phase, behind } = insight.describe(connection);
  const { id, channels, bufferedBytes: queued } = connection;
  const names = [...channels].slice(0, CHANNELS);
  return {
    id,
    address: clientOf(connection.request),
    age,
    channels: names,
    more: channels.size - names.length,
    queued,
    lastId,
    phase,
    behind,
  };
}

/** One connection, without its secrets. */
export function details(connection: Connection, insight: Introspection) {
  const { request, lastEventId, channels } = connection;
  if (connection.readyState === 'closed') return { id: connection.id, over: String(connection.signal.reason) };
  const { remoteAddress: peer, remotePort: port } = request.socket;
  return {
    ...rowOf(connection, insight),
    channels: [...channels].slice(0, ALL_CHANNELS),
    more: Math.max(0, channels.size - ALL_CHANNELS),
    peer: `${peer ?? 'unknown'} port ${port ?? 'unknown'}`,
    lastEventId,
    asked: `${request.method} ${addressOf(request.originalUrl ?? request.url)} HTTP/${request.httpVersion}`,
    headers: headersOf(request.headers),
  };
}

/** The client as Express sees it, behind the proxies that it trusts. */
function clientOf(request: Request): string {
  return request.ip ?? request.socket.remoteAddress ?? 'unknown';
}

/** The channels with the most members. */
export function census(connections: ReadonlySet<Connection>): {
  readonly none: number;
  readonly top: readonly [string, number][];
} {
  const alike = new Map<ReadonlySet<string>, number>();
  for (const { channels } of connections) alike.set(channels, (alike.get(channels) ?? 0) + 1);
  const members = new Map<string, number>();
  let none = 0;
  for (const [channels, count] of alike) {
    if (channels.size === 0) none += count;
    for (const channel of channels) members.set(channel, (members.get(channel) ?? 0) + count);
  }
  const top = [...members].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, TOP);
  return { none, top };
}
