/*
 * Reports the errors of a store. Its connections, its calls and its timers return the same error during an outage.
 * Invariant: each cause is reported once, until the store answers again or has not returned this error for a minute.
 */

import { describe } from '../errors.ts';

const FORGET_MS = 60_000;
/** Bounds the memory: the messages of some errors contain the name of a run. */
const MAX_CAUSES = 100;
/** An error may be its own cause. */
const MAX_DEPTH = 10;

export class OutageReports {
  readonly #report: (error: unknown) => void;
  /** When each cause was last received; the latest one is the last entry. */
  readonly #receivedAt = new Map<string, number>();

  constructor(report: (error: unknown) => void) {
    this.#report = report;
  }

  /** Reports an error, unless its cause has been reported. */
  add(error: unknown): void {
    const cause = causeOf(error);
    const now = performance.now();
    const before = this.#receivedAt.get(cause) ?? -Infinity;
    this.#receivedAt.delete(cause);
    this.#receivedAt.set(cause, now);
    const [oldest] = this.#receivedAt.keys();
    if (this.#receivedAt.size > MAX_CAUSES) this.#receivedAt.delete(oldest!);
    if (now - before > FORGET_MS) this.#report(error);
  }

  /** Ends the outage: the store answers again. */
  clear(): void {
    this.#receivedAt.clear();
  }
}

/**
 * Returns what identifies the cause of an error: the code of the engine (Redis has many texts for `OOM`, with the name of each script), or
 * the message of the innermost cause. Several functions wrap the error of one engine.
 */
function causeOf(error: unknown): string {
  let inner = error;
  for (let depth = 0; depth < MAX_DEPTH && isErrorLike(inner); depth++) {
    const { code, cause, message } = inner;
    if (typeof code === 'string' && !code.startsWith('ERR')) return code; // ERR is Redis' code for errors without one
    if (!isErrorLike(cause)) return message;
    inner = cause;
  }
  return typeof inner === 'string' ? inner : describe(inner);
}

/** Whether a value has a message. (An error of another realm is no instance of `Error`.) */
function isErrorLike(value: unknown): value is { message: string; code?: unknown; cause?: unknown } {
  return typeof value === 'object' && value !== null && typeof (value as { message?: unknown }).message === 'string';
}
