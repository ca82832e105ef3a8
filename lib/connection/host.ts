/*
 * What a connection asks of its hub, and what is known of it when it is admitted: types only.
 * Knows the rooms whose types it names.
 * Invariant: a connection knows its hub by this alone.
 */

import type { Request } from 'express';
import type { Replayer } from '../hub/replayer.ts';
import type { CloseReason } from '../api/connection.ts';
import type { Journal, ResetReason } from '../journal/journal.ts';
import type { Life } from './life.ts';
import type { Settings } from '../options/options.ts';
import type { PacketCache } from '../fanout/packet-cache.ts';
import type { Ring } from '../fanout/ring.ts';
import type { Counters } from '../diagnostics/stats.ts';

/** What a cursor asks of its hub. */
export interface DeliveryHost {
  readonly ring: Ring;
  readonly journal: Journal;
  readonly packets: PacketCache;
  /** Everything up to this n has been handed to who is live. */
  readonly dispatchedUpTo: number;
  /** Milliseconds since the hub was made, as of this turn. */
  readonly now: number;
  /** False: ids are the application's, nothing is resumed here. */
  readonly resumable: boolean;
  /** Something is due by then. */
  wakeAt(at: number): void;
  readonly counters: Counters;
}

/** What a reader asks of its hub, besides what its cursor does. */
export interface ResumeHost extends DeliveryHost {
  readonly replayer: Replayer;
}

/** What a connection asks of its hub, besides what its reader does. */
export interface ConnectionHost extends ResumeHost {
  readonly settings: Settings;
  readonly registry: {
    /** Its end is on its way. */
    addClosing(life: Life): void;
    /** Its response is done with. */
    removeClosing(life: Life): void;
    setBehind(life: Life, is: boolean): void;
  };
  /** Counts the hub's turns. */
  readonly tick: number;
  /** It has something to say: at the end of this turn. */
  scheduleFlush(life: Life): void;
  onOpened(life: Life): void;
  /** It has opened although it is over already. */
  onOpenedAndClosed(life: Life, reason: CloseReason): void;
  onClosed(life: Life, reason: CloseReason): void;
  onChannelsChanged(life: Life, channels: readonly string[]): void;
  onReset(life: Life, reason: ResetReason, lastEventId: string): void;
  onLateJoin(life: Life): void;
  nameOf(number: number): string;
  report(error: unknown, life?: Life): void;
}

/** What is known of a request when it is admitted. */
export interface ConnectionRequest {
  readonly request: Request;
  readonly lastEventId: string;
  /** What a polyfill wants to see first. */
  readonly padding: string;
  /** Who it counts as, where that is limited. */
  readonly client: string | undefined;
}
