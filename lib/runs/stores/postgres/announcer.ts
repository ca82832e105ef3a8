/*
 * Announces the runs that have changed to the other processes, by NOTIFY.
 * Invariant: nothing depends on a notification but latency: each process polls as well.
 */
import type { PostgresConnection } from '../../../journal/postgres/postgres-connection.ts';
import { quoteText } from '../../../journal/postgres/sql-text.ts';

/** Postgres refuses a payload of 8,000 bytes. A key has 36 characters. */
const MAX_KEYS = 200;
const ANY = '*';

/** How the announcer reaches the rest of the store. */
export interface AnnouncerHost {
  /** What a notification begins with; undefined if none is sent. */
  prefix(): string | undefined;
  channel(): string;
  run<T>(work: (connection: PostgresConnection) => Promise<T>): Promise<T>;
  /** A NOTIFY has been sent. */
  onNotified(): void;
}

/** Sends notifications: one at a time, each with all runs that have changed since the previous one. */
export class Announcer {
  readonly #host: AnnouncerHost;
  readonly #keys = new Set<string>();
  #isPending = false;
  #isBusy = false;

  constructor(host: AnnouncerHost) {
    this.#host = host;
  }

  /** These runs have changed. Without keys, sends a notification nevertheless. */
  announce(keys: Iterable<string> = []): void {
    for (const key of keys) this.#keys.add(key);
    this.#isPending = true;
    void this.#pump();
  }

  async #pump(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    /* oxlint-disable no-await-in-loop -- one notification after the other */
    while (this.#isPending) {
      this.#isPending = false;
      const prefix = this.#host.prefix();
      const list = this.#keys.size > MAX_KEYS ? ANY : [...this.#keys].join(',');
      this.#keys.clear();
      if (prefix === undefined) continue;
      // In a transaction of its own that waits for no disk: the server holds one lock for all NOTIFY until the end of the commit.
      const text = `SELECT pg_notify(${quoteText(this.#host.channel())}, ${quoteText(`${prefix} ${list}`)})`;
      try {
        await this.#host.run((connection) => connection.query(`SET LOCAL synchronous_commit = off; ${text}`));
        this.#host.onNotified();
      } catch {
        // Closed, or refused: the other processes poll.
      }
    }
    /* oxlint-enable no-await-in-loop */
    this.#isBusy = false;
  }
}

/** Returns the runs of a notification; `undefined`: any run may have changed. */
export function keysIn(payload: string): readonly string[] | undefined {
  const list = payload.slice(payload.indexOf(' ') + 1);
  return list === ANY ? undefined : list.split(',').filter(Boolean);
}
