// express-sse as in its README.
import { createServer } from 'node:http';
import express from 'express';
import SSE from 'express-sse';

export function create() {
  // With its default option, each new connection makes it write an empty string to all others, which would distort the measurement.
  const sse = new SSE([], { isSerialized: false });
  const app = express();
  let size = 0;
  app.get('/events', (req, res) => {
    sse.init(req, res);
    // By itself it sends the head with the first event, and the client waits for the head.
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
