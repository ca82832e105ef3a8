/*
 * Limits how often costly work runs, so that it takes at most one hundredth of the time.
 * Invariant: work that took long does not run again soon, however many connections there are.
 */

/** The pause after the work, in multiples of the time that it took. */
const PAUSE_FACTOR = 100;

/** The throttle of one kind of work. */
export class Throttle {
  #nextStart = 0;

  /** Whether the work may run. */
  get isDue(): boolean {
    return performance.now() >= this.#nextStart;
  }

  /** Starts the pause after work that took this long. */
  record(ms: number): void {
    this.#nextStart = performance.now() + ms * PAUSE_FACTOR;
  }
}
