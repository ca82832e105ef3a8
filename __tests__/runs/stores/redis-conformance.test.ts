/*
 * The conformance suite for stores of runs on a real Redis and on a cluster, with both clients.
 */
import { randomUUID } from 'node:crypto';
import { runStoreConformance } from '../../../lib/conformance/index.ts';
import { redisRuns } from '../../../lib/journal/redis/index.ts';
import { startCluster } from '../../fixtures/redis-cluster.ts';
import { kinds, type TestClient } from '../../fixtures/redis-clients.ts';
import { type RedisServer, someRedis } from '../../fixtures/redis-server.ts';

let redis: Awaited<ReturnType<typeof someRedis>>;
let nodes: readonly RedisServer[];
const apps: TestClient[] = [];
beforeAll(async () => {
  jest.spyOn(process, 'emitWarning').mockImplementation(() => {}); // the cluster has no persistence, on purpose
  [redis, nodes] = await Promise.all([someRedis(), startCluster()]);
}, 120_000);
afterAll(async () => {
  for (const app of apps) app.end();
  await Promise.all([redis.stop(), ...nodes.map((node) => node.stop())]);
  jest.restoreAllMocks();
});

describe.each(kinds)('redisRuns over $name', (kind) => {
  const cases = runStoreConformance(async () => {
    const app = await kind.make(redis.url);
    const key = `test-${randomUUID()}`;
    return {
      store: redisRuns(app.client, { key }),
      reopen: () => redisRuns(app.client, { key }),
      cleanup: () => app.end(),
    };
  });
  for (const { name, run } of cases) test(name, run);
});

describe.each(kinds)('redisRuns on a cluster over $name', (kind) => {
  let app: Promise<TestClient> | undefined;
  const cases = runStoreConformance(async () => {
    app ??= kind.cluster(nodes[0]!.url).then((client) => {
      apps.push(client);
      return client;
    });
    const { client } = await app;
    const key = `test-${randomUUID()}`;
    return { store: redisRuns(client, { key }), reopen: () => redisRuns(client, { key }) };
  });
  for (const { name, run } of cases) test(name, run);
});
