/*
 * What a connection asks of its hub, and what is known of it when it is admitted: types only.
 * Knows the rooms whose types it names.
 * Invariant: a connection knows its hub by this alone.
 */

import type { Request } from 'express';
import type { CloseReason } from './connection.ts';
import type { ResetReason } from './journal.ts';
import type { Life } from './life.ts';
import type { Settings } from './options.ts';
import type { Lodge } from './reader.ts';

/** What a connection asks of its hub, besides what its reader does. */
export interface Home extends Lodge {
  readonly settings: Settings;
  readonly registry: {
    /** Its end is on its way. */
    leaving(life: Life): void;
    /** Its response is done with. */
    finished(life: Life): void;
    behind(life: Life, is: boolean): void;
  };
  /** Counts the hub's turns. */
  readonly turn: number;
  /** It has something to say: at the end of this turn. */
  soon(life: Life): void;
  opened(life: Life): void;
  /** It has opened although it is over already. */
  passed(life: Life, reason: CloseReason): void;
  over(life: Life, reason: CloseReason): void;
  moved(life: Life, channels: readonly string[]): void;
  wasReset(life: Life, reason: ResetReason, lastEventId: string): void;
  joinedLate(life: Life): void;
  name(number: number): string;
  report(error: unknown, life?: Life): void;
}

/** What is known of a request when it is admitted. */
export interface Admission {
  readonly request: Request;
  readonly lastEventId: string;
  /** What a polyfill wants to see first. */
  readonly padding: string;
  /** Who it counts as, where that is limited. */
  readonly client: string | undefined;
}
