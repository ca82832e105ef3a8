/*
 * The journal in Postgres while nothing breaks: what is stored, what is removed, what is refused, and by which connections.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { sse } from '../../../lib/index.ts';
import type { Entry, Journal } from '../../../lib/journal/journal.ts';
import { postgresJournal, type PostgresJournalOptions } from '../../../lib/journal/postgres/index.ts';
import { functionStatements, namesOf, tableStatements } from '../../../lib/journal/postgres/schema.ts';
import { newTable, type PostgresServer, startPostgres } from '../../fixtures/postgres-server.ts';
import { eventually } from '../../fixtures/http.ts';
import { another, appOf, later } from '../../fixtures/support.ts';
import { frame, Recorder } from '../../fixtures/redis-recorder.ts';

jest.setTimeout(60_000);

let server: PostgresServer;
let pool: pg.Pool;
let table: string;
const undo: (() => unknown)[] = [];

beforeAll(async () => {
  server = await startPostgres();
  pool = new pg.Pool({ connectionString: server.url, max: 4 });
}, 120_000);
afterAll(async () => {
  await pool?.end();
  await server?.stop();
});
beforeEach(() => void (table = newTable()));
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

function journalOf(options: PostgresJournalOptions = {}, on: pg.Pool = pool): Journal {
  const journal = postgresJournal(on, { table, ...options });
  undo.push(() => journal.close());
  return journal;
}

async function opened(options: PostgresJournalOptions = {}, on: pg.Pool = pool): Promise<Journal> {
  const journal = journalOf(options, on);
  await journal.open();
  return journal;
}

async function following(journal: Journal): Promise<Recorder> {
  const recorder = new Recorder((await journal.window(0)).floor);
  journal.follow(recorder.ids[0]!, recorder);
  await recorder.until(({ calls }) => calls.includes('up'));
  return recorder;
}

async function clientOf(on: pg.Pool = pool): Promise<pg.PoolClient> {
  const client = await on.connect();
  undo.push(() => client.release(true));
  return client;
}

/** Replaces the function that publishes: without `body` by that of version 1. */
function olderPublish(body?: string): string {
  return `CREATE OR REPLACE FUNCTION ${table}_publish(event text, data text, channels text DEFAULT NULL, key text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql AS $body$${
      body ??
      `
BEGIN
  INSERT INTO ${table}_outbox (event, data, channels, key)
  VALUES (event, coalesce(data, ''), channels, sha256(convert_to(key, 'UTF8')));
END
`
    }$body$`;
}

/** The channels of an argument of the function. What is no list of channels is passed on as it is. */
function parsed(channels: string): unknown {
  try {
    return JSON.parse(channels);
  } catch {
    return '';
  }
}

const text = ({ id: _id, ...entry }: Entry): object => ({ ...entry, body: Buffer.from(entry.body).toString() });
const rows = async (query: string): Promise<any[]> => (await pool.query(query)).rows;

/** The warnings during this work. A test's `process` is not the one that emits 'warning', so the call is watched. */
async function warningsOf(work: () => Promise<unknown>): Promise<(string | undefined)[]> {
  const emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  try {
    await work();
    return emitWarning.mock.calls.map(([, options]) => (options as { code?: string } | undefined)?.code);
  } finally {
    emitWarning.mockRestore();
  }
}

describe('what SQL publishes', () => {
  const publish = (...args: unknown[]) =>
    pool.query(`SELECT ${table}_publish(${args.map((_, i) => `$${i + 1}`).join(', ')})`, args);

  test('one SELECT by any program is one event', async () => {
    const journal = await opened();
    const recorder = await following(journal);
    await publish('order', '{"id":1}');
    await publish(null, 'a\r\nb\rc\nd');
    await publish('ping', null);
    await publish('', 'x', '["a","b"]');
    await publish('x', 'ä€😀', '["räume/1","\\u0000"]', null);
    await publish('x', 'y', '[]');
    await recorder.until(({ bodies }) => bodies.length === 6);
    expect(recorder.entriesReceived.map(text)).toEqual([
      { body: 'event: order\ndata: {"id":1}\n\n' },
      { body: 'data: a\ndata: b\ndata: c\ndata: d\n\n' },
      { body: 'event: ping\ndata: \n\n' },
      { to: ['a', 'b'], body: 'data: x\n\n' },
      { to: ['räume/1', '\0'], body: 'event: x\ndata: ä€😀\n\n' },
      { to: [], body: 'event: x\ndata: y\n\n' },
    ]);
    expect(await rows(`SELECT * FROM ${table}_outbox`)).toEqual([]);
  });

  test('a key is stored once, whether SQL or a broadcast has it first', async () => {
    const journal = await opened();
    const recorder = await following(journal);
    await publish('x', '1', null, 'order 7');
    await publish('x', '2', null, 'order 7');
    await recorder.until(({ bodies }) => bodies.length === 1);
    await publish('x', '3', null, 'order 7');
    const id = await journal.append({ body: frame('4'), key: 'order 7' });
    expect(id).toBe(recorder.ids[1]);
    await journal.append({ body: frame('5'), key: 'ä€😀' });
    await publish('x', '6', null, 'ä€😀');
    await publish('x', '7');
    await recorder.until(({ bodies }) => bodies.includes('event: x\ndata: 7\n\n'));
    expect(recorder.bodies).toEqual(['event: x\ndata: 1\n\n', 'data: 5\n\n', 'event: x\ndata: 7\n\n']);
  });

  test('events that are moved together keep their order, with keys and without, and a key is stored once', async () => {
    const journal = await opened({ poll: 60_000 });
    for (const [n, key] of ['z', null, 'a', null, 'm', 'a', null].entries()) await publish(null, `${n}`, null, key);
    await journal.append({ body: frame('last') });
    const { entries } = await journal.window(10);
    const moved = ['0', '1', '2', '3', '4', '6', 'last'];
    expect(entries.map(text)).toEqual(moved.map((data) => ({ body: `data: ${data}\n\n` })));
  });

  test.each<[string, unknown[], RegExp]>([
    ['a line end in the event', ['a\nid: 7', 'x'], /line end/],
    ['an event that would call the page’s onerror', ['error', 'x'], /error/],
    ['channels that are no JSON', ['x', 'x', 'room:7'], /json/],
    ['channels that are no array', ['x', 'x', '"room:7"'], /JSON array of strings/],
    ['channels that are no strings', ['x', 'x', '[1]'], /JSON array of strings/],
    ['more than an entry may have', ['x', 'x'.repeat(17 * 1024 * 1024)], /check constraint/],
  ])('%s is refused at once', async (_name, args, message) => {
    await opened();
    await expect(publish(...args)).rejects.toThrow(message);
  });

  test.each<[unknown[], string]>([
    [[null, null], 'event or data must be a text; received NULL for both.'],
    [['a\r\nb', 'x'], 'event must be a text without a line end; received the string "a\\r\\nb".'],
    ...['error', 'open', 'end', 'reset', 'checkpoint'].map((name): [unknown[], string] => [
      [name, 'x'],
      "event must be a name other than 'error', 'open', 'end', 'reset' and 'checkpoint'; received the string " +
        `"${name}".`,
    ]),
    [
      ['x', 'x', '[""]'],
      'channels must be a JSON array of strings, none of them empty; received the string "[\\"\\"]".',
    ],
    [['x', 'x', '["a", "" ]'], 'received the string "[\\"a\\", \\"\\" ]".'],
    [['x', 'x', 'null'], 'received the string "null".'],
    [['x', 'x', '["a'], '(invalid input syntax for type json).'],
    [['x', 'x', ''], '(invalid input syntax for type json).'],
    [['x', 'x', null, ''], 'key must be a text with at least one character; received the string "".'],
  ])('the arguments %j are refused with the value and a cure, as broadcast() refuses them', async (args, message) => {
    await opened();
    await expect(publish(...args)).rejects.toMatchObject({
      code: '22023',
      message: expect.stringContaining(message),
      hint: expect.stringMatching(/\.$/),
    });
    expect(await rows(`SELECT * FROM ${table}_outbox`)).toEqual([]);
    const events = sse({ history: false });
    const [event, data, channels, key] = args as (string | null)[];
    const to = channels === undefined || channels === null ? {} : { to: parsed(channels) };
    const broadcast = events.broadcast(
      { ...(event !== null && { event }), ...(data !== null && { data }) } as { data: string },
      { ...to, ...(key !== undefined && { key: key! }) } as object,
    );
    await expect(broadcast).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_SSE_/) });
  });

  test('an event that an older function has accepted, and that no client can receive, is reported to onError', async () => {
    await opened();
    await pool.query(olderPublish());
    const errors: Error[] = [];
    const events = sse({
      history: postgresJournal(pool, { table, poll: 20 }),
      onError: (error) => void errors.push(error as Error),
    });
    later(() => events.close());
    const followed = events.follow({ signal: AbortSignal.timeout(30_000) });
    await events.broadcast('first');
    // The router has made the function new: the rows are those of the time before.
    const insert = (values: string) =>
      pool.query(`INSERT INTO ${table}_outbox (event, data, channels) VALUES ${values}`);
    await insert(`('end', 'x', NULL), ('order', 'x', '[""]'), ('order', 'x', '[]'), ('order', 'last', '["", "a"]')`);
    expect(await followed.next()).toMatchObject({ value: { data: 'first' } });
    await eventually(() => errors.length === 2);
    const id = (await rows(`SELECT n || '-' || tag AS id FROM ${table}_log WHERE event = 'end'`))[0].id as string;
    expect(errors.map(({ message }) => message)).toEqual([
      expect.stringContaining(
        `the event the string "end" to the channels null (entry ${events.position.split('-')[0]}-${id})`,
      ),
      expect.stringContaining('the event the string "order" to the channels the string "[\\"\\"]"'),
    ]);
    expect(errors[0]).toMatchObject({ code: 'ERR_SSE_JOURNAL' });
    expect(events.stats().journalUp).toBe(1);
    await eventually(() => events.stats().ringEntries === 5);
  });

  test('a row without a valid event cannot be inserted, and an entry with unreadable channels reaches no connection', async () => {
    const journal = await opened();
    const insert = (columns: string, values: string) =>
      pool.query(`INSERT INTO ${table}_outbox (${columns}) VALUES (${values})`);
    for (const bad of ["'{'", `'{"a":1}'`, "'7'"])
      await expect(insert('data, channels', `'x', ${bad}`)).rejects.toThrow(/json|check constraint/);
    await expect(insert('data, excepted', "'x', '{'")).rejects.toThrow(/json|check constraint/);
    await expect(insert('event', "E'a\\rb'")).rejects.toThrow(/check constraint/);
    await expect(insert('channels', "'[]'")).rejects.toThrow(/check constraint/);
    await expect(insert('data, key', "'x', 'short'")).rejects.toThrow(/check constraint/);
    await insert('data, channels', `'x', '[1]'`); // the function refuses it, and JSON is all that a CHECK can look at
    await journal.append({ body: frame('next') });
    const { entries } = await journal.window(10);
    expect(entries.map(text)).toEqual([{ to: [], body: '' }, { body: 'data: next\n\n' }]);
  });

  test('an event that was committed before a broadcast() call comes before that broadcast, however many wait', async () => {
    const journal = await opened({ poll: 60_000 });
    await pool.query(`SELECT count(${table}_publish('x', CAST(n AS text))::text) FROM generate_series(1, 3500) n`);
    const id = await journal.append({ body: frame('last') });
    const { entries } = await journal.window(5000);
    expect(entries.length).toBe(3501);
    expect(entries.at(-1)!.id).toBe(id);
    expect(
      entries.slice(0, -1).map(({ body }) => Number(/data: (\d+)/.exec(Buffer.from(body).toString())![1])),
    ).toEqual(Array.from({ length: 3500 }, (_, n) => n + 1));
  });

  test('a trigger publishes what its row becomes, and nothing if the row does not', async () => {
    const journal = await opened();
    const recorder = await following(journal);
    await pool.query(`
      CREATE TABLE ${table}_orders (id int);
      CREATE FUNCTION ${table}_on_order() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM ${table}_publish('order', row_to_json(NEW)::text, '["orders"]'); RETURN NEW; END $$;
      CREATE TRIGGER publish AFTER INSERT ON ${table}_orders FOR EACH ROW EXECUTE FUNCTION ${table}_on_order()`);
    const client = await clientOf();
    for (const end of ['COMMIT', 'ROLLBACK', 'COMMIT']) {
      await client.query(`BEGIN; INSERT INTO ${table}_orders VALUES (1), (2); ${end}`);
    }
    await recorder.until(({ bodies }) => bodies.length === 4);
    await pool.query(`SELECT ${table}_publish('last', '')`);
    await recorder.until(({ bodies }) => bodies.length > 4);
    expect(recorder.bodies.slice(0, -1)).toEqual([1, 2, 1, 2].map((id) => `event: order\ndata: {"id":${id}}\n\n`));
  });
});

describe('limits', () => {
  test('maxLength: the oldest leave with appends; the last position that left is still good, the one before is lost', async () => {
    const journal = await opened({ maxLength: 100 });
    const floor = (await journal.window(0)).floor;
    const ids: string[] = [];
    // The entries of a commit have one tag, and the last one that leaves must keep its own.
    while (ids.length < 400)
      ids.push(...(await Promise.all(Array.from({ length: 10 }, (_, n) => journal.append({ body: frame(`${n}`) })))));
    const { entries, floor: newFloor } = await journal.window(1000);
    expect(entries.length).toBeGreaterThanOrEqual(100);
    expect(entries.length).toBeLessThanOrEqual(164);
    expect(entries.map(({ id }) => id)).toEqual(ids.slice(-entries.length));
    expect(newFloor).toBe(ids[ids.length - entries.length - 1]);
    expect(await journal.read(newFloor, 1)).toMatchObject({ ok: true, entries: [{ id: entries[0]!.id }] });
    expect(await journal.read(ids[ids.length - entries.length - 2]!, 1)).toEqual({ ok: false, reason: 'lost' });
    expect(await journal.read(floor, 1)).toEqual({ ok: false, reason: 'lost' });
    const lost = newFloor.replace(/[^-]+$/, '00000000'); // the same place, in a log that has lost commits
    expect(await journal.read(lost, 1)).toEqual({ ok: false, reason: 'unknown' });
    expect(await journal.read('000000000000-1-00000000', 1)).toEqual({ ok: false, reason: 'unknown' }); // another log's
  });

  test('maxAge: entries leave at their time though nothing is appended, and the head stays good', async () => {
    const journal = await opened({ maxAge: 300 });
    const ids = await Promise.all([1, 2, 3].map((n) => journal.append({ body: frame(`${n}`) })));
    for (const until = Date.now() + 10_000; (await journal.window(10)).entries.length > 0 && Date.now() < until;)
      await sleep(50);
    expect(await journal.window(10)).toEqual({ floor: ids[2], entries: [] });
    expect(await journal.read(ids[2]!, 1)).toEqual({ ok: true, entries: [] });
    expect(await journal.read(ids[1]!, 1)).toEqual({ ok: false, reason: 'lost' });
    const next = await journal.append({ body: frame('next') });
    expect(await journal.read(ids[2]!, 1)).toMatchObject({ ok: true, entries: [{ id: next }] });
  });

  test('the limits apply to the clients of a running router, too', async () => {
    const events = sse({ history: postgresJournal(pool, { table, maxLength: 5 }) });
    later(() => events.close());
    const app = appOf(events);
    const ids: string[] = [];
    for (let n = 0; n < 200; n++) ids.push(await events.broadcast(`${n}`)); // appends trim in steps
    // Until the router has read the last entry, a trim may pass its position. It would then end every stream (`disconnect`).
    await eventually(() => events.position === ids.at(-1));
    await eventually(() => events.stats().ringEntries < 150);
    const returnWith = async (lastEventId: string) => {
      const stream = await another(app, '/events', { lastEventId });
      const { event, data } = await stream.next();
      await stream.close();
      return [event, data];
    };
    expect(await returnWith(ids[0]!)).toEqual(['reset', expect.stringContaining('"lost"')]);
    expect(await returnWith(ids[198]!)).toEqual(['message', '199']);
  });

  test('maxAge: an entry from the future, of a clock that was set back, keeps no later entry', async () => {
    const journal = await opened({ maxAge: 1000 });
    const ids = await Promise.all([1, 2, 3].map((n) => journal.append({ body: frame(`${n}`) })));
    await pool.query(`UPDATE ${table}_log SET at = at + interval '1 day' WHERE n = 2`);
    const start = performance.now();
    for (const until = Date.now() + 10_000; (await journal.window(10)).entries.length > 0 && Date.now() < until;)
      await sleep(50);
    expect(await journal.window(10)).toEqual({ floor: ids[2], entries: [] });
    expect(performance.now() - start).toBeGreaterThan(900);
  });

  test('a young entry stays behind an old one; Infinity keeps all', async () => {
    const [journal, keeper] = [
      await opened({ maxAge: 60_000 }),
      await opened({ maxAge: Infinity, maxLength: Infinity, keyAge: Infinity }),
    ];
    for (const n of [1, 2, 3]) await journal.append({ body: frame(`${n}`) });
    await pool.query(`UPDATE ${table}_log SET at = at - interval '1 day' WHERE n < 3`);
    await Promise.all(Array.from({ length: 70 }, () => keeper.append({ body: frame('x') })));
    expect((await journal.window(100)).entries.length).toBe(73);
    await Promise.all(Array.from({ length: 70 }, () => journal.append({ body: frame('x'), key: undefined })));
    expect((await journal.window(1000)).entries.length).toBe(141);
  });

  test('a log that is far over its limits shrinks in steps, on the timer', async () => {
    const keeper = await opened({ maxLength: Infinity });
    await Promise.all(Array.from({ length: 9000 }, () => keeper.append({ body: frame('x') })));
    const count = async (): Promise<number> => Number((await rows(`SELECT count(*) FROM ${table}_log`))[0].count);
    expect(await rows(`SELECT ${namesOf('public', table).trim}(10, NULL, NULL) AS more`)).toEqual([{ more: true }]);
    expect(await count()).toBe(7000); // one step
    await opened({ maxLength: 10, maxAge: 3_600_000 / 225 }); // its timer: once a second
    for (const until = Date.now() + 10_000; (await count()) > 10 && Date.now() < until;) await sleep(50);
    expect(await count()).toBe(10);
  });

  test('the timer does not trim while another process appends, and does not wait for it', async () => {
    const journal = await opened({ maxLength: Infinity });
    await Promise.all(Array.from({ length: 10 }, () => journal.append({ body: frame('x') })));
    const { lock, trim } = namesOf('public', table);
    const count = async (): Promise<number> => Number((await rows(`SELECT count(*) FROM ${table}_log`))[0].count);
    const [appending, trimming] = [await clientOf(), await clientOf()];
    await trimming.query("SET lock_timeout = '5s'");
    await appending.query(`BEGIN; SELECT pg_advisory_xact_lock(${lock})`);
    expect((await trimming.query(`SELECT ${trim}(1, NULL, NULL) AS more`)).rows).toEqual([{ more: false }]);
    expect(await count()).toBe(10);
    await appending.query('COMMIT');
    await trimming.query(`SELECT ${trim}(1, NULL, NULL)`);
    expect(await count()).toBe(1);
  });

  test('what the server remembers of a process that has ended leaves after an hour', async () => {
    const ended = await opened();
    await ended.append({ body: frame('x') });
    await ended.close();
    const producers = async (): Promise<number> => (await rows(`SELECT id FROM ${table}_producer`)).length;
    const journal = await opened({ maxAge: 16_000 }); // its timer: once a second
    await journal.append({ body: frame('x') });
    expect(await producers()).toBe(2);
    await pool.query(`UPDATE ${table}_producer SET at = at - interval '61 minutes' WHERE seq = 1 AND ctid = '(0,1)'`);
    for (const until = Date.now() + 10_000; (await producers()) > 1 && Date.now() < until;) await sleep(50);
    expect(await producers()).toBe(1);
  });

  test('keyAge: a key may be used again after it, by broadcasts and in SQL', async () => {
    const journal = await opened({ keyAge: 1000 });
    const first = await journal.append({ body: frame('1'), key: 'k' });
    expect(await journal.append({ body: frame('2'), key: 'k' })).toBe(first);
    await pool.query(`UPDATE ${table}_log SET at = at - interval '2 s'`);
    const second = await journal.append({ body: frame('3'), key: 'k' });
    expect(second).not.toBe(first);
    await pool.query(`UPDATE ${table}_log SET at = at - interval '2 s'`);
    await pool.query(`SELECT ${table}_publish('x', '4', NULL, 'k')`);
    await journal.append({ body: frame('5') });
    expect((await journal.window(10)).entries.map(({ body }) => Buffer.from(body).toString())).toEqual([
      'data: 1\n\n',
      'data: 3\n\n',
      'event: x\ndata: 4\n\n',
      'data: 5\n\n',
    ]);
  });

  test('an entry that is too large is refused before it is sent, and others are stored', async () => {
    const journal = await opened({ maxEntryBytes: 1000 });
    await expect(journal.append({ body: Buffer.alloc(1001) })).rejects.toMatchObject({ code: 'ERR_SSE_TOO_LARGE' });
    await expect(journal.within!(await clientOf()).append({ body: Buffer.alloc(1001) })).rejects.toMatchObject({
      code: 'ERR_SSE_TOO_LARGE',
    });
    await journal.append({ body: Buffer.alloc(1000) });
    await expect(journal.append({ body: 'text' as never })).rejects.toMatchObject({ code: 'ERR_SSE_DATA' });
  });

  test('more than maxPending, or than maxPendingBytes, is refused at once', async () => {
    for (const limit of [{ maxPending: 10 }, { maxPendingBytes: 40 }]) {
      const journal = await opened(limit);
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

  test('large bodies are read in pages, and come back whole', async () => {
    const journal = await opened();
    const bodies = Array.from({ length: 24 }, (_, n) => Buffer.alloc(400_000, n));
    const floor = (await journal.window(0)).floor;
    const recorder = await following(journal);
    for (const body of bodies) await journal.append({ body });
    const reader = await opened();
    for (const entries of [
      (await reader.window(100)).entries,
      ((await reader.read(floor, 100)) as { entries: readonly Entry[] }).entries,
    ]) {
      expect(entries.map(({ body }) => Buffer.compare(body, bodies[body[0]!]!))).toEqual(bodies.map(() => 0));
    }
    await recorder.until(({ ids }) => ids.length === 25);
  });
});

describe('connections', () => {
  const connections = async (): Promise<any[]> =>
    rows(
      `SELECT pid, query FROM pg_stat_activity WHERE application_name = 'sse-router' AND datname = current_database()`,
    );

  test('a process has one that reads, and one that writes from its first append on; close() ends both', async () => {
    const before = (await connections()).length;
    const journal = await opened();
    const recorder = await following(journal);
    expect((await connections()).length).toBe(before + 1);
    await journal.append({ body: frame('x') });
    await recorder.until(({ bodies }) => bodies.length === 1);
    expect((await connections()).length).toBe(before + 2);
    await journal.close();
    await journal.close();
    while ((await connections()).length > before) await sleep(5);
    for (const late of [
      journal.append({ body: frame('x') }),
      journal.open(),
      journal.window(1),
      journal.read(recorder.ids[0]!, 1),
    ]) {
      await expect(late).rejects.toMatchObject({ name: 'SseError', code: 'ERR_SSE_CLOSED' });
    }
    expect(() => journal.within!({ query: async () => {} })).toThrow(/closed/);
  });

  test('a pool of one that the application holds delays nothing', async () => {
    const small = new pg.Pool({ connectionString: server.url, max: 1 });
    undo.push(() => small.end());
    const client = await clientOf(small);
    const journal = await opened({}, small);
    const recorder = await following(journal);
    await client.query('BEGIN');
    await journal.append({ body: frame('1') });
    await journal.within!(client).append({ body: frame('2') });
    await client.query('COMMIT');
    await recorder.until(({ bodies }) => bodies.length === 2);
  });

  test('parsers that the application has set for the whole process change nothing', async () => {
    const { getTypeParser } = pg.types;
    const broken = jest.spyOn(pg.types, 'getTypeParser').mockImplementation((() => () => {
      throw new Error('not this one');
    }) as never);
    try {
      const journal = await opened();
      const id = await journal.append({ body: frame('x'), to: ['a'] });
      expect((await journal.window(1)).entries).toMatchObject([{ id, to: ['a'] }]);
    } finally {
      broken.mockRestore();
      expect(pg.types.getTypeParser).toBe(getTypeParser);
    }
  });

  test.each<[string, PostgresJournalOptions]>([
    ['LISTEN', {}],
    ['polling', { listen: false, poll: 30 }],
  ])('other processes notice by %s', async (_name, options) => {
    const [journal, other] = [await opened(options), await opened({ ...options })];
    const recorder = await following(other);
    await sleep(50);
    const times: number[] = [];
    for (let n = 0; n < 5; n++) {
      const id = await journal.append({ body: frame(`${n}`) });
      const since = performance.now();
      await recorder.until(({ ids }) => ids.at(-1) === id);
      times.push(performance.now() - since);
      await sleep(40); // longer than a reader pauses after entries
    }
    expect(Math.min(...times)).toBeLessThan(options.listen === false ? 60 : 40);
    const queries = (await connections()).map(({ query }) => query);
    if (options.listen === false) expect(queries.filter((query) => /LISTEN|pg_notify/.test(query))).toEqual([]);
  });

  test('reads are prepared on a connection that leads directly to a server process', async () => {
    const journal = await opened();
    const recorder = await following(journal);
    const read = await opened({ listen: false });
    await journal.append({ body: frame('x') });
    await recorder.until(({ bodies }) => bodies.length === 1);
    await sleep(300); // a poll later
    const last = async (pid: number): Promise<string> =>
      (await rows(`SELECT query FROM pg_stat_activity WHERE pid = ${pid}`))[0]?.query ?? '';
    const queries = await Promise.all((await connections()).map(({ pid }) => last(pid)));
    expect(queries.filter((query) => query.includes('$1')).length).toBe(1);
    await read.close();
  });

  test('a password: as a text, which pg hides from enumeration, and as a function', async () => {
    const role = `${table}_role`;
    await pool.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'; GRANT CREATE, USAGE ON SCHEMA public TO ${role}`);
    const rules = join(server.data, 'pg_hba.conf');
    const before = readFileSync(rules, 'utf8');
    writeFileSync(rules, `host all ${role} 127.0.0.1/32 scram-sha-256\n${before}`);
    await pool.query('SELECT pg_reload_conf()');
    const given = { host: '127.0.0.1', port: server.port, database: 'postgres', user: role };
    const isAsked = async (): Promise<boolean> => {
      const client = new pg.Client({ ...given, password: 'wrong' });
      client.on('error', () => {});
      return client.connect().then(
        () => client.end().then(() => false),
        () => true,
      );
    };
    while (!(await isAsked())) await sleep(10);
    for (const password of ['secret', () => 'secret'] as const) {
      const own = new pg.Pool({ ...given, password });
      undo.push(() => own.end());
      const journal = await opened({ table: newTable() }, own);
      await journal.append({ body: frame('x') });
    }
    const wrong = new pg.Pool({ ...given, password: 'wrong' });
    undo.push(() => wrong.end());
    await expect(journalOf({}, wrong).open()).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(/password authentication failed/),
    });
  });
});

describe('the tables', () => {
  test('are made once, however many processes open at the same time; several logs in one database do not meet', async () => {
    const other = newTable();
    const journals = await Promise.all([
      ...Array.from({ length: 6 }, () => opened()),
      ...Array.from({ length: 3 }, () => opened({ table: other })),
    ]);
    const ids = await Promise.all(journals.map((journal, n) => journal.append({ body: frame(`${n}`) })));
    expect(new Set(ids.map((id) => id.split('-')[0])).size).toBe(2);
    expect((await journals[0]!.window(100)).entries.length).toBe(6);
    expect((await journals[8]!.window(100)).entries.length).toBe(3);
  });

  test('are in the schema of the option, which is made too; else in the first of the search path', async () => {
    const schema = `A "${table}"`;
    const journal = await opened({ schema });
    await journal.append({ body: frame('x') });
    await pool.query(`SELECT "A ""${table}""".${table}_publish('x', 'y')`);
    const client = await clientOf();
    await client.query('BEGIN');
    await journal.within!(client).append({ body: frame('z') });
    await client.query('COMMIT');
    await journal.append({ body: frame('last') });
    expect((await journal.window(10)).entries.length).toBe(4);
    await pool.query(`CREATE SCHEMA ${table}_path`);
    const path = new pg.Pool({ connectionString: server.url, options: `-c search_path=${table}_path,public` });
    undo.push(() => path.end());
    await (await opened({}, path)).append({ body: frame('x') });
    expect(await rows(`SELECT n FROM ${table}_path.${table}_log`)).toEqual([{ n: '1' }]);
  });

  test('a missing function is added, as after an update; a table that is missing beside others is not', async () => {
    await (await opened()).append({ body: frame('x') });
    await pool.query(`DROP FUNCTION ${table}_trim_1`);
    const journal = await opened();
    await journal.append({ body: frame('y') });
    expect(await rows(`SELECT proname FROM pg_proc WHERE proname = '${table}_trim_1'`)).toHaveLength(1);
    await pool.query(`DROP TABLE ${table}_producer`);
    const late = journalOf({ wait: 200 });
    const opening = late.open().then(
      () => 'opened',
      (error: { code: string }) => error.code,
    );
    const codes = await warningsOf(() => sleep(500));
    expect(codes).toContain('SSE_POSTGRES_UNREACHABLE');
    await late.close();
    expect(await opening).toBe('ERR_SSE_CLOSED');
    expect(await rows(`SELECT relname FROM pg_class WHERE relname = '${table}_producer'`)).toEqual([]);
  });

  const sourceOf = async (): Promise<string> =>
    (await rows(`SELECT prosrc FROM pg_proc WHERE proname = '${table}_publish'`))[0].prosrc;

  test('an older function that publishes is replaced, with its rights; one of a newer version is not', async () => {
    await opened();
    const current = await sourceOf();
    await pool.query(`CREATE ROLE ${table}_worker; REVOKE ALL ON FUNCTION ${table}_publish FROM PUBLIC;
      GRANT EXECUTE ON FUNCTION ${table}_publish TO ${table}_worker`);
    await pool.query(olderPublish());
    await Promise.all([opened(), opened(), opened()]);
    expect(await sourceOf()).toBe(current);
    expect(
      await rows(
        `SELECT has_function_privilege('${table}_worker', '${table}_publish(text, text, text, text)', 'EXECUTE') AS may`,
      ),
    ).toEqual([{ may: true }]);
    const newer = current.replace(/-- version \d+/, '-- version 1000');
    await pool.query(olderPublish(newer));
    await opened();
    expect(await sourceOf()).toBe(newer);
  });

  test('a role that does not own an older function runs the journal with it', async () => {
    await opened();
    await pool.query(olderPublish());
    const older = await sourceOf();
    await pool.query(`CREATE ROLE ${table}_app LOGIN; GRANT CREATE ON SCHEMA public TO ${table}_app;
      GRANT SELECT, INSERT, UPDATE, DELETE ON ${table}_log, ${table}_outbox, ${table}_state, ${table}_producer TO ${table}_app`);
    const own = new pg.Pool({ connectionString: server.url.replace('postgres@', `${table}_app@`) });
    undo.push(() => own.end());
    undo.push(() => pool.query(`REVOKE CREATE ON SCHEMA public FROM ${table}_app`));
    await (await opened({}, own)).append({ body: frame('x') });
    expect(await sourceOf()).toBe(older);
  });

  // A name that ends a literal, an identifier or a body, or that has a meaning in format() or a regular expression.
  const NAMES = [
    "it's",
    'a"b',
    '$sse$',
    '$sse$ $sse1$',
    'Ünï ☃',
    ' a  b ',
    '%s %I',
    '-- version 9',
    'a;b/*',
    '(.*)$1',
    'x'.repeat(63),
  ];

  test.each(NAMES)('may be in the schema %j, made by the journal or by a migration by hand', async (schema) => {
    const names = namesOf(schema, table);
    const quoted = names.schema;
    undo.push(() => pool.query(`DROP SCHEMA ${quoted} CASCADE`));
    await (await opened({ schema })).close();
    const made = await rows(`SELECT proname FROM pg_proc WHERE proname LIKE '${table}%'`);
    expect(made).toHaveLength(4);
    await pool.query(`DROP SCHEMA ${quoted} CASCADE; CREATE SCHEMA ${quoted}`);
    for (const statement of tableStatements(names)) await pool.query(statement);
    for (const { create } of functionStatements(names)) await pool.query(create);
    await pool.query(`CREATE ROLE ${table}_app LOGIN; GRANT USAGE ON SCHEMA ${quoted} TO ${table}_app;
      GRANT SELECT, INSERT, UPDATE, DELETE ON ${names.log}, ${names.outbox}, ${names.state}, ${names.producer} TO ${table}_app`);
    const own = new pg.Pool({ connectionString: server.url.replace('postgres@', `${table}_app@`) });
    undo.push(() => own.end());
    const [journal, other] = [await opened({ schema, maxLength: 100 }, own), await opened({ schema }, own)];
    const recorder = await following(other);
    for (let n = 0; n < 70; n++) await journal.append({ body: frame(`${n}`), key: `${n}` });
    const client = await clientOf(own);
    await client.query('BEGIN');
    await journal.within!(client).append({ body: frame('within') });
    await client.query('COMMIT');
    await client.query(`SELECT ${names.publish}('x', 'in SQL')`);
    await expect(client.query(`SELECT ${names.publish}('end', '')`)).rejects.toMatchObject({ code: '22023' });
    await recorder.until(({ bodies }) => bodies.length === 72);
    await own.query(`SELECT ${names.trim}(5, NULL, NULL)`);
    await pool.query(`DELETE FROM ${names.state}`);
    const append = `SELECT ${names.append}('p', 0, '[]', '', false, 10, NULL, 10)`;
    await expect(own.query(append)).rejects.toMatchObject({ message: `the row of ${names.state} is missing` });
  });

  test('a role that may not create gets the cure; with the documented rights it runs a journal, and one right publishes', async () => {
    await pool.query(`CREATE ROLE ${table}_app LOGIN; CREATE ROLE ${table}_worker LOGIN`);
    const asRole = (role: string): pg.Pool => {
      const own = new pg.Pool({ connectionString: server.url.replace('postgres@', `${table}_${role}@`) });
      undo.push(() => own.end());
      return own;
    };
    const app = asRole('app');
    await expect(journalOf({}, app).open()).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(/permission denied.*docs\/postgres\.md/),
    });
    const names = namesOf('public', table);
    for (const statement of tableStatements(names)) await pool.query(statement);
    for (const { create } of functionStatements(names)) await pool.query(create);
    const page = readFileSync(join(__dirname, '../../../docs/postgres.md'), 'utf8');
    const [grants] = /^GRANT [^`]*/m.exec(page)!;
    const granted = grants.replace(/\bsse_/g, `${table}_`).replace(/TO (\w+)/g, `TO ${table}_$1`);
    await pool.query(granted);
    const journal = await opened({ maxLength: 10 }, app);
    const recorder = await following(journal);
    for (let n = 0; n < 70; n++) await journal.append({ body: frame(`${n}`), key: `${n}` });
    const worker = asRole('worker');
    const client = await clientOf(worker);
    await client.query(`SELECT ${table}_publish('x', 'from a worker')`);
    await client.query('BEGIN');
    await journal.within!(client).append({ body: frame('within') });
    await client.query('COMMIT');
    await expect(client.query(`SELECT * FROM ${table}_outbox`)).rejects.toThrow(/permission denied/);
    await recorder.until(({ bodies }) => bodies.includes('data: within\n\n'));
    await (journal as any).close();
  });

  test('an encoding that lacks most characters: channels and bodies are whole all the same', async () => {
    await pool.query(`CREATE DATABASE ${table} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
    const latin = new pg.Pool({ connectionString: server.url.replace(/postgres$/, table) });
    undo.push(() => latin.end());
    const journal = await opened({}, latin);
    const client = await clientOf(latin);
    await client.query('BEGIN');
    await journal.within!(client).append({ body: frame('€😀'), to: ['€😀'], key: '€' });
    await client.query('COMMIT');
    await journal.append({ body: frame('€😀'), to: ['€😀', 'ä', '\0'] });
    expect((await journal.window(10)).entries.map(text)).toEqual([
      { to: ['€😀'], body: 'data: €😀\n\n' },
      { to: ['€😀', 'ä', '\0'], body: 'data: €😀\n\n' },
    ]);
    await journal.close();
  });

  test('standard_conforming_strings off, SERIALIZABLE as default and short timeouts of the application change nothing', async () => {
    const odd = new pg.Pool({
      connectionString: server.url,
      statement_timeout: 1,
      query_timeout: 1,
      options:
        '-c standard_conforming_strings=off -c default_transaction_isolation=serializable -c synchronous_commit=off ' +
        '-c bytea_output=escape -c escape_string_warning=off',
    });
    undo.push(() => odd.end());
    const [journal, other] = [await opened({}, odd), await opened({}, odd)];
    const every = Uint8Array.from({ length: 256 }, (_, n) => n);
    await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        (n % 2 ? journal : other).append({ body: every, to: ['\\', "'", '"'], key: n % 3 ? undefined : `${n}` }),
      ),
    );
    const { entries } = await journal.window(100);
    expect(entries.length).toBe(50);
    for (const { body, to } of entries) expect([Buffer.compare(body, every), to]).toEqual([0, ['\\', "'", '"']]);
  });
});

describe('options', () => {
  const make =
    (options: object, ...on: unknown[]) =>
    () =>
      void postgresJournal((on.length > 0 ? on[0] : pool) as pg.Pool, options);

  test.each<[object, RegExp]>([
    [{ tabel: 'x' }, /tabel/],
    [{ table: '' }, /table must be a name of 1 to 40 .*received the string ""/],
    [{ table: '1a' }, /table must be .* that does not begin with a digit; received the string "1a"/],
    [{ table: 'Sse' }, /table must be/],
    [{ table: 'a'.repeat(41) }, /table must be/],
    [{ table: 7 }, /table must be/],
    [{ schema: '' }, /schema must be a name of 1 to 63 bytes without .*received the string ""\. Leave it out/],
    [{ schema: 'é'.repeat(32) }, /schema must be a name of 1 to 63 bytes/],
    [{ schema: 'a\\b' }, /schema must be/],
    [{ schema: null }, /schema must be .*received null/],
    [{ schema: 'a?b' }, /schema must be/],
    [{ schema: 'a:b' }, /schema must be/],
    [{ listen: true }, /listen must be/],
    [{ listen: null }, /listen must be/],
    [{ listen: {} }, /listen must be a Pool/],
    [{ poll: 0 }, /poll must be/],
    [{ maxLength: 1.5 }, /maxLength must be/],
    [{ wait: -1 }, /wait must be/],
  ])('%j is refused with the name and the value', (options, message) => {
    expect(make(options)).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_OPTION', message: expect.stringMatching(message) }),
    );
  });

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['a URL', 'postgres://localhost'],
    ['a client', new pg.Client()],
    ['the options of a pool', { connectionString: 'x' }],
  ])('%s is no pool', (_name, given) => {
    expect(make({}, given)).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_OPTION', message: expect.stringMatching(/Pool/) }),
    );
  });

  test('a wrong password, and a database that does not exist, reject open() at once', async () => {
    for (const url of [server.url.replace(/postgres$/, 'nowhere'), server.url.replace('postgres@', 'nobody-at-all@')]) {
      const wrong = new pg.Pool({ connectionString: url });
      undo.push(() => wrong.end());
      await expect(journalOf({}, wrong).open()).rejects.toMatchObject({
        code: 'ERR_SSE_JOURNAL',
        message: expect.stringMatching(/not exist/),
      });
    }
  });

  test('fsync off is warned of, once', async () => {
    expect(await warningsOf(() => opened())).toEqual([]);
    await pool.query('ALTER SYSTEM SET fsync = off');
    await pool.query('SELECT pg_reload_conf()');
    try {
      while ((await rows('SHOW fsync'))[0].fsync !== 'off') await sleep(10);
      expect(await warningsOf(() => opened())).toEqual(['SSE_POSTGRES_PERSISTENCE']);
    } finally {
      await pool.query('ALTER SYSTEM RESET fsync');
      await pool.query('SELECT pg_reload_conf()');
    }
  });
});

test('trimming and appends read no more than they need: no plan reads the whole log or a queue of its size', async () => {
  const first = await opened({ maxLength: 20_000 });
  await Promise.all(
    Array.from({ length: 3000 }, (_, n) => first.append({ body: frame('x'), key: n % 10 ? undefined : `${n}` })),
  );
  await first.close();
  // Statistics of an outbox that was full once: with them, a join would read the whole log for each move.
  await pool.query(
    `SELECT count(${table}_publish('x', '', NULL, 'early ' || n)::text) FROM generate_series(1, 2000) n`,
  );
  await pool.query(`ANALYZE ${table}_log; ANALYZE ${table}_outbox`);
  const scans = async (): Promise<number> => {
    await sleep(1200); // the server's processes report their counts once a second
    return Number(
      (await rows(`SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = '${table}_log'`))[0].seq_tup_read,
    );
  };
  const before = await scans();
  const journal = await opened({ maxLength: 20_000 });
  for (let n = 0; n < 20; n++) {
    await journal.append({ body: frame('y'), key: `new ${n}` });
    await pool.query(`SELECT ${table}_publish('x', '${n}', NULL, 'sql ${n}')`);
    await journal.append({ body: frame('z') });
    await journal.read((await journal.window(1)).floor, 10);
  }
  expect((await scans()) - before).toBe(0);
});
