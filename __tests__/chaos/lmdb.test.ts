/*
 * The same with LMDB: three processes on one path, killed again and again, in the middle of their commits.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random } from '../fixtures/random.ts';
import { Fleet } from './fleet.ts';
import { seconds, seed } from './settings.ts';
import { ending, gather, storm } from './scene.ts';
import { SPOTLESS } from './verdict.ts';

jest.setTimeout(120_000 + seconds * 1000);

let path: string;
let fleet: Fleet;
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'sse-router-chaos-'));
});
afterEach(async () => {
  await fleet?.stop();
  rmSync(path, { recursive: true, force: true });
});

test(`three processes on one path, killed for ${seconds} s`, async () => {
  const random = new Random(seed);
  fleet = new Fleet([0, 1, 2].map(() => ({ engine: 'lmdb' as const, at: path, rate: 10 })));
  await fleet.start();
  const crowd = await gather(fleet, random);
  try {
    crowd.harass(40);
    await storm(seconds, fleet, random);
    // As a process reads it that has lived through all of it, or was started last.
    const { verdict, resets, deliveries } = await ending('lmdb', fleet, crowd, () => fleet.dump());
    expect(verdict).toEqual(SPOTLESS);
    expect(resets).toBe(0);
    expect(fleet.kills).toBeGreaterThanOrEqual(Math.floor(seconds / 5));
    expect(deliveries).toBeGreaterThan(crowd.clients.length * seconds * 3);
  } finally {
    crowd.leave();
  }
});
