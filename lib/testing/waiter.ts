/*
 * Promises that wait for something to arrive, in the order of the calls, each with a deadline.
 * Invariant: every promise settles: with the value, with `undefined` at the deadline, or with `undefined` once nothing more can arrive.
 */
import { clearTimeout, setTimeout } from 'node:timers';

// Kept from when this module was loaded: fake timers replace the globals, and some replace these functions too. Deadlines
// are real time.
const startTimer = setTimeout;
const stopTimer = clearTimeout;
const realSetImmediate = globalThis.setImmediate;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Starts a deadline in real time, whatever the test has done to the clock. The returned function cancels it. */
export function startDeadline(milliseconds: number, onExpired: () => void): () => void {
  const timer = startTimer(onExpired, Math.min(milliseconds, MAX_TIMER_MS));
  return () => stopTimer(timer);
}

/** Returns a hint for a test whose fake timers keep the server's `setImmediate` callbacks from running; else `''`. */
export function fakeTimerHint(): string {
  if (globalThis.setImmediate === realSetImmediate) return '';
  return '; fake timers hold back setImmediate, which servers need to answer: keep it real, as in useFakeTimers({ doNotFake: ["setImmediate"] })';
}

/** A queue of waiting promises. Call `check()` whenever something has changed. */
export class Waiter {
  readonly #pending = new Set<{ check(): void; giveUp(): void }>();
  #ended = false;

  /** Waits until `ready` returns a value. The order is fair: `ready` functions are called in the order of the `wait` calls. */
  wait<T>(ready: () => T | undefined, milliseconds: number): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const settle = (action: () => void): void => {
        cancelDeadline();
        this.#pending.delete(entry);
        action();
      };
      const entry = {
        check: () => {
          try {
            const value = ready();
            if (value !== undefined) settle(() => resolve(value));
          } catch (error) {
            settle(() => reject(error));
          }
        },
        giveUp: () => settle(() => resolve(undefined)),
      };
      const cancelDeadline = startDeadline(milliseconds, entry.giveUp);
      this.#pending.add(entry);
      entry.check();
      if (this.#ended && this.#pending.has(entry)) entry.giveUp();
    });
  }

  /** Resolves the promises whose value is ready. */
  check(): void {
    for (const entry of this.#pending) entry.check();
  }

  /** Nothing more can arrive: resolves all promises with `undefined`, those of later calls as well. */
  end(): void {
    this.#ended = true;
    for (const entry of this.#pending) entry.giveUp();
  }
}
