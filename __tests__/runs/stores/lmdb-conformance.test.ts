/*
 * The suite that every store of runs must pass, on LMDB.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runStoreConformance, type RunStoreHarness } from '../../../lib/conformance/index.ts';
import { lmdbRuns } from '../../../lib/journal/lmdb/index.ts';

async function make(): Promise<RunStoreHarness> {
  const path = await mkdtemp(join(tmpdir(), 'sse-router-lmdb-'));
  return {
    store: lmdbRuns(path),
    reopen: () => lmdbRuns(path),
    cleanup: () => rm(path, { recursive: true, force: true }),
  };
}

for (const { name, run } of runStoreConformance(make)) test(name, run);
