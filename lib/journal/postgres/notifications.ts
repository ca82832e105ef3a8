/*
 * LISTEN and NOTIFY: how processes wake one another. Nothing depends on it but latency; every process polls as well.
 * Invariant: LISTEN counts as working only after a notification has arrived. PgBouncer in transaction mode accepts LISTEN, delivers
 * nothing, and leaves the LISTEN on a connection that others use.
 */
import { randomBytes } from 'node:crypto';
import { warn } from './maintenance.ts';
import type { PostgresConnection } from './postgres-connection.ts';
import type { Names } from './schema.ts';
import { quoteName } from './sql-text.ts';

const PROOF_TIMEOUT_MS = 1000; // NOTIFY takes a ms or two

export class Notifications {
  /** What this process sends. */
  readonly payload: string | undefined;
  readonly #names: () => Names;
  readonly #pollMs: number;
  readonly #onNews: () => void;
  #listening: PostgresConnection | undefined;
  #timer: NodeJS.Timeout | undefined;
  #warned = false;

  /** `onNews`: called when another process has stored entries. */
  constructor({
    enabled,
    names,
    pollMs,
    onNews,
  }: {
    enabled: boolean;
    names: () => Names;
    pollMs: number;
    onNews: () => void;
  }) {
    this.payload = enabled ? randomBytes(9).toString('base64url') : undefined;
    this.#names = names;
    this.#pollMs = pollMs;
    this.#onNews = onNews;
  }

  /** Begins to listen on a reading connection. */
  async listenOn(connection: PostgresConnection): Promise<void> {
    if (this.payload === undefined) return;
    await connection.query(`LISTEN ${quoteName(this.#names().channel)}`);
    this.#listening = connection;
  }

  onNotification(payload: string): void {
    if (payload !== this.payload) this.#onNews(); // the followers of this process have been woken already
  }

  /** This process has sent a NOTIFY from its other connection: it arrives, or LISTEN does not work. */
  onNotified(): void {
    const connection = this.#listening;
    if (connection === undefined || connection.isDirect || connection.isClosed || this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!connection.isDirect && !connection.isClosed) this.#giveUp(connection);
    }, PROOF_TIMEOUT_MS).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #giveUp(connection: PostgresConnection): void {
    this.#listening = undefined;
    connection.query(`UNLISTEN ${quoteName(this.#names().channel)}`).catch(() => {});
    if (this.#warned) return;
    this.#warned = true;
    warn(
      'SSE_POSTGRES_LISTEN',
      `LISTEN delivers nothing on this connection (PgBouncer in transaction mode?): the log is polled every ${this.#pollMs} ms. ` +
        'Set listen to a pool that connects directly, or to false.',
    );
  }
}
