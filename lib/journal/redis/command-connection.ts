/*
 * The way to Redis: dialling with redirects and back-off, and the one standing connection for commands.
 * Knows links, scripts and errors.
 * Invariant: at most one command connection at a time; what waits for one is told within a bounded time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SseError } from '../../errors.ts';
import type { Source } from './clients.ts';
import { type Arg, type Link, LinkLost, passes, Refusal } from './redis-connection.ts';
import { PUBLISH } from './scripts.ts';
import type { Address } from './client-adapters.ts';

const REDIRECTS = 5;
const FIRST_DELAY = 50;
const LONGEST_DELAY = 2_000;
const HEALTHY = 5_000; // a connection that lived so long was no part of the trouble before it

/** Grows with every failure in a row; jittered, so that a hundred processes do not come back as one. */
export class Backoff {
  #failures = 0;

  /** Milliseconds to wait now. `lived`: how long the connection lived that has just been lost. */
  next(lived: number): number {
    if (lived > HEALTHY) this.#failures = 0;
    const delay = Math.min(FIRST_DELAY * 2 ** this.#failures++, LONGEST_DELAY);
    return delay / 2 + (Math.random() * delay) / 2;
  }
}

/** A wait that keeps no process alive and that the signal ends. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { ref: false, signal }).catch(() => {});
}

/**
 * A connection to the node that has `key`, proven to answer for it. A cluster says itself where that is («-MOVED slot host:port»),
 * so neither client's own routing is needed, whose silent repeats would break the order of publishes. `signal` ends it at any time.
 */
export async function dial(source: Source, key: string, signal: AbortSignal): Promise<Link> {
  let at: Address | undefined;
  for (let redirects = 0; ; redirects++) {
    const link = await source.connect(at, signal);
    try {
      await link.command(['XLEN', key]); // also tells LOADING, CLUSTERDOWN and a key that is no stream
      return link;
    } catch (error) {
      link.destroy(error as Error);
      const moved = error instanceof Refusal && error.code === 'MOVED' ? addressIn(error.message) : undefined;
      if (!moved || redirects === REDIRECTS) throw error;
      at = { host: moved.host || at?.host || 'localhost', port: moved.port };
    }
  }
}

/** «MOVED 3999 127.0.0.1:6381», IPv6 without brackets; an empty host is the one that was asked. */
function addressIn(message: string): Address | undefined {
  const found = /^MOVED \d+ (.*):(\d+)$/.exec(message);
  return found ? { host: found[1]!, port: Number(found[2]) } : undefined;
}

interface Waiter {
  resolve(link: Link): void;
  reject(error: Error): void;
}

/** What a line tells of its connection. */
export interface LineUser {
  /** A connection is up, the publish script loaded. */
  online(link: Link): void;
  /** It is gone. Called before its commands are rejected. */
  offline(): void;
}

export class Line {
  readonly #source: Source;
  readonly #key: string;
  readonly #wait: number;
  readonly #user: LineUser;
  readonly #waiters = new Set<Waiter>();
  readonly #over = new AbortController();
  #link: Link | undefined;
  #trouble: Error | undefined;
  #started = false;
  #closed: SseError | undefined;

  constructor(source: Source, key: string, wait: number, user: LineUser) {
    this.#source = source;
    this.#key = key;
    this.#wait = wait;
    this.#user = user;
  }

  /** Why there is no connection; undefined while there is one, or before the first try. */
  get trouble(): Error | undefined {
    return this.#link ? undefined : this.#trouble;
  }

  /** Begins to connect, once. */
  start(): void {
    if (this.#started || this.#closed) return;
    this.#started = true;
    void this.#stay();
  }

  /**
   * Asks in one round trip, and again on the next connection if this one is lost: only for what may be asked twice.
   * `wait`: how long to wait for a connection.
   * @throws {SseError} `ERR_SSE_JOURNAL` when Redis refuses or cannot be reached, `ERR_SSE_CLOSED`.
   */
  async ask(commands: readonly (readonly Arg[])[], wait: number = this.#wait): Promise<unknown[]> {
    const until = performance.now() + wait;
    for (;;) {
      const link = await this.#ready(until);
      try {
        return await Promise.all(commands.map((command) => link.command(command)));
      } catch (error) {
        if (this.#closed) throw this.#closed;
        if (!passes(error)) throw journalError('refused', error as Error);
        this.#trouble = error as Error;
        link.destroy(error as Error); // a refusal that passes: the next connection may lead elsewhere
      }
    }
  }

  close(error: SseError): void {
    this.#closed = error;
    this.#over.abort(error);
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }

  #ready(until: number): Promise<Link> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#link) return Promise.resolve(this.#link);
    this.start();
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiters.delete(waiter);
        reject(journalError('cannot be reached', this.#trouble ?? new LinkLost('no connection yet')));
      };
      const left = until - performance.now();
      const timer = left < 2 ** 31 ? setTimeout(giveUp, Math.max(left, 0)).unref() : undefined;
      const waiter: Waiter = {
        resolve(link) {
          clearTimeout(timer);
          resolve(link);
        },
        reject(error) {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#waiters.add(waiter);
    });
  }

  async #stay(): Promise<void> {
    const backoff = new Backoff();
    while (!this.#closed) {
      let since = performance.now();
      let link: Link | undefined;
      try {
        link = await dial(this.#source, this.#key, this.#over.signal);
        await link.command(['SCRIPT', 'LOAD', PUBLISH]); // a restarted server has forgotten it
        since = performance.now();
        await this.#serve(link);
      } catch (error) {
        this.#trouble = error as Error;
        if (!passes(error)) this.#refuse(error as Error);
        link?.destroy(error as Error); // a refused command leaves its connection open
      }
      await pause(backoff.next(performance.now() - since), this.#over.signal);
    }
  }

  /** Until the connection is gone. */
  #serve(link: Link): Promise<void> {
    return new Promise((resolve) => {
      this.#link = link;
      link.onGone((error) => {
        this.#link = undefined;
        this.#trouble = error;
        this.#user.offline();
        resolve();
      });
      if (this.#link === undefined) return;
      this.#user.online(link);
      for (const waiter of this.#waiters) waiter.resolve(link);
      this.#waiters.clear();
    });
  }

  /** No waiting helps against a wrong password: those who wait are told at once. Trying goes on, for passwords change. */
  #refuse(error: Error): void {
    for (const waiter of this.#waiters) waiter.reject(journalError('refused', error));
    this.#waiters.clear();
  }
}

/** Redis' own words, with a code of ours. */
export function journalError(what: 'refused' | 'cannot be reached', cause: Error): SseError {
  return new SseError('ERR_SSE_JOURNAL', `redisJournal: Redis ${what}: ${cause.message}`, { cause });
}
