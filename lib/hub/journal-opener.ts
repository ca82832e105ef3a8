/*
 * The time until the journal is open.
 * Knows the journal's contract.
 * Invariant: it is tried until it works or the hub is closed; nobody waits for longer than ten seconds.
 */

import type { Journal, JournalWindow } from '../journal/journal.ts';

/** How long a request or a broadcast waits: milliseconds. */
const OPEN_TIMEOUT_MS = 10_000;
/** The longest pause between two tries: milliseconds. */
const MAX_RETRY_DELAY_MS = 5000;

export class JournalOpener {
  readonly #journal: Journal;
  readonly #onError: (error: unknown) => void;
  readonly #waiting = new Set<(is: boolean) => void>();
  #isDone = false;
  #isStopped = false;

  constructor(journal: Journal, onError: (error: unknown) => void) {
    this.#journal = journal;
    this.#onError = onError;
  }

  get isOpen(): boolean {
    return this.#isDone;
  }

  /** Opens the journal. Resolves with its newest entries, or with nothing when it was stopped first. */
  async open(max: number): Promise<JournalWindow | undefined> {
    for (let pause = 100; !this.#isStopped; pause = Math.min(pause * 2, MAX_RETRY_DELAY_MS)) {
      /* oxlint-disable no-await-in-loop -- one try after the other */
      try {
        await this.#journal.open();
        const window = await this.#journal.window(max);
        return this.#isStopped ? undefined : window;
      } catch (error) {
        if (this.#isStopped) return undefined;
        this.#onError(error);
        await new Promise((resolve) => setTimeout(resolve, pause).unref());
      }
      /* oxlint-enable no-await-in-loop */
    }
    return undefined;
  }

  /** It is followed: whoever waited may go on. */
  markOpen(): void {
    this.#isDone = true;
    this.#tell(true);
  }

  stop(): void {
    this.#isStopped = true;
    this.#tell(false);
  }

  /** Whether it is open, now or within ten seconds. */
  whenOpen(): Promise<boolean> {
    if (this.#isDone || this.#isStopped) return Promise.resolve(this.#isDone);
    return new Promise((resolve) => {
      const tell = (is: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(tell);
        resolve(is);
      };
      const timer = setTimeout(tell, OPEN_TIMEOUT_MS, false).unref();
      this.#waiting.add(tell);
    });
  }

  #tell(is: boolean): void {
    for (const tell of [...this.#waiting]) tell(is); // oxlint-disable-line no-useless-spread -- each takes itself out
  }
}
