/*
 * The part of the hub that a connection may use: types only.
 * Invariant: a connection reaches its hub through this interface alone.
 */

import type { CloseReason } from '../api/connection.ts';
import type { Counters } from '../diagnostics/stats.ts';
import type { PacketCache } from '../fanout/packet-cache.ts';
import type { Ring } from '../fanout/ring.ts';
import type { Journal, ResetReason } from '../journal/journal.ts';
import type { Settings } from '../options/options.ts';
import type { ServerConnection } from './server-connection.ts';

/**
 * Whether a log that has an end is complete: it is `growing`; or its last entry ends it (`whole`); or it ends without an end of its
 * own (`cut`), so that only a broken connection can report it.
 */
export type Completion = 'growing' | 'whole' | 'cut';

/** The connections that wait for a snapshot: it must settle in time. */
interface PendingSnapshotList {
  add(connection: ServerConnection): void;
  remove(connection: ServerConnection): void;
}

export interface ConnectionHost {
  readonly settings: Settings;
  readonly journal: Journal;
  /** `undefined` for a log without an end, such as that of broadcasts. */
  readonly completion: Completion | undefined;
  readonly ring: Ring;
  readonly packets: PacketCache;
  readonly counters: Counters;
  readonly dispatcher: {
    /** Every entry up to this n has been dispatched to the live connections. */
    readonly dispatchedUpTo: number;
    /** Counts the hub's ticks. */
    readonly tick: number;
    /** Calls {@link ServerConnection.flush} at the end of this tick. */
    scheduleFlush(connection: ServerConnection): void;
  };
  readonly replayer: {
    /** Takes a connection whose `cursorId` is neither in the ring nor newer than it. */
    enqueue(connection: ServerConnection): void;
    /** Takes a connection whose `cursorId` is newer than the ring's head. */
    awaitAhead(connection: ServerConnection): void;
    /** Removes a connection, whatever it waits for. */
    remove(connection: ServerConnection): void;
  };
  readonly timer: {
    /** Milliseconds since the hub was created, as of this tick. */
    readonly now: number;
    /** Sweeps all connections at this time at the latest. */
    wakeAt(time: number): void;
  };
  readonly registry: {
    /** Sets the deadline of a connection's close. */
    addClosing(connection: ServerConnection): void;
    removeClosing(connection: ServerConnection): void;
    setBehind(connection: ServerConnection, isBehind: boolean): void;
  };
  readonly producers: {
    /** Whether the answer of a connection is still being produced: its handler has not settled, or a `pushAll` runs. */
    has(connection: ServerConnection): boolean;
    add(connection: ServerConnection): void;
    remove(connection: ServerConnection): void;
  };
  /** `undefined` without the option `snapshot`. */
  readonly pendingSnapshots: PendingSnapshotList | undefined;
  onOpened(connection: ServerConnection): void;
  onClosed(connection: ServerConnection, reason: CloseReason): void;
  /** Called instead of {@link onOpened} if the connection was closed before it opened. */
  onOpenedAndClosed(connection: ServerConnection, reason: CloseReason): void;
  onChannelsChanged(connection: ServerConnection, channels: readonly string[]): void;
  onReset(connection: ServerConnection, reason: ResetReason, lastEventId: string): void;
  /** Called when a returning client's connection joins a channel after its opening. */
  onLateJoin(): void;
  /** Called when the head has not left although the stream is open. */
  onHeldBack(): void;
  /** The public id of the connection with this serial number. */
  idOf(serial: number): string;
  report(error: unknown, connection?: ServerConnection): void;
}
