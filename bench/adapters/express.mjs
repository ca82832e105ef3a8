// Bare Express: the same app as for the other peers, with open responses and no library.
import { createServer } from 'node:http';
import express from 'express';
import { Held, single, streamQuery, userOf } from './held.mjs';

export function create() {
  const held = new Held();
  const app = express();
  app.get('/events', (_req, res) => held.admit(res));
  app.get('/private', (req, res) => held.admitUser(res, userOf(req.url)));
  app.get('/single', (req, res) => single(res, streamQuery(req.url)));
  return {
    server: createServer(app),
    size: () => held.size,
    broadcast: (data) => held.broadcast(data),
    send: (user, data) => held.send(user, data),
    close: async () => held.end(),
  };
}
