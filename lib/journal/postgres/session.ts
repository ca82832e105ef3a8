/*
 * Keeps one connection, and makes it again whenever it is lost. The journal has two sessions, a reader and a writer.
 * Invariant: a session has at most one connection at a time. A call that waits for one settles within a bounded time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SseError } from '../../errors.ts';
import { MAX_TIMER_MS } from '../../validation/validate.ts';
import { ConnectionLost, isTransient, type PostgresConnection } from './postgres-connection.ts';

const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 2000;
const HEALTHY_MS = 5000; // a connection that lasted so long is not part of the failures before it

/** Waits. Keeps no process alive; the signal ends it. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { ref: false, signal }).catch(() => {});
}

interface Waiter {
  resolve(connection: PostgresConnection): void;
  reject(error: Error): void;
}

/** What a session does with its connections. */
export interface SessionUser {
  /** Makes one, ready for use. */
  connect(signal: AbortSignal): Promise<PostgresConnection>;
  /** Called with each connection as soon as it can be used. */
  onConnect?(connection: PostgresConnection): void;
  /** Called when it is lost, before its queries are rejected. */
  onClose?(): void;
}

export class Session {
  readonly #user: SessionUser;
  readonly #waitMs: number;
  readonly #owner: string;
  readonly #abort = new AbortController();
  /** Wait until a connection can be used. */
  readonly #waiters = new Set<Waiter>();
  /** Wait for the outcome of the next attempt. */
  readonly #attempts = new Set<Waiter>();
  #connection: PostgresConnection | undefined;
  #failure: Error | undefined;
  #started = false;
  #closed: SseError | undefined;

  /** `owner`: the function that the application has called, for messages. */
  constructor(user: SessionUser, waitMs: number, owner = 'postgresJournal') {
    this.#user = user;
    this.#waitMs = waitMs;
    this.#owner = owner;
  }

  /** Why there is no connection; undefined while there is one, or before the first attempt. */
  get failure(): Error | undefined {
    return this.#connection ? undefined : this.#failure;
  }

  /** The connection, while there is one. */
  get connection(): PostgresConnection | undefined {
    return this.#connection;
  }

  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Begins to connect, once. */
  start(): void {
    if (this.#started || this.#closed) return;
    this.#started = true;
    void this.#keepConnected();
  }

  /** The connection, or that of the next attempt; rejects if that attempt fails. */
  next(): Promise<PostgresConnection> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#connection) return Promise.resolve(this.#connection);
    this.start();
    return new Promise((resolve, reject) => this.#attempts.add({ resolve, reject }));
  }

  /**
   * Does `work` on the connection, and again on the next one after a failure that waiting may cure: only for work that may be
   * done twice. `waitMs`: how long to wait for a connection.
   * @throws {SseError} `ERR_SSE_JOURNAL` if Postgres refuses or cannot be reached, `ERR_SSE_CLOSED`.
   */
  async run<T>(work: (connection: PostgresConnection) => Promise<T>, waitMs: number = this.#waitMs): Promise<T> {
    const until = performance.now() + waitMs;
    /* oxlint-disable no-await-in-loop -- one attempt after the other */
    for (;;) {
      const connection = await this.#ready(until);
      try {
        return await work(connection);
      } catch (error) {
        if (this.#closed) throw this.#closed;
        if (!isTransient(error)) throw postgresError(this.#owner, 'refused', error as Error);
        this.#failure = error as Error;
        connection.destroy(error as Error); // the next connection, after a pause, may lead elsewhere
        if (performance.now() >= until) throw postgresError(this.#owner, 'cannot be reached', error as Error);
      }
    }
    /* oxlint-enable no-await-in-loop */
  }

  close(error: SseError): void {
    this.#closed = error;
    this.#abort.abort(error);
    this.#connection?.destroy(error);
    this.#rejectAll(error, this.#waiters, this.#attempts);
  }

  #ready(until: number): Promise<PostgresConnection> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#connection) return Promise.resolve(this.#connection);
    this.start();
    return new Promise((resolve, reject) => {
      const expire = (): void => {
        this.#waiters.delete(waiter);
        reject(
          postgresError(this.#owner, 'cannot be reached', this.#failure ?? new ConnectionLost('no connection yet')),
        );
      };
      const left = until - performance.now();
      const timer = left < MAX_TIMER_MS ? setTimeout(expire, Math.max(left, 0)).unref() : undefined;
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
    let failures = 0;
    const { signal } = this.#abort;
    /* oxlint-disable no-await-in-loop -- one connection after the other */
    while (!this.#closed) {
      let since = performance.now();
      try {
        const connection = await this.#user.connect(signal);
        since = performance.now();
        await this.#use(connection);
      } catch (error) {
        this.#failure = error as Error;
        this.#rejectAll(error as Error, this.#attempts);
        // Waiting does not help against a wrong password. Attempts go on, because passwords change.
        if (!isTransient(error)) this.#rejectAll(postgresError(this.#owner, 'refused', error as Error), this.#waiters);
      }
      if (performance.now() - since > HEALTHY_MS) failures = 0;
      const delay = Math.min(FIRST_DELAY_MS * 2 ** failures++, LONGEST_DELAY_MS);
      await pause(delay / 2 + (Math.random() * delay) / 2, signal); // jitter: a hundred processes do not come back at once
    }
    /* oxlint-enable no-await-in-loop */
  }

  /** Settles when the connection is lost. */
  #use(connection: PostgresConnection): Promise<void> {
    if (this.#closed) connection.destroy(this.#closed);
    return new Promise((resolve) => {
      this.#connection = connection;
      connection.onClose((error) => {
        this.#connection = undefined;
        this.#failure = error;
        this.#user.onClose?.();
        resolve();
      });
      if (this.#connection === undefined) return;
      this.#user.onConnect?.(connection);
      for (const waiters of [this.#waiters, this.#attempts]) {
        for (const waiter of waiters) waiter.resolve(connection);
        waiters.clear();
      }
    });
  }

  #rejectAll(error: Error, ...sets: Set<Waiter>[]): void {
    for (const waiters of sets) {
      for (const waiter of waiters) waiter.reject(error);
      waiters.clear();
    }
  }
}

/** The server's own message, with a code of this package. */
export function journalError(what: 'refused' | 'cannot be reached', cause: Error): SseError {
  return postgresError('postgresJournal', what, cause);
}

/** `owner`: the function that the application has called. */
export function postgresError(owner: string, what: 'refused' | 'cannot be reached', cause: Error): SseError {
  const { code } = cause as { code?: string };
  let cure = '';
  if (code === '42501') {
    cure = '. Grant the rights in docs/postgres.md, or run its statements as a role that may create tables';
  } else if (what === 'cannot be reached') {
    cure = '. Check that Postgres runs, and the network in between. This process keeps trying to connect.';
  }
  return new SseError('ERR_SSE_JOURNAL', `${owner}: Postgres ${what}: ${cause.message}${cure}`, { cause });
}
