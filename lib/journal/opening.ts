/*
 * Opens something once, for all callers. After a failure, the next call makes another attempt.
 */

export class Opening<T> {
  readonly #open: () => Promise<T>;
  #attempt: Promise<T> | undefined;

  constructor(open: () => Promise<T>) {
    this.#open = open;
  }

  /** Resolves with what the attempt that runs or has succeeded opens; without one, begins an attempt. */
  get(): Promise<T> {
    return (this.#attempt ??= this.#open().catch((error: unknown) => {
      this.#attempt = undefined;
      throw error;
    }));
  }
}
