// The journals that processes can share, and how each is opened: a row of the scenario `machines` is one of them.
// May know: the package's doors. Keeps: a journal is made as an application makes it, with the defaults but for what its row says.

import { existsSync } from 'node:fs';

/** Row → what an adapter is told. `package` is what has to be installed; `client`: it is one for Redis; `engine`: its server otherwise. */
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

/** `at`: the URL of Redis or Postgres, or a folder; `key`: the stream's, or what the tables' names begin with. */
export async function openJournal({ package: name, client = false, engine, at, key, options }, lib = '.tmp/esm') {
  // `--before` may name a revision in which the journals' folders were directly in lib/.
  const paths = (name) => [`${lib}/journal/${name}/index.js`, `${lib}/${name}/index.js`];
  const urls = (name) => paths(name).map((path) => new URL(path, import.meta.url));
  const room = (name) => import(urls(name).find((url) => existsSync(url)));
  if (engine === 'postgres') {
    const { default: pg } = await import('pg');
    const pool = new pg.Pool({ connectionString: at });
    return (await room('postgres')).postgresJournal(pool, { ...options, table: key });
  }
  if (!client) return (await room('lmdb')).lmdbJournal(at, options);
  return (await room('redis')).redisJournal(await clients[name](at), { ...options, key });
}
