/*
 * The time until the journal is open.
 * Invariant: opening is tried until it succeeds or the router closes; no caller waits longer than ten seconds.
 */

import { OutageReports } from '../diagnostics/outage-reports.ts';
import type { Journal, JournalWindow } from '../journal/journal.ts';
import { brokenContract } from './journal-faults.ts';

/** How long a request or a broadcast waits. */
const OPEN_TIMEOUT_MS = 10_000;
/** The pause after the first failed try. It doubles with each further one, up to the maximum. */
const RETRY_DELAY_MS = 100;
const MAX_RETRY_DELAY_MS = 5000;

export class JournalOpener {
  readonly #journal: Journal;
  /** The tries fail with the same error until its cause is removed. */
  readonly #outage: OutageReports;
  readonly #waiters = new Set<(isOpen: boolean) => void>();
  /** Those of the waiters that are requests. */
  readonly #requests = new Set<(isOpen: boolean) => void>();
  #isOpen = false;
  #isStopped = false;

  constructor(journal: Journal, onError: (error: unknown) => void) {
    this.#journal = journal;
    this.#outage = new OutageReports(onError);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /**
   * Opens the journal and calls `follow` with its newest entries; then waiting callers continue. A try fails wherever the journal
   * throws or returns nonsense. Resolves once the journal is open, or the router has closed.
   */
  async open(maxEntries: number, follow: (window: JournalWindow) => void): Promise<void> {
    for (let delay = RETRY_DELAY_MS; !this.#isStopped; delay = Math.min(delay * 2, MAX_RETRY_DELAY_MS)) {
      /* oxlint-disable no-await-in-loop -- the tries follow each other */
      try {
        await this.#journal.open();
        const window = checkWindow(await this.#journal.window(maxEntries));
        if (this.#isStopped) return;
        follow(window);
        this.#isOpen = true;
        this.#settle(true);
        return;
      } catch (error) {
        if (this.#isStopped) return;
        this.#outage.add(error);
        await new Promise((resolve) => setTimeout(resolve, delay).unref());
      }
      /* oxlint-enable no-await-in-loop */
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#settle(false);
  }

  /**
   * Resolves with whether the journal is open, now or within ten seconds.
   * @param departed - Of a request: it aborts when the client disconnects; then the promise resolves with `false`.
   */
  whenOpen(departed?: AbortSignal): Promise<boolean> {
    if (this.#isOpen || this.#isStopped || departed?.aborted) return Promise.resolve(this.#isOpen);
    return new Promise((resolve) => {
      const onDeparted = (): void => settle(false);
      const settle = (isOpen: boolean): void => {
        clearTimeout(timer);
        departed?.removeEventListener('abort', onDeparted);
        this.#waiters.delete(settle);
        this.#requests.delete(settle);
        resolve(isOpen);
      };
      const timer = setTimeout(settle, OPEN_TIMEOUT_MS, false).unref();
      this.#waiters.add(settle);
      if (departed === undefined) return;
      this.#requests.add(settle);
      departed.addEventListener('abort', onDeparted);
    });
  }

  /** The requests that wait receive the answer that the journal is not open. */
  refuseRequests(): void {
    for (const settle of [...this.#requests]) settle(false); // oxlint-disable-line no-useless-spread -- each removes itself
  }

  #settle(isOpen: boolean): void {
    for (const settle of [...this.#waiters]) settle(isOpen); // oxlint-disable-line no-useless-spread -- each removes itself
  }
}

/** @throws {SseError} for what is no window of a log */
function checkWindow(window: unknown): JournalWindow {
  const { floor, entries } = (window ?? {}) as Partial<JournalWindow>;
  if (typeof floor === 'string' && Array.isArray(entries)) return window as JournalWindow;
  throw brokenContract('The result of window()', 'an object with floor and entries', window);
}
