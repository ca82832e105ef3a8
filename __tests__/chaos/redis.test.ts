/*
 * Servers and their Redis are killed again and again, sockets cut at random: no client may miss an event, get one twice or in
 * the wrong order, or be told of a loss that there was not.
 *
 *   CHAOS_SECONDS=1800 npx jest __tests__/chaos    for as long, instead of half a minute
 *   CHAOS_SEED=…                                   the faults of an earlier run
 */
import { Fleet } from './fleet.ts';
import { seconds, seed } from './settings.ts';
import { ending, gather, storm, streamOf } from './scene.ts';
import { SPOTLESS } from './verdict.ts';
import { Random } from '../fixtures/random.ts';
import { type RedisServer, startRedis } from '../fixtures/redis-server.ts';

jest.setTimeout(180_000 + seconds * 1000);

let redis: RedisServer;
let fleet: Fleet;
beforeEach(async () => {
  redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always'); // what is acknowledged is on disk
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
    const crowd = await gather(fleet, random);
    crowd.harass(40);
    let engineKills = 0;
    await storm(seconds, fleet, random, async () => {
      engineKills++;
      await redis.kill();
      await redis.start();
    });
    const { verdict, resets, deliveries } = await ending(`${engine}, ${engineKills} kills of Redis`, fleet, crowd, () =>
      streamOf(redis),
    );
    expect(verdict).toEqual(SPOTLESS);
    expect(resets).toBe(0);
    // It was a test: things did break, and events did flow.
    expect(engineKills).toBeGreaterThan(0);
    expect(fleet.kills).toBeGreaterThanOrEqual(Math.floor(seconds / 5));
    expect(deliveries).toBeGreaterThan(crowd.clients.length * seconds * 3);
    crowd.leave();
  },
);
