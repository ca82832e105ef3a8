/*
 * Limits how often costly work runs, so that it takes at most one hundredth of the time.
 * Invariant: work that took long does not run again soon, however many connections there are.
 */

/** The pause after the work, in multiples of the time that it took. */
const PAUSE_FACTOR = 100;

/** The throttle of one kind of work. */
export class Throttle {
  #nextStart = 0;

  /** Runs the work and returns its result; `undefined` if it is too early. */
  run<T>(work: () => T): T | undefined {
    const start = performance.now();
    if (start < this.#nextStart) return undefined;
    const result = work();
    const end = performance.now();
    this.#nextStart = end + (end - start) * PAUSE_FACTOR;
    return result;
  }
}
