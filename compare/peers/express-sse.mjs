// express-sse as its README shows it: an instance for each feed, whose `init` is the route.
import { createServer } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import compression from 'compression';
import cors from 'cors';
import express from 'express';
import SSE from 'express-sse';

export const offers = {
  fields: ['event', 'id'],
  routes: ['/events', '/answers', '/late', '/forbidden', '/throws', '/breaks'],
  channels: 'one',
  ownIds: true,
  text: false,
  corsPackage: 'cors',
};

export async function create(setup) {
  const app = express();
  if (setup.compression) app.use(compression());
  if (setup.origins) app.use(cors({ origin: setup.origins, credentials: true }));
  const all = setup.state ? new SSE([setup.state], { isSerialized: false, initialEvent: 'state' }) : new SSE();
  const channels = new Map();
  const channel = (name) => channels.get(name) ?? channels.set(name, new SSE()).get(name);

  app.get('/events', async (req, res) => {
    if (setup.wait) await pause(setup.wait);
    (req.query.channel ? channel(req.query.channel) : all).init(req, res);
  });
  app.post('/answers', express.json(), async (req, res) => {
    await pause(50);
    const one = new SSE();
    one.init(req, res);
    one.send('a', 'token');
    await pause(50);
    one.send('b', 'token');
    res.end();
  });
  app.post('/late', async (req, res) => {
    const one = new SSE();
    one.init(req, res);
    one.send('a', 'token');
    await textOf(req);
    await pause(50);
    one.send('b', 'token');
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
    const one = new SSE();
    one.init(req, res);
    one.send('first');
    await pause(50);
    throw new Error('secret');
  });
  return {
    server: createServer(app),
    broadcast({ event, data, id, to }) {
      for (const one of to ? to.map(channel) : [all]) one.send(data, event, id);
    },
    // It has no count: the listeners of the feed are its connections.
    size: () => [all, ...channels.values()].reduce((sum, one) => sum + one.listenerCount('data'), 0),
  };
}
