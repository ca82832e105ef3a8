/*
 * The same behaviour, end to end over real sockets, whichever journal is behind it: two routers on one log are two machines.
 * (In memory there is one machine: a log that lives in one process.)
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
import { ioredis, type Kind, nodeRedis } from '../fixtures/redis-clients.ts';
import { type RedisServer, startRedis } from '../fixtures/redis-server.ts';
import { another, appOf, later } from '../fixtures/support.ts';

jest.setTimeout(60_000);

/** A log that nobody has used, and ways to reach it. */
interface Log {
  /** A handle on it, as one more process would have. */
  journal(): Promise<Journal>;
  /** Forgets everything; absent where only a new process does. */
  lose?(): Promise<void>;
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
    async lose() {
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
    async lose() {
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
      return { journal: async () => lmdbJournal(path) };
    },
  },
  { name: 'Redis by node-redis', machines: 2, make: onRedis(nodeRedis), server: () => redis },
  { name: 'Redis by ioredis', machines: 2, make: onRedis(ioredis), server: () => redis },
  { name: 'Postgres', machines: 2, make: onPostgres, server: () => postgres },
];

interface Machine {
  readonly events: SseRouter;
  visit(lastEventId?: string, room?: string): Promise<TestStream>;
}

async function machineOn(log: Log, options: SseOptions = {}): Promise<Machine> {
  const events = sse((conn, req) => void (req.query['room'] && conn.join(req.query['room'] as string)), {
    history: await log.journal(),
    heartbeat: 300,
    ...options,
  });
  later(() => events.close());
  const app = appOf(events);
  const visit = (lastEventId = '', room = '') =>
    another(app, room && `/events?room=${room}`, { lastEventId, timeout: 15_000 });
  return { events, visit: (id, room) => visit(id, room || 'lobby') };
}

/** All machines of a log; in memory the one plays both parts. */
async function machines(engine: Engine, options?: SseOptions): Promise<[Machine, Machine, Log]> {
  const log = await engine.make();
  const one = await machineOn(log, options);
  return [one, engine.machines > 1 ? await machineOn(log, options) : one, log];
}

const data = (events: readonly { data: unknown }[]): unknown[] => events.map((event) => event.data);

describe.each(ENGINES)('$name', (engine) => {
  test('a broadcast on any machine reaches the clients of all, once, in one order, under the id that it resolved with', async () => {
    const [one, two] = await machines(engine);
    const streams = await Promise.all([one.visit(), two.visit()]);
    for (const stream of streams) expect((await stream.next()).event).toBe('checkpoint');
    const ids: string[] = [];
    for (let n = 0; n < 20; n++) ids.push(await (n % 2 ? one : two).events.broadcast({ data: `${n}` }));
    for (const stream of streams) {
      const seen = await stream.take(20);
      expect(data(seen)).toEqual(ids.map((_, n) => `${n}`));
      expect(seen.map(({ id }) => id)).toEqual(ids);
    }
  });

  test('channels: who is in, who is excepted, who is elsewhere', async () => {
    const [one, two] = await machines(engine);
    const [red, blue] = [await two.visit('', 'red'), await two.visit('', 'blue')];
    await Promise.all([red.next(), blue.next()]);
    await one.events.broadcast('to red', { to: 'red' });
    await one.events.broadcast('to both', { to: ['red', 'blue'] });
    await one.events.broadcast('but red', { except: 'red' });
    await one.events.broadcast('to nobody', { to: [] });
    await one.events.broadcast('end');
    expect(data(await red.take(3))).toEqual(['to red', 'to both', 'end']);
    expect(data(await blue.take(3))).toEqual(['to both', 'but red', 'end']);
  });

  test('a client goes on at the other machine with its id: what it missed, of its channels, then what is live', async () => {
    const [one, two] = await machines(engine);
    const before = await one.visit('', 'red');
    await before.next();
    await one.events.broadcast('seen', { to: 'red' });
    const { id } = await before.next();
    await before.cut();
    for (let n = 0; n < 50; n++) await one.events.broadcast(`missed ${n}`, n % 2 ? { to: 'red' } : { to: 'blue' });
    const after = await two.visit(id, 'red');
    await one.events.broadcast('live');
    const expected = Array.from({ length: 25 }, (_, n) => `missed ${2 * n + 1}`);
    expect(data(await after.take(26))).toEqual([...expected, 'live']);
    expect(after.events.some(({ event }) => event === 'reset')).toBe(false);
  });

  test('position: what is put into a page closes the gap until its stream is open', async () => {
    const [one, two] = await machines(engine);
    await one.events.broadcast('before the page');
    const id = await two.events.broadcast('in the page');
    const at = await two.visit();
    await at.until(({ lastEventId }) => lastEventId === id); // this machine has heard of it
    const { position } = two.events;
    expect(position).toBe(id);
    await one.events.broadcast('meanwhile');
    expect(data(await (await one.visit(position)).take(1))).toEqual(['meanwhile']);
  });

  test('an id that this log never had is reset, with the snapshot behind it, and then live', async () => {
    const other = await machines(engine);
    const foreign = await other[0].events.broadcast('elsewhere');
    const [one] = await machines(engine, { snapshot: () => ({ event: 'state', data: 'all' }) });
    const here = await one.events.broadcast('here');
    const earlier = await one.visit();
    await earlier.until(({ lastEventId }) => lastEventId === here); // this machine has heard of it
    const stream = await one.visit(foreign);
    expect(await stream.next()).toMatchObject({ event: 'reset', data: expect.stringContaining(foreign) });
    expect(await stream.next()).toMatchObject({ event: 'state', data: 'all' });
    await one.events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live' });
  });

  test('snapshot: who is new gets the state and its position, who comes back with it gets what changed', async () => {
    const [one, two] = await machines(engine, { snapshot: () => ({ event: 'state', data: 'all' }) });
    const { event, id } = await (await one.visit()).next();
    expect(event).toBe('state');
    await one.events.broadcast('change');
    expect(data(await (await two.visit(id)).take(1))).toEqual(['change']);
  });

  test('close: its streams end, the other machine goes on', async () => {
    const [one, two] = await machines(engine);
    const [stream, other] = [await one.visit(), await two.visit()];
    const { id } = await stream.next();
    await one.events.close();
    expect(await stream.closed).toBe('end');
    await expect(one.events.broadcast('too late')).rejects.toMatchObject({
      code: expect.stringMatching(/CLOSED|JOURNAL/),
    });
    if (one === two) return;
    await two.events.broadcast('goes on');
    await other.until(({ events }) => events.some((event) => event.data === 'goes on'));
    expect(data(await (await two.visit(id)).take(1))).toEqual(['goes on']);
  });
});

describe.each(ENGINES.filter(({ server }) => server !== undefined))('$name, engine trouble', (engine) => {
  test('the log is gone: everybody on every machine is told, and is whole again', async () => {
    const [one, two, log] = await machines(engine);
    const streams = await Promise.all([one.visit(), two.visit()]);
    await Promise.all(streams.map((stream) => stream.next()));
    await one.events.broadcast('old');
    for (const stream of streams) expect(data(await stream.take(1))).toEqual(['old']);
    await log.lose!();
    for (const stream of streams) expect((await stream.next()).event).toBe('reset');
    await two.events.broadcast('new');
    for (const stream of streams) expect(data(await stream.take(1))).toEqual(['new']);
  });

  test('the engine is down: clients stay, heartbeats go on, who comes back is resumed from the ring; nothing is lost', async () => {
    const told: unknown[] = [];
    const [one, two] = await machines(engine, { onError: (error) => void told.push(error) });
    const streams = await Promise.all([one.visit(), two.visit()]);
    const isUp = (): number[] => [one, two].map(({ events }) => events.stats().journalUp);
    expect(isUp()).toEqual([1, 1]);
    const { id } = (await Promise.all(streams.map((stream) => stream.next())))[0]!;
    await one.events.broadcast('before');
    for (const stream of streams) expect(data(await stream.take(1))).toEqual(['before']);
    await engine.server!().kill();
    const late = one.events.broadcast('during'); // waits for it
    const back = await two.visit(id);
    expect(data(await back.take(1))).toEqual(['before']);
    for (const stream of [...streams, back]) {
      const { length } = stream.comments;
      await stream.until(({ comments }) => comments.length > length);
      expect(stream.ended).toBe(false);
    }
    expect(isUp()).toEqual([0, 0]);
    const gone = { code: 'ERR_SSE_JOURNAL', message: expect.stringContaining('cannot be reached') };
    expect(told).toMatchObject([gone, gone]); // once for each router, whatever becomes of its tries
    await engine.server!().start();
    await late;
    for (const stream of [...streams, back]) expect(data(await stream.take(1))).toEqual(['during']);
    expect([isUp(), told.length]).toEqual([[1, 1], 2]);
    await one.events.close();
    expect([isUp(), told.length]).toEqual([[0, 1], 2]);
  });
});

test('LMDB: all processes end, and the log is still there', async () => {
  const log = await ENGINES[1]!.make();
  const first = await machineOn(log);
  const stream = await first.visit();
  const { id } = await stream.next();
  await first.events.broadcast('kept');
  await first.events.close();
  const second = await machineOn(log);
  expect(data(await (await second.visit(id)).take(1))).toEqual(['kept']);
});
