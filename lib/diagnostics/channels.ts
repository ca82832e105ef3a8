/*
 * What happens, for whoever observes the process: `node:diagnostics_channel`, and a look inside for this package's own tools.
 * Knows the types of what it tells.
 * Invariant: without a subscriber nothing is made, let alone published.
 *
 * @see https://nodejs.org/api/diagnostics_channel.html
 */

import { channel, type Channel } from 'node:diagnostics_channel';
import type { CloseReason, Connection } from '../api/connection.ts';
import type { Entry, ResetReason } from '../journal/journal.ts';

/** `sse-router:open`: a stream has opened. */
export interface ConnectionOpened {
  readonly router: object;
  readonly connection: Connection;
}

/** `sse-router:close`: a stream that had opened is over. */
export interface ConnectionClosed extends ConnectionOpened {
  readonly reason: CloseReason;
}

/** `sse-router:reset`: a client was told that its past is gone. */
export interface ConnectionReset extends ConnectionOpened {
  readonly reason: ResetReason;
  readonly lastEventId: string;
}

/** `sse-router:broadcast`: a message of this process is in the log; `ms`: how long the journal took. */
export interface BroadcastStored {
  readonly router: object;
  readonly id: string;
  readonly to: readonly string[] | undefined;
  readonly except: readonly string[] | undefined;
  readonly bytes: number;
  readonly ms: number;
}

/** `sse-router:hand-out`: entries were written to everybody here who is not behind; `ms`: since the first of them came out of the log. */
export interface EntriesDispatched {
  readonly router: object;
  readonly entries: number;
  readonly ms: number;
}

export const channels = {
  open: channel('sse-router:open'),
  close: channel('sse-router:close'),
  reset: channel('sse-router:reset'),
  broadcast: channel('sse-router:broadcast'),
  handOut: channel('sse-router:hand-out'),
} as const;

/** Publishes what happened to a connection, if anybody listens. */
export function publish(
  where: Channel,
  router: object,
  connection: Connection,
  reason?: CloseReason | ResetReason,
  lastEventId?: string,
): void {
  if (!where.hasSubscribers) return;
  where.publish({ router, connection, ...(reason && { reason }), ...(lastEventId !== undefined && { lastEventId }) });
}

/** What the inspector sees that the public contract does not show. */
export interface Introspection {
  /** Whether the router ends its streams and takes no more. */
  readonly closing: boolean;
  /** The newest entries in this process, newest first. */
  recent(max: number): readonly Entry[];
  /** The stretch of the log that is in this process. */
  log(): { readonly oldest: string; readonly head: string; readonly entries: number; readonly bytes: number };
  /** More of a connection: how long it has been open (ms), the last id that its client was sent ('' for none known), where it stands. */
  describe(connection: Connection): {
    readonly age: number;
    readonly lastId: string;
    readonly phase: string;
    readonly behind: boolean;
  };
}

/** Where a router keeps its {@link Introspection}; the same in every copy of this package. */
export const INTROSPECT: unique symbol = Symbol.for('sse-router.insight') as never;
