// The lower bound behind Express: one shared chunk per event, written directly to the sockets of the responses. It sends no ids.
// For a private event, the chunk of each user is made in advance, so this is the cost of the write alone.
import { createServer } from 'node:http';
import express from 'express';
import { frame } from '../events.mjs';
import { headers, userOf } from './held.mjs';

export function create() {
  const open = new Map();
  const users = new Map();
  const app = express();
  app.get('/events', (_req, res) => {
    res.writeHead(200, headers);
    res.write(':\n');
    open.set(res, res.socket);
    res.on('close', () => open.delete(res));
  });
  app.get('/private', (req, res) => {
    res.writeHead(200, headers);
    res.write(':\n');
    open.set(res, res.socket);
    users.set(userOf(req.url), res.socket);
    res.on('close', () => open.delete(res));
  });
  return {
    server: createServer(app),
    size: () => open.size,
    broadcast(data) {
      const chunk = chunked(frame(data));
      for (const socket of open.values()) socket.write(chunk);
    },
    /** `chunk` is the result of `prepare`, which is not measured. */
    send: (user, chunk) => void users.get(user)?.write(chunk),
    prepare: (data) => chunked(frame(data)),
    close: async () => {
      for (const res of open.keys()) res.end().socket?.end();
    },
  };
}

/** Returns a chunk as node:http writes it. */
const chunked = (bytes) => Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
