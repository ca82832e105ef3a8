/*
 * A message for many, as an entry of the log.
 * Knows frames, channels and errors.
 * Invariant: it is encoded once, and before anything is stored.
 */

import { rejectUnknownKeys, invalid } from '../validation/validate.ts';
import { channelsOf } from '../options/channel-names.ts';
import { SseTypeError, describe } from '../errors.ts';
import { encodeMessage, idLine } from '../wire/event-stream.ts';
import type { BroadcastOptions } from '../api/message.ts';
import type { NewEntry } from '../journal/journal.ts';
import type { Settings } from '../options/options.ts';

export type { BroadcastOptions };

const KNOWN: Record<keyof Required<BroadcastOptions>, true> = { to: true, except: true, key: true };

/** @throws {SseTypeError} for a message that cannot be sent, and for names that are no channels' */
export function toEntry(
  message: unknown,
  options: BroadcastOptions = {},
  { serialize, resumable }: Pick<Settings, 'serialize' | 'resumable'>,
): { id: string; entry: NewEntry } {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalid('broadcast(message, options): options', 'an object such as { to: … }', options);
  }
  rejectUnknownKeys('option of broadcast()', options, KNOWN); // a misspelt `to` would reach everyone
  const { to, except, key } = options;
  const { id, body } = encodeMessage(message, serialize);
  if (id !== undefined && resumable) {
    throw new SseTypeError(
      'ERR_SSE_ID',
      `The log gives a broadcast its id, so it cannot bring its own (${JSON.stringify(id)}): leave it out, or set history: false.`,
    );
  }
  if (key !== undefined && (typeof key !== 'string' || key === '')) {
    throw new SseTypeError('ERR_SSE_OPTION', `key is a string that is not empty, and this is ${describe(key)}.`);
  }
  const entry: NewEntry & { to?: readonly string[]; except?: readonly string[]; key?: string } = {
    body: Buffer.from(id === undefined ? body : idLine(id) + body),
  };
  // A member that is there and undefined would be something else than one that is not, to an engine that writes entries down.
  const audience = channelsOf(to);
  if (audience !== undefined) entry.to = audience;
  const others = channelsOf(except);
  if (others !== undefined && others.length > 0) entry.except = others;
  if (key !== undefined) entry.key = key;
  return { id: id ?? '', entry };
}
