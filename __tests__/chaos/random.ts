/*
 * Chance that can be repeated: one seed for a whole run, printed with its result.
 * Knows nothing.
 * Invariant: the same seed gives the same faults at the same times; what the machine makes of them is its own.
 */

/** `CHAOS_SEED`, else a new one. */
export const seed = Number(process.env['CHAOS_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

/** `CHAOS_SECONDS`: how long each run with kills takes; the scenarios of loss are repeated once more for every 30 of it. */
export const asked = process.env['CHAOS_SECONDS'] === undefined ? undefined : Number(process.env['CHAOS_SECONDS']);
if (asked !== undefined && !(asked > 0)) throw new Error('CHAOS_SECONDS is a number of seconds');

/** How often a scenario of loss is gone through. */
export const rounds = Math.max(1, Math.round((asked ?? 0) / 30));

export class Random {
  #state: number;

  constructor(from: number = seed) {
    this.#state = from >>> 0;
  }

  /** From 0 to 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  of<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.next() * list.length)];
  }
}
