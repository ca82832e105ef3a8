/*
 * What a router has counted.
 * Knows the reasons for which connections end and positions are reset, as types.
 * Invariant: counting costs an addition; nothing here walks over connections.
 */

import type { CloseReason } from '../api/connection.ts';
import type { ResetReason } from '../journal/journal.ts';

/** Counters since the router was made, and gauges of now. Numbers only: what a graph or an alarm is made of. */
export interface SseStats {
  /** Open connections. */
  connections: number;
  /** Requests whose stream has not opened yet. */
  connecting: number;
  /** Channels with at least one member. */
  channels: number;
  /** Connections whose reader is behind. */
  behind: number;
  /** Bytes that wait for those that are behind. */
  bufferedBytes: number;
  /** Entries in the ring, and their bytes. */
  ringEntries: number;
  ringBytes: number;
  /** 1 while the journal is open and its engine answers, else 0. */
  journalUp: number;
  /** Connections opened. */
  opened: number;
  /** Connections that are over, by reason. */
  closed: Record<CloseReason, number>;
  /** Messages that `broadcast` has put into the log. */
  broadcasts: number;
  /** Broadcast events written to connections: one for each that got it. */
  events: number;
  /** Bytes of events and comments written to connections, without HTTP's framing. */
  bytes: number;
  /** Returning clients that were resumed, and connections that were reset, by reason. */
  resumes: Record<'resumed' | ResetReason, number>;
  /** Requests sent away, by the limit that was reached, or because the router closes. */
  refused: Record<'connections' | 'perClient' | 'shutdown', number>;
  /** Heartbeats and checkpoints written to silent connections. */
  heartbeats: number;
}

/** The counters among them. */
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
    slow: 0,
    expired: 0,
    shutdown: 0,
    error: 0,
  };
  readonly refused = { connections: 0, perClient: 0, shutdown: 0 };
  readonly resumes: Record<'resumed' | ResetReason, number> = { resumed: 0, lost: 0, unknown: 0, diverged: 0 };
}
