/*
 * The diagnostics channels of a router, and the interface through which the inspector reads a router's internals.
 *
 * Invariant: without a subscriber no message is created.
 *
 * @see https://nodejs.org/api/diagnostics_channel.html
 */

import { channel, type Channel } from 'node:diagnostics_channel';
import type { CloseReason, Connection } from '../api/connection.ts';
import type { Entry, ResetReason } from '../journal/journal.ts';

/** Published on `sse-router:open` when a stream has opened. */
export interface ConnectionOpened {
  readonly router: object;
  readonly connection: Connection;
}

/** Published on `sse-router:close` when a stream that had opened closes. */
export interface ConnectionClosed extends ConnectionOpened {
  readonly reason: CloseReason;
}

/** Published on `sse-router:reset` when a client receives a `reset`, because the events that it missed are lost. */
export interface ConnectionReset extends ConnectionOpened {
  readonly reason: ResetReason;
  readonly lastEventId: string;
}

/** Published on `sse-router:broadcast` when a message of this process is in the log. */
export interface BroadcastStored {
  readonly router: object;
  readonly id: string;
  readonly to: readonly string[] | undefined;
  readonly except: readonly string[] | undefined;
  /** The size of the entry's body. */
  readonly bytes: number;
  /** The time that the journal took, in milliseconds. */
  readonly ms: number;
}

/** Published on `sse-router:hand-out` when entries have been written to all connections of this process that are not behind. */
export interface EntriesDispatched {
  readonly router: object;
  /** The number of entries. */
  readonly entries: number;
  /** The time since the first of them came out of the log, in milliseconds. */
  readonly ms: number;
}

/** Published on `sse-router:run-start` when this process begins to produce a run, and on `sse-router:run-end` when the run has ended. */
export interface RunReported {
  readonly router: object;
  /** What is known about the run: its id, its status, its times, its chunks and their bytes. */
  readonly run: {
    readonly id: string;
    readonly status: string;
    readonly startedAt: number;
    readonly endedAt?: number;
    readonly chunks: number;
    readonly bytes: number;
  };
}

/** The channels. Their names are public. */
export const channels = {
  open: channel('sse-router:open'),
  close: channel('sse-router:close'),
  reset: channel('sse-router:reset'),
  broadcast: channel('sse-router:broadcast'),
  handOut: channel('sse-router:hand-out'),
  runStart: channel('sse-router:run-start'),
  runEnd: channel('sse-router:run-end'),
} as const;

/** Publishes an event of a connection if the channel has subscribers. */
export function publish(
  channel: Channel,
  router: object,
  connection: Connection,
  reason?: CloseReason | ResetReason,
  lastEventId?: string,
): void {
  if (!channel.hasSubscribers) return;
  channel.publish({ router, connection, ...(reason && { reason }), ...(lastEventId !== undefined && { lastEventId }) });
}

/** The internals of a router that the inspector shows and the public contract does not. */
export interface Introspection {
  /** Whether the router is shutting down: it closes its streams and admits no more. */
  readonly closing: boolean;
  /** Returns the runs that have readers in this process, at most `max`; absent if the router has no runs. */
  runs?(max: number): readonly {
    readonly id: string;
    readonly status: string;
    /** The number of the newest chunk that this process has received. */
    readonly chunks: number;
    readonly readers: number;
  }[];
  /** Returns the newest entries in this process, at most `max`, newest first. */
  recent(max: number): readonly Entry[];
  /** Describes the part of the log that is in this process. */
  log(): { readonly oldest: string; readonly head: string; readonly entries: number; readonly bytes: number };
  /** Describes a connection. */
  describe(connection: Connection): {
    /** The time since it was admitted, in milliseconds. */
    readonly age: number;
    /** The last id that was sent to its client; '' if it is not known. */
    readonly lastId: string;
    /** Where its next entry comes from. */
    readonly source: string;
    /** Whether it is behind. */
    readonly behind: boolean;
  };
}

/** The property of a router that holds its {@link Introspection}; it is the same in every copy of this package. */
export const INTROSPECT: unique symbol = Symbol.for('sse-router.insight') as never;
