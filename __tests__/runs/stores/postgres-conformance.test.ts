/*
 * The suite that every store of runs must pass, on a real Postgres.
 */
import pg from 'pg';
import { runStoreConformance } from '../../../lib/conformance/index.ts';
import { postgresRuns } from '../../../lib/journal/postgres/index.ts';
import { newTable, somePostgres } from '../../fixtures/postgres-server.ts';

let server: Awaited<ReturnType<typeof somePostgres>>;
let pool: pg.Pool;
beforeAll(async () => {
  server = await somePostgres();
  pool = new pg.Pool({ connectionString: server.url });
}, 120_000);
afterAll(async () => {
  await pool?.end();
  await server?.stop();
});

describe.each([
  ['with LISTEN', {}],
  ['without LISTEN', { listen: false }],
] as const)('%s', (_, options) => {
  const cases = runStoreConformance(() => {
    const table = newTable();
    return {
      store: postgresRuns(pool, { table, ...options }),
      reopen: () => postgresRuns(pool, { table, ...options }),
      cleanup: async () => void (await pool.query(`DROP TABLE IF EXISTS ${table}_run, ${table}_run_chunk`)),
    };
  });
  for (const { name, run } of cases) test(name, run);
});
