/*
 * How often something costly may be done: so that it takes at most a hundredth of the time.
 * Knows nothing of any other room.
 * Invariant: what took long is not done again soon, however many connections there are.
 */

const SHARE = 100;

export class Pace {
  #next = 0;

  /** Does it, unless it is too soon. */
  run<T>(work: () => T): T | undefined {
    const start = performance.now();
    if (start < this.#next) return undefined;
    const result = work();
    const end = performance.now();
    this.#next = end + (end - start) * SHARE;
    return result;
  }
}
