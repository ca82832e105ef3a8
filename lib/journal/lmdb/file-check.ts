/*
 * Checks a data file before LMDB opens it: LMDB maps the file into memory and trusts every byte.
 * Reads only the two meta pages of the file.
 * Invariant: a file that would crash the process on open (SIGSEGV, SIGBUS: both seen) is rejected with an error.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { damagedFile, type DatabaseKind } from './lmdb-errors.ts';

const MAGIC = 0xbeefc0de;
const PAGE_HEADER_BYTES = 24; // on 64 bits
const META_OFFSETS = { magic: 0, version: 4, pageSize: 24, freeRoot: 64, mainRoot: 112, txnId: 128 } as const;
const NO_ROOT = 0xffff_ffff_ffff_ffffn; // the root of a tree without pages

/**
 * Throws if LMDB cannot have written the file. Damage within the pages is not detected: LMDB has no checksums.
 * An incomplete last page is not damage: a process that was killed while it wrote the page has not committed it.
 * @throws {SseError} `ERR_SSE_JOURNAL`
 */
export function assertFileIntact(path: string, file: string, kind: DatabaseKind): void {
  if (process.arch !== 'x64' && process.arch !== 'arm64') return; // the layout differs elsewhere
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch {
    return; // the file does not exist or is not readable: LMDB reports that well itself
  }
  try {
    const { size } = fstatSync(handle);
    if (size === 0) return; // another process is creating the file
    const firstPage = Buffer.alloc(PAGE_HEADER_BYTES + 512);
    readSync(handle, firstPage, 0, firstPage.length, 0);
    const pageSize = firstPage.readUInt32LE(PAGE_HEADER_BYTES + META_OFFSETS.pageSize);
    if (firstPage.readUInt32LE(PAGE_HEADER_BYTES + META_OFFSETS.magic) !== MAGIC)
      throw damagedFile(path, 'it is not an LMDB file', kind);
    if (pageSize < 512 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0)
      throw damagedFile(path, 'its header is invalid', kind);
    if (size < 2 * pageSize) throw damagedFile(path, `it is truncated to ${size} bytes`, kind);
    const secondPage = Buffer.alloc(firstPage.length);
    readSync(handle, secondPage, 0, secondPage.length, pageSize);
    const txnId = (page: Buffer) => page.readBigUInt64LE(PAGE_HEADER_BYTES + META_OFFSETS.txnId);
    const latest = txnId(secondPage) > txnId(firstPage) ? secondPage : firstPage;
    for (const offset of [META_OFFSETS.freeRoot, META_OFFSETS.mainRoot]) {
      const root = latest.readBigUInt64LE(PAGE_HEADER_BYTES + offset);
      if (root !== NO_ROOT && (root + 1n) * BigInt(pageSize) > BigInt(size))
        throw damagedFile(path, `it is truncated to ${size} bytes`, kind);
    }
  } finally {
    closeSync(handle);
  }
}
