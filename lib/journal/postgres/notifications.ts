/*
 * LISTEN and NOTIFY: how processes wake one another. Nothing depends on it but latency; every process polls as well.
 * Invariant: behind a pooler, LISTEN counts as working only if a notification arrives while the connection is idle. PgBouncer in
 * transaction mode accepts LISTEN, leaves it on a connection that others use, and delivers only what arrives there during a query.
 */
import { randomBytes } from 'node:crypto';
import { warn } from './maintenance.ts';
import type { PostgresConnection } from './postgres-connection.ts';
import { quoteName } from './sql-text.ts';

const PROOF_TIMEOUT_MS = 1000; // NOTIFY takes a ms or two. The process does not read meanwhile.

/** How notifications reach the rest of the journal. */
export interface NotificationsHost {
  readonly enabled: boolean;
  readonly pollMs: number;
  /** The channel, without quotes. */
  channel(): string;
  /** A notification has arrived, from this process or another one. */
  onNews(payload: string): void;
  /** Sends a NOTIFY from the other connection. */
  send(): void;
}

export class Notifications {
  /** What this process sends, or what its notifications begin with. */
  readonly payload: string | undefined;
  readonly #host: NotificationsHost;
  /** The reading connection, while it is not known whether LISTEN works on it. */
  #unproven: PostgresConnection | undefined;
  #onArrival: (() => void) | undefined;
  #warned = false;
  #works = false;

  constructor(host: NotificationsHost) {
    this.payload = host.enabled ? randomBytes(9).toString('base64url') : undefined;
    this.#host = host;
  }

  /** Whether LISTEN is known to work on the reading connection, as long as that connection lasts. */
  get works(): boolean {
    return this.#works;
  }

  /** Begins to listen on a reading connection. */
  async listenOn(connection: PostgresConnection): Promise<void> {
    if (this.payload === undefined) return;
    await connection.query(`LISTEN ${quoteName(this.#host.channel())}`);
    this.#unproven = connection.isDirect ? undefined : connection;
    this.#works = connection.isDirect;
  }

  onNotification(payload: string): void {
    this.#onArrival?.();
    this.#host.onNews(payload);
  }

  /** This process has sent a NOTIFY, so that it can prove LISTEN with one more. */
  onNotified(): void {
    const connection = this.#unproven;
    this.#unproven = undefined;
    if (connection && !connection.isClosed) void this.#prove(connection);
  }

  stop(): void {
    this.#onArrival?.();
  }

  async #prove(connection: PostgresConnection): Promise<void> {
    const arrived = await connection.idleDuring(async () => {
      let timer: NodeJS.Timeout | undefined;
      const arrival = new Promise<boolean>((resolve) => {
        this.#onArrival = () => resolve(true);
        timer = setTimeout(resolve, PROOF_TIMEOUT_MS, false).unref();
      });
      this.#host.send();
      return arrival.finally(() => {
        clearTimeout(timer);
        this.#onArrival = undefined;
      });
    });
    if (arrived) this.#works = !connection.isClosed;
    else if (!connection.isClosed) this.#giveUp(connection);
  }

  #giveUp(connection: PostgresConnection): void {
    connection.query(`UNLISTEN ${quoteName(this.#host.channel())}`).catch(() => {});
    if (this.#warned) return;
    this.#warned = true;
    warn(
      'SSE_POSTGRES_LISTEN',
      `LISTEN delivers nothing on this connection (PgBouncer in transaction mode?): Postgres is polled every ${this.#host.pollMs} ms. ` +
        'Set listen to a pool that connects directly, or to false.',
    );
  }
}
