/*
 * The promise of transactions: of thousands of them, a third rolls back, and processes and the server are killed in the middle.
 * The events are exactly those of the transactions that committed.
 *
 *   POSTGRES_TRANSACTIONS=10000 npx jest __tests__/journal/postgres/transactions    so many, instead of 400
 *   TRANSACTIONS_SEED=…                                                               the kills of an earlier run
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { postgresJournal } from '../../../lib/journal/postgres/index.ts';
import { Random, seedFrom } from '../../fixtures/random.ts';
import { newTable, type PostgresServer, startPostgres } from '../../fixtures/postgres-server.ts';
import type { WorkerSpec } from '../../fixtures/postgres-worker.ts';
import { Recorder } from '../../fixtures/redis-recorder.ts';
import { TYPESCRIPT } from '../../fixtures/typescript.ts';

const wanted = Number(process.env['POSTGRES_TRANSACTIONS'] ?? 400);
jest.setTimeout(60_000 + wanted * 50);

const PROGRAM = join(__dirname, '../../fixtures/postgres-worker.ts');
const table = newTable();
const seed = seedFrom('TRANSACTIONS_SEED');
const random = new Random(seed);
let server: PostgresServer;
let pool: pg.Pool;
const counts = { committed: 0, 'rolled back': 0, kills: 0 };
const children = new Set<ChildProcess>();
let started = 0;

beforeAll(async () => {
  server = await startPostgres('fsync=off'); // kill -9 leaves what the system has cached
  pool = new pg.Pool({ connectionString: server.url });
  pool.on('error', () => {});
}, 120_000);
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await pool?.end();
  await server?.stop();
});

function start(loops: number): ChildProcess {
  const spec: WorkerSpec = { url: server.url, table, seed: seed + ++started, loops };
  const child = spawn(process.execPath, [...TYPESCRIPT, PROGRAM, JSON.stringify(spec)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...process.env, NODE_NO_WARNINGS: '1' },
  });
  child.on('message', (outcome: 'committed' | 'rolled back') => counts[outcome]++);
  children.add(child);
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  children.delete(child);
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

const done = (): number => counts.committed + counts['rolled back'];
const rowsOf = async (query: string): Promise<any[]> => (await pool.query(query)).rows;

test(`${wanted} transactions, a third rolls back, processes and the server are killed: the events are exactly the committed rows`, async () => {
  jest.spyOn(process, 'emitWarning').mockImplementation(() => {}); // of fsync, which is off on purpose
  const journal = postgresJournal(pool, { table, maxLength: Infinity, wait: 20_000 });
  await journal.open();
  const recorder = new Recorder((await journal.window(0)).floor);
  journal.follow(recorder.ids[0]!, recorder);
  await pool.query(`CREATE TABLE ${table}_rows (name text PRIMARY KEY)`);

  let workers = [start(6), start(6), start(6)];
  for (let next = 50, engine = wanted / 2; done() < wanted;) {
    await sleep(20);
    if (done() >= next) {
      next += random.between(50, 150);
      const victim = random.of(workers)!;
      counts.kills++;
      await kill(victim);
      workers = [...workers.filter((worker) => worker !== victim), start(6)];
    }
    if (done() >= engine) {
      engine = Infinity;
      await server.kill();
      await server.start();
    }
  }
  // All at once, in the middle. This process closes its journal, so no process moves the outbox meanwhile.
  await Promise.all(workers.map(kill));
  counts.kills += workers.length;
  await journal.close();
  await sleep(100); // the server notices

  start(0);
  const isMoved = async (): Promise<boolean> => (await rowsOf(`SELECT count(*) FROM ${table}_outbox`))[0].count === '0';
  for (const until = Date.now() + 20_000; !(await isMoved()) && Date.now() < until;) await sleep(20);
  expect(await isMoved()).toBe(true);

  const rows = (await rowsOf(`SELECT name FROM ${table}_rows ORDER BY name COLLATE "C"`)).map(({ name }) => name);
  const log = await rowsOf(`SELECT n, tag, convert_from(body, 'UTF8') AS body FROM ${table}_log ORDER BY n`);
  const nameOf = (body: string): string => /^data: (.*)$/m.exec(body)![1]!;
  expect(log.map(({ body }) => nameOf(body)).sort()).toEqual(rows);
  expect(log.map(({ n }) => n)).toEqual(log.map((_, i) => `${i + 1}`));
  // What one process has followed all the time is the beginning of the log, once and in order.
  const ids = log.map(({ n, tag }) => `${n}-${tag}`);
  expect(recorder.ids.slice(1).map((id) => id.slice(id.indexOf('-') + 1))).toEqual(
    ids.slice(0, recorder.ids.length - 1),
  );
  expect(recorder.ids.length).toBeGreaterThan(1 + counts.committed / 3);
  expect(recorder.calls.filter((call) => call.startsWith('re'))).toEqual([]);

  const share = counts['rolled back'] / done();
  process.stdout.write(
    `transactions: seed ${seed}, ${counts.committed} committed, ${counts['rolled back']} rolled back, ${counts.kills} kills of ` +
      `processes, 1 of the server; ${rows.length} rows, ${log.length} events\n`,
  );
  expect(rows.length).toBeGreaterThanOrEqual(counts.committed);
  expect(share).toBeGreaterThan(0.2);
  expect(counts.kills).toBeGreaterThan(3);
});
