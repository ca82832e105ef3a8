// express-sse as its README shows it.
import { createServer } from 'node:http';
import express from 'express';
import SSE from 'express-sse';

export function create() {
  // With its default, every newcomer makes it write an empty string to all the others: unfair to what is measured here.
  const sse = new SSE([], { isSerialized: false });
  const app = express();
  let size = 0;
  app.get('/events', (req, res) => {
    sse.init(req, res);
    // It sends the head with the first event only; a client has to see that it is connected.
    res.flushHeaders();
    size++;
    res.on('close', () => size--);
  });
  return {
    server: createServer(app),
    size: () => size,
    broadcast: (data) => sse.send(data),
    close: async () => {},
  };
}
