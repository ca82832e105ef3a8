/*
 * Encodes an entry as the fields of a stream entry in Redis.
 * Invariant: an entry that cannot be stored is rejected before it counts as pending.
 */
import { SseError } from '../../errors.ts';
import { checkBody } from '../journal-limits.ts';
import type { NewEntry } from '../journal.ts';
import type { Arg } from './redis-connection.ts';

/** Returns names and values, alternating, and their size in bytes. */
export function entryFields({ to, except, body }: NewEntry, maxEntryBytes: number): { fields: Arg[]; size: number } {
  checkBody(body);
  const fields: Arg[] = [];
  if (to) fields.push('to', JSON.stringify(to));
  if (except) fields.push('except', JSON.stringify(except));
  const size = fields.reduce((sum, field) => sum + field.length, body.byteLength);
  if (size > maxEntryBytes) {
    throw new SseError(
      'ERR_SSE_TOO_LARGE',
      `append: the entry must be at most ${maxEntryBytes} bytes (maxEntryBytes); received ${size} bytes. ` +
        'The entry was not stored. Increase maxEntryBytes or send less data.',
    );
  }
  fields.push('body', Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength));
  return { fields, size };
}
