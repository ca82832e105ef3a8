import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { conformance, type Harness } from '../../../lib/conformance/index.ts';
import { lmdbJournal } from '../../../lib/journal/lmdb/index.ts';

async function make(): Promise<Harness> {
  const path = await mkdtemp(join(tmpdir(), 'sse-router-lmdb-'));
  const options = { maxLength: 1000, sync: false };
  return {
    journal: lmdbJournal(path, options),
    reopen: () => lmdbJournal(path, options),
    cleanup: () => rm(path, { recursive: true, force: true }),
  };
}

for (const { name, run } of conformance(make)) test(name, run);
