/*
 * The fields of one connection, without behaviour.
 * Invariants: every entry up to the cursor that matches the connection was written, or precedes its start or its last reset;
 * no entry after the cursor was written. A connection has no queue of broadcasts.
 */

import type { AsyncResource } from 'node:async_hooks';
import type { Socket } from 'node:net';
import type { Request } from 'express';
import type { CloseReason } from '../api/connection.ts';
import type { MembershipHistory } from '../fanout/membership-history.ts';
import type { SubscriberGroup } from '../fanout/subscriber-groups.ts';
import type { Transport } from '../wire/transport.ts';
import type { ConnectionHost } from './host.ts';
import type { Outbox } from './outbox.ts';
import type { ServerConnection } from './server-connection.ts';

/** As the public `readyState`, and `closing`: the application can no longer use the connection, but the router still has bytes to write to its client. */
export type Lifecycle = 'connecting' | 'open' | 'closing' | 'closed';

/**
 * Where the next entry comes from.
 * - `none`: the stream has not opened yet, or its response has ended.
 * - `live`: the dispatcher. The cursor is at the head once this tick's entries are dispatched.
 * - `ring`: the ring. The cursor is behind the head.
 * - `queued`: the log. The connection waits until the replayer's scan reaches its id.
 * - `replaying`: the log. The scan writes to the connection.
 * - `paused`: the log. The transport refused bytes, so the connection left the scan until it drains.
 * - `ahead`: the client's id is newer than this process's head, so the connection waits until the ring reaches it.
 */
export type DeliverySource = 'none' | 'live' | 'ring' | 'queued' | 'replaying' | 'paused' | 'ahead';

/** How and when a connection ends. */
export interface Closing {
  readonly reason: CloseReason;
  /** Written after everything else: an `end` event, a `retry` line, or ''. */
  readonly finalFrame: string;
  /** Whether the client does not reconnect, so that anything unsent would be lost. */
  readonly isFinal: boolean;
  /** Whether the router ends an answer that is not complete: its handler was still running, an error occurred, or data was lost. */
  isUnfinished: boolean;
  /** The connection receives no entry after this n, whose id is `limitId`. */
  limit: number;
  limitId: string;
  /** When the sweep completes the close: the host's milliseconds. */
  deadline: number;
  /** Whether the end of the response waits for entries, for a snapshot, or for the confirmation of an id. */
  isWaiting: boolean;
}

/** One period without progress on the socket. */
export interface Stall {
  /** The transport's count when the period began; {@link NOT_READ} until the end of that tick. */
  acceptedBytes: number;
  readonly since: number;
}

/** The data of a request that the router passes to the hub at the admission. */
export interface ConnectionRequest {
  readonly request: Request;
  /** As the client sent it: of any form and length. */
  readonly lastEventId: string;
  /** The bytes that a polyfill asked to receive first. */
  readonly padding: string;
  /** The client that `limits.perClient` counts this connection for; `undefined` without that limit. */
  readonly client: string | undefined;
  /** The milliseconds that the stream may stay open; `undefined`: no limit. */
  readonly maxAge: number | undefined;
}

export class ConnectionState {
  // takeForBatch() reads the fields up to `transport` for each connection. They are together and come first: with a thousand
  // connections, every line of memory is a cache miss.

  source: DeliverySource = 'none';
  /** Whether the application pushes ids of its own: then the connection gets no positions. */
  usesAppIds = false;
  /** Own pushes that are not written yet; `undefined` when there are none. */
  outbox: Outbox | undefined = undefined;
  /** The n up to which entries were written. A live connection is at the dispatcher's `dispatchedUpTo` if that is higher. */
  cursor: number;
  /** The n of the last id that was sent to the client. */
  lastSent: number;
  /** When bytes were last written: the host's milliseconds. */
  lastWrite: number;
  /** The socket that takes packets directly, once the stream is open; `undefined` if only the transport may write. */
  socket: Socket | undefined = undefined;
  readonly transport: Transport;
  readonly host: ConnectionHost;
  group: SubscriberGroup<ServerConnection> | undefined = undefined;
  /** Whether the transport refused bytes and has not drained yet. */
  blocked = false;
  /** The cursor's id, where the connection is not live. */
  cursorId: string;
  /** Bytes of own pushes that were written since the transport was last seen empty. */
  ownBytes = 0;

  /** Whether the stream is open but its first bytes wait: for the confirmation of its id, or for a snapshot. */
  preamblePending = false;
  /** Whether the first bytes have been composed. */
  started = false;
  /** Counts the starts. An answer to a request of an earlier start is stale. */
  startEpoch = 0;
  /** The last event id that the client sent, of any form and length; '' if it sent none. */
  readonly clientId: string;
  /** The n at which the channels last changed after the opening. Earlier entries may have been sent for other channels. */
  channelsChangedAt = 0;
  /** The channels that were joined or left while the connection was behind. */
  membership: MembershipHistory | undefined = undefined;

  lifecycle: Lifecycle = 'connecting';
  closing: Closing | undefined = undefined;
  abortController: AbortController | undefined = undefined;
  /** Resolve the promises of `drained()`. */
  drainWaiters: (() => void)[] | undefined = undefined;
  stall: Stall | undefined = undefined;
  /** When `maxAge` ends the connection: the host's milliseconds; 0: never. */
  readonly expiresAt: number;
  readonly padding: string;
  /** Whether the dispatcher flushes the connection at the end of this tick. */
  flushQueued = false;

  readonly serial: number;
  /** When the connection was admitted: the host's milliseconds. */
  readonly openedAt: number;
  readonly client: string | undefined;
  readonly request: Request;
  userState: Record<string, unknown> | undefined = undefined;
  /** The tick of the last push, and the characters pushed in it. */
  pushTick = 0;
  pushedInTick = 0;
  /** The async context of the request; `undefined` while no function of the application may run outside of it. */
  context: AsyncResource | undefined = undefined;

  constructor(
    host: ConnectionHost,
    transport: Transport,
    request: ConnectionRequest,
    serial: number,
    expiresAt: number,
  ) {
    const { ring, timer } = host;
    this.host = host;
    this.transport = transport;
    this.cursor = ring.head;
    this.cursorId = ring.headId;
    this.lastSent = this.cursor;
    this.lastWrite = timer.now;
    this.clientId = request.lastEventId;
    this.client = request.client;
    this.padding = request.padding;
    this.request = request.request;
    this.serial = serial;
    this.openedAt = timer.now;
    this.expiresAt = expiresAt;
  }
}
