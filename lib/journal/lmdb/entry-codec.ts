/*
 * How an entry lies in the file: when it came, its channels and key as JSON, then its body as it is.
 * Knows the contract; nothing of LMDB.
 * Invariant: what was appended is what is read, byte for byte.
 */
import { createHash } from 'node:crypto';
import type { Entry, NewEntry } from '../journal.ts';

const PREFIX = 12; // the time in ms as a double, then the length of the JSON

interface Head {
  readonly to?: readonly string[];
  readonly except?: readonly string[];
  readonly key?: string;
}

/** An entry on its way into the log. `key` is the name under which its id is found again. */
export interface Draft {
  readonly key: string | undefined;
  readonly size: number;
  readonly bytes: Buffer;
}

/** Writes an entry down, with the time of now. Keys may be of any length; LMDB's are not, so a hash stands for one. */
export function draftOf({ to, except, key, body }: NewEntry): Draft {
  const hash = key === undefined ? undefined : `k${createHash('sha256').update(key).digest('base64url')}`;
  const head: Head = { to, except, key: hash };
  const json = Buffer.from(to || except || hash ? JSON.stringify(head) : '');
  const bytes = Buffer.allocUnsafe(PREFIX + json.byteLength + body.byteLength);
  bytes.writeDoubleLE(Date.now(), 0);
  bytes.writeUInt32LE(json.byteLength, 8);
  bytes.set(json, PREFIX);
  bytes.set(body, PREFIX + json.byteLength);
  return { key: hash, size: body.byteLength, bytes };
}

/** The entry that lies in these bytes. */
export function entryIn(bytes: Buffer, id: string): Entry {
  const { to, except } = headIn(bytes);
  return { id, to, except, body: bytes.subarray(PREFIX + bytes.readUInt32LE(8)) };
}

/** What trimming needs to know of an entry. */
export function traceOf(bytes: Buffer): {
  readonly at: number;
  readonly key: string | undefined;
  readonly size: number;
} {
  const size = bytes.byteLength - PREFIX - bytes.readUInt32LE(8);
  return { at: bytes.readDoubleLE(0), key: headIn(bytes).key, size };
}

function headIn(bytes: Buffer): Head {
  const length = bytes.readUInt32LE(8);
  return length === 0 ? {} : (JSON.parse(bytes.toString('utf8', PREFIX, PREFIX + length)) as Head);
}
