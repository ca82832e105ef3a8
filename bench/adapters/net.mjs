// The lower bound: bare TCP sockets that answer with a fixed head, and one shared Buffer per event.
import { createServer } from 'node:net';
import { frame } from '../events.mjs';

const head = Buffer.from(
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nConnection: keep-alive\r\n\r\n:\n',
);

export function create() {
  const { server, sockets, write } = bare();
  return { server, size: () => sockets.size, broadcast: (data) => write(frame(data)), close: () => end(sockets) };
}

/** Creates a server. Returns it with the sockets that have received the head, and a function that writes to all of them. */
export function bare() {
  const sockets = new Set();
  const server = createServer({ noDelay: true }, (socket) => {
    socket.once('data', () => {
      socket.write(head);
      sockets.add(socket);
    });
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  const write = (bytes) => {
    for (const socket of sockets) socket.write(bytes);
  };
  return { server, sockets, write };
}

export async function end(sockets) {
  for (const socket of sockets) socket.end();
}
