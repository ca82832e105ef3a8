/*
 * Three processes on one LMDB file are killed again and again, in the middle of their commits. No client misses an event,
 * receives one twice or out of order, or receives a reset.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random } from '../fixtures/random.ts';
import { Fleet } from './fleet.ts';
import { seconds, seed } from './settings.ts';
import { finishScenario, connectClients, killServers } from './scenario.ts';
import { NO_FAULTS } from './comparison.ts';

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
  const clients = await connectClients(fleet, random);
  try {
    clients.startCutting(40);
    await killServers(seconds, fleet, random);
    // The log is read by a process that has run all the time, or was started last.
    const { faults, resets, deliveries } = await finishScenario('lmdb', fleet, clients, () => fleet.readLog());
    expect(faults).toEqual(NO_FAULTS);
    expect(resets).toBe(0);
    expect(fleet.disconnects).toBeGreaterThan(0);
    expect(fleet.kills).toBeGreaterThanOrEqual(Math.floor(seconds / 5));
    expect(deliveries).toBeGreaterThan(clients.all.length * seconds * 3);
  } finally {
    clients.disconnect();
  }
});
