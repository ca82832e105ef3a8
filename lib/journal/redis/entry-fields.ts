/*
 * An entry on its way into Redis, as the fields of the stream's entry.
 * Knows the journal's entries and errors.
 * Invariant: what cannot be stored is refused before it is counted among what waits.
 */
import { SseError, SseTypeError, describe } from '../../errors.ts';
import type { NewEntry } from '../journal.ts';
import type { Arg } from './redis-connection.ts';

/** Names and values in turn, and how many bytes they are. */
export function fieldsOf({ to, except, body }: NewEntry, maxEntryBytes: number): { fields: Arg[]; size: number } {
  if (!(body instanceof Uint8Array)) {
    throw new SseTypeError('ERR_SSE_DATA', `append: body must be a Uint8Array; got ${describe(body)}`);
  }
  const fields: Arg[] = [];
  if (to) fields.push('to', JSON.stringify(to));
  if (except) fields.push('except', JSON.stringify(except));
  const size = fields.reduce((sum, field) => sum + field.length, body.byteLength);
  if (size > maxEntryBytes) {
    throw new SseError(
      'ERR_SSE_TOO_LARGE',
      `append: an entry of ${size} bytes is over maxEntryBytes (${maxEntryBytes}); nothing was stored`,
    );
  }
  fields.push('body', Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength));
  return { fields, size };
}
