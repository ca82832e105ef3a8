/*
 * The errors of a journal that returns something else than its contract states.
 */

import { describe, SseError } from '../errors.ts';
import type { ReadResult } from '../journal/journal.ts';

/** Returns the error for a value that a journal has returned. */
export function brokenContract(thing: string, expectation: string, value: unknown): SseError {
  return new SseError(
    'ERR_SSE_JOURNAL',
    `${thing} must be ${expectation}; received ${describe(value)}. Check the journal with sse-router/conformance.`,
  );
}

/** @throws {SseError} for what is no result of `read()` */
export function checkReadResult(result: unknown): ReadResult {
  const { ok, entries, reason } = (result ?? {}) as { ok?: unknown; entries?: unknown; reason?: unknown };
  if (ok === true ? Array.isArray(entries) : ok === false && typeof reason === 'string') return result as ReadResult;
  throw brokenContract('The result of read()', '{ ok: true, entries } or { ok: false, reason }', result);
}
