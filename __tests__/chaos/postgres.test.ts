/*
 * Servers and their Postgres are killed again and again, in the middle of commits. Then Postgres fails over to a standby without
 * some acknowledged commits.
 */
import { Fleet } from './fleet.ts';
import type { Clients } from './clients.ts';
import { clientCount, rounds, seconds, seed } from './settings.ts';
import { Random } from '../fixtures/random.ts';
import { connectClients, finishScenario, killServers } from './scenario.ts';
import { dataOf, type Logged } from './logged.ts';
import { NO_FAULTS } from './comparison.ts';
import { type PostgresServer, startPostgres } from '../fixtures/postgres-server.ts';
import { Proxy } from '../fixtures/redis-proxy.ts';

jest.setTimeout(120_000 + seconds * 1000);

let server: PostgresServer;
let proxy: Proxy;
let fleet: Fleet;
let clients: Clients | undefined;

beforeEach(async () => {
  server = await startPostgres('fsync=off'); // kill -9 leaves what the system has cached
  proxy = await Proxy.to(server.port);
  const at = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
  fleet = new Fleet([0, 1, 2].map(() => ({ engine: 'postgres' as const, at, rate: 10 })));
  await fleet.start();
});
afterEach(async () => {
  clients?.disconnect();
  await fleet?.stop();
  await proxy?.close();
  await server?.stop();
});

/** The log as a client of the application's own reads it. */
async function logOf(): Promise<Logged[]> {
  const [state] = await server.query('SELECT epoch, first, tag FROM sse_state');
  const rows = await server.query(
    "SELECT n, tag, channels, convert_from(body, 'UTF8') AS body FROM sse_log ORDER BY n",
  );
  const id = (n: unknown, tag: unknown): string => `${String(state!['epoch'])}-${String(n)}-${String(tag)}`;
  const log = rows.map(({ n, tag, channels, body }): Logged => [id(n, tag), dataOf(body), channels]);
  return [[id(Number(state!['first']) - 1, state!['tag']), '', '[]'], ...log];
}

test(`three servers and their Postgres, killed for ${seconds} s: no client misses an event, receives one twice or out of order, or receives a reset`, async () => {
  const random = new Random(seed);
  clients = await connectClients(fleet, random);
  clients.startCutting(40);
  let kills = 0;
  await killServers(seconds, fleet, random, async () => {
    kills++;
    await server.kill();
    await server.start();
  });
  const name = `Postgres, ${kills} kills of it`;
  const { faults, resets, deliveries } = await finishScenario(name, fleet, clients, logOf);
  expect(faults).toEqual(NO_FAULTS);
  expect(resets).toBe(0);
  expect(kills).toBeGreaterThan(0);
  expect(fleet.kills).toBeGreaterThanOrEqual(Math.floor(seconds / 5));
  expect(deliveries).toBeGreaterThan(clients.all.length * seconds * 3);
});

test('a failover loses acknowledged commits: clients that received them get a reset, the others continue', async () => {
  const random = new Random(seed);
  clients = await connectClients(fleet, random);
  clients.startCutting(20);
  /** Settles when each client has received this number of further events. */
  const flowing = async (events: number): Promise<void> => {
    const counts = new Map(clients!.all.map((client) => [client, clients!.count(client) + events]));
    await clients!.until(`get ${events} events more`, (client) => clients!.count(client) >= counts.get(client)!);
  };
  let lost = 0;
  for (let round = 1; round <= rounds; round++) {
    const standby = await server.standby('fsync=off');
    await standby.query("ALTER SYSTEM SET primary_conninfo = ''");
    await standby.query('SELECT pg_reload_conf()'); // the network between them breaks
    await flowing(5);
    await standby.promote();
    proxy.target = standby.port;
    proxy.cut();
    await flowing(5);
    await server.stop();
    server = standby;
  }
  const ids = new Set((await logOf()).map(([id]) => id));
  for (const id of fleet.acknowledged.keys()) {
    if (ids.has(id)) continue;
    fleet.acknowledged.delete(id); // Postgres has lost it, as intended
    lost++;
  }
  const { faults, resets } = await finishScenario(
    `Postgres, failover with ${lost} acknowledged commits lost`,
    fleet,
    clients,
    logOf,
  );
  expect(faults).toEqual(NO_FAULTS);
  expect(lost).toBeGreaterThan(0);
  expect(resets).toBeGreaterThan(clientCount / 2);
});
