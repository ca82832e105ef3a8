// better-sse as its guide shows it: a session for each request, registered with channels.
import { createServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { text as textOf } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { createChannel, createResponse, createSession } from 'better-sse';
import compression from 'compression';
import cors from 'cors';
import express from 'express';

export const offers = {
  fields: ['event', 'id'],
  routes: ['/events', '/items', '/answers', '/late', '/forbidden', '/throws', '/breaks'],
  channels: 'several',
  ownIds: true,
  text: true,
  corsPackage: 'cors',
};

export async function create(setup) {
  const app = express();
  if (setup.compression) app.use(compression());
  if (setup.origins) app.use(cors({ origin: setup.origins, credentials: true }));
  const options = setup.text ? { serializer: String } : {};
  const all = createChannel();
  const channels = new Map();
  const channel = (name) => channels.get(name) ?? channels.set(name, createChannel()).get(name);
  let last;

  const serve = async (req, res) => {
    if (setup.wait) await pause(setup.wait);
    const session = await createSession(req, res, options);
    if (setup.state) session.push(setup.state, 'state');
    all.register(session);
    const query = new URL(req.url, 'http://x').searchParams;
    for (const name of query.getAll('channel')) channel(name).register(session);
    session.state.likes = query.get('likes');
    last = session;
  };
  app.get('/events', serve);
  app.get('/items', async (req, res) => {
    const session = await createSession(req, res, options);
    await session.iterate(setup.items());
    res.end();
  });
  app.post('/answers', express.json(), async (req, res) => {
    await pause(50);
    const session = await createSession(req, res);
    session.push('a', 'token');
    await pause(50);
    session.push('b', 'token');
    res.end();
  });
  app.post('/late', async (req, res) => {
    const session = await createSession(req, res);
    session.push('a', 'token');
    await textOf(req);
    await pause(50);
    session.push('b', 'token');
    res.end();
  });
  app.get('/forbidden', async (req, res) => {
    await pause(20);
    res.sendStatus(403);
  });
  app.get('/throws', async () => {
    await pause(20);
    throw new Error('secret');
  });
  app.get('/breaks', async (req, res) => {
    const session = await createSession(req, res);
    session.push('first');
    await pause(50);
    throw new Error('secret');
  });
  return {
    server: setup.http2 ? createHttp2Server(serve) : createServer(setup.plain ? serve : app),
    broadcast({ event, data, id, to, filter }) {
      const how = id === undefined ? {} : { eventId: String(id) };
      if (filter) how.filter = (session) => session.state.likes === filter;
      for (const one of to ? to.map(channel) : [all]) one.broadcast(data, event, how);
    },
    size: () => all.sessionCount,
    sendToLast: (data) => last.push(data),
    /** A server of the Fetch API, as of Hono, Deno or Bun. */
    async fetch() {
      const response = createResponse(new Request('http://x/events'), (session) => session.push('hello'));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ''; ;) {
        const { value, done } = await reader.read();
        text += value ?? '';
        if (done || text.includes('hello')) return text.includes('hello');
      }
    },
  };
}
