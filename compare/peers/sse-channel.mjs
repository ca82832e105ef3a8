// sse-channel as its README shows it: the application adds each request to a channel, and gives the events their ids.
import { createServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { text as textOf } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import compression from 'compression';
import cors from 'cors';
import express from 'express';
import SseChannel from 'sse-channel';

export const offers = {
  fields: ['event', 'id', 'retry'],
  routes: ['/events', '/answers', '/late', '/forbidden', '/throws', '/breaks'],
  channels: 'one',
  ownIds: true,
  text: true,
  corsPackage: 'cors',
};

export async function create(setup) {
  const app = express();
  if (setup.compression) app.use(compression());
  if (setup.origins) app.use(cors({ origin: setup.origins, credentials: true }));
  const options = { jsonEncode: !setup.text };
  const all = new SseChannel({
    ...options,
    ...(setup.historySize ? { historySize: setup.historySize } : {}),
    // After a restart, the application passes the messages that it has stored.
    ...(setup.stored ? { history: setup.stored } : {}),
  });
  const channels = new Map();
  const channel = (name) => channels.get(name) ?? channels.set(name, new SseChannel(options)).get(name);
  let last;

  const serve = async (req, res) => {
    if (setup.wait) await pause(setup.wait);
    const name = new URL(req.url, 'http://x').searchParams.get('channel');
    last = res;
    (name ? channel(name) : all).addClient(req, res);
    if (setup.state) all.send({ event: 'state', data: setup.state }, [res]);
  };
  app.get('/events', serve);
  app.post('/answers', express.json(), async (req, res) => {
    await pause(50);
    const one = new SseChannel(options);
    one.addClient(req, res);
    one.send({ event: 'token', data: 'a' });
    await pause(50);
    one.send({ event: 'token', data: 'b' });
    one.close();
  });
  app.post('/late', async (req, res) => {
    const one = new SseChannel(options);
    one.addClient(req, res);
    one.send({ event: 'token', data: 'a' });
    await textOf(req);
    await pause(50);
    one.send({ event: 'token', data: 'b' });
    one.close();
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
    const one = new SseChannel(options);
    one.addClient(req, res);
    one.send({ data: 'first' });
    await pause(50);
    throw new Error('secret');
  });
  return {
    server: setup.http2 ? createHttp2Server(serve) : createServer(setup.plain ? serve : app),
    broadcast({ to, ...message }) {
      for (const one of to ? to.map(channel) : [all]) one.send(message);
    },
    size: () => [all, ...channels.values()].reduce((sum, one) => sum + one.getConnectionCount(), 0),
    sendToLast: (data) => all.send({ data }, [last]),
    close: () => all.close(),
  };
}
