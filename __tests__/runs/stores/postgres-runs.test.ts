/*
 * Runs in Postgres while things break: processes killed and stopped, replies lost, the server killed and frozen, poolers in between.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { runStoreConformance } from '../../../lib/conformance/index.ts';
import { postgresRuns, type PostgresRunsOptions } from '../../../lib/journal/postgres/index.ts';
import type { NewRun, RunState, RunStore } from '../../../lib/runs/run-store.ts';
import { runFunctionStatements, runNames, runTableStatements } from '../../../lib/runs/stores/postgres/run-schema.ts';
import { startPgBouncer } from '../../fixtures/pgbouncer.ts';
import { newTable, type PostgresServer, startPostgres } from '../../fixtures/postgres-server.ts';
import { Proxy } from '../../fixtures/redis-proxy.ts';
import { producedTexts, RunsProcess } from '../../fixtures/runs-processes.ts';
import { codeOf, later } from '../../fixtures/support.ts';

jest.setTimeout(60_000);
let server: PostgresServer; // for the cases after which it is as it was
let table: string;

beforeAll(async () => {
  server = await startPostgres();
}, 120_000);
afterAll(() => server?.stop());
beforeEach(() => {
  table = newTable();
  jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
});

/** A server that is not as it was afterwards. */
async function ownServer(): Promise<PostgresServer> {
  // kill -9 leaves what the system has cached, so no process has to wait for the disk.
  const own = await startPostgres('fsync=off');
  later(() => own.stop());
  return own;
}

function poolOn({ port }: { port: number }, others: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres', ...others });
  pool.on('error', () => {});
  later(() => pool.end());
  return pool;
}

/** A store in this process. */
async function opened(target: { port: number } = server, options: PostgresRunsOptions = {}): Promise<RunStore> {
  const store = postgresRuns(poolOn(target), { table, ...options });
  later(() => store.close());
  await store.open({ onStop() {} });
  return store;
}

function newRun(lease = 60_000): NewRun {
  return { id: 'a', generation: 'g', again: 'join', lease, keep: 60_000 };
}

function chunk(n: number): Uint8Array {
  return new TextEncoder().encode(`${n}`);
}

async function textsOf(store: RunStore): Promise<string[]> {
  const page = await store.read({ id: 'a', generation: 'g' }, 0, 10_000);
  return page!.chunks.map((each) => new TextDecoder().decode(each));
}

/** Follows the run from its first chunk. */
function followed(store: RunStore): { received: string[]; end: Promise<RunState> } {
  const received: string[] = [];
  const end = new Promise<RunState>((resolve) => {
    const unfollow = store.follow(newRun(), 0, {
      chunks: (_, chunks) => void received.push(...chunks.map((each) => new TextDecoder().decode(each))),
      end: resolve,
    });
    later(unfollow);
  });
  return { received, end };
}

/** Polls until the run has ended. */
async function endOf(store: RunStore): Promise<RunState> {
  for (;;) {
    const state = (await store.state('a'))!;
    if (state.status !== 'running') return state;
    await sleep(10);
  }
}

test('a pool or an option that is not valid is refused with its cure', () => {
  const pool = poolOn(server);
  expect(() => postgresRuns({} as never)).toThrow(
    'postgresRuns: pool must be a Pool of the npm package pg, version 8 or later; received an object of Object.',
  );
  expect(() => postgresRuns(pool, { schema: '' })).toThrow(
    'postgresRuns: schema must be a name of 1 to 63 bytes without NUL; received the string "". Leave it out for the first schema of the search path.',
  );
  for (const options of [
    { table: 'A' },
    { schema: 'x'.repeat(64) },
    { schema: null },
    { schema: '' },
    { poll: 0 },
    { poll: Infinity },
    { listen: true },
    { tabel: 'x' },
  ])
    expect(codeOf(() => postgresRuns(pool, options as never))).toBe('ERR_SSE_OPTION');
});

test('a role without the right to create uses tables that a migration has made', async () => {
  const role = newTable();
  const names = runNames('public', table);
  for (const statement of runTableStatements(names)) await server.query(statement);
  for (const { create } of runFunctionStatements(names)) await server.query(create);
  await server.query(`CREATE ROLE ${role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC`);
  const pool = poolOn(server, { user: role });
  const store = postgresRuns(pool, { table });
  later(() => store.close());
  await store.open({ onStop() {} });
  await expect(store.begin(newRun())).rejects.toMatchObject({
    code: 'ERR_SSE_JOURNAL',
    message: expect.stringMatching(/^postgresRuns: Postgres refused: permission denied/),
  });
  await server.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${table}_run, ${table}_run_chunk TO ${role}`);
  expect(await store.begin(newRun())).toMatchObject({ started: true });
  expect(await store.append(newRun(), 1, [chunk(1)])).toBe('stored');
});

// A name that ends a literal, an identifier or a body, or that has a meaning in format() or a regular expression.
test.each(["it's", 'a"b', '$sse$', 'Ünï ☃', ' a  b ', 'a\\b', '%s %I', 'a?b:c', 'x'.repeat(63)])(
  'runs may be in the schema %j, made by the store or by a migration by hand',
  async (schema) => {
    const names = runNames(schema, table);
    later(() => server.query(`DROP SCHEMA ${names.schema} CASCADE`));
    await (await opened(server, { schema })).close();
    expect(await server.query(`SELECT proname FROM pg_proc WHERE proname LIKE '${table}%'`)).toHaveLength(3);
    await server.query(`DROP SCHEMA ${names.schema} CASCADE; CREATE SCHEMA ${names.schema}`);
    for (const statement of runTableStatements(names)) await server.query(statement);
    for (const { create } of runFunctionStatements(names)) await server.query(create);
    const [store, other] = [await opened(server, { schema }), await opened(server, { schema })];
    expect(await store.begin(newRun())).toMatchObject({ started: true });
    const { received, end } = followed(other);
    expect(await store.append(newRun(), 1, [chunk(1), chunk(2)])).toBe('stored');
    await store.end(newRun(), 'done');
    expect(await end).toMatchObject({ status: 'done' });
    expect(received).toEqual(['1', '2']);
    expect(await server.query(`SELECT ${names.trim}(0) AS more`)).toEqual([{ more: false }]);
  },
);

test('a database that does not exist is reported, not waited for', async () => {
  const store = postgresRuns(poolOn(server, { database: 'missing' }), { table });
  later(() => store.close());
  await expect(store.open({ onStop() {} })).rejects.toMatchObject({
    code: 'ERR_SSE_JOURNAL',
    message: 'postgresRuns: Postgres refused: database "missing" does not exist',
  });
});

describe('processes', () => {
  const spec = (): { postgres: string; table: string } => ({ postgres: server.url, table });

  test('every reading process receives every chunk, and a stop reaches the producer within 100 ms', async () => {
    const [producer, reader] = await Promise.all([RunsProcess.on(spec()), RunsProcess.on(spec())]);
    await producer.produce(newRun(10_000), 5);
    await reader.follow(newRun());
    await producer.until(() => producer.stored >= 50, '50 chunks');
    const store = await opened();
    const before = Date.now();
    expect(await store.stop('a')).toBe(true);
    await producer.until(() => producer.over !== undefined, 'the end of the production');
    expect(producer.stops).toHaveLength(1);
    expect(producer.stops[0]!.at - before).toBeLessThan(100);
    await reader.until(() => reader.ended !== undefined, 'the end');
    expect(reader.ended).toMatchObject({ status: 'stopped', chunks: producer.stored });
    expect(reader.texts).toEqual(producedTexts(producer.stored));
  });

  test('if the producing process is killed, its run is lost within a second after the lease', async () => {
    const lease = 1500;
    const [producer, reader] = await Promise.all([RunsProcess.on(spec()), RunsProcess.on(spec())]);
    await producer.produce(newRun(lease), 5);
    await reader.follow(newRun());
    await producer.until(() => producer.stored >= 20, '20 chunks');
    await producer.kill();
    const since = performance.now();
    const store = await opened(); // the first call of a new process
    const end = await endOf(store);
    expect(performance.now() - since).toBeLessThan(lease + 1000);
    expect(end.status).toBe('lost');
    await reader.until(() => reader.ended !== undefined, 'the end');
    expect(reader.texts).toEqual(producedTexts(end.chunks));
    expect(end.chunks - producer.stored).toBeLessThanOrEqual(1);
  });

  test('a producing process that is stopped loses its run after the lease, and can no longer append', async () => {
    const lease = 1500;
    const producer = await RunsProcess.on(spec());
    const store = await opened();
    await producer.produce(newRun(lease), 5);
    await sleep(lease * 1.5);
    expect((await store.state('a'))?.status).toBe('running'); // it renews
    producer.signal('SIGSTOP');
    const since = performance.now();
    const end = await endOf(store);
    expect(performance.now() - since).toBeLessThan(lease + 1000);
    expect(end.status).toBe('lost');
    producer.signal('SIGCONT');
    await producer.until(() => producer.over !== undefined, 'the end of the production');
    expect(['refused', 'fenced']).toContain(producer.over);
    expect(await textsOf(store)).toEqual(producedTexts(end.chunks));
  });
});

test('a lease that is renewed while its end is being checked is not lost', async () => {
  const [producer, reader] = [await opened(), await opened()];
  const run = newRun(600);
  await producer.begin(run);
  await sleep(620);
  const state = reader.state('a');
  await sleep(50);
  expect(await producer.renew([run])).toMatchObject([{ running: true }]);
  expect(await state).toMatchObject({ status: 'running' });
});

describe('an append', () => {
  test('whose reply is lost is sent again and stored once', async () => {
    const proxy = await Proxy.to(server.port);
    later(() => proxy.close());
    const [store, witness] = [await opened(proxy), await opened()];
    await store.begin(newRun());
    for (let n = 1; n <= 5; n++) {
      const lost = proxy.loseNextReply('run_append'); // the name of the result's column
      expect(await store.append(newRun(), n, [chunk(n)])).toBe('stored');
      await lost;
    }
    expect(await textsOf(witness)).toEqual(producedTexts(5));
    expect(await witness.state('a')).toMatchObject({ status: 'running', chunks: 5, bytes: 5 });
  });

  test('that is stored before the run ends is reported as stored, although its reply is lost', async () => {
    const proxy = await Proxy.to(server.port);
    later(() => proxy.close());
    const [store, witness] = [await opened(proxy), await opened()];
    await store.begin(newRun());
    await store.state('a'); // the connection is idle after it
    proxy.hold();
    const append = store.append(newRun(), 1, [chunk(1)]);
    while ((await witness.state('a'))!.chunks === 0) await sleep(5);
    await witness.end(newRun(), 'lost');
    proxy.cut();
    proxy.release();
    expect(await append).toBe('stored');
    expect(await store.append(newRun(), 2, [chunk(2)])).toBe('refused');
    expect(await textsOf(witness)).toEqual(['1']);
  });

  test('that leaves a gap is refused, and ends the run as lost', async () => {
    const store = await opened();
    await store.begin(newRun());
    expect(await store.append(newRun(), 1, [chunk(1)])).toBe('stored');
    expect(await store.append(newRun(), 5, [chunk(5)])).toBe('refused');
    expect(await store.state('a')).toMatchObject({ status: 'lost', chunks: 1 });
  });
});

describe('an outage', () => {
  const lease = 1500;

  /** A run with a producer that renews and appends, and a follower of another store. */
  async function producing(target: PostgresServer) {
    const [store, other] = [await opened(target), await opened(target)];
    await store.begin(newRun(lease));
    const received: string[] = [];
    let end: RunState | undefined;
    other.follow(newRun(), 0, {
      chunks: (_, chunks) => void received.push(...chunks.map((each) => new TextDecoder().decode(each))),
      end: (state) => (end = state),
    });
    let n = 0;
    let isOver = false;
    const renewals = setInterval(() => void store.renew([newRun(lease)]).catch(() => {}), lease / 3);
    later(() => clearInterval(renewals));
    const production = (async () => {
      while (!isOver) {
        if ((await store.append(newRun(), ++n, [chunk(n)])) === 'refused') return 'refused';
        await sleep(10);
      }
      return 'stored';
    })();
    return {
      other,
      received,
      end: () => end,
      stored: () => n,
      async finish() {
        isOver = true;
        const result = await production;
        clearInterval(renewals);
        await store.end(newRun(), 'done');
        return result;
      },
    };
  }

  test.each([
    ['of a server that is killed and started again', true],
    ['of a server that is frozen', false],
  ])(
    '%s ends no run, although it is longer than the lease; readers pause and receive everything',
    async (_, isKilled) => {
      const own = await ownServer();
      const run = await producing(own);
      while (run.received.length < 20) await sleep(10);
      // Readers ask for the state all the time, also at the moment at which the server is back.
      let isOver = false;
      const statuses = new Set<string>();
      const polls = Promise.all(
        [run.other, await opened(own)].map(async (store) => {
          while (!isOver) {
            statuses.add((await store.state('a'))!.status);
            await sleep(5);
          }
        }),
      );
      if (isKilled) await own.kill();
      else own.freeze();
      await sleep(lease * 2);
      if (isKilled) await own.start();
      else own.thaw();
      const before = run.stored();
      while (run.stored() < before + 50) await sleep(10);
      await sleep(lease * 1.5);
      isOver = true;
      await polls;
      expect([...statuses]).toEqual(['running']);
      expect(await run.finish()).toBe('stored');
      while (run.end() === undefined) await sleep(10);
      expect(run.end()).toMatchObject({ status: 'done', chunks: run.stored() });
      expect(run.received).toEqual(producedTexts(run.stored()));
    },
  );

  test('is reported once, with the store, a code, the cure and the cause; a run whose caller stops to wait never begins', async () => {
    const own = await ownServer();
    const onStatus = jest.fn<void, [boolean, Error?]>();
    const store = postgresRuns(poolOn(own), { table });
    later(() => store.close());
    await store.open({ onStop() {}, onStatus });
    await store.begin(newRun());
    onStatus.mockClear();
    await own.kill();
    await sleep(300); // for every connection to notice it: a begin that was sent may have been executed
    const controller = new AbortController();
    const begun = store.begin({ ...newRun(), id: 'other', signal: controller.signal });
    begun.catch(() => {});
    await sleep(500); // several attempts to connect
    expect(onStatus.mock.calls).toEqual([
      [
        false,
        expect.objectContaining({
          code: 'ERR_SSE_JOURNAL',
          message: expect.stringMatching(/^postgresRuns: Postgres cannot be reached: .+\. Check that Postgres runs/),
          cause: expect.objectContaining({ message: expect.any(String) }),
        }),
      ],
    ]);
    controller.abort(new Error('the caller has left'));
    await own.start();
    await expect(begun).rejects.toThrow('the caller has left');
    expect(await store.state('other')).toBeUndefined();
    while (onStatus.mock.calls.length < 2) await sleep(10);
    expect(onStatus).toHaveBeenLastCalledWith(true);
  });

  test('a run whose producer ends during an outage is lost within two leases after it', async () => {
    const own = await ownServer();
    const producer = await RunsProcess.on({ postgres: own.url, table });
    const store = await opened(own);
    await producer.produce(newRun(lease), 5);
    await own.kill();
    await producer.kill();
    await sleep(lease);
    await own.start();
    const since = performance.now();
    expect((await endOf(store)).status).toBe('lost');
    expect(performance.now() - since).toBeLessThan(2 * lease + 1000);
  });
});

test('a dropped run is removed with its chunks, although nothing calls the store but the next begin', async () => {
  const store = await opened();
  await store.begin({ ...newRun(), keep: 200 });
  await store.append(newRun(), 1, [chunk(1), chunk(2)]);
  await store.end(newRun(), 'done');
  await sleep(400);
  await store.begin({ ...newRun(), id: 'b' });
  for (const until = Date.now() + 5000; Date.now() < until; await sleep(20)) {
    const [row] = await server.query(
      `SELECT (SELECT count(*) FROM ${table}_run) AS runs, (SELECT count(*) FROM ${table}_run_chunk) AS chunks`,
    );
    if (Number(row!['runs']) === 1 && Number(row!['chunks']) === 0) return;
  }
  throw new Error('the dropped run is still there');
});

test('a run is dropped neither while it is renewed, nor before its producer had the time to renew', async () => {
  const store = await opened();
  await store.begin(newRun());
  await store.state('a');
  await store.close(); // it trims, too
  const { trim } = runNames('public', table);
  const rowsAfterTrim = async (leaseEnd: string, quietMs: number) => {
    const times = `lease_end = clock_timestamp() + interval '${leaseEnd}', expires = clock_timestamp() - interval '1 s'`;
    await server.query(`UPDATE ${table}_run SET ${times}`);
    await server.query(`SELECT ${trim}(${quietMs})`);
    return server.query(`SELECT status, expires > clock_timestamp() AS later FROM ${table}_run`);
  };
  const kept = [{ status: 'running', later: true }];
  const { lease } = newRun();
  expect(await rowsAfterTrim('1 minute', lease * 60)).toEqual(kept);
  expect(await rowsAfterTrim('-1 hour', lease - 1000)).toEqual(kept);
  expect(await rowsAfterTrim('-1 hour', lease + 1000)).toEqual([]);
});

test('a process that has just started ends no run of a server that is younger than the lease', async () => {
  const own = await ownServer();
  const producer = await opened(own);
  await producer.begin(newRun());
  await own.query(`UPDATE ${table}_run SET lease_end = clock_timestamp() - interval '1 s'`); // as after an outage
  const started = await opened(own);
  expect(await started.state('a')).toMatchObject({ status: 'running' });
  expect(await producer.renew([newRun()])).toMatchObject([{ running: true }]);
});

test('a chunk that is missing ends its followers as lost, and they receive no later chunk', async () => {
  const store = await opened();
  await store.begin(newRun());
  await store.append(newRun(), 1, [chunk(1), chunk(2), chunk(3)]);
  await server.query(`DELETE FROM ${table}_run_chunk WHERE n = 2`);
  const { received, end } = followed(store);
  expect(await Promise.race([end, sleep(5000)])).toMatchObject({ status: 'lost' });
  expect(received).not.toContain('3');
});

describe('PgBouncer in transaction mode', () => {
  let bouncer: Awaited<ReturnType<typeof startPgBouncer>>;
  let pool: pg.Pool;
  beforeAll(async () => {
    bouncer = await startPgBouncer(server);
    pool = new pg.Pool({ connectionString: bouncer.url });
  });
  afterAll(async () => {
    await pool?.end();
    await bouncer?.stop();
  });

  const cases = runStoreConformance(() => {
    const name = newTable();
    return { store: postgresRuns(pool, { table: name }), reopen: () => postgresRuns(pool, { table: name }) };
  });
  for (const { name, run } of cases) test(name, run);

  test('LISTEN does not count as working there: a reader polls at its interval', async () => {
    const [producer, reader] = [postgresRuns(pool, { table }), postgresRuns(pool, { table })];
    for (const store of [producer, reader]) {
      later(() => store.close());
      await store.open({ onStop() {} });
    }
    await producer.begin(newRun());
    const { received } = followed(reader);
    const since = performance.now();
    for (let n = 1; n <= 8; n++) {
      await producer.append(newRun(), n, [chunk(n)]);
      while (received.length < n) await sleep(5);
    }
    expect(performance.now() - since).toBeLessThan(4000); // 8 intervals of 50 ms. Where LISTEN works, they are of 1 s.
  });
});
