/*
 * The error of a call of a router of runs that comes after its `close()`, or has no answer by then.
 */

import { SseError } from '../errors.ts';

/** @param name - the function that was called */
export function closedError(name: 'start' | 'stop' | 'status' | 'follow'): SseError {
  return new SseError(
    'ERR_SSE_CLOSED',
    `${name}() must be called, and have its answer, before close() of the router of runs; received a call that is later, or had no answer until then. Call it in another process, or on a new router.`,
  );
}
