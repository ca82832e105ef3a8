// The lower bound behind Express: one shared chunk per event, written directly to the sockets of the responses. It sends no ids.
import { createServer } from 'node:http';
import express from 'express';
import { frame } from '../events.mjs';
import { headers } from './held.mjs';

export function create() {
  const open = new Map();
  const app = express();
  app.get('/events', (_req, res) => {
    res.writeHead(200, headers);
    res.write(':\n');
    open.set(res, res.socket);
    res.on('close', () => open.delete(res));
  });
  return {
    server: createServer(app),
    size: () => open.size,
    broadcast(data) {
      const chunk = chunked(frame(data));
      for (const socket of open.values()) socket.write(chunk);
    },
    close: async () => {
      for (const res of open.keys()) res.end().socket?.end();
    },
  };
}

/** Returns a chunk as node:http writes it. */
const chunked = (bytes) => Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
