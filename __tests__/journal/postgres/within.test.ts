/*
 * Broadcasts that commit with the application's transaction: in plain transactions of every kind, and through query builders.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { drizzle } from 'drizzle-orm/node-postgres';
import knex from 'knex';
import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import postgres from 'postgres';
import { DataSource } from 'typeorm';
import type { Journal } from '../../../lib/journal/journal.ts';
import { postgresJournal, type PostgresJournalOptions } from '../../../lib/journal/postgres/index.ts';
import { sse, type Transaction } from '../../../lib/index.ts';
import { newTable, type PostgresServer, startPostgres } from '../../fixtures/postgres-server.ts';
import { prismaOn } from '../../fixtures/prisma.ts';
import { frame, Recorder } from '../../fixtures/redis-recorder.ts';
import { another, appOf, later } from '../../fixtures/support.ts';

jest.setTimeout(60_000);

let server: PostgresServer;
let pool: pg.Pool;
let table: string;

beforeAll(async () => {
  server = await startPostgres();
  pool = new pg.Pool({ connectionString: server.url, max: 4 });
}, 120_000);
afterAll(async () => {
  await pool?.end();
  await server?.stop();
});
beforeEach(() => void (table = newTable()));

async function opened(options: PostgresJournalOptions = {}): Promise<Journal> {
  const journal = postgresJournal(pool, { table, ...options });
  later(() => journal.close());
  await journal.open();
  return journal;
}

async function following(journal: Journal): Promise<Recorder> {
  const recorder = new Recorder((await journal.window(0)).floor);
  journal.follow(recorder.ids[0]!, recorder);
  await recorder.until(({ calls }) => calls.includes('up'));
  return recorder;
}

async function clientOf(): Promise<pg.PoolClient> {
  const client = await pool.connect();
  later(() => client.release(true));
  return client;
}

/** A journal, what its log contains in the end, and a client in a transaction. */
async function stage(begin = 'BEGIN') {
  const journal = await opened();
  const client = await clientOf();
  await client.query(begin);
  const append = (text: string, options: object = {}) =>
    journal.within!(client).append({ body: frame(text), ...options });
  const log = async (): Promise<string[]> => {
    await journal.append({ body: frame('end') }); // behind all that was committed before
    return (await journal.window(1000)).entries
      .slice(0, -1)
      .map(({ body }) => Buffer.from(body).toString().slice(6, -2));
  };
  return { journal, client, append, log };
}

test('the event exists if and only if the transaction commits, with its channels and its key', async () => {
  const { journal, client, append, log } = await stage();
  await append('1', { to: ['a'], except: ['b'], key: 'k' });
  await append('2');
  expect((await journal.window(10)).entries).toEqual([]);
  await client.query('COMMIT; BEGIN');
  await append('3');
  await client.query('ROLLBACK; BEGIN');
  await append('4', { key: 'k' }); // stored already
  await append('5', { key: 'l' });
  await client.query('COMMIT');
  expect(await log()).toEqual(['1', '2', '5']);
  expect((await journal.window(10)).entries[0]).toMatchObject({ to: ['a'], except: ['b'] });
});

test('a savepoint that is rolled back takes its events with it', async () => {
  const { client, append, log } = await stage();
  await append('1');
  await client.query('SAVEPOINT a');
  await append('2');
  await client.query('ROLLBACK TO a');
  await append('3');
  await client.query('SAVEPOINT b');
  await append('4');
  await client.query('RELEASE b; COMMIT');
  expect(await log()).toEqual(['1', '3', '4']);
});

test('PREPARE TRANSACTION: an event comes with COMMIT PREPARED, and does not with ROLLBACK PREPARED', async () => {
  const { client, append, log } = await stage();
  await append('1');
  await client.query(`PREPARE TRANSACTION '${table}_1'`);
  await client.query('BEGIN');
  await append('2');
  await client.query(`PREPARE TRANSACTION '${table}_2'`);
  expect(await log()).toEqual([]);
  await client.query(`COMMIT PREPARED '${table}_1'`);
  await client.query(`ROLLBACK PREPARED '${table}_2'`);
  expect(await log()).toEqual(['end', '1']);
});

test('SERIALIZABLE and READ ONLY: no transaction fails because of its events, except one that cannot write', async () => {
  const { journal, client, append, log } = await stage('BEGIN ISOLATION LEVEL SERIALIZABLE');
  const others = await Promise.all([clientOf(), clientOf()]);
  for (const other of others) await other.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
  await append('1');
  await Promise.all(others.map((other, n) => journal.within!(other).append({ body: frame(`${n + 2}`) })));
  await journal.append({ body: frame('meanwhile') });
  for (const each of [client, ...others]) await each.query('COMMIT');
  expect(new Set(await log())).toEqual(new Set(['meanwhile', '1', '2', '3']));
  await client.query('BEGIN READ ONLY');
  await expect(append('x')).rejects.toMatchObject({
    code: 'ERR_SSE_JOURNAL',
    message: expect.stringMatching(/read-only/),
  });
  await client.query('ROLLBACK');
});

test('a transaction that has failed refuses the event with the server’s message', async () => {
  const { client, append, log } = await stage();
  await client.query('SELECT 1/0').catch(() => {});
  await expect(append('1')).rejects.toMatchObject({
    code: 'ERR_SSE_JOURNAL',
    message: expect.stringMatching(/within.*aborted/),
    cause: expect.objectContaining({ code: '25P02' }),
  });
  await client.query('ROLLBACK');
  expect(await log()).toEqual([]);
});

test('calls on one client are sent one after the other: pg 9 forbids two at the same time', async () => {
  const { client, append, log } = await stage();
  const running: string[] = [];
  const query = client.query.bind(client) as (text: string) => Promise<unknown>;
  jest.spyOn(client, 'query').mockImplementation((async (text: string) => {
    expect(running).toEqual([]);
    running.push(text);
    await query(text).finally(() => running.pop());
  }) as never);
  await Promise.all(Array.from({ length: 20 }, (_, n) => append(`${n}`)));
  await client.query('COMMIT');
  expect(await log()).toEqual(Array.from({ length: 20 }, (_, n) => `${n}`));
});

test('the process that wrote it finds the commit within some ms; another one does by polling', async () => {
  const { client, append, journal } = await stage();
  await client.query('ROLLBACK');
  const [own, other] = [await following(journal), await following(await opened({ listen: false, poll: 40 }))];
  const times: number[] = [];
  for (let n = 0; n < 5; n++) {
    await client.query('BEGIN');
    await append(`${n}`);
    await client.query('COMMIT');
    const since = performance.now();
    await own.until(({ bodies }) => bodies.length > n);
    times.push(performance.now() - since);
    await other.until(({ bodies }) => bodies.length > n);
  }
  expect(times.sort((a, b) => a - b)[1]).toBeLessThan(100); // `poll` is 250 ms
  expect(other.bodies).toEqual(own.bodies);
});

test('the process that wrote it finds also a commit that follows after a while, without polling', async () => {
  const journal = await opened({ poll: 60_000 });
  const recorder = await following(journal);
  const client = await clientOf();
  await client.query('BEGIN');
  await journal.within!(client).append({ body: frame('1') });
  await sleep(100); // several checks
  await client.query('COMMIT');
  await recorder.until(({ bodies }) => bodies.length === 1, 5000);
});

test('without early checks, any process moves the outbox: also when the process that wrote has closed before the COMMIT', async () => {
  const writer = await opened();
  const client = await clientOf();
  await client.query('BEGIN');
  await writer.within!(client).append({ body: frame('1') });
  await writer.close();
  const survivor = await following(await opened({ poll: 50 }));
  await client.query('COMMIT');
  await survivor.until(({ bodies }) => bodies.length === 1);
});

test('all processes end, and the outbox is full: the next one that starts moves it', async () => {
  const writer = await opened();
  await writer.close();
  await pool.query(`SELECT ${table}_publish('x', '1')`);
  const { rows } = await pool.query(`SELECT count(*) FROM ${table}_outbox`);
  expect(rows).toEqual([{ count: '1' }]);
  const recorder = await following(await opened());
  await recorder.until(({ bodies }) => bodies.length === 1);
});

test('a transaction held open delays its own event only', async () => {
  const seconds = Number(process.env['POSTGRES_HELD_SECONDS'] ?? 1);
  const { client, append, journal } = await stage();
  const recorder = await following(journal);
  await append('held');
  const since = performance.now();
  const others: string[] = [];
  while (performance.now() - since < seconds * 1000) {
    const other = await pool.connect();
    await other.query('BEGIN');
    await journal.within!(other).append({ body: frame(`${others.length}`) });
    await other.query('COMMIT');
    other.release();
    others.push(`data: ${others.length}\n\n`);
    await journal.append({ body: frame(`${others.length}`) });
    others.push(`data: ${others.length}\n\n`);
  }
  await recorder.until(({ bodies }) => bodies.length === others.length);
  expect(recorder.bodies).toEqual(others);
  await client.query('COMMIT');
  await recorder.until(({ bodies }) => bodies.length > others.length);
  expect(recorder.bodies.at(-1)).toBe('data: held\n\n');
}, 120_000);

test('within() waits for the journal to open, for `wait` at most', async () => {
  const client = await clientOf();
  await client.query('BEGIN');
  const early = postgresJournal(pool, { table });
  later(() => early.close());
  await early.within!(client).append({ body: frame('1') });
  await client.query('COMMIT');
  await early.append({ body: frame('2') });
  expect((await early.window(10)).entries.length).toBe(2);

  const nowhere = new pg.Pool({ connectionString: 'postgres://postgres@127.0.0.1:1/x' });
  const never = postgresJournal(nowhere, { wait: 100 });
  later(() => never.close());
  jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  await expect(never.within!(client).append({ body: frame('3') })).rejects.toMatchObject({
    code: 'ERR_SSE_TIMEOUT',
    message: expect.stringMatching(/was not stored/),
  });
});

test.each<[string, () => unknown, RegExp]>([
  ['the pool', () => pool, /pool\.connect\(\)/],
  ['nothing', () => undefined, /BEGIN/],
  ['a text', () => 'BEGIN', /BEGIN/],
  ['an object without query()', () => ({}), /BEGIN/],
  ['sql of postgres.js', () => Object.assign(() => {}, { unsafe: () => {} }), /tx\.unsafe/],
  ['a transaction of Knex', () => Object.assign(() => {}, { raw: () => {} }), /trx\.raw/],
  ['a DataSource of TypeORM', () => new DataSource({ type: 'postgres' }), /manager/],
  ['a client of Prisma', () => prismaOn(server.url), /tx\.\$executeRawUnsafe/],
  ['Sequelize', () => ({ query: () => {}, getQueryInterface: () => {} }), /transaction/],
])('%s is no transaction: refused at once with the cure', async (_name, transaction, cure) => {
  const events = sse(() => {}, { history: postgresJournal(pool, { table }) });
  later(() => events.close());
  expect(() => events.within(transaction() as Transaction)).toThrow(
    expect.objectContaining({ code: 'ERR_SSE_OPTION', message: expect.stringMatching(cure) }),
  );
});

test('a function that returns no promise is refused', async () => {
  const journal = await opened();
  await expect(journal.within!((() => {}) as never).append({ body: frame('x') })).rejects.toMatchObject({
    code: 'ERR_SSE_OPTION',
    message: expect.stringMatching(/promise/),
  });
});

test('end to end: a client of the router gets the orders that exist, and no others', async () => {
  const events = sse((conn) => conn.join('orders'), { history: postgresJournal(pool, { table }) });
  later(() => events.close());
  const stream = await another(appOf(events), '/events', { timeout: 15_000 });
  await stream.next();
  await pool.query(`CREATE TABLE ${table}_orders (id int)`);
  const client = await clientOf();
  for (let id = 0; id < 10; id++) {
    await client.query('BEGIN');
    await client.query(`INSERT INTO ${table}_orders VALUES (${id})`);
    await events.within(client).broadcast({ event: 'order', data: { id } }, { to: 'orders' });
    await client.query(id % 3 === 0 ? 'ROLLBACK' : 'COMMIT');
  }
  await events.broadcast('end');
  await stream.until(() => stream.events.at(-1)?.data === 'end');
  const seen = stream.events
    .filter(({ event }) => event === 'order')
    .map(({ data }) => (JSON.parse(data as string) as { id: number }).id);
  const { rows } = await pool.query<{ id: number }>(`SELECT id FROM ${table}_orders ORDER BY id`);
  expect(seen).toEqual(rows.map(({ id }) => id));
  expect(events.stats().broadcasts).toBe(11);
});

/** Runs two transactions, of which the second rolls back, by throwing where the library requires that. */
const BUILDERS: [string, (publish: (tx: Transaction, text: string) => Promise<void>) => Promise<void>][] = [
  [
    'pg',
    async (publish) => {
      const client = await clientOf();
      for (const end of ['COMMIT', 'ROLLBACK']) {
        await client.query('BEGIN');
        await publish(client, end);
        await client.query(end);
      }
    },
  ],
  [
    'postgres.js',
    async (publish) => {
      const db = postgres(server.url, { onnotice: () => {} });
      later(() => db.end());
      await db.begin((tx) => publish((text) => tx.unsafe(text), 'COMMIT'));
      await rolledBack((fail) =>
        db.begin(async (tx) => {
          await publish((text) => tx.unsafe(text), 'ROLLBACK');
          fail();
        }),
      );
    },
  ],
  [
    'Knex',
    async (publish) => {
      const db = knex({ client: 'pg', connection: server.url });
      later(() => db.destroy());
      await db.transaction((trx) => publish((text) => trx.raw(text), 'COMMIT'));
      await rolledBack((fail) =>
        db.transaction(async (trx) => {
          await publish((text) => trx.raw(text), 'ROLLBACK');
          fail();
        }),
      );
    },
  ],
  [
    'Drizzle',
    async (publish) => {
      const db = drizzle(pool);
      await db.transaction((tx) => publish((text) => tx.execute(text), 'COMMIT'));
      await rolledBack((fail) =>
        db.transaction(async (tx) => {
          await publish((text) => tx.execute(text), 'ROLLBACK');
          fail();
        }),
      );
    },
  ],
  [
    'Kysely',
    async (publish) => {
      const db = new Kysely<object>({ dialect: new PostgresDialect({ pool: pool as never }) });
      await db.transaction().execute((trx) => publish((text) => sql.raw(text).execute(trx), 'COMMIT'));
      await rolledBack((fail) =>
        db.transaction().execute(async (trx) => {
          await publish((text) => sql.raw(text).execute(trx), 'ROLLBACK');
          fail();
        }),
      );
    },
  ],
  [
    'Prisma',
    async (publish) => {
      const db = prismaOn(server.url);
      later(() => db.$disconnect());
      await db.$transaction((tx) => publish((text) => tx.$executeRawUnsafe(text), 'COMMIT'));
      await rolledBack((fail) =>
        db.$transaction(async (tx) => {
          await publish((text) => tx.$executeRawUnsafe(text), 'ROLLBACK');
          fail();
        }),
      );
    },
  ],
  [
    'TypeORM',
    async (publish) => {
      const db = await new DataSource({ type: 'postgres', url: server.url }).initialize();
      later(() => db.destroy());
      await db.transaction((manager) => publish(manager, 'COMMIT'));
      const runner = db.createQueryRunner();
      await runner.startTransaction();
      await publish(runner, 'ROLLBACK');
      await runner.rollbackTransaction();
      await runner.release();
    },
  ],
];

async function rolledBack(work: (fail: () => never) => Promise<unknown>): Promise<void> {
  const fail = (): never => {
    throw new Error('roll back');
  };
  await expect(work(fail)).rejects.toThrow('roll back');
}

test.each(BUILDERS)('%s: parameters, placeholders and escapes in an event stay as they are', async (_name, run) => {
  const journal = await opened();
  const odd = `? ?? :name ::text $1 %s \\ \\' '' "" \0 € 😀`;
  await run((tx, text) =>
    journal.within!(tx).append({ body: frame(`${text} ${odd}`), to: [odd], key: `${text} ${odd}` }),
  );
  await journal.append({ body: frame('end') });
  await sleep(0);
  const { entries } = await journal.window(10);
  expect(entries.map(({ body }) => Buffer.from(body).toString())).toEqual([`data: COMMIT ${odd}\n\n`, 'data: end\n\n']);
  expect(entries[0]!.to).toEqual([odd]);
});
