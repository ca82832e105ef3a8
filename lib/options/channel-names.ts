/*
 * Checks the names of channels.
 *
 * Invariant: a channel name is a non-empty string; only the application gives it a meaning.
 */

import { nonEmptyString } from '../validation/validate.ts';

const DETAILS = { code: 'ERR_SSE_CHANNEL', cure: "Pass a name, for example 'room:7'." } as const;

/** @throws {SseTypeError} `ERR_SSE_CHANNEL` */
export function checkChannels(channels: readonly unknown[]): asserts channels is readonly string[] {
  for (const channel of channels) nonEmptyString('The name of a channel', channel, DETAILS);
}

/** Returns one name or several as a list; `undefined` stays `undefined`. @throws {SseTypeError} `ERR_SSE_CHANNEL` */
export function channelsOf(given: unknown): readonly string[] | undefined {
  if (given === undefined) return undefined;
  const channels: readonly unknown[] = Array.isArray(given) ? given : [given];
  checkChannels(channels);
  return channels;
}
