// The journals that processes can share, and how each is opened. Each one is a row of the scenario `machines`.
// Invariant: a journal is created as an application creates it, with the default options except those in its row.

import { existsSync } from 'node:fs';

/**
 * The settings by the name of the row. `package` must be installed. `client`: whether it is a client for Redis. `engine`: the server
 * of another journal.
 */
export const journals = {
  'node-redis': { package: 'redis', client: true },
  ioredis: { package: 'ioredis', client: true },
  lmdb: { package: 'lmdb' },
  postgres: { package: 'pg', engine: 'postgres' },
  'lmdb-no-sync': { package: 'lmdb', options: { sync: false } },
};

const clients = {
  redis: async (url) => (await import('redis')).createClient({ url }),
  ioredis: async (url) => new (await import('ioredis')).Redis(url, { lazyConnect: true }),
};

/** `at`: the URL of Redis or Postgres, or a folder. `key`: the key of the stream, or the prefix of the tables. */
export async function openJournal({ package: name, client = false, engine, at, key, options }, lib = '.tmp/esm') {
  // `--before` may name a revision in which the journals' folders were directly in lib/.
  const paths = (name) => [`${lib}/journal/${name}/index.js`, `${lib}/${name}/index.js`];
  const urls = (name) => paths(name).map((path) => new URL(path, import.meta.url));
  const importJournal = (name) => import(urls(name).find((url) => existsSync(url)));
  if (engine === 'postgres') {
    const { default: pg } = await import('pg');
    const pool = new pg.Pool({ connectionString: at });
    return (await importJournal('postgres')).postgresJournal(pool, { ...options, table: key });
  }
  if (!client) return (await importJournal('lmdb')).lmdbJournal(at, options);
  return (await importJournal('redis')).redisJournal(await clients[name](at), { ...options, key });
}
