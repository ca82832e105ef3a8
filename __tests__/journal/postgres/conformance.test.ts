/*
 * The suite that any journal must pass, on a real Postgres.
 */
import pg from 'pg';
import { conformance } from '../../../lib/conformance/index.ts';
import { postgresJournal } from '../../../lib/journal/postgres/index.ts';
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

const cases = conformance(() => {
  const table = newTable();
  return {
    journal: postgresJournal(pool, { table }),
    reopen: () => postgresJournal(pool, { table }),
    /** The position of the last removed entry is still good: nothing after it is missing. So one entry more is removed. */
    async trim(id) {
      const n = Number(id.split('-')[1]) + 1;
      const journal = postgresJournal(pool, { table });
      const isHead = async (): Promise<boolean> => (await journal.window(1)).entries[0]!.id === id;
      if (await isHead()) {
        await journal.append({ body: new Uint8Array(0) });
      }
      await journal.close();
      await pool.query(
        `UPDATE ${table}_state SET first = ${n + 1}, tag = (SELECT tag FROM ${table}_log WHERE n = ${n})`,
      );
      await pool.query(`DELETE FROM ${table}_log WHERE n <= ${n}`);
    },
    async cleanup() {
      await pool.query(`DROP TABLE IF EXISTS ${table}_log, ${table}_outbox, ${table}_state, ${table}_producer`);
    },
  };
});
for (const { name, run } of cases) test(name, run);
