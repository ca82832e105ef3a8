/*
 * The journal on Redis without faults: what it stores, returns, trims and rejects.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Journal } from '../../../lib/journal/journal.ts';
import { sse } from '../../../lib/index.ts';
import { redisJournal, type RedisJournalOptions } from '../../../lib/journal/redis/index.ts';
import { PUBLISH } from '../../../lib/journal/redis/scripts.ts';
import { eventually } from '../../fixtures/http.ts';
import { another, appOf, later } from '../../fixtures/support.ts';
import { kinds, type TestClient } from '../../fixtures/redis-clients.ts';
import { frame, Recorder } from '../../fixtures/redis-recorder.ts';
import { type RedisServer, startRedis } from '../../fixtures/redis-server.ts';

let redis: RedisServer;
let app: TestClient;
let key: string;
const open: Journal[] = [];

beforeAll(async () => {
  redis = await startRedis('--appendonly', 'yes');
}, 120_000);
afterAll(() => redis.stop());
afterEach(async () => {
  await Promise.all(open.splice(0).map((journal) => journal.close()));
  app.end();
});

function journalOf(options: RedisJournalOptions = {}): Journal {
  const journal = redisJournal(app.client, { key, ...options });
  open.push(journal);
  return journal;
}

/** Returns the warnings emitted by `work`. A test's `process` is not the one that emits 'warning', so this mocks the call. */
async function warningsOf(work: () => Promise<unknown>): Promise<{ code?: string; message: unknown }[]> {
  const emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  try {
    await work();
    return emitWarning.mock.calls.map(([message, options]) => ({
      code: (options as { code?: string } | undefined)?.code,
      message,
    }));
  } finally {
    emitWarning.mockRestore();
  }
}

describe.each(kinds)('over $name', (kind) => {
  beforeEach(async () => {
    key = `{${randomUUID()}}:log`;
    app = await kind.make(redis.url);
  });

  test('one XADD of any program is one event', async () => {
    const journal = journalOf();
    await journal.open();
    const { floor } = await journal.window(0);
    const recorder = new Recorder(floor);
    journal.follow(floor, recorder);
    const publish = (...fields: string[]) => app.command('XADD', key, '*', ...fields);
    await publish('event', 'order', 'data', '{"id":1}');
    await publish('data', 'a\r\nb\rc\nd');
    await publish('event', 'ping');
    await publish('data', 'x', 'to', '["a","b"]', 'except', '["c"]', 'retry', 'ignored');
    await publish('data', 'x', 'to', 'room:7');
    await publish('body', 'data: raw\n\n', 'data', 'ignored');
    await publish('event', 'a\nid: 7', 'data', 'x');
    await publish('event', 'error', 'data', 'x');
    await publish('data', 'x', 'to', '[broken');
    await publish('data', 'x', 'to', '[1]');
    await publish('data', 'x', 'to', '');
    await publish('data', 'x', 'except', '{');
    await publish('unknown', 'field');
    await publish('data', 'the end');
    await recorder.until(({ bodies }) => bodies.includes('data: the end\n\n'));

    const toNoConnection = { to: [], body: '' };
    expect(
      recorder.entriesReceived.map(({ id: _id, ...entry }) => ({ ...entry, body: Buffer.from(entry.body).toString() })),
    ).toEqual([
      { body: 'event: order\ndata: {"id":1}\n\n' },
      { body: 'data: a\ndata: b\ndata: c\ndata: d\n\n' },
      { body: 'event: ping\ndata: \n\n' },
      { to: ['a', 'b'], except: ['c'], body: 'data: x\n\n' },
      { to: ['room:7'], body: 'data: x\n\n' },
      { body: 'data: raw\n\n' },
      ...Array.from({ length: 5 }, () => toNoConnection),
      { except: ['{'], body: 'data: x\n\n' },
      toNoConnection,
      { body: 'data: the end\n\n' },
    ]);
    expect(await journal.read(recorder.ids[7]!, 2)).toMatchObject({ ok: true, entries: [{ to: [] }, { to: [] }] });
  });

  test("the application's client is not used, and need not be connected", async () => {
    const journal = journalOf();
    await journal.open();
    await journal.append({ body: frame('x') });
    const client = app.client as { isOpen?: boolean; status?: string };
    expect(client.isOpen ?? client.status).toBe(kind.name === 'ioredis' ? 'wait' : false);
  });

  test('a process has one connection for commands and one for the follower; close() closes both', async () => {
    const count = async (): Promise<number> =>
      String(await app.command('CLIENT', 'LIST', 'TYPE', 'NORMAL'))
        .trim()
        .split('\n').length;
    const before = await count();
    const journal = journalOf();
    await journal.open();
    const recorder = new Recorder((await journal.window(0)).floor);
    journal.follow(recorder.ids[0]!, recorder);
    await journal.append({ body: frame('x') });
    await recorder.until(({ bodies }) => bodies.length === 1);
    expect(await count()).toBe(before + 2);
    await journal.close();
    await journal.close();
    while ((await count()) > before) await sleep(5); // Redis notices a closed socket with a delay
    for (const late of [
      journal.append({ body: frame('x') }),
      journal.open(),
      journal.window(1),
      journal.read('1-1', 1),
    ]) {
      await expect(late).rejects.toMatchObject({ name: 'SseError', code: 'ERR_SSE_CLOSED' });
    }
  });

  test('an entry with a key is stored once, also across processes, until the key expires', async () => {
    const [one, two] = [journalOf({ keyAge: 60_000 }), journalOf()];
    await one.open();
    const ids = await Promise.all(
      [one, one, two].map((journal) => journal.append({ body: frame('x'), key: 'order 7' })),
    );
    expect(new Set(ids).size).toBe(1);
    const remainingMs = (await app.command('PTTL', `${key}:k:order 7`)) as number;
    expect(remainingMs).toBeGreaterThan(50_000);
    await app.command('DEL', `${key}:k:order 7`);
    expect(await two.append({ body: frame('x'), key: 'order 7' })).not.toBe(ids[0]);
  });

  test('an append without a time limit is stored once and resolves with its id', async () => {
    const journal = journalOf({ wait: Infinity });
    await journal.open();
    const id = await journal.append({ body: frame('x') });
    expect((await journal.window(10)).entries.map((entry) => entry.id)).toEqual([id]);
  });

  test('an entry that is too large is rejected before it is sent; others are stored', async () => {
    const journal = journalOf({ maxEntryBytes: 1000 });
    await expect(journal.append({ body: Buffer.alloc(1001) })).rejects.toMatchObject({ code: 'ERR_SSE_TOO_LARGE' });
    await journal.append({ body: Buffer.alloc(1000) });
    await expect(journal.append({ body: 'text' as never })).rejects.toMatchObject({ code: 'ERR_SSE_DATA' });
  });

  test('appends beyond maxPending or maxPendingBytes are rejected at once', async () => {
    for (const limit of [{ maxPending: 10 }, { maxPendingBytes: 40 }]) {
      const journal = journalOf(limit);
      await journal.open();
      const outcomes = await Promise.allSettled(
        Array.from({ length: 12 }, () => journal.append({ body: Buffer.alloc(4) })),
      );
      expect(outcomes.map((outcome) => outcome.status)).toEqual([
        ...Array(10).fill('fulfilled'),
        'rejected',
        'rejected',
      ]);
      expect(outcomes[10]).toMatchObject({ reason: { code: 'ERR_SSE_QUEUE_FULL' } });
      await journal.append({ body: Buffer.alloc(4) });
    }
  });

  test('an entry that Redis rejects is rejected with its message; the entries sent after it are stored in order', async () => {
    const journal = journalOf();
    await journal.open();
    await app.command('SET', `${key}:k:bad`, 'x');
    await app.command('DEL', `${key}:k:bad`);
    await app.command('HSET', `${key}:k:bad`, 'a', 'b'); // GET on it fails inside of the script
    const appends = Array.from({ length: 50 }, (_, i) =>
      journal.append({ body: frame(String(i)), key: i === 20 ? 'bad' : undefined }),
    );
    const outcomes = await Promise.allSettled(appends);
    expect(outcomes[20]).toMatchObject({
      reason: { code: 'ERR_SSE_JOURNAL', message: expect.stringContaining('WRONGTYPE') },
    });
    const { entries } = await journal.window(100);
    expect(entries.map(({ id }) => id)).toEqual(outcomes.flatMap((o) => (o.status === 'fulfilled' ? [o.value] : [])));
    expect(entries.map(({ body }) => Buffer.from(body).toString())).toEqual(
      Array.from({ length: 50 }, (_, i) => `data: ${i}\n\n`).filter((_, i) => i !== 20),
    );
  });

  test('a publish after one that was not stored is not stored either, so that both can be sent again in order', async () => {
    const publish = (seq: string, previous: string, ...fields: string[]) =>
      app.command('EVAL', PUBLISH, '2', key, `${key}:p:me`, seq, previous, seq, '60000', '60000', '100', ...fields);
    expect(await publish('2', '1', 'data', 'b')).toBeNull();
    const first = await publish('1', '', 'data', 'a');
    const second = await publish('2', '1', 'data', 'b');
    expect([await publish('1', '', 'data', 'a'), await publish('2', '1', 'data', 'b')]).toEqual([first, second]);
    expect(await publish('5', '3', 'data', 'c')).toBeNull();
    expect(await app.command('XLEN', key)).toBe(2);
  });

  test('pages of large entries are smaller, and no entry is missing', async () => {
    const journal = journalOf({ maxEntryBytes: 4 * 1024 * 1024 });
    await journal.open();
    const { floor } = await journal.window(0);
    const recorder = new Recorder(floor);
    const bodies = Array.from({ length: 12 }, (_, i) => Buffer.alloc(2 * 1024 * 1024, i));
    const ids = await Promise.all(bodies.map((body) => journal.append({ body })));
    const found = await journal.read(floor, 12);
    expect(found.ok && found.entries.map(({ id }) => id)).toEqual(ids);
    expect((await journal.window(12)).entries.map(({ id }) => id)).toEqual(ids);
    journal.follow(floor, recorder);
    await recorder.until(() => recorder.ids.length === 13);
    expect(recorder.entriesReceived.every(({ body }, i) => bodies[i]!.equals(body))).toBe(true);
  });

  test('a window and a read of thousands of entries are complete', async () => {
    const journal = journalOf();
    await journal.open();
    const { floor } = await journal.window(0);
    const ids = await Promise.all(Array.from({ length: 3500 }, (_, i) => journal.append({ body: frame(String(i)) })));
    expect((await journal.window(Infinity)).entries.map(({ id }) => id)).toEqual(ids);
    expect(await journal.window(2500)).toMatchObject({ floor: ids[999] });
    const found = await journal.read(floor, 3500);
    expect(found.ok && found.entries.map(({ id }) => id)).toEqual(ids);
    const all = await journal.read(floor, Infinity);
    expect(all.ok && all.entries.length).toBe(3500);
  });

  test('maxLength applies to the entries of all publishers', async () => {
    const journal = journalOf({ maxLength: 200, maxAge: 1000 }); // trims once a second
    await journal.open();
    await Promise.all(Array.from({ length: 2000 }, () => journal.append({ body: frame('x') })));
    expect(await app.command('XLEN', key)).toBeLessThanOrEqual(400);
    for (let i = 0; i < 2000; i++) await app.command('XADD', key, '*', 'data', 'foreign');
    while (Number(await app.command('XLEN', key)) > 400) await sleep(20); // the journal's own timer trims
  });

  test('maxAge trims, but the position before the oldest entry that has not expired stays valid', async () => {
    await app.command('PING');
    await Promise.all(Array.from({ length: 1000 }, (_, i) => app.command('XADD', key, `1000-${i}`, 'data', 'old')));
    const journal = journalOf({ maxAge: 1000 });
    const recorder = new Recorder('1000-999');
    await journal.open();
    journal.follow('1000-999', recorder);
    while (Number(await app.command('XLEN', key)) > 200) await sleep(20); // the journal's own timer trims
    expect(await journal.read('1000-0', 1)).toEqual({ ok: false, reason: 'lost' });
    expect(await journal.read('1000-999', 1)).toEqual({ ok: true, entries: [] });
    await journal.append({ body: frame('young') });
    await recorder.until(({ bodies }) => bodies.length === 1);
    expect(recorder.calls).toEqual(['up']);
    expect(await journal.read('1000-999', 5)).toMatchObject({ ok: true, entries: [{ id: recorder.ids[1] }] });
  });

  describe('the limits apply to the clients of a running router, too', () => {
    const running = (options: RedisJournalOptions) => {
      const events = sse({ history: redisJournal(app.client, { key, ...options }) });
      later(() => events.close());
      const site = appOf(events);
      const returnWith = async (lastEventId: string) => {
        const stream = await another(site, '/events', { lastEventId });
        const { event, data } = await stream.next();
        await stream.close();
        return [event, data];
      };
      return { events, returnWith };
    };
    const lost = ['reset', expect.stringContaining('"lost"')];

    test('`maxAge`', async () => {
      const { events, returnWith } = running({ maxAge: 1000 });
      const ids = await Promise.all(Array.from({ length: 500 }, (_, n) => events.broadcast(`${n}`)));
      expect(await returnWith(ids[0]!)).toEqual(['message', '1']);
      await eventually(() => events.stats().ringEntries >= 500);
      await eventually(() => events.stats().ringEntries < 200, 10_000);
      expect(await returnWith(ids[0]!)).toEqual(lost);
      await events.broadcast('new');
      expect(await returnWith(ids.at(-1)!)).toEqual(['message', 'new']);
    });

    test('trimming by another program', async () => {
      const { events, returnWith } = running({ maxAge: 16_000 }); // looks once a second
      const ids = await Promise.all(Array.from({ length: 10 }, (_, n) => events.broadcast(`${n}`)));
      await eventually(() => events.stats().ringEntries === 10);
      await app.command('XTRIM', key, 'MAXLEN', '5');
      await eventually(() => events.stats().ringEntries === 5, 10_000);
      expect(await returnWith(ids[3]!)).toEqual(lost);
      expect(await returnWith(ids[5]!)).toEqual(['message', '6']);
    });

    test('`maxAge`, although the clock of Redis was wrong and ran a day ahead', async () => {
      const { events, returnWith } = running({ maxAge: 1000 });
      await events.broadcast('right');
      await app.command('XADD', key, `${Date.now() + 86_400_000}-0`, 'data', 'from the future');
      const ids = await Promise.all(Array.from({ length: 500 }, (_, n) => events.broadcast(`${n}`)));
      expect(Number(ids[0]!.split('-')[0])).toBeGreaterThan(Date.now() + 80_000_000); // Redis continues from the last id
      await eventually(() => events.stats().ringEntries >= 500);
      await eventually(() => events.stats().ringEntries < 200, 10_000);
      expect(await returnWith(ids[0]!)).toEqual(lost);
      await events.broadcast('new');
      expect(await returnWith(ids.at(-1)!)).toEqual(['message', 'new']);
    }, 20_000);
  });

  test('the last id of an emptied log is valid; an id before it is lost, an id after it is unknown', async () => {
    const journal = journalOf();
    await journal.open();
    const [first, last] = [await journal.append({ body: frame('1') }), await journal.append({ body: frame('2') })];
    const recorder = new Recorder(last);
    journal.follow(last, recorder);
    await recorder.until(({ calls }) => calls.includes('up'));
    await app.command('XTRIM', key, 'MAXLEN', '0');
    expect(await journal.read(last, 10)).toEqual({ ok: true, entries: [] });
    expect(await journal.read(first, 10)).toEqual({ ok: false, reason: 'lost' });
    expect(await journal.read('9999999999999-0', 10)).toEqual({ ok: false, reason: 'unknown' });
    expect(await journal.window(10)).toEqual({ floor: last, entries: [] });
  });

  test('settings with which Redis may lose the log cause one warning each', async () => {
    const volatileRedis = await startRedis('--appendonly', 'no');
    const other = await kind.make(volatileRedis.url);
    try {
      for (const [policy, consequence] of [
        ['allkeys-lru', 'the whole log'],
        ['volatile-ttl', 'stored twice'],
      ] as const) {
        await other.command('CONFIG', 'SET', 'maxmemory-policy', policy);
        const journal = redisJournal(other.client);
        open.push(journal);
        const opened = async (): Promise<void> => {
          await journal.open();
          await journal.open();
        };
        expect(await warningsOf(opened)).toEqual([
          { code: 'SSE_REDIS_EVICTION', message: expect.stringContaining(consequence) },
          { code: 'SSE_REDIS_PERSISTENCE', message: expect.stringContaining('appendonly') },
        ]);
      }
      expect(await warningsOf(() => journalOf().open())).toEqual([]);
    } finally {
      other.end();
      await volatileRedis.stop();
    }
  });

  test('no timer of the journal keeps the process alive', async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((kindOf) => kindOf === 'Timeout').length;
    const before = timers();
    const journal = journalOf();
    await journal.open();
    const recorder = new Recorder((await journal.window(0)).floor);
    journal.follow(recorder.ids[0]!, recorder);
    await journal.append({ body: frame('x') });
    await recorder.until(({ bodies }) => bodies.length === 1);
    journal.append({ body: frame('x') }).catch(() => {});
    expect(timers()).toBeLessThanOrEqual(before);
  });
});
