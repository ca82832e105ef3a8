/*
 * Looks at a data file before LMDB does, which maps it into memory and trusts every byte.
 * Knows the layout of LMDB's two meta pages, and nothing else of the file.
 * Invariant: a file that would bring the process down when it is opened (SIGSEGV, SIGBUS: both seen) is refused with an error.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { damaged } from './lmdb-errors.ts';

const MAGIC = 0xbeefc0de;
const HEADER = 24; // of a page, on 64 bits
const META = { magic: 0, version: 4, pageSize: 24, freeRoot: 64, mainRoot: 112, txnId: 128 } as const;
const EMPTY = 0xffff_ffff_ffff_ffffn; // the root of a tree without pages

/**
 * Throws when the file cannot be what LMDB has written. What is damaged within its pages is not seen: LMDB has no checksums.
 * A last page of which a part is missing is no damage: whoever was killed while he wrote it has not committed it.
 * @throws {SseError} `ERR_SSE_JOURNAL`
 */
export function mustBeIntact(path: string, file: string): void {
  if (process.arch !== 'x64' && process.arch !== 'arm64') return; // the layout differs elsewhere
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch {
    return; // not there yet, or not readable: LMDB says that well itself
  }
  try {
    const { size } = fstatSync(handle);
    if (size === 0) return; // another process makes it right now
    const head = Buffer.alloc(HEADER + 512);
    readSync(handle, head, 0, head.length, 0);
    const pageSize = head.readUInt32LE(HEADER + META.pageSize);
    if (head.readUInt32LE(HEADER + META.magic) !== MAGIC) throw damaged(path, 'it is not an LMDB file');
    if (pageSize < 512 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0)
      throw damaged(path, 'its header is broken');
    if (size < 2 * pageSize) throw damaged(path, `it is cut off at ${size} bytes`);
    const second = Buffer.alloc(head.length);
    readSync(handle, second, 0, second.length, pageSize);
    const txn = (page: Buffer) => page.readBigUInt64LE(HEADER + META.txnId);
    const latest = txn(second) > txn(head) ? second : head;
    for (const at of [META.freeRoot, META.mainRoot]) {
      const root = latest.readBigUInt64LE(HEADER + at);
      if (root !== EMPTY && (root + 1n) * BigInt(pageSize) > BigInt(size))
        throw damaged(path, `it is cut off at ${size} bytes`);
    }
  } finally {
    closeSync(handle);
  }
}
