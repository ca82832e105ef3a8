/*
 * Checks the option `snapshot`, and what the function returns.
 *
 * Invariant: an asynchronous iterable is refused. The state belongs to one position of the log, so it is complete before it is sent.
 */

import type { SseTypeError } from '../errors.ts';
import { invalid, optionalFunction } from '../validation/validate.ts';

/** Checks the option. @throws {SseTypeError} `ERR_SSE_OPTION` */
export function checkSnapshot<F>(snapshot: F | undefined): F | undefined {
  // The result of such a function is refused for every client: each would return at once, again and again.
  if (Object.prototype.toString.call(snapshot) === '[object AsyncGeneratorFunction]') {
    throw invalidSnapshot('The result of snapshot', snapshot, 'ERR_SSE_OPTION');
  }
  return optionalFunction('snapshot', snapshot, { cure: 'It returns the state: snapshot: () => ({ data: … }).' });
}

/** Returns the error for a snapshot that is neither a message nor an iterable of messages. */
export function invalidSnapshot(
  name: string,
  value: unknown,
  code: 'ERR_SSE_OPTION' | 'ERR_SSE_SOURCE' = 'ERR_SSE_SOURCE',
): SseTypeError {
  const cure =
    'Instead of an async generator, use an async function that collects the messages in an array and returns it.';
  return invalid(name, 'a message, a string, an array or another synchronous iterable of these', value, { code, cure });
}
