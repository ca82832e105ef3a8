/*
 * One connection of the journal to Postgres. It closes on any failure, and reports every loss.
 * Invariant: each query settles: with rows, with a PostgresError that the server answered, or with ConnectionLost.
 */
import type { PgClient } from './pool.ts';

/** One row, each column as the text that the server sent. */
export type Row = readonly (string | null)[];

/** A statement that is prepared once on each connection. */
export interface Prepared {
  readonly name: string;
  readonly text: string;
  readonly values: readonly string[];
}

/** The server answered with an error: the transaction was not carried out. `code` is the SQLSTATE. */
export class PostgresError extends Error {
  override readonly name = 'PostgresError';
  readonly code: string;

  constructor(code: string, cause: Error) {
    super(cause.message, { cause });
    this.code = code;
  }
}

/** The connection is lost. Whether the server carried out the query is unknown. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/**
 * SQLSTATEs after which waiting may help: the server starts, stops, is a standby or out of connections; a lock or a statement took
 * too long; transactions collided; tables are missing while a dump is restored. They mean "down", and never a reset.
 */
const TRANSIENT: ReadonlySet<string> = new Set([
  '53300', // too many connections
  '25006', // a standby, or a primary that has become one
  '40001', // serialization failure
  '40P01', // deadlock
  '55P03', // lock not available
  '57014', // statement timeout
  '42P01', // no such table
  '42883', // no such function
  '3F000', // no such schema
  '42703', // no such column: a table of the same name, in the middle of a restore
  '42P07', // a table that another process has created meanwhile
  '42723', // a function, likewise
  '0A000', // a prepared plan whose table was created anew
  '26000', // a prepared statement that this connection does not have
  'XX000', // a table or function was dropped while it was in use
  'SSE01', // see schema.ts
]);

/** Whether an error may go away by itself: then a new connection is made, and the query is sent again. */
export function isTransient(error: unknown): boolean {
  return !(error instanceof PostgresError) || TRANSIENT.has(error.code) || error.code.startsWith('57P');
}

export class PostgresConnection {
  /** Whether it leads directly to one server process, so that a statement which is prepared once is there the next time. */
  readonly isDirect: boolean;
  readonly #client: PgClient;
  readonly #timeoutMs: number;
  readonly #closeListeners: ((error: Error) => void)[] = [];
  readonly #pending = new Set<(error: Error) => void>();
  #last: Promise<unknown> = Promise.resolve();
  #closed: Error | undefined;

  /** `client`: connected. `timeoutMs`: after so long without an answer the server counts as frozen. */
  constructor(
    client: PgClient,
    {
      timeoutMs,
      isDirect,
      onNotification,
    }: { timeoutMs: number; isDirect: boolean; onNotification?: (payload: string) => void },
  ) {
    this.#client = client;
    this.#timeoutMs = timeoutMs;
    this.isDirect = isDirect;
    client.on('error', (error: Error) => this.destroy(error));
    client.on('end', () => this.destroy(new Error('the connection was closed')));
    client.on('notification', ({ payload }: { payload?: string }) => onNotification?.(payload ?? ''));
  }

  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /**
   * Sends one query after the other: pg 9 refuses a query while another one runs. Several statements in one text are one
   * transaction; the rows are those of the last.
   */
  query(query: string | Prepared): Promise<Row[]> {
    const result = this.#last.then(() => this.#send(query));
    this.#last = result.catch(() => {});
    return result;
  }

  /** Sends no query until `work` has settled. */
  idleDuring<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  /** Calls back once when this connection is lost; at once if it already is. */
  onClose(listener: (error: Error) => void): void {
    if (this.#closed) listener(this.#closed);
    else this.#closeListeners.push(listener);
  }

  /** Closes the socket and rejects what waits for an answer. */
  destroy(reason: Error): void {
    if (this.#closed) return;
    const lost = reason instanceof ConnectionLost ? reason : new ConnectionLost(reason.message, { cause: reason });
    this.#closed = lost;
    closeClient(this.#client);
    for (const listener of this.#closeListeners.splice(0)) listener(lost);
    for (const reject of this.#pending) reject(lost);
    this.#pending.clear();
  }

  #send(query: string | Prepared): Promise<Row[]> {
    if (this.#closed) return Promise.reject(this.#closed);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        // After a pause of this process, answers may wait in the socket: they are read before this check.
        setImmediate(() => {
          if (this.#pending.has(reject)) this.destroy(new ConnectionLost(`no answer for ${this.#timeoutMs} ms`));
        });
      }, this.#timeoutMs);
      timer.unref();
      this.#pending.add(reject);
      const settle = (): void => {
        clearTimeout(timer);
        this.#pending.delete(reject);
      };
      const config = typeof query === 'string' ? { text: query } : { ...query, values: [...query.values] };
      this.#client.query({ ...config, rowMode: 'array', types: AS_TEXT }).then(
        (results) => {
          settle();
          resolve((Array.isArray(results) ? results.at(-1) : results)!.rows);
        },
        (error: Error) => {
          settle();
          const refusal = answerOf(error);
          if (!refusal) this.destroy(error);
          reject(refusal ?? this.#closed);
        },
      );
    });
  }
}

/** Ends a client at once, also one whose server does not answer. Must not throw. */
export function closeClient(client: PgClient): void {
  client.end().catch(() => {});
  client.connection?.stream?.destroy();
}

/** Applications change pg's parsers for the whole process, so the journal parses for itself. */
export const AS_TEXT: { readonly getTypeParser: () => (text: string) => string } = {
  getTypeParser: () => (text) => text,
};

/**
 * What the server answered, if this is an answer. A FATAL one ends the connection, and a commit may have happened before it:
 * then the outcome is unknown, as without an answer. PgBouncer reports lost servers with class 08.
 */
export function answerOf(error: Error): PostgresError | undefined {
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  if (typeof code !== 'string' || severity !== 'ERROR' || code.startsWith('08') || code.startsWith('57P'))
    return undefined;
  return new PostgresError(code, error);
}
