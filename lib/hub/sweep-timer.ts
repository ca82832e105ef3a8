/*
 * The clock and the one timer of a hub: heartbeats, `maxAge`, slow clients and close deadlines are all checked when it fires.
 * Invariant: the timer never keeps a process alive, does not follow changes of the wall clock, and fires only as often as needed.
 */

import { AsyncResource } from 'node:async_hooks';
import { MAX_TIMER_MS } from '../validation/validate.ts';

/** A check of one connection costs about 20 ns. A sweep of n connections at most every n/100 ms therefore takes 0.2 % of the time. */
const CONNECTIONS_PER_MS = 100;

/** The result of a sweep. */
export interface Sweep {
  /** When something is due next: milliseconds of the timer's clock; Infinity: never. */
  readonly next: number;
  /** How many connections it checked. */
  readonly checked: number;
}

export class SweepTimer {
  /** Whole milliseconds on the timer's clock, as of the last {@link refresh}. An object holds an integer without a box. */
  now = 1;
  /** The clock begins at 1, because a connection that expires at 0 never does. */
  readonly #start = performance.now() - 1;
  readonly #sweep: (now: number) => Sweep;
  /** Of the router: a sweep is shared, so it must not run in the context of the request that has started the timer. */
  readonly #context = new AsyncResource('SseSweepTimer');
  #timeout: NodeJS.Timeout | undefined;
  #wakesAt = Infinity;
  #minDelay = 1;

  /** @param sweep Does what is due. */
  constructor(sweep: (now: number) => Sweep) {
    this.#sweep = sweep;
  }

  /** Reads the clock: whole milliseconds since a moment before the timer was created. */
  read(): number {
    return Math.trunc(performance.now() - this.#start);
  }

  /** Reads the clock into {@link now}. */
  refresh(): number {
    return (this.now = this.read());
  }

  /** Sweeps at this time at the latest. */
  wakeAt(time: number): void {
    if (time >= this.#wakesAt) return;
    clearTimeout(this.#timeout);
    this.#wakesAt = time;
    const delay = Math.max(time - this.read(), this.#minDelay);
    this.#timeout = setTimeout(
      () => this.#context.runInAsyncScope(() => this.#fire()),
      Math.min(delay, MAX_TIMER_MS),
    ).unref();
  }

  stop(): void {
    clearTimeout(this.#timeout);
    this.#wakesAt = Infinity;
  }

  #fire(): void {
    this.#wakesAt = Infinity;
    const { next, checked } = this.#sweep(this.refresh());
    this.#minDelay = Math.max(1, Math.ceil(checked / CONNECTIONS_PER_MS));
    if (next < Infinity) this.wakeAt(next);
  }
}
