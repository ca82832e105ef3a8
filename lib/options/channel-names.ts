/*
 * Checks the names of channels.
 *
 * Invariant: a channel name is a non-empty string; only the application gives it a meaning.
 */

import { invalid, nonEmptyString } from '../validation/validate.ts';

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

/**
 * Returns the channels in an option; `undefined` if it is left out. An explicit `undefined` is refused, because a channel is missing
 * by mistake then: `{ to: user?.channel }` must not reach every connection.
 * @param meaning - what leaving it out means: `to reach every connection`
 * @throws {SseTypeError} `ERR_SSE_CHANNEL`
 */
export function channelsIn<Name extends string>(
  options: { readonly [K in Name]?: unknown },
  name: Name,
  meaning: string,
): readonly string[] | undefined {
  const channels = channelsOf(options[name]);
  if (channels !== undefined || !(name in options)) return channels;
  const cure = `Leave it out ${meaning}, or pass [] for no channel.`;
  throw invalid(name, 'a channel or a list of channels', channels, { code: 'ERR_SSE_CHANNEL', cure });
}
