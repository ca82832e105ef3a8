// This package as its README shows it.
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import compression from 'compression';
import express from 'express';
import { sse } from '../../dist/esm/index.js';

export const offers = {
  fields: ['event', 'id', 'retry'],
  routes: ['/events', '/items', '/answers', '/late', '/forbidden', '/throws', '/breaks', '/end'],
  channels: 'several',
  ownIds: false,
  text: true,
};

export async function create(setup) {
  const app = express();
  if (setup.compression) app.use(compression());
  const options = { snapshot: setup.state ? () => ({ event: 'state', data: setup.state }) : undefined };
  if (setup.origins) options.cors = { origin: setup.origins, credentials: true };
  if (setup.ids) options.history = false; // ids of the application
  if (setup.historySize) options.history = { size: setup.historySize };
  if (setup.store) {
    const { lmdbJournal } = await import('../../dist/esm/journal/lmdb/index.js');
    options.history = lmdbJournal(setup.store);
  }
  if (setup.redis) {
    const { Redis } = await import('../../node_modules/ioredis/built/index.js').then(({ default: ioredis }) => ioredis);
    const { redisJournal } = await import('../../dist/esm/journal/redis/index.js');
    options.history = redisJournal(new Redis(setup.redis), { key: setup.redisKey });
  }
  if (setup.limit) options.limits = { perClient: setup.limit, whenFull: 'reject' };
  const channelsOf = (req) => [req.query.channel ?? []].flat();
  let last;
  const events = sse(async (conn, req) => {
    if (setup.wait) await pause(setup.wait);
    last = conn;
    conn.join(...channelsOf(req));
  }, options);
  app.use('/events', events);

  const once = (handler, how = {}) => sse(handler, { history: false, ...how });
  app.use(
    '/items',
    once(() => setup.items()),
  );
  app.use(
    '/answers',
    express.json(),
    once(
      async function* () {
        await pause(50);
        yield { event: 'token', data: 'a' };
        await pause(50);
        yield { event: 'token', data: 'b' };
      },
      { methods: ['POST'] },
    ),
  );
  app.use(
    '/late',
    once(
      async (conn, req) => {
        conn.push({ event: 'token', data: 'a' });
        await textOf(req);
        await pause(50);
        conn.push({ event: 'token', data: 'b' });
        conn.end();
      },
      { methods: ['POST'] },
    ),
  );
  app.use(
    '/forbidden',
    once(async (_conn, _req, res) => {
      await pause(20);
      res.sendStatus(403);
    }),
  );
  app.use(
    '/throws',
    once(async () => {
      await pause(20);
      throw new Error('secret');
    }),
  );
  app.use(
    '/breaks',
    once(
      async (conn) => {
        conn.push('first');
        await pause(50);
        throw new Error('secret');
      },
      { onError: () => {} },
    ),
  );
  app.use(
    '/end',
    once((conn) => {
      conn.push('last');
      conn.end();
    }),
  );
  return {
    server: createServer(app),
    broadcast({ to, ...message }) {
      if (message.id === undefined) return events.broadcast(message, to ? { to } : {});
      for (const conn of events.connections) conn.push(message); // a broadcast has the id of the log
    },
    size: () => events.size,
    sendToLast: (data) => last.push({ data }),
    close: () => events.close(),
  };
}

export const isBuilt = () => existsSync(new URL('../../dist/esm/index.js', import.meta.url));
