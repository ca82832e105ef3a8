// better-sse as in its guide: a session per request, registered with one channel, or found by its user.
import { createServer } from 'node:http';
import compression from 'compression';
import { createChannel, createSession } from 'better-sse';
import express from 'express';
import { nextTick, small, streamQuery, userOf } from './held.mjs';

export function create({ compress = false } = {}) {
  const channel = createChannel();
  const app = express();
  // By default better-sse sends no-transform, and `compression` does not compress such a response.
  const options = compress ? { headers: { 'Cache-Control': 'no-cache' } } : {};
  if (compress) app.use(compression());
  const open = new Set();

  app.get('/events', async (req, res) => {
    const session = await createSession(req, res, options);
    channel.register(session);
    if (!compress) return;
    open.add(res);
    res.on('close', () => open.delete(res));
    res.flush();
  });
  const users = new Map();
  app.get('/private', async (req, res) => {
    const session = await createSession(req, res);
    users.set(userOf(req.url), session);
  });
  app.get('/single', async (req, res) => {
    const { count, perTick } = streamQuery(req.url);
    const session = await createSession(req, res);
    for (let n = 1; n <= count;) {
      // It does not report backpressure, so the cost of its buffer is part of the measurement.
      for (const end = Math.min(count, n + perTick - 1); n <= end; n++) session.push(small(n));
      await nextTick();
    }
  });
  return {
    server: createServer(app),
    size: () => channel.sessionCount + users.size,
    send: (user, data) => void users.get(user)?.push(data),
    broadcast(data) {
      channel.broadcast(data);
      // Without flush(), `compression` keeps small events back until its window is full.
      if (compress) for (const res of open) res.flush();
    },
    close: async () => {
      for (const session of channel.activeSessions) session.res?.end();
    },
  };
}
