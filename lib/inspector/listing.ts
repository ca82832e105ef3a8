/*
 * The connections, one page at a time, and the details of one connection.
 * Invariant: all connections may be counted, but only those of one page are described.
 */

import type { Request } from 'express';
import type { Connection } from '../api/connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import { redactHeaders, redactId, redactUrl } from './redaction.ts';
import type { Filter, Order, View } from './view-query.ts';

const ROWS_PER_PAGE = 25;
const MAX_CHANNELS_PER_ROW = 4;
/** How many channels of one connection its details show. */
const MAX_CHANNELS = 200;
/** How many channels {@link channelCounts} returns. */
const MAX_COUNTS = 16;

/** One page of connections. */
export interface Listing {
  readonly total: number;
  readonly offset: number;
  readonly rows: readonly ReturnType<typeof rowOf>[];
}

/** Returns the page of connections that a viewer asks for. */
export function listing(connections: ReadonlySet<Connection>, introspection: Introspection, view: View): Listing {
  const matching = sorted(
    view.channel === undefined ? [...connections] : membersOf(connections, view.channel),
    view.order,
  );
  const lastPage = Math.max(0, Math.ceil(matching.length / ROWS_PER_PAGE) - 1);
  const offset = Math.min(view.page, lastPage) * ROWS_PER_PAGE;
  return {
    total: matching.length,
    offset,
    rows: matching.slice(offset, offset + ROWS_PER_PAGE).map((connection) => rowOf(connection, introspection)),
  };
}

function membersOf(connections: ReadonlySet<Connection>, channel: Filter): Connection[] {
  const matches = new Map<ReadonlySet<string>, boolean>(); // members of the same channels share one set
  return [...connections].filter(({ channels }) => {
    let isMatch = matches.get(channels);
    if (isMatch === undefined) matches.set(channels, (isMatch = [...channels].some(channel)));
    return isMatch;
  });
}

function sorted(connections: Connection[], order: Order): Connection[] {
  if (order === 'newest') return connections.toReversed();
  if (order === 'oldest') return connections; // the order of a Set
  const queued = new Map(connections.map((connection) => [connection, connection.bufferedBytes]));
  return connections.toSorted((a, b) => queued.get(b)! - queued.get(a)!);
}

function rowOf(connection: Connection, introspection: Introspection) {
  const { age, lastId, source, behind } = introspection.describe(connection);
  const { id, channels, bufferedBytes: queued } = connection;
  const names = [...channels].slice(0, MAX_CHANNELS_PER_ROW);
  return {
    id,
    address: clientAddressOf(connection.request),
    age,
    channels: names,
    more: channels.size - names.length,
    queued,
    lastId,
    source,
    behind,
  };
}

/** Returns the details of one connection, without secrets. */
export function details(connection: Connection, introspection: Introspection) {
  const { request, lastEventId, channels } = connection;
  if (connection.readyState === 'closed') return { id: connection.id, closed: String(connection.signal.reason) };
  const { remoteAddress = 'unknown', remotePort = 'unknown' } = request.socket;
  return {
    ...rowOf(connection, introspection),
    channels: [...channels].slice(0, MAX_CHANNELS),
    more: Math.max(0, channels.size - MAX_CHANNELS),
    peer: `${remoteAddress} port ${remotePort}`,
    lastEventId: redactId(lastEventId),
    requestLine: `${request.method} ${redactUrl(request.originalUrl ?? request.url)} HTTP/${request.httpVersion}`,
    headers: redactHeaders(request.headers),
  };
}

/** Returns the client's address as Express determines it, which may be behind the proxies that Express trusts. */
function clientAddressOf(request: Request): string {
  return request.ip ?? request.socket.remoteAddress ?? 'unknown';
}

/** Returns the channels with the most members, and the number of connections that are in no channel. */
export function channelCounts(connections: ReadonlySet<Connection>): {
  readonly none: number;
  readonly top: readonly [string, number][];
} {
  const countsBySet = new Map<ReadonlySet<string>, number>();
  for (const { channels } of connections) countsBySet.set(channels, (countsBySet.get(channels) ?? 0) + 1);
  const members = new Map<string, number>();
  let none = 0;
  for (const [channels, count] of countsBySet) {
    if (channels.size === 0) none += count;
    for (const channel of channels) members.set(channel, (members.get(channel) ?? 0) + count);
  }
  const top = [...members].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, MAX_COUNTS);
  return { none, top };
}
