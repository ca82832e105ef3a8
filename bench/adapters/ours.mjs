// This package, compiled, with its default options: history, ids and heartbeats are on.
import { createServer } from 'node:http';
import express from 'express';
import { channelsOf, ROOMS } from '../channels.mjs';
import { openJournal } from '../journals.mjs';
import { nextTick, small, streamQuery, userOf } from './held.mjs';

export async function create({ lib = '.tmp/esm', compress = false, heartbeat, journal, history, isPrivate } = {}) {
  const { sse } = await import(`../${lib}/index.js`);
  const app = express();
  const options = { compress };
  if (heartbeat !== undefined) options.heartbeat = heartbeat;
  if (history !== undefined) options.history = history;
  if (journal !== undefined) options.history = await openJournal(journal, lib);
  const events = sse(isPrivate ? { compress } : options); // two routers never share a journal
  app.use('/events', events);
  const { users, send } = privateRouter(sse, isPrivate ? options : { compress });
  app.use('/private', users);
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
    size: () => events.size + users.size,
    send,
    broadcast: (data, to) => events.broadcast({ data }, to),
    close: (over = 0) => Promise.all([events.close({ over }), users.close({ over })]),
    position: () => events.position,
    ring: () => events.stats().ringEntries,
  };
}

/**
 * The router of the scenarios `private` and `audiences`. The query of a request names its user, and the shape of the user's channels.
 * `send` broadcasts to one user, to one room or to all, by the shape of the receivers.
 */
function privateRouter(sse, options) {
  const users = sse((conn, req) => {
    conn.join(...channelsOf[req.query.shape ?? 'own'](userOf(req.originalUrl)));
  }, options);
  const send = (user, data, shape = 'own') => void users.broadcast({ data }, receiversOf[shape](user));
  return { users, send };
}

/** The options of a broadcast. */
const receiversOf = {
  own: (user) => ({ to: `user:${user}` }),
  except: (user) => ({ to: `user:${user}`, except: user % 2 === 0 ? 'odd' : 'even' }),
  topics: (user) => ({ to: [`topic:${user}:3`, `topic:${user}:11`, `topic:${user}:17`] }),
  room: (room) => ({ to: `room:${room % ROOMS}` }),
  all: () => ({ to: 'all' }),
  everyone: () => undefined,
};
