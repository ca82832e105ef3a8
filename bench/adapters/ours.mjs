// This package, compiled, with its defaults: history, ids and heartbeats are on.
import { createServer } from 'node:http';
import express from 'express';
import { sse } from '../.tmp/esm/index.js';
import { nextTurn, small, streamQuery } from './held.mjs';

export async function create({ compress = false, heartbeat, journal, history } = {}) {
  const app = express();
  const options = { compress };
  if (heartbeat !== undefined) options.heartbeat = heartbeat;
  if (history !== undefined) options.history = history;
  if (journal !== undefined) options.history = await open(journal);
  const events = sse(options);
  app.use('/events', events);
  app.use(
    '/single',
    sse(async (conn, req) => {
      const { count, perTick } = streamQuery(req.url);
      for (let n = 1; n <= count;) {
        let flowing = true;
        for (const end = Math.min(count, n + perTick - 1); n <= end; n++) flowing = conn.push(small(n));
        if (flowing) await nextTurn();
        else await conn.drained();
      }
    }),
  );
  return {
    server: createServer(app),
    size: () => events.size,
    broadcast: (data) => events.broadcast({ data }),
    close: (over = 0) => events.close({ over }),
    position: () => events.position,
  };
}

async function open({ lmdb }) {
  const { lmdbJournal } = await import('../.tmp/esm/lmdb/index.js');
  return lmdbJournal(lmdb);
}
