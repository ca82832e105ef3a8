/*
 * The one timer of a hub: heartbeats, ages, slowness and last seconds are all looked for when it fires.
 * Knows nothing of any other room.
 * Invariant: it never keeps a process alive, never goes back with the wall clock, and fires at most as often as there is need.
 */

import { MAX_TIMER_MS } from '../validation/validate.ts';

/** A look at `n` connections costs about 20 ns each: every n/100 ms that is 0.2 % of the time. */
const CONNECTIONS_PER_MS = 100;

export class SweepTimer {
  readonly #start = performance.now();
  readonly #sweep: (now: number) => { readonly next: number; readonly looked: number };
  #timer: NodeJS.Timeout | undefined;
  #at = Infinity;
  #pause = 1;

  /** `look` does what is due, and tells when something is due next and how many it looked at. */
  constructor(look: (now: number) => { readonly next: number; readonly looked: number }) {
    this.#sweep = look;
  }

  /** Whole milliseconds since this clock was made: small enough to be kept in an object without a box of its own. */
  now(): number {
    return Math.trunc(performance.now() - this.#start);
  }

  /** Something is due at `at`. */
  wakeAt(at: number): void {
    if (at >= this.#at) return;
    clearTimeout(this.#timer);
    this.#at = at;
    const wait = Math.max(at - this.now(), this.#pause);
    this.#timer = setTimeout(() => this.#fire(), Math.min(wait, MAX_TIMER_MS)).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#at = Infinity;
  }

  #fire(): void {
    this.#at = Infinity;
    const { next, looked } = this.#sweep(this.now());
    this.#pause = Math.max(1, Math.ceil(looked / CONNECTIONS_PER_MS));
    if (next < Infinity) this.wakeAt(next);
  }
}
