// The journals that processes can share, and how each is opened. Each one is a row of the scenario `machines`.
// Invariant: a journal is created as an application creates it, with the default options except those in its row.

import { existsSync } from 'node:fs';

/** The settings by the name of the row. `package` must be installed. `client`: whether it is a client for Redis. */
export const journals = {
  'node-redis': { package: 'redis', client: true },
  ioredis: { package: 'ioredis', client: true },
  lmdb: { package: 'lmdb' },
  'lmdb-no-sync': { package: 'lmdb', options: { sync: false } },
};

const clients = {
  redis: async (url) => (await import('redis')).createClient({ url }),
  ioredis: async (url) => new (await import('ioredis')).Redis(url, { lazyConnect: true }),
};

/** `at`: the URL of Redis, or a folder. `key`: the key of the stream. */
export async function openJournal({ package: name, client = false, at, key, options }, lib = '.tmp/esm') {
  // `--before` may name a revision in which the journals' folders were directly in lib/.
  const paths = (name) => [`${lib}/journal/${name}/index.js`, `${lib}/${name}/index.js`];
  const urls = (name) => paths(name).map((path) => new URL(path, import.meta.url));
  const importJournal = (name) => import(urls(name).find((url) => existsSync(url)));
  if (!client) return (await importJournal('lmdb')).lmdbJournal(at, options);
  return (await importJournal('redis')).redisJournal(await clients[name](at), { ...options, key });
}
