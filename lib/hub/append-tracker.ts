/*
 * The appends of one router that are not settled, and the newest entry that they have stored: a shutdown waits for both.
 * Invariant: an append costs a few instructions and allocates nothing here; only a shutdown makes a promise.
 */

/** The parts of the hub that the tracker uses. */
interface Parts {
  readonly isClosing: boolean;
  readonly journal: { compare(a: string, b: string): number };
  readonly ring: { readonly headId: string };
  /** Resolves when the ring has changed, when {@link wake} is called, or when the signal aborts. */
  whenAppended(signal: AbortSignal): Promise<void>;
  wake(): void;
  report(error: unknown): void;
}

export class AppendTracker {
  readonly #parts: Parts;
  #pending = 0;
  /** The newest entry that an append of this process has stored. The journal may deliver it later than it resolves the append. */
  #newest: string | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** A call has begun that appends an entry. */
  begin(): void {
    this.#pending++;
  }

  /** The entry is in the log. With a key, it may be an older one. */
  onStored(id: string, hasKey: boolean): void {
    if (!hasKey || this.#newest === undefined || this.#compare(id, this.#newest) > 0) this.#newest = id;
  }

  /** The call has settled. */
  end(): void {
    if (--this.#pending === 0 && this.#parts.isClosing) this.#parts.wake();
  }

  /** The log has lost entries: those of this process may be among them. */
  onEntriesLost(): void {
    this.#newest = undefined;
  }

  /**
   * Waits until every call has settled, at most this long. With `andReceived`, waits also until the hub has received every entry that
   * they have stored. @returns `undefined` if there is nothing to wait for
   */
  settle(ms: number, andReceived: boolean): Promise<void> | undefined {
    return this.#isSettled(andReceived) ? undefined : this.#settle(ms, andReceived);
  }

  async #settle(ms: number, andReceived: boolean): Promise<void> {
    const timeout = new AbortController();
    // This timer keeps the process alive: otherwise it could end before the promise of close() settles.
    const timer = setTimeout(() => timeout.abort(), ms);
    while (!this.#isSettled(andReceived) && !timeout.signal.aborted) {
      await this.#parts.whenAppended(timeout.signal); // oxlint-disable-line no-await-in-loop -- each change is checked
    }
    clearTimeout(timer);
  }

  #isSettled(andReceived: boolean): boolean {
    if (this.#pending > 0) return false;
    if (!andReceived || this.#newest === undefined) return true;
    return this.#compare(this.#parts.ring.headId, this.#newest) >= 0;
  }

  /** Compares ids. A journal that throws here must reject no broadcast, and must not keep a shutdown from ending the streams. */
  #compare(a: string, b: string): number {
    try {
      return this.#parts.journal.compare(a, b);
    } catch (error) {
      this.#parts.report(error);
      return 0;
    }
  }
}
