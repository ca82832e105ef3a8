/*
 * The connections, one page at a time, and the details of one connection.
 * Invariant: all connections may be counted, but only those of one page are described.
 * Invariant: what walks over all connections, or over all channels, yields after each part of it, so that it can be interrupted.
 */

import type { Request } from 'express';
import type { Connection } from '../api/connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import { redactHeaders, redactId, redactUrl } from './redaction.ts';
import type { Work } from './sliced-queue.ts';
import type { Filter, View } from './view-query.ts';

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

/** How many connections are processed without an interruption, and how many channels. */
const CONNECTIONS_PER_STEP = 64;
const CHANNELS_PER_STEP = 2048;

/** Returns a page of connections, from all that match the view. */
export function listing(matching: readonly Connection[], introspection: Introspection, view: View): Listing {
  const lastPage = Math.max(0, Math.ceil(matching.length / ROWS_PER_PAGE) - 1);
  const offset = Math.min(view.page, lastPage) * ROWS_PER_PAGE;
  return {
    total: matching.length,
    offset,
    rows: matching.slice(offset, offset + ROWS_PER_PAGE).map((connection) => rowOf(connection, introspection)),
  };
}

/** Returns the connections that match a view, in its order. */
export function* matchingConnections(
  connections: ReadonlySet<Connection>,
  { channel, order }: Pick<View, 'channel' | 'order'>,
): Work<readonly Connection[]> {
  const matching = channel === undefined ? [...connections] : yield* membersOf(connections, channel);
  if (order === 'newest') return matching.reverse();
  if (order === 'oldest') return matching; // the order of a Set
  return yield* byQueuedBytes(matching);
}

function* membersOf(connections: ReadonlySet<Connection>, channel: Filter): Work<Connection[]> {
  const matches = new Map<ReadonlySet<string>, boolean>(); // members of the same channels share one set
  const members: Connection[] = [];
  for (const [index, connection] of [...connections].entries()) {
    if (index % CONNECTIONS_PER_STEP === 0) yield;
    const { channels } = connection;
    let isMatch = matches.get(channels);
    if (isMatch === undefined) matches.set(channels, (isMatch = [...channels].some(channel)));
    if (isMatch) members.push(connection);
  }
  return members;
}

/** Most connections have no queued bytes, so only the others are sorted. */
function* byQueuedBytes(connections: readonly Connection[]): Work<Connection[]> {
  const queued: [connection: Connection, bytes: number][] = [];
  const others: Connection[] = [];
  for (const [index, connection] of connections.entries()) {
    if (index % CONNECTIONS_PER_STEP === 0) yield;
    const { bufferedBytes } = connection;
    if (bufferedBytes > 0) queued.push([connection, bufferedBytes]);
    else others.push(connection);
  }
  return [...queued.sort(([, a], [, b]) => b - a).map(([connection]) => connection), ...others];
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

/** The channels with the most members, and the number of connections that are in no channel. */
export interface ChannelCounts {
  readonly none: number;
  readonly top: readonly (readonly [name: string, members: number])[];
}

/** Counts the members of all channels. */
export function* channelCounts(connections: ReadonlySet<Connection>): Work<ChannelCounts> {
  const countsBySet = new Map<ReadonlySet<string>, number>();
  for (const { channels } of connections) countsBySet.set(channels, (countsBySet.get(channels) ?? 0) + 1);
  const members = new Map<string, number>();
  let none = 0;
  let step = 0;
  for (const [channels, count] of countsBySet) {
    if (++step % CONNECTIONS_PER_STEP === 0) yield;
    if (channels.size === 0) none += count;
    for (const channel of channels) members.set(channel, (members.get(channel) ?? 0) + count);
  }
  const top: [string, number][] = [];
  for (const entry of members) {
    if (++step % CHANNELS_PER_STEP === 0) yield;
    if (top.length === MAX_COUNTS && !isBefore(entry, top.at(-1)!)) continue;
    const index = top.findIndex((other) => isBefore(entry, other));
    top.splice(index === -1 ? top.length : index, 0, entry);
    if (top.length > MAX_COUNTS) top.pop();
  }
  return { none, top };
}

function isBefore([a, m]: readonly [string, number], [b, n]: readonly [string, number]): boolean {
  return m === n ? a < b : m > n;
}
