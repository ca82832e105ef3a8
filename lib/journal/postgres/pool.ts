/*
 * Makes the journal's own connections from the options of the application's `pg` pool.
 * Invariant: the application's pool is never queried, reconfigured or closed, and none of its connections is taken.
 */
import { invalid } from '../../validation/validate.ts';
import {
  answerOf,
  AS_TEXT,
  closeClient,
  ConnectionLost,
  PostgresConnection,
  PostgresError,
} from './postgres-connection.ts';

/** A pool of the npm package `pg` (8 or later): only what is used of it. */
export interface PostgresPool {
  readonly options: object;
  connect: (...args: never) => unknown;
  query: (...args: never) => unknown;
}

/** A client of `pg`: only what is used of it. */
export interface PgClient {
  connect(): Promise<unknown>;
  query(config: object): Promise<PgResult | PgResult[]>;
  end(): Promise<void>;
  on(event: string, listener: (value: never) => void): unknown;
  /** What the server, or a pooler before it, names its process. */
  readonly processID?: number | null;
  readonly connection?: { readonly stream?: { destroy(): void } };
}

interface PgResult {
  readonly rows: (string | null)[][];
}

type ClientClass = new (options: object) => PgClient;

const CONNECT_TIMEOUT_MS = 5000;
/** After so long without an answer the server counts as frozen. Longer than the statements of an append may take. */
const ANSWER_TIMEOUT_MS = 5000;

/** Makes connections like those of the application's pool. */
export class ConnectionSource {
  readonly #Client: ClientClass;
  readonly #options: Record<string, unknown>;

  /** @throws {SseTypeError} `ERR_SSE_OPTION` if this is no pool of `pg`. `name`: the argument or option in messages. */
  constructor(pool: unknown, name: string) {
    const { Client, options } = (isObject(pool) ? pool : {}) as { Client?: unknown; options?: unknown };
    if (typeof Client !== 'function' || !isObject(options) || typeof (pool as PostgresPool).query !== 'function') {
      throw invalid(name, 'a Pool of the npm package pg, version 8 or later', pool, {
        cure: 'Pass new pg.Pool({ connectionString }).',
      });
    }
    this.#Client = Client as ClientClass;
    this.#options = options;
  }

  /** Connects to a server that accepts writes. `signal` ends the attempt. */
  async connect(signal: AbortSignal, onNotification?: (payload: string) => void): Promise<PostgresConnection> {
    signal.throwIfAborted();
    const client = new this.#Client(ownOptions(this.#options));
    const stop = (): void => closeClient(client);
    client.on('error', () => {}); // the promises reject too
    signal.addEventListener('abort', stop, { once: true });
    try {
      await client.connect();
      signal.throwIfAborted();
      const { rows } = (await client.query({
        text: 'SELECT pg_is_in_recovery(), pg_backend_pid()',
        rowMode: 'array',
        types: AS_TEXT,
      })) as PgResult;
      const [isStandby, pid] = rows[0]!;
      // A standby may lack what this process has delivered: to read it would look like a loss.
      if (isStandby !== 'f') throw new PostgresError('25006', new Error('the server is a standby'));
      // A pooler makes up a number of its own, whatever its mode.
      const isDirect = pid === String(client.processID);
      const connection = new PostgresConnection(client, { timeoutMs: ANSWER_TIMEOUT_MS, isDirect, onNotification });
      return connection;
    } catch (error) {
      closeClient(client);
      throw connectError(error as Error);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }
}

/** A FATAL answer to a connection attempt has carried out nothing, so its code counts: a wrong password is none that waiting cures. */
function connectError(error: Error): Error {
  if (error instanceof PostgresError || error instanceof ConnectionLost) return error;
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  if (typeof code === 'string' && severity === 'FATAL' && !code.startsWith('08')) return new PostgresError(code, error);
  return answerOf(error) ?? new ConnectionLost(error.message || String(code), { cause: error });
}

/** pg hides the password from enumeration. Timeouts of the application's queries are none of the journal's. */
function ownOptions(options: Record<string, unknown>): object {
  return {
    ...options,
    ...(options['password'] !== undefined && { password: options['password'] }),
    fallback_application_name: 'sse-router',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    query_timeout: undefined,
    statement_timeout: undefined,
    lock_timeout: undefined,
    idle_in_transaction_session_timeout: undefined,
    pipeline: undefined,
    binary: undefined,
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
