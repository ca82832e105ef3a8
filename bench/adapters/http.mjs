// node:http alone: `res.write` with one shared Buffer per event.
import { createServer } from 'node:http';
import { Held, single, streamQuery, userOf } from './held.mjs';

export function create() {
  const held = new Held();
  const server = createServer((req, res) => {
    if (req.url.startsWith('/single')) return void single(res, streamQuery(req.url));
    if (req.url.startsWith('/private')) return held.admitUser(res, userOf(req.url));
    held.admit(res);
  });
  return {
    server,
    size: () => held.size,
    broadcast: (data) => held.broadcast(data),
    send: (user, data) => held.send(user, data),
    close: async () => held.end(),
  };
}
