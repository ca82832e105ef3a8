/*
 * The connections that wait for the application's snapshot, and since when.
 * Invariants: a connection waits for a bounded time; then it closes, and its client returns for another snapshot. Heartbeats would keep
 * the client content for ever. A router without the option `snapshot` has none of this.
 */

import type { ServerConnection } from '../connection/server-connection.ts';
import { SseError } from '../errors.ts';
import type { SweepTimer } from './sweep-timer.ts';

/** How long a snapshot may take. */
const SNAPSHOT_TIMEOUT_MS = 30_000;

export class PendingSnapshots {
  readonly #timer: Pick<SweepTimer, 'read' | 'wakeAt'>;
  /** The connection that has waited for the longest time is the first. */
  readonly #since = new Map<ServerConnection, number>();

  constructor(timer: Pick<SweepTimer, 'read' | 'wakeAt'>) {
    this.#timer = timer;
  }

  /** The connection waits from now on. */
  add(connection: ServerConnection): void {
    const now = this.#timer.read(); // a journal that restarts calls outside of the hub's ticks
    this.#since.delete(connection); // a connection that starts again is the last again
    this.#since.set(connection, now);
    this.#timer.wakeAt(now + SNAPSHOT_TIMEOUT_MS);
  }

  /** The connection waits no longer, or has closed. */
  remove(connection: ServerConnection): void {
    this.#since.delete(connection);
  }

  /** Closes the connections that have waited too long. @returns when to call this again */
  expire(now: number): number {
    for (const [connection, since] of this.#since) {
      if (now - since < SNAPSHOT_TIMEOUT_MS) return since + SNAPSHOT_TIMEOUT_MS;
      this.#since.delete(connection);
      const message = `snapshot() must settle within ${SNAPSHOT_TIMEOUT_MS} ms; it did not, so the stream was closed. Bound what it waits for.`;
      connection.closeWithError(new SseError('ERR_SSE_TIMEOUT', message));
    }
    return Infinity;
  }
}
