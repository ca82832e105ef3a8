/*
 * A client with an id that the journal cannot have issued receives a `reset`, and positions from then on. So a page that is open
 * while the application moves to another library or to another journal misses no event without notice.
 */

import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createChannel, createSession } from 'better-sse';
import { EventSource } from 'eventsource';
import express, { type Express } from 'express';
import ExpressSse from 'express-sse';
import { type Journal, memoryJournal, sse, type Connection, type SseOptions } from '../../lib/index.ts';
import { lmdbJournal } from '../../lib/journal/lmdb/index.ts';
import { redisJournal } from '../../lib/journal/redis/index.ts';
import type { TestStream } from '../../lib/testing/index.ts';
import { eventually, Raw } from '../fixtures/http.ts';
import { nodeRedis } from '../fixtures/redis-clients.ts';
import { type RedisServer, startRedis } from '../fixtures/redis-server.ts';
import { another, appOf, BARE, HEAD, later, listening, tick } from '../fixtures/support.ts';

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
}, 120_000);
afterAll(() => redis.stop());

const JOURNALS: Record<string, () => Promise<Journal>> = {
  memory: async () => memoryJournal(),
  async LMDB() {
    const path = mkdtempSync(join(tmpdir(), 'foreign-ids-'));
    later(() => rmSync(path, { recursive: true, force: true }));
    return lmdbJournal(path);
  },
  async Redis() {
    const app = await nodeRedis.make(redis.url);
    later(() => app.end());
    return redisJournal(app.client as never, { key: randomUUID() });
  },
};

type Handler = (conn: Connection) => unknown;

async function site(options: SseOptions, handler: Handler = () => {}) {
  const conns: Connection[] = [];
  const events = sse((conn) => {
    conns.push(conn);
    return handler(conn) as void;
  }, options);
  later(() => events.close());
  const app = appOf(events);
  const visit = (headers: Record<string, string | readonly string[]>, query = ''): Promise<TestStream> =>
    another(app, `/events${query}`, { headers: headers as Record<string, string> });
  return { events, app, visit, conn: () => conns.at(-1)! };
}

const resetOf = (lastEventId: string) => ({ event: 'reset', json: { reason: 'unknown', lastEventId } });

describe.each(Object.entries(JOURNALS))('with the journal %s', (_name, make) => {
  const named = (id: string): [Record<string, string>, string] => [{ 'last-event-id': id }, ''];

  test.each<[what: string, how: (valid: string) => [Record<string, string | readonly string[]>, string]]>([
    ['a number', () => named('42')],
    ['zero', () => named('0')],
    ['the word null', () => named('null')],
    ['a UUID', () => named('1b4e28ba-2fa1-41d2-883f-0016d3cca427')],
    ['an id of a journal in memory or in LMDB', () => named('abcdefghijkl-7')],
    ['an id of a journal in Redis', () => named('1795352641531-0')],
    ['an id of an older Redis', () => named('1-1')],
    ['a valid id in quotes', (valid) => named(`"${valid}"`)],
    ['a valid id with a space in it', (valid) => named(valid.replace('-', '- '))],
    ['a valid id in two headers', (valid) => [{ 'last-event-id': [valid, valid] }, '']],
    ['the parameter lastEventId', () => [{}, '?lastEventId=42']],
    ['the parameter last_event_id', () => [{}, '?last_event_id=42']],
    ['the parameter evs_last_event_id', () => [{}, '?evs_last_event_id=42']],
    ['a parameter that is empty at first, and at last', () => [{}, '?lastEventId=&lastEventId=42&lastEventId=']],
    ['a valid id with spaces around it in the query', (valid) => [{}, `?lastEventId=%20${valid}%20`]],
    ['an id that is not ASCII', () => [{}, '?lastEventId=%C3%A9']],
    ['an id with line ends, which is not repeated', () => [{}, '?lastEventId=%00%0d%0adata:x%0a%0a']],
    ['an id of more than 1 KiB, which is not repeated', () => named('x'.repeat(1025))],
    ['an id of 8 KiB in the query', () => [{}, `?lastEventId=${'1'.repeat(8192)}`]],
  ])('a client with %s receives a reset, then positions', async (what, how) => {
    const { events, visit, conn } = await site({ history: await make() });
    const valid = await events.broadcast('missed');
    await eventually(() => events.position === valid);
    const [headers, query] = how(valid);
    const stream = await visit(headers, query);
    const first = await stream.next();
    expect(first.event).toBe('reset');
    const { reason, lastEventId } = first.json as { reason: string; lastEventId: string };
    expect(reason).toMatch(/^(unknown|lost)$/);
    expect(lastEventId).toBe(what.includes('not repeated') ? '' : conn().lastEventId);
    const live = await events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live', id: live });
    expect(events.stats().resumes.resumed).toBe(0);
    const back = await visit({ 'last-event-id': live });
    const next = await events.broadcast('next');
    expect(await back.next()).toMatchObject({ data: 'next', id: next });
    expect(events.stats().resumes.resumed).toBe(1);
  });

  test('the snapshot follows the reset', async () => {
    const { events, visit } = await site({ history: await make(), snapshot: () => ({ event: 'state', data: 'all' }) });
    const missed = await events.broadcast('missed');
    await eventually(() => events.position === missed);
    const stream = await visit({ 'last-event-id': '42' });
    const [reset, state] = await stream.take(2);
    expect(reset).toMatchObject(resetOf('42'));
    expect(state).toMatchObject({ event: 'state', data: 'all', id: reset!.id });
  });
});

describe('the handler', () => {
  test('may read the id and push without ids: the reset comes first', async () => {
    const { events, visit } = await site({}, (conn) => void conn.push(`you had ${conn.lastEventId}`));
    const stream = await visit({ 'last-event-id': '42' });
    const [reset, pushed] = await stream.take(2);
    expect(reset).toMatchObject({ ...resetOf('42'), id: events.position });
    expect(pushed).toMatchObject({ data: 'you had 42', id: undefined });
  });

  test('that has pushed an id of its own by the opening resumes the client itself: no reset, and no id on broadcasts', async () => {
    const { events, visit } = await site(
      {},
      (conn) => void conn.push({ id: Number(conn.lastEventId) + 1, data: 'mine' }),
    );
    const stream = await visit({ 'last-event-id': '42' });
    expect(await stream.next()).toMatchObject({ event: 'message', data: 'mine', id: '43' });
    await events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live', id: undefined, lastEventId: '43' });
  });

  test('that pushes an id of its own only after the opening comes too late for that', async () => {
    const { events, visit, conn } = await site({}, (one) => one.open());
    const stream = await visit({ 'last-event-id': '42' });
    expect(await stream.next()).toMatchObject(resetOf('42'));
    conn().push({ id: 1, data: 'mine' });
    await events.broadcast('live');
    const [mine, live] = await stream.take(2);
    expect(mine).toMatchObject({ data: 'mine', id: '1' });
    expect(live).toMatchObject({ data: 'live', id: undefined });
  });

  test('with history: false has the ids, and nothing is added', async () => {
    const { events, visit, conn } = await site(BARE, (one) => one.open());
    const stream = await visit({ 'last-event-id': '42' });
    await events.broadcast('live');
    await stream.next();
    expect(conn().lastEventId).toBe('42');
    expect(stream.text).toBe(`${HEAD}data: live\n\n`);
  });

  test('with history: false has no id if it has more than 1 KiB: no event has such an id', async () => {
    const { visit, conn } = await site(BARE);
    await visit({ 'last-event-id': 'x'.repeat(1024) });
    expect(conn().lastEventId).toHaveLength(1024);
    await visit({ 'last-event-id': 'x'.repeat(1025) });
    expect(conn().lastEventId).toBe('');
  });
});

test('a reset of a foreign id counts as unknown, and reaches the diagnostics', async () => {
  const { events, visit } = await site({});
  const { subscribe, unsubscribe } = await import('node:diagnostics_channel');
  const seen: unknown[] = [];
  const onReset = (message: unknown): void => void seen.push(message);
  subscribe('sse-router:reset', onReset);
  later(() => unsubscribe('sse-router:reset', onReset));
  await (await visit({ 'last-event-id': '42' })).next();
  expect(events.stats().resumes).toEqual({ resumed: 0, lost: 0, unknown: 1, diverged: 0 });
  expect(seen).toEqual([expect.objectContaining({ router: events, reason: 'unknown', lastEventId: '42' })]);
});

test('a foreign id of a request that waits for its journal is read alike', async () => {
  const { app } = await site({ history: await JOURNALS.LMDB!() });
  const { port } = await listening(app);
  const raw = new Raw(port).get('/events', 'Last-Event-ID: 42');
  await raw.until('"lastEventId":"42"');
});

// ---- Moves

/** A site that a page reads: the same address before and after the move. */
interface Before {
  mount(app: Express): void;
  /** Sends an event with an id to the page. */
  send(data: string): unknown;
  close?(): Promise<void>;
}

const betterSse = async (): Promise<Before> => {
  const channel = createChannel();
  return {
    mount(app) {
      app.get('/events', async (req, res) => void channel.register(await createSession(req, res, { retry: 1 })));
    },
    send: (data) => channel.broadcast(data),
  };
};
const expressSse = async (): Promise<Before> => {
  const feed = new ExpressSse();
  return {
    mount(app) {
      app.get('/events', (req, res) => {
        feed.init(req, res);
        res.write('retry: 1\n\n');
      });
    },
    send: (data) => feed.send(data),
  };
};
const ours = (make: () => Promise<Journal>) => async (): Promise<Before> => {
  const events = sse({ history: await make(), retry: 1 });
  return {
    mount: (app) => void app.use('/events', events),
    send: (data) => events.broadcast(data),
    close: () => events.close(),
  };
};

const { memory, LMDB, Redis } = JOURNALS as { [name: string]: () => Promise<Journal> };

test.each<[move: string, from: () => Promise<Before>, to: () => Promise<Journal>]>([
  ['from better-sse to the journal in memory', betterSse, memory!],
  ['from better-sse to LMDB', betterSse, LMDB!],
  ['from better-sse to Redis', betterSse, Redis!],
  ['from express-sse to the journal in memory', expressSse, memory!],
  ['from express-sse to LMDB', expressSse, LMDB!],
  ['from express-sse to Redis', expressSse, Redis!],
  ['from one journal in memory to another', ours(memory!), memory!],
  ['from memory to LMDB', ours(memory!), LMDB!],
  ['from memory to Redis', ours(memory!), Redis!],
  ['from LMDB to memory', ours(LMDB!), memory!],
  ['from LMDB to Redis', ours(LMDB!), Redis!],
  ['from Redis to memory', ours(Redis!), memory!],
  ['from Redis to LMDB', ours(Redis!), LMDB!],
  ['from one Redis to another', ours(Redis!), Redis!],
])('an open page misses nothing without notice in a move %s', async (_move, from, to) => {
  const before = await from();
  const old = await start((app) => before.mount(app), 0);
  const { port } = old.address() as AddressInfo;
  const page: string[] = [];
  const source = new EventSource(`http://127.0.0.1:${port}/events`);
  later(() => source.close());
  source.addEventListener('message', ({ data }) => page.push(String(data).replaceAll('"', '')));
  source.addEventListener('reset', ({ data }) =>
    page.push(`reset ${(JSON.parse(data as string) as { reason: string }).reason}`),
  );
  await new Promise((resolve) => source.addEventListener('open', resolve, { once: true }));
  await tick();
  before.send('old 1');
  await eventually(() => page.includes('old 1'));

  old.closeAllConnections();
  await new Promise((resolve) => old.close(resolve));
  await before.close?.();
  const events = sse({ history: await to(), retry: 1 });
  later(() => events.close());
  const missed = await events.broadcast('missed');
  await eventually(() => events.position === missed);
  const server = await start((app) => void app.use('/events', events), port);
  later(() => stop(server));
  await eventually(() => page.at(-1)?.startsWith('reset'), 10_000); // an event before it would be in the state that the page loads
  await events.broadcast('new 1');
  await eventually(() => page.includes('new 1'));
  expect(page).toEqual(['old 1', 'reset unknown', 'new 1']);

  server.closeAllConnections(); // from here on it is resumed as any other page
  await eventually(() => events.stats().opened === 2);
  await events.broadcast('new 2');
  await eventually(() => page.includes('new 2'), 10_000);
  expect(page).toEqual(['old 1', 'reset unknown', 'new 1', 'new 2']);
});

async function start(mount: (app: Express) => void, port: number): Promise<Server> {
  const app = express();
  mount(app);
  const server = createServer(app);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return server;
}

function stop(server: Server): Promise<unknown> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
}
