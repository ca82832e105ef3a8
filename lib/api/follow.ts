/*
 * The types of `follow()`.
 */

import type { ResetReason } from '../journal/journal.ts';

/** Which events `follow()` yields, and from where. */
export interface FollowOptions {
  /**
   * One channel or several. The iterator yields what a connection in these channels would receive: broadcasts without `to`
   * included, and those that `except` one of the channels not.
   * @defaultValue every broadcast
   */
  to?: string | readonly string[];
  /** The id of a broadcast, or `events.position`: the iterator begins with the next event. @defaultValue the position at the call */
  after?: string;
  /** Ends the iteration. */
  signal?: AbortSignal;
}

/** One event of the log; or `reset`: events after the position are no longer in the log, and the iteration continues at `id`. */
export type FollowedEvent =
  | {
      type: 'event';
      /** The id of the broadcast; with `history: false` the application's own, or `''`. */
      id: string;
      event?: string;
      /** The text of the event: a string as it was broadcast, other data as `serialize` wrote it. */
      data: string;
      to?: readonly string[];
    }
  | { type: 'reset'; reason: ResetReason; id: string };
