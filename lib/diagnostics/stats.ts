/*
 * The counters and gauges of a router.
 *
 * Invariant: counting costs one addition; no figure is computed by a walk over all connections.
 */

import type { CloseReason } from '../api/connection.ts';
import type { ResetReason } from '../journal/journal.ts';

/** Counters since the router was made, and gauges of the present state: plain numbers, for graphs and alarms. */
export interface SseStats {
  /** Gauge: open connections. */
  connections: number;
  /**
   * Gauge: admitted requests whose stream has not opened yet. Requests that wait for the journal to open, or for the store of runs, are
   * included.
   */
  connecting: number;
  /** Gauge: channels with at least one member. */
  channels: number;
  /** Gauge: connections that are behind, because their client does not read fast enough. */
  behind: number;
  /** Gauge: bytes that are pending for the connections that are behind. */
  bufferedBytes: number;
  /** Gauge: entries in the ring, the newest of the log that this process holds. */
  ringEntries: number;
  /** Gauge: bytes of these entries. */
  ringBytes: number;
  /** Gauge: 1 while the journal is open and its engine answers, otherwise 0. */
  journalUp: number;
  /** Counter: streams that have opened. */
  opened: number;
  /** Counter: streams that had opened and have closed, by reason. */
  closed: Record<CloseReason, number>;
  /** Counter: messages that `broadcast` has stored in the log. */
  broadcasts: number;
  /** Counter: broadcast events written to connections, one for each event and connection. */
  events: number;
  /** Counter: bytes of events and comments written to connections, without the framing of HTTP. */
  bytes: number;
  /** Counter: returning clients that were resumed, and resets by reason. */
  resumes: Record<'resumed' | ResetReason, number>;
  /** Counter: refused requests, by the limit that was reached; `shutdown`: the router is closing. */
  refused: Record<'connections' | 'perClient' | 'shutdown', number>;
  /** Counter: heartbeats and checkpoints written to silent connections. */
  heartbeats: number;
}

/** The counters, as the router increments them. */
export class Counters {
  opened = 0;
  broadcasts = 0;
  events = 0;
  bytes = 0;
  heartbeats = 0;
  journalUp = false;
  readonly closed: Record<CloseReason, number> = {
    client: 0,
    handler: 0,
    end: 0,
    disconnect: 0,
    slow: 0,
    expired: 0,
    shutdown: 0,
    error: 0,
  };
  readonly refused = { connections: 0, perClient: 0, shutdown: 0 };
  readonly resumes: Record<'resumed' | ResetReason, number> = { resumed: 0, lost: 0, unknown: 0, diverged: 0 };

  /** Returns the part of the statistics that is counted here: a copy, which does not change. */
  toStats(): Omit<
    SseStats,
    'connections' | 'connecting' | 'behind' | 'bufferedBytes' | 'channels' | 'ringEntries' | 'ringBytes'
  > {
    const { journalUp, closed, refused, resumes, ...counted } = this;
    return {
      journalUp: journalUp ? 1 : 0,
      ...counted,
      closed: { ...closed },
      refused: { ...refused },
      resumes: { ...resumes },
    };
  }
}
