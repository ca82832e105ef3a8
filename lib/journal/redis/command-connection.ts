/*
 * Connects to Redis, with redirects and backoff, and keeps the one connection that commands use.
 * Invariant: at most one command connection exists at a time. A query that waits for one settles within a bounded time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SseError } from '../../errors.ts';
import { MAX_TIMER_MS } from '../../validation/validate.ts';
import type { ClientAdapter } from './clients.ts';
import { type Arg, ConnectionLost, isTransient, type RedisConnection, RedisError } from './redis-connection.ts';
import type { Address } from './client-adapters.ts';

const MAX_REDIRECTS = 5;
const MIN_DELAY_MS = 50;
const MAX_DELAY_MS = 2_000;
const HEALTHY_AFTER_MS = 5_000; // the loss of a connection that lived this long is not part of the earlier failures

/** A delay that grows with every failure in a row. The jitter keeps a hundred processes from reconnecting at the same time. */
export class Backoff {
  readonly #maxDelayMs: number;
  #failures = 0;

  constructor(maxDelayMs: number = MAX_DELAY_MS) {
    this.#maxDelayMs = maxDelayMs;
  }

  /** Returns the milliseconds to wait now. `lifetime`: how long the lost connection lived. */
  next(lifetime: number): number {
    if (lifetime > HEALTHY_AFTER_MS) this.#failures = 0;
    const delay = Math.min(MIN_DELAY_MS * 2 ** this.#failures++, this.#maxDelayMs);
    return delay / 2 + (Math.random() * delay) / 2;
  }
}

/** Waits, until the signal aborts at the latest. Keeps no process alive. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { ref: false, signal }).catch(() => {});
}

/**
 * Connects to the node that has `key`, and verifies that the node serves it. A cluster itself reports the right node
 * («-MOVED slot host:port»). So the clients' own routing is not used: its silent retries would break the order of publishes.
 * `signal` aborts this at any time.
 */
export async function connectToKey(adapter: ClientAdapter, key: string, signal: AbortSignal): Promise<RedisConnection> {
  let address: Address | undefined;
  for (let redirects = 0; ; redirects++) {
    const connection = await adapter.connect(address, signal);
    try {
      await connection.command(['XLEN', key]); // also detects LOADING, CLUSTERDOWN and a key that is no stream
      return connection;
    } catch (error) {
      connection.destroy(error as Error);
      const moved = error instanceof RedisError && error.code === 'MOVED' ? addressIn(error.message) : undefined;
      if (!moved || redirects === MAX_REDIRECTS) throw error;
      address = { host: moved.host || address?.host || 'localhost', port: moved.port };
    }
  }
}

/** Parses «MOVED 3999 127.0.0.1:6381». IPv6 has no brackets; an empty host is the host that replied. */
function addressIn(message: string): Address | undefined {
  const found = /^MOVED \d+ (.*):(\d+)$/.exec(message);
  return found ? { host: found[1]!, port: Number(found[2]) } : undefined;
}

interface Waiter {
  resolve(connection: RedisConnection): void;
  reject(error: Error): void;
}

/** What a {@link CommandConnection} calls when its connection changes. */
export interface ConnectionListener {
  /** A connection is open and the scripts are loaded. */
  onConnected(connection: RedisConnection): void;
  /** The connection was closed. Called before its commands are rejected. */
  onDisconnected(): void;
}

/** The settings of a {@link CommandConnection}. */
export interface ConnectionSettings {
  /** The function that created the connection's owner; errors begin with it. */
  readonly owner: string;
  /** The scripts that are loaded on every new connection. */
  readonly scripts: readonly string[];
  /** How long a query waits for a connection. */
  readonly waitMs: number;
  /** The longest pause between two attempts to connect. */
  readonly maxDelayMs?: number;
}

/** The connection for the commands of one journal, or of one store of runs. It reconnects until it is closed. */
export class CommandConnection {
  readonly #adapter: ClientAdapter;
  readonly #key: string;
  readonly #settings: ConnectionSettings;
  readonly #listener: ConnectionListener;
  readonly #waiters = new Set<Waiter>();
  readonly #abort = new AbortController();
  #connection: RedisConnection | undefined;
  #lastError: Error | undefined;
  #started = false;
  #closed: SseError | undefined;

  constructor(adapter: ClientAdapter, key: string, settings: ConnectionSettings, listener: ConnectionListener) {
    this.#adapter = adapter;
    this.#key = key;
    this.#settings = settings;
    this.#listener = listener;
  }

  /** Why there is no connection. Undefined while there is one, and before the first attempt has failed. */
  get downReason(): Error | undefined {
    return this.#connection ? undefined : this.#lastError;
  }

  /** Begins to connect, once. */
  start(): void {
    if (this.#started || this.#closed) return;
    this.#started = true;
    void this.#keepConnected();
  }

  /** The open connection. `undefined` while there is none. */
  get connection(): RedisConnection | undefined {
    return this.#connection;
  }

  /**
   * Sends commands in one round trip. If the connection is lost, sends them again on the next one: only for commands that may run
   * twice. `waitMs`: how long to wait for a connection.
   * @throws {SseError} `ERR_SSE_JOURNAL` if Redis returns an error or is unreachable, `ERR_SSE_CLOSED`.
   */
  query(commands: readonly (readonly Arg[])[], waitMs: number = this.#settings.waitMs): Promise<unknown[]> {
    return this.run((connection) => Promise.all(commands.map((command) => connection.command(command))), waitMs);
  }

  /** Calls `work` with the open connection, and again with the next one if this connection is lost meanwhile; see {@link query}. */
  async run<T>(work: (connection: RedisConnection) => Promise<T>, waitMs: number = this.#settings.waitMs): Promise<T> {
    const deadline = performance.now() + waitMs;
    for (;;) {
      const connection = await this.#connected(deadline);
      try {
        return await work(connection);
      } catch (error) {
        if (this.#closed) throw this.#closed;
        if (!isTransient(error)) throw journalError('returned an error', error as Error, this.#settings.owner);
        this.#lastError = error as Error;
        connection.destroy(error as Error); // after a transient error, the next connection may reach another node
      }
    }
  }

  close(error: SseError): void {
    this.#closed = error;
    this.#abort.abort(error);
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }

  #connected(deadline: number): Promise<RedisConnection> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#connection) return Promise.resolve(this.#connection);
    this.start();
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiters.delete(waiter);
        const reason = this.#lastError ?? new ConnectionLost('no connection yet');
        reject(journalError('cannot be reached', reason, this.#settings.owner));
      };
      const remaining = deadline - performance.now();
      const timer = remaining <= MAX_TIMER_MS ? setTimeout(giveUp, Math.max(remaining, 0)).unref() : undefined;
      const waiter: Waiter = {
        resolve(connection) {
          clearTimeout(timer);
          resolve(connection);
        },
        reject(error) {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#waiters.add(waiter);
    });
  }

  async #keepConnected(): Promise<void> {
    const { scripts, maxDelayMs } = this.#settings;
    const backoff = new Backoff(maxDelayMs);
    while (!this.#closed) {
      let since = performance.now();
      let connection: RedisConnection | undefined;
      try {
        const open = await connectToKey(this.#adapter, this.#key, this.#abort.signal);
        connection = open;
        await Promise.all(scripts.map((script) => open.command(['SCRIPT', 'LOAD', script]))); // a restarted server has none
        since = performance.now();
        await this.#use(connection);
      } catch (error) {
        this.#lastError = error as Error;
        if (!isTransient(error)) this.#rejectWaiters(error as Error);
        connection?.destroy(error as Error); // a command that failed leaves its connection open
      }
      await pause(backoff.next(performance.now() - since), this.#abort.signal);
    }
  }

  /** Uses the connection until it is closed. */
  #use(connection: RedisConnection): Promise<void> {
    return new Promise((resolve) => {
      this.#connection = connection;
      connection.onClosed((error) => {
        this.#connection = undefined;
        this.#lastError = error;
        this.#listener.onDisconnected();
        resolve();
      });
      if (this.#connection === undefined) return;
      this.#listener.onConnected(connection);
      for (const waiter of this.#waiters) waiter.resolve(connection);
      this.#waiters.clear();
    });
  }

  /** Rejects at once: waiting does not cure a wrong password. Attempts to connect continue, because passwords change. */
  #rejectWaiters(error: Error): void {
    for (const waiter of this.#waiters) waiter.reject(journalError('returned an error', error, this.#settings.owner));
    this.#waiters.clear();
  }
}

/** Wraps an error of Redis or of the connection; keeps its message. */
export function journalError(
  problem: 'returned an error' | 'cannot be reached',
  cause: Error,
  owner = 'redisJournal',
): SseError {
  const cure =
    problem === 'cannot be reached'
      ? '. Check that Redis runs, and the network in between. This process keeps trying to connect.'
      : '';
  return new SseError('ERR_SSE_JOURNAL', `${owner}: Redis ${problem}: ${cause.message}${cure}`, { cause });
}
