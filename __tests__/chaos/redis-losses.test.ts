/*
 * Redis freezes, loses its data, or fails over to a replica without some acknowledged writes. Every client with an entry that the
 * log has lost receives a reset, no other client does, and no client has a gap or a duplicate. One fleet, with both Redis clients.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Fleet } from './fleet.ts';
import type { Clients } from './clients.ts';
import { clientCount, rounds, seconds, seed } from './settings.ts';
import { connectClients, finishScenario, startDisconnecting, streamOf } from './scenario.ts';
import { NO_FAULTS } from './comparison.ts';
import { Random } from '../fixtures/random.ts';
import { nodeRedis } from '../fixtures/redis-clients.ts';
import { Proxy } from '../fixtures/redis-proxy.ts';
import { type RedisServer, startRedis } from '../fixtures/redis-server.ts';

jest.setTimeout(120_000 + seconds * 1000);

let redis: RedisServer; // without persistence
let proxy: Proxy;
let fleet: Fleet;
let clients: Clients;
let random: Random;
let stopDisconnecting = (): void => {};

beforeAll(async () => {
  redis = await startRedis();
  proxy = await Proxy.to(redis.port);
  const engines = ['node-redis', 'ioredis', 'node-redis'] as const;
  fleet = new Fleet(engines.map((engine) => ({ engine, at: proxy.url, rate: 10 })));
  await fleet.start();
});
beforeEach(async () => {
  random = new Random(seed);
  fleet.acknowledged.clear();
  fleet.refused.length = 0;
  fleet.disconnects = 0;
  clients = await connectClients(fleet, random);
});
afterEach(() => {
  stopDisconnecting();
  redis.thaw();
  clients?.disconnect();
});
afterAll(async () => {
  await fleet.stop();
  await proxy.close();
  await redis.stop();
});

const finish = (name: string) => {
  stopDisconnecting();
  return finishScenario(name, fleet, clients, () => streamOf(redis));
};
const wasReset = (times: number) => clients.until(`have ${times} resets`, ({ stretches }) => stretches.length > times);

/*
 * One loss may cause two resets: a client may return to a server that has not noticed the loss yet. That server resets it to its
 * own head, which is lost as well. So the tests check a minimum of resets. A reset for an id that the log has is a fault (comparison.ts).
 */

/** Settles when every client has received this many further events. */
async function flowing(events: number): Promise<void> {
  const counts = new Map(clients.all.map((client) => [client, clients.count(client) + events]));
  await clients.until(`get ${events} events more`, (client) => clients.count(client) >= counts.get(client)!);
}

test('Redis is frozen (SIGSTOP): clients stay connected, heartbeats continue, returning clients are resumed from the ring', async () => {
  const ids = clients.all.map(({ lastId }) => lastId);
  redis.freeze();
  const cut = clients.all.slice(0, clientCount / 5);
  await sleep(500); // until everything has arrived that Redis had sent before
  const connects = clients.all.map((client) => client.connects);
  const comments = clients.all.map((client) => client.comments);
  for (const client of cut) client.cut();
  await sleep(5200 * rounds); // longer than a follower's timeout, which is tested here
  const now = clients.all.map((client, i) => ({
    open: client.isOpen,
    connects: client.connects - connects[i]! - (cut.includes(client) ? 1 : 0),
    heartbeats: client.comments - comments[i]! >= (cut.includes(client) ? 1 : 3), // a client that was cut may have stayed away for long
  }));
  expect(now.filter(({ open, connects, heartbeats }) => !open || connects > 0 || !heartbeats)).toEqual([]);
  redis.thaw();
  await clients.until('get an event again', (client) => client.lastId !== ids[clients.all.indexOf(client)]);
  const { faults, resets } = await finish('frozen');
  expect({ ...faults, resets }).toEqual({ ...NO_FAULTS, resets: 0 });
});

test('FLUSHALL: every client receives a reset', async () => {
  const app = await nodeRedis.make(redis.url);
  clients.startCutting(40);
  stopDisconnecting = startDisconnecting(fleet, random);
  for (let round = 1; round <= rounds; round++) {
    await app.command('FLUSHALL');
    await wasReset(round);
    await flowing(10);
  }
  app.end();
  fleet.acknowledged.clear(); // the log is a new one
  const { faults, resets } = await finish('FLUSHALL');
  expect(faults).toEqual(NO_FAULTS);
  expect(resets).toBeGreaterThanOrEqual(clientCount * rounds);
});

test('Redis is killed without persistence: every client receives a reset', async () => {
  clients.startCutting(40);
  stopDisconnecting = startDisconnecting(fleet, random);
  for (let round = 1; round <= rounds; round++) {
    await redis.kill();
    await redis.start();
    await wasReset(round);
    await flowing(10);
  }
  fleet.acknowledged.clear();
  const { faults, resets } = await finish('restart without persistence');
  expect(faults).toEqual(NO_FAULTS);
  expect(resets).toBeGreaterThanOrEqual(clientCount * rounds);
});

test('a failover loses acknowledged writes: clients that received them get a reset, the others continue', async () => {
  clients.startCutting(40);
  stopDisconnecting = startDisconnecting(fleet, random);
  let lost = 0;
  for (let round = 1; round <= rounds; round++) {
    const replica = await startRedis();
    const [old, next] = [await nodeRedis.make(redis.url), await nodeRedis.make(replica.url)];
    await old.command('CONFIG', 'SET', 'repl-diskless-sync-delay', '0'); // 5 s otherwise
    await next.command('REPLICAOF', '127.0.0.1', String(redis.port));
    while (!String(await next.command('INFO', 'replication')).includes('master_link_status:up')) await sleep(20);
    await next.command('REPLICAOF', 'NO', 'ONE'); // the network between them breaks
    const replaced = fleet.replace(fleet.servers[round % 3]!); // some clients reconnect meanwhile
    await flowing(20);
    proxy.target = replica.port;
    proxy.cut();
    await Promise.all([replaced, flowing(20)]);
    for (const app of [old, next]) app.end();
    await redis.stop();
    redis = replica;
  }
  const ids = new Set((await streamOf(redis)).map(([id]) => id));
  for (const id of fleet.acknowledged.keys()) {
    if (ids.has(id)) continue;
    fleet.acknowledged.delete(id); // Redis has lost it, as intended
    lost++;
  }
  const { faults, resets } = await finish(`failover with ${lost} acknowledged writes lost`);
  expect(faults).toEqual(NO_FAULTS);
  expect(lost).toBeGreaterThan(0);
  expect(resets).toBeGreaterThan(clientCount / 2);
});
