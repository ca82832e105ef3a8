/*
 * The same behaviour with every journal, end to end over real sockets. Two routers on one log stand for two machines.
 * The log in memory lives in one process, so it has one machine.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { type Journal, memoryJournal, sse, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { lmdbJournal } from '../../lib/journal/lmdb/index.ts';
import { postgresJournal } from '../../lib/journal/postgres/index.ts';
import { redisJournal } from '../../lib/journal/redis/index.ts';
import type { TestStream } from '../../lib/testing/index.ts';
import { newTable, type PostgresServer, startPostgres } from '../fixtures/postgres-server.ts';
import { asInAnotherProcess } from '../fixtures/another-process.ts';
import { ioredis, type Kind, nodeRedis } from '../fixtures/redis-clients.ts';
import { type RedisServer, startRedis } from '../fixtures/redis-server.ts';
import { another, appOf, later } from '../fixtures/support.ts';

jest.setTimeout(60_000);

/** A new log. */
interface Log {
  /** Returns a handle on the log, as another process would have it. */
  journal(): Promise<Journal>;
  /** Deletes the log; absent if only a new process loses it. */
  delete?(): Promise<void>;
}

let redis: RedisServer;
let postgres: PostgresServer;
beforeAll(async () => {
  redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always');
  postgres = await startPostgres();
}, 120_000);
afterAll(async () => {
  await redis?.stop();
  await postgres?.stop();
});

async function onPostgres(): Promise<Log> {
  const table = newTable();
  const pool = new pg.Pool({ connectionString: postgres.url });
  pool.on('error', () => {}); // the server is killed
  later(() => pool.end());
  return {
    journal: async () => postgresJournal(pool, { table }),
    async delete() {
      await pool.query(`DROP TABLE ${table}_log, ${table}_outbox, ${table}_state, ${table}_producer`);
      const maker = postgresJournal(pool, { table }); // nothing else makes them again
      await maker.open();
      await maker.close();
    },
  };
}

const onRedis = (kind: Kind) => async (): Promise<Log> => {
  const key = `{${randomUUID()}}:log`;
  const app = await kind.make(redis.url);
  later(() => app.end());
  return {
    journal: async () => redisJournal(app.client, { key }),
    async delete() {
      await app.command('DEL', key);
    },
  };
};

interface Engine {
  readonly name: string;
  readonly machines: number;
  readonly make: () => Promise<Log>;
  /** Its server, where it has one. */
  readonly server?: () => { kill(): Promise<void>; start(): Promise<void> };
}

const ENGINES: Engine[] = [
  { name: 'memory', machines: 1, make: async () => ({ journal: async () => memoryJournal() }) },
  {
    name: 'LMDB',
    machines: 2,
    async make() {
      const path = mkdtempSync(join(tmpdir(), 'sse-router-journals-'));
      later(() => rmSync(path, { recursive: true, force: true }));
      return { journal: async () => asInAnotherProcess(lmdbJournal(path)) };
    },
  },
  { name: 'Redis with node-redis', machines: 2, make: onRedis(nodeRedis), server: () => redis },
  { name: 'Redis with ioredis', machines: 2, make: onRedis(ioredis), server: () => redis },
  { name: 'Postgres', machines: 2, make: onPostgres, server: () => postgres },
];

interface Machine {
  readonly events: SseRouter;
  connect(lastEventId?: string, channel?: string): Promise<TestStream>;
}

async function machineOn(log: Log, options: SseOptions = {}): Promise<Machine> {
  const events = sse((conn, req) => void (req.query['channel'] && conn.join(req.query['channel'] as string)), {
    history: await log.journal(),
    heartbeat: 300,
    ...options,
  });
  later(() => events.close());
  const app = appOf(events);
  const connect = (lastEventId = '', channel = 'other'): Promise<TestStream> =>
    another(app, `/events?channel=${channel}`, { lastEventId, timeout: 15_000 });
  return { events, connect };
}

/** Returns the machines of a new log. In memory, one machine takes both places. */
async function machines(engine: Engine, options?: SseOptions): Promise<[Machine, Machine, Log]> {
  const log = await engine.make();
  const one = await machineOn(log, options);
  return [one, engine.machines > 1 ? await machineOn(log, options) : one, log];
}

const data = (events: readonly { data: unknown }[]): unknown[] => events.map((event) => event.data);

describe.each(ENGINES)('$name', (engine) => {
  test('a broadcast on any machine reaches the clients of all machines once, in one order, with the id that it resolved with', async () => {
    const [one, two] = await machines(engine);
    const streams = await Promise.all([one.connect(), two.connect()]);
    for (const stream of streams) expect((await stream.next()).event).toBe('checkpoint');
    const ids: string[] = [];
    for (let n = 0; n < 20; n++) ids.push(await (n % 2 ? one : two).events.broadcast({ data: `${n}` }));
    for (const stream of streams) {
      const seen = await stream.take(20);
      expect(data(seen)).toEqual(ids.map((_, n) => `${n}`));
      expect(seen.map(({ id }) => id)).toEqual(ids);
    }
  });

  test('channels: clients that joined, that are excepted, and that joined another one', async () => {
    const [one, two] = await machines(engine);
    const [red, blue] = [await two.connect('', 'red'), await two.connect('', 'blue')];
    await Promise.all([red.next(), blue.next()]);
    await one.events.broadcast('to red', { to: 'red' });
    await one.events.broadcast('to both', { to: ['red', 'blue'] });
    await one.events.broadcast('except red', { except: 'red' });
    await one.events.broadcast('to no channel', { to: [] });
    await one.events.broadcast('end');
    expect(data(await red.take(3))).toEqual(['to red', 'to both', 'end']);
    expect(data(await blue.take(3))).toEqual(['to both', 'except red', 'end']);
  });

  test('a client resumes at the other machine with its id: it gets the missed events of its channels, then the new ones', async () => {
    const [one, two] = await machines(engine);
    const before = await one.connect('', 'red');
    await before.next();
    await one.events.broadcast('seen', { to: 'red' });
    const { id } = await before.next();
    await before.cut();
    for (let n = 0; n < 50; n++) await one.events.broadcast(`missed ${n}`, n % 2 ? { to: 'red' } : { to: 'blue' });
    const after = await two.connect(id, 'red');
    await one.events.broadcast('live');
    const expected = Array.from({ length: 25 }, (_, n) => `missed ${2 * n + 1}`);
    expect(data(await after.take(26))).toEqual([...expected, 'live']);
    expect(after.events.some(({ event }) => event === 'reset')).toBe(false);
  });

  test('position: it is empty until the journal is open, and a broadcast to no channel waits for that', async () => {
    const log = await engine.make();
    const { events } = await machineOn(log);
    expect(events.position).toBe('');
    await events.broadcast('start', { to: [] });
    expect(events.position).not.toBe('');
  });

  test('position: a page that contains it misses no event until its stream is open', async () => {
    const [one, two] = await machines(engine);
    await one.events.broadcast('before the page');
    const id = await two.events.broadcast('in the page');
    const at = await two.connect();
    await at.until(({ lastEventId }) => lastEventId === id); // this machine has received it
    const { position } = two.events;
    expect(position).toBe(id);
    await one.events.broadcast('meanwhile');
    expect(data(await (await one.connect(position)).take(1))).toEqual(['meanwhile']);
  });

  test('a client with an id that the log never had gets a reset, the snapshot, then the new events', async () => {
    const other = await machines(engine);
    const foreign = await other[0].events.broadcast('elsewhere');
    const [one] = await machines(engine, { snapshot: () => ({ event: 'state', data: 'all' }) });
    const here = await one.events.broadcast('here');
    const earlier = await one.connect();
    await earlier.until(({ lastEventId }) => lastEventId === here); // this machine has received it
    const stream = await one.connect(foreign);
    expect(await stream.next()).toMatchObject({ event: 'reset', data: expect.stringContaining(foreign) });
    expect(await stream.next()).toMatchObject({ event: 'state', data: 'all' });
    await one.events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live' });
  });

  test('snapshot: a new client gets the state and its position; a client that reconnects with it gets the changes', async () => {
    const [one, two] = await machines(engine, { snapshot: () => ({ event: 'state', data: 'all' }) });
    const { event, id } = await (await one.connect()).next();
    expect(event).toBe('state');
    await one.events.broadcast('change');
    expect(data(await (await two.connect(id)).take(1))).toEqual(['change']);
  });

  test('close: its streams end, the other machine continues', async () => {
    const [one, two] = await machines(engine);
    const [stream, other] = [await one.connect(), await two.connect()];
    const { id } = await stream.next();
    await one.events.close();
    expect(await stream.closed).toBe('end');
    await expect(one.events.broadcast('too late')).rejects.toMatchObject({
      code: expect.stringMatching(/CLOSED|JOURNAL/),
    });
    if (one === two) return;
    await two.events.broadcast('continues');
    await other.until(({ events }) => events.some((event) => event.data === 'continues'));
    expect(data(await (await two.connect(id)).take(1))).toEqual(['continues']);
  });
});

describe.each(ENGINES.filter(({ server }) => server !== undefined))('$name, engine trouble', (engine) => {
  test('the log is deleted: every client on every machine gets a reset, then the new events', async () => {
    const [one, two, log] = await machines(engine);
    const streams = await Promise.all([one.connect(), two.connect()]);
    await Promise.all(streams.map((stream) => stream.next()));
    await one.events.broadcast('old');
    for (const stream of streams) expect(data(await stream.take(1))).toEqual(['old']);
    await log.delete!();
    // After that the router closes the connections, spread over some seconds: the clients continue with the id of their reset.
    const resets = await Promise.all(streams.map((stream) => stream.next()));
    expect(resets.map(({ event }) => event)).toEqual(['reset', 'reset']);
    await two.events.broadcast('new');
    for (const [n, machine] of [one, two].entries()) {
      expect(data(await (await machine.connect(resets[n]!.id)).take(1))).toEqual(['new']);
    }
  });

  test('the engine is down: connections stay open with heartbeats, clients resume from the ring, and no event is lost', async () => {
    const errors: unknown[] = [];
    const [one, two] = await machines(engine, { onError: (error) => void errors.push(error) });
    const streams = await Promise.all([one.connect(), two.connect()]);
    const isUp = (): number[] => [one, two].map(({ events }) => events.stats().journalUp);
    expect(isUp()).toEqual([1, 1]);
    const { id } = (await Promise.all(streams.map((stream) => stream.next())))[0]!;
    await one.events.broadcast('before');
    for (const stream of streams) expect(data(await stream.take(1))).toEqual(['before']);
    await engine.server!().kill();
    const late = one.events.broadcast('during'); // waits for the engine
    const back = await two.connect(id);
    expect(data(await back.take(1))).toEqual(['before']);
    for (const stream of [...streams, back]) {
      const { length } = stream.comments;
      await stream.until(({ comments }) => comments.length > length);
      expect(stream.ended).toBe(false);
    }
    expect(isUp()).toEqual([0, 0]);
    const unreachable = { code: 'ERR_SSE_JOURNAL', message: expect.stringContaining('cannot be reached') };
    expect(errors).toMatchObject([unreachable, unreachable]); // once for each router, however many attempts fail
    await engine.server!().start();
    await late;
    for (const stream of [...streams, back]) expect(data(await stream.take(1))).toEqual(['during']);
    expect([isUp(), errors.length]).toEqual([[1, 1], 2]);
    await one.events.close();
    expect([isUp(), errors.length]).toEqual([[0, 1], 2]);
  });
});

test('LMDB: the log survives the end of all processes', async () => {
  const log = await ENGINES[1]!.make();
  const first = await machineOn(log);
  const stream = await first.connect();
  const { id } = await stream.next();
  await first.events.broadcast('kept');
  await first.events.close();
  const second = await machineOn(log);
  expect(data(await (await second.connect(id)).take(1))).toEqual(['kept']);
});
