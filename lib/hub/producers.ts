/*
 * The connections whose answer is still being produced: their handler has not settled, or a `pushAll` runs.
 * Invariant: a connection is here only while it produces, so a router whose handlers return at once has no entry. A handler that never
 * settles keeps no connection in memory.
 */

import type { ServerConnection } from '../connection/server-connection.ts';

export class Producers {
  /** Called after a connection has stopped producing, once what followed in the same tick has run. */
  onIdle: ((connection: ServerConnection) => void) | undefined;
  /** How many handlers and `pushAll` calls of a connection are running. */
  readonly #counts = new WeakMap<ServerConnection, number>();

  has(connection: ServerConnection): boolean {
    return this.#counts.has(connection);
  }

  add(connection: ServerConnection): void {
    this.#counts.set(connection, (this.#counts.get(connection) ?? 0) + 1);
  }

  remove(connection: ServerConnection): void {
    const count = this.#counts.get(connection) ?? 0;
    if (count > 1) this.#counts.set(connection, count - 1);
    else this.#counts.delete(connection);
    if (this.onIdle === undefined || count > 1) return;
    // `await conn.pushAll(…)` continues with the next source or with `end()` in the same tick.
    setImmediate(() => {
      if (!this.has(connection)) this.onIdle!(connection);
    });
  }
}
