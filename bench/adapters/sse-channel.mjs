// sse-channel as in its README.
import { createServer } from 'node:http';
import express from 'express';
import SseChannel from 'sse-channel';
import { userOf } from './held.mjs';

export function create() {
  const channel = new SseChannel({ jsonEncode: true });
  const app = express();
  app.get('/events', (req, res) => channel.addClient(req, res));
  const users = new Map();
  app.get('/private', (req, res) => {
    channel.addClient(req, res);
    users.set(userOf(req.url), res);
  });
  let id = 0;
  return {
    server: createServer(app),
    size: () => channel.getConnectionCount(),
    send: (user, data) => channel.send({ id: ++id, data }, [users.get(user)]),
    broadcast: (data) => channel.send({ id: ++id, data }),
    close: async () => channel.close(),
  };
}
