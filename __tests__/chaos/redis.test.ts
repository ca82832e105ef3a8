/*
 * Servers and their Redis are killed again and again, and sockets are cut at random. No client misses an event, receives one
 * twice or out of order, or receives a reset.
 *
 *   CHAOS_SECONDS=1800 npx jest __tests__/chaos    runs longer than the default of 5 s
 *   CHAOS_SEED=…                                   repeats the faults of an earlier run
 */
import { Fleet } from './fleet.ts';
import { seconds, seed } from './settings.ts';
import { finishScenario, connectClients, killServers, streamOf } from './scenario.ts';
import { NO_FAULTS } from './comparison.ts';
import { Random } from '../fixtures/random.ts';
import { type RedisServer, startRedis } from '../fixtures/redis-server.ts';

jest.setTimeout(180_000 + seconds * 1000);

let redis: RedisServer;
let fleet: Fleet;
beforeEach(async () => {
  redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always'); // an acknowledged entry is on disk
});
afterEach(async () => {
  await fleet?.stop();
  await redis.stop();
});

test.each(['node-redis', 'ioredis'] as const)(
  `three servers with %s and their Redis, killed for ${seconds} s`,
  async (engine) => {
    const random = new Random(seed);
    fleet = new Fleet([0, 1, 2].map(() => ({ engine, at: redis.url, rate: 10 })));
    await fleet.start();
    const clients = await connectClients(fleet, random);
    clients.startCutting(40);
    let engineKills = 0;
    await killServers(seconds, fleet, random, async () => {
      engineKills++;
      await redis.kill();
      await redis.start();
    });
    const { faults, resets, deliveries } = await finishScenario(
      `${engine}, ${engineKills} kills of Redis`,
      fleet,
      clients,
      () => streamOf(redis),
    );
    expect(faults).toEqual(NO_FAULTS);
    expect(resets).toBe(0);
    // There were faults, and there were events.
    expect(engineKills).toBeGreaterThan(0);
    expect(fleet.disconnects).toBeGreaterThan(0);
    expect(fleet.kills).toBeGreaterThanOrEqual(Math.floor(seconds / 5));
    expect(deliveries).toBeGreaterThan(clients.all.length * seconds * 3);
    clients.disconnect();
  },
);
