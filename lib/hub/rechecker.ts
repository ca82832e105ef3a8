/*
 * The option `recheck`: calls the application's check for every open connection, about once per `every`.
 * Invariants: one timer serves all connections; the checks are spread evenly over `every`; a bounded number of them runs at once; a
 * connection whose check fails is closed; a connection that has ended is kept only while its check runs.
 */

import type { Connection } from '../api/connection.ts';
import { isPromiseLike } from '../api/source.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import { SseError } from '../errors.ts';
import type { Settings } from '../options/options.ts';
import { invalid } from '../validation/validate.ts';

/** How many checks may run at the same time: each may be a query to the application's database. */
const MAX_RUNNING = 64;
/** How long a check may take. A check that never settles must not keep a connection open. */
const CHECK_TIMEOUT_MS = 30_000;
/** How often the timer fires in one `every`, if that is not more often than once per {@link MIN_INTERVAL_MS}. */
const STEPS = 1000;
const MIN_INTERVAL_MS = 20;
const CURE = { cure: 'Return a comparison, for example: (await users.get(conn.state.user))?.active === true.' };

export class Rechecker {
  readonly #every: number;
  readonly #check: (connection: Connection) => unknown;
  readonly #timer: NodeJS.Timeout;
  /**
   * The open connections, those that have not been checked for the longest time first. (No iterator is kept between two steps: V8 keeps
   * every table that the Set has had since the iterator's last step, with the connections that were in it.)
   */
  readonly #waiting = new Set<ServerConnection>();
  /** How many checks are due: a fraction remains for the next step. */
  #due = 0;
  #lastStepAt = performance.now();
  /** The running checks, oldest first, and when each began. */
  readonly #running = new Map<ServerConnection, number>();

  constructor({ every, check }: NonNullable<Settings['recheck']>) {
    this.#every = every;
    this.#check = check;
    const interval = Math.max(MIN_INTERVAL_MS, Math.floor(every / STEPS));
    this.#timer = setInterval(() => this.#step(), Math.min(interval, every)).unref();
  }

  /** Checks a connection that has opened, until it closes. */
  add(connection: ServerConnection): void {
    this.#waiting.add(connection);
  }

  /** The connection has closed. */
  remove(connection: ServerConnection): void {
    this.#waiting.delete(connection);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#waiting.clear();
    this.#running.clear();
  }

  #step(): void {
    const now = performance.now();
    const share = Math.min(1, (now - this.#lastStepAt) / this.#every);
    this.#lastStepAt = now;
    this.#expire(now);
    this.#due = Math.min(this.#due + share * this.#waiting.size, this.#waiting.size);
    for (const connection of this.#waiting) {
      if (this.#due < 1 || this.#running.size >= MAX_RUNNING) return;
      this.#due--;
      this.#waiting.delete(connection);
      this.#waiting.add(connection); // at the end
      if (!this.#running.has(connection)) this.#run(connection, now);
    }
  }

  #run(connection: ServerConnection, now: number): void {
    let result: unknown;
    try {
      result = connection.inContext(() => this.#check(connection as Connection));
    } catch (error) {
      connection.closeWithError(error);
      return;
    }
    if (!isPromiseLike(result)) return this.#settle(connection, result);
    this.#running.set(connection, now);
    Promise.resolve(result).then(
      (settled) => this.#running.delete(connection) && this.#settle(connection, settled),
      (error: unknown) => this.#running.delete(connection) && !connection.isClosed && connection.closeWithError(error),
    );
  }

  #settle(connection: ServerConnection, isAllowed: unknown): void {
    if (isAllowed === true) return;
    if (isAllowed === false) return connection.beginClose('expired');
    // For example `undefined`, for a user that no longer exists: what is no permission must not keep a stream open.
    if (!connection.isClosed)
      connection.closeWithError(invalid('The result of recheck.check()', 'true or false', isAllowed, CURE));
  }

  /** Closes the connections whose check does not settle. */
  #expire(now: number): void {
    for (const [connection, begunAt] of this.#running) {
      if (now - begunAt < CHECK_TIMEOUT_MS) return;
      this.#running.delete(connection);
      if (connection.isClosed) continue;
      const message = `recheck.check() must settle within ${CHECK_TIMEOUT_MS} ms; it did not, so the stream was closed. Bound what it waits for.`;
      connection.closeWithError(new SseError('ERR_SSE_TIMEOUT', message));
    }
  }
}
