/*
 * The names of channels.
 * Knows errors.
 * Invariant: a name is a string that is not empty; what it means is the application's.
 */

import { describe, SseTypeError } from '../errors.ts';

/** @throws {SseTypeError} `ERR_SSE_CHANNEL` */
export function checkChannels(channels: readonly unknown[]): asserts channels is readonly string[] {
  for (const channel of channels) {
    if (typeof channel === 'string' && channel !== '') continue;
    throw new SseTypeError(
      'ERR_SSE_CHANNEL',
      `A channel's name is a string that is not empty, and this is ${describe(channel)}.`,
    );
  }
}

/** One name or several, as a list; `undefined` stays. @throws {SseTypeError} `ERR_SSE_CHANNEL` */
export function channelsOf(given: unknown): readonly string[] | undefined {
  if (given === undefined) return undefined;
  const channels: readonly unknown[] = Array.isArray(given) ? given : [given];
  checkChannels(channels);
  return channels;
}
