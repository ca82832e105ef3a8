/*
 * Three servers produce and serve runs over one Redis. Servers are killed or stopped, Redis is killed, and readers are disconnected,
 * at random. Every reader gets every chunk of the log once and in order, and its end in time. Each run has one producer.
 *
 *   RUNS_CHAOS_SECONDS=250 npx jest __tests__/runs/chaos    runs longer than the default of 4 s: 50 runs with 300 readers, 100 kills
 *   RUNS_CHAOS_SEED=…                                       repeats the faults of an earlier run
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { redisRuns } from '../../../lib/journal/redis/index.ts';
import { Random } from '../../fixtures/random.ts';
import { nodeRedis } from '../../fixtures/redis-clients.ts';
import { type RedisServer, startRedis } from '../../fixtures/redis-server.ts';
import { Processes } from './processes.ts';
import { Scenario } from './scenario.ts';
import { LEASE_MS, readersPerRun, runCount, seconds, seed } from './settings.ts';

jest.setTimeout(120_000 + seconds * 1000);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test(`three servers and their Redis, killed for ${seconds} s`, async () => {
  const random = new Random(seed);
  const redis: RedisServer = await startRedis('--appendonly', 'yes', '--appendfsync', 'always'); // a stored chunk is on disk
  cleanups.push(() => redis.stop());
  const processes = new Processes(
    ['node-redis', 'ioredis', 'node-redis'].map((kind) => ({ kind, url: redis.url, lease: LEASE_MS })),
  );
  cleanups.push(() => processes.stop());
  await processes.start();
  const app = await nodeRedis.make(redis.url);
  const store = redisRuns(app.client);
  cleanups.push(
    () => app.end(),
    () => store.close(),
  );
  const scenario = new Scenario(processes, random, store);
  cleanups.push(() => scenario.disconnect());

  const endsAt = performance.now() + seconds * 1000;
  const isOver = (): boolean => performance.now() >= endsAt;
  /** Waits, at most until no fault follows. */
  const wait = (ms: number): Promise<void> => sleep(Math.max(0, Math.min(ms, endsAt - performance.now())));
  let [kills, pauses, redisKills] = [0, 0, 0];
  const work: Promise<void>[] = [];
  const interruptServers = async (): Promise<void> => {
    while (!isOver()) {
      await wait(random.between(500, 2500));
      if (isOver()) break;
      const { live } = processes;
      if (live.length < 2) continue; // otherwise no server would be left
      const server = random.of(live)!;
      if (random.next() < 0.2) {
        pauses++;
        work.push(server.pause(random.between(0.5, 2) * LEASE_MS));
      } else {
        kills++;
        work.push(server.replace());
      }
    }
  };
  const killRedis = async (): Promise<void> => {
    await sleep((seconds * 1000) / 3);
    while (!isOver()) {
      redisKills++;
      processes.redisFaults++;
      await redis.kill();
      await sleep(random.between(0, 1.5) * LEASE_MS);
      await redis.start();
      processes.redisFaults++;
      scenario.redisUpAt.push(performance.now());
      await wait(random.between(4, 10) * LEASE_MS);
    }
  };
  const stopCutting = scenario.startCutting(40);
  const places = Array.from({ length: runCount }, () => scenario.keepRunning(isOver));
  await Promise.all([interruptServers(), killRedis()]);
  stopCutting();
  await Promise.all(work);
  await Promise.all(places);

  // No producer is left: neither of an ended run, nor of a process that was stopped for longer than its lease.
  const figuresOf = () => Promise.all(processes.servers.map((server) => server.figures()));
  const isIdle = async (): Promise<boolean> =>
    (await figuresOf()).every(({ running, generators }) => running === 0 && generators === 0);
  for (let tries = 0; tries < 50 && !(await isIdle()); tries++) await sleep(100);
  process.stdout.write(
    `chaos of runs: seed ${seed}, ${scenario.runs} runs (${JSON.stringify(scenario.statuses)}), ${scenario.chunks} chunks, ` +
      `${scenario.connects} connections, ${scenario.cuts} cuts, ${kills} kills, ${pauses} pauses, ${redisKills} kills of Redis, ` +
      `the last end ${Math.round(scenario.worstDelay)} ms after its limit, ${processes.reported.length} reported errors, the slowest ` +
      `request without runs ${Math.round(scenario.slowestProbe)} ms\n`,
  );
  if (scenario.faults.length > 0) process.stdout.write(`${processes.reported.slice(-40).join('\n')}\n`);
  expect(scenario.faults.slice(0, 10)).toEqual([]);
  expect(processes.crashes).toEqual([]);
  expect(await figuresOf()).toEqual(processes.servers.map(() => ({ running: 0, generators: 0 })));
  // There were faults, and there were runs.
  expect(kills + pauses).toBeGreaterThan(0);
  expect(redisKills).toBeGreaterThan(0);
  expect(scenario.runs).toBeGreaterThanOrEqual(runCount);
  expect(scenario.connects).toBeGreaterThan(runCount * readersPerRun);
});
