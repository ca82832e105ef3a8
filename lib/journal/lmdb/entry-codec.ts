/*
 * The form of an entry in the file: its time, its channels and key as JSON, then its body unchanged.
 * Invariant: an entry is read as it was appended, byte for byte.
 */
import { createHash } from 'node:crypto';
import type { Entry, NewEntry } from '../journal.ts';

const PREFIX_BYTES = 12; // the time in ms as a double, then the length of the JSON

interface Header {
  readonly to?: readonly string[];
  readonly except?: readonly string[];
  readonly key?: string;
}

/** An entry as it is stored. The database maps `key` to the id of the entry. */
export interface EncodedEntry {
  readonly key: string | undefined;
  readonly size: number;
  readonly bytes: Buffer;
}

/** Encodes an entry, without its time. The length of LMDB's keys is limited, so a hash replaces the application's key. */
export function encodeEntry({ to, except, key, body }: NewEntry): EncodedEntry {
  const hash = key === undefined ? undefined : `k${createHash('sha256').update(key).digest('base64url')}`;
  const header: Header = { to, except, key: hash };
  const json = Buffer.from(to || except || hash ? JSON.stringify(header) : '');
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + json.byteLength + body.byteLength);
  bytes.writeDoubleLE(0, 0);
  bytes.writeUInt32LE(json.byteLength, 8);
  bytes.set(json, PREFIX_BYTES);
  bytes.set(body, PREFIX_BYTES + json.byteLength);
  return { key: hash, size: body.byteLength, bytes };
}

/** Sets the time of an entry: when it is stored, under the lock, so that entries have their times in order. */
export function setStoredAt({ bytes }: EncodedEntry, time: number): void {
  bytes.writeDoubleLE(time, 0);
}

/** Decodes an entry. */
export function decodeEntry(bytes: Buffer, id: string): Entry {
  const { to, except } = headerOf(bytes);
  return { id, to, except, body: bytes.subarray(PREFIX_BYTES + bytes.readUInt32LE(8)) };
}

/** Decodes the part of an entry that trimming needs. */
export function trimInfo(bytes: Buffer): {
  readonly storedAt: number;
  readonly key: string | undefined;
  readonly size: number;
} {
  const size = bytes.byteLength - PREFIX_BYTES - bytes.readUInt32LE(8);
  return { storedAt: bytes.readDoubleLE(0), key: headerOf(bytes).key, size };
}

function headerOf(bytes: Buffer): Header {
  const length = bytes.readUInt32LE(8);
  return length === 0 ? {} : (JSON.parse(bytes.toString('utf8', PREFIX_BYTES, PREFIX_BYTES + length)) as Header);
}
