/*
 * Those who wait for something to arrive, in the order in which they asked, each with a deadline.
 * Knows the timers of Node, and nothing of streams.
 * Invariant: every promise given out settles: with the value, with `undefined` at the deadline, or with `undefined` once nothing can come any more.
 */
import { clearTimeout as clearTimer, setTimeout as startTimer } from 'node:timers';

// Held as this module was loaded: fake timers replace the globals, and some replace these as well. Deadlines are real time.
const start = startTimer;
const stop = clearTimer;
const immediate = globalThis.setImmediate;

/** A deadline in real time, whatever the test has done to the clock. The returned function calls it off. */
export function deadline(milliseconds: number, then: () => void): () => void {
  const timer = start(then, Math.min(milliseconds, 2 ** 31 - 1));
  return () => stop(timer);
}

/** What to do about a server that waits for the end of a turn that a test's fake timers never let come; '' when they do not. */
export function heldBack(): string {
  if (globalThis.setImmediate === immediate) return '';
  return '; fake timers hold back setImmediate, by which servers answer: leave it real, as in useFakeTimers({ doNotFake: ["setImmediate"] })';
}

/** The queue of those who wait. `look()` is called whenever something has changed. */
export class Waiting {
  readonly #waiters = new Set<{ look(): void; giveUp(): void }>();
  #over = false;

  /** Waits until `ready` gives a value. Nobody overtakes: `ready` is asked in the order of the calls. */
  wait<T>(ready: () => T | undefined, milliseconds: number): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void): void => {
        cancel();
        this.#waiters.delete(waiter);
        settle();
      };
      const waiter = {
        look: () => {
          try {
            const value = ready();
            if (value !== undefined) done(() => resolve(value));
          } catch (error) {
            done(() => reject(error));
          }
        },
        giveUp: () => done(() => resolve(undefined)),
      };
      const cancel = deadline(milliseconds, waiter.giveUp);
      this.#waiters.add(waiter);
      waiter.look();
      if (this.#over && this.#waiters.has(waiter)) waiter.giveUp();
    });
  }

  look(): void {
    for (const waiter of this.#waiters) waiter.look();
  }

  /** Nothing will come any more: whoever still waits is told, and so is whoever asks from now on. */
  end(): void {
    this.#over = true;
    for (const waiter of this.#waiters) waiter.giveUp();
  }
}
