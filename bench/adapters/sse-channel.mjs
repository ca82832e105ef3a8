// sse-channel as in its README.
import { createServer } from 'node:http';
import express from 'express';
import SseChannel from 'sse-channel';

export function create() {
  const channel = new SseChannel({ jsonEncode: true });
  const app = express();
  app.get('/events', (req, res) => channel.addClient(req, res));
  let id = 0;
  return {
    server: createServer(app),
    size: () => channel.getConnectionCount(),
    broadcast: (data) => channel.send({ id: ++id, data }),
    close: async () => channel.close(),
  };
}
