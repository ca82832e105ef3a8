// This package, compiled, with its default options: history, ids and heartbeats are on.
import { createServer } from 'node:http';
import express from 'express';
import { openJournal } from '../journals.mjs';
import { nextTick, small, streamQuery } from './held.mjs';

export async function create({ lib = '.tmp/esm', compress = false, heartbeat, journal, history } = {}) {
  const { sse } = await import(`../${lib}/index.js`);
  const app = express();
  const options = { compress };
  if (heartbeat !== undefined) options.heartbeat = heartbeat;
  if (history !== undefined) options.history = history;
  if (journal !== undefined) options.history = await openJournal(journal, lib);
  const events = sse(options);
  app.use('/events', events);
  app.use(
    '/single',
    sse(async (conn, req) => {
      const { count, perTick } = streamQuery(req.url);
      for (let n = 1; n <= count;) {
        let flowing = true;
        for (const end = Math.min(count, n + perTick - 1); n <= end; n++) flowing = conn.push(small(n));
        if (flowing) await nextTick();
        else await conn.drained();
      }
    }),
  );
  return {
    server: createServer(app),
    size: () => events.size,
    broadcast: (data, to) => events.broadcast({ data }, to),
    close: (over = 0) => events.close({ over }),
    position: () => events.position,
    ring: () => events.stats().ringEntries,
  };
}
