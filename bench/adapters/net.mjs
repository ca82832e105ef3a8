// The floor: a bare TCP socket that answers with a fixed head and gets one shared Buffer per event.
import { createServer } from 'node:net';
import { frame } from '../events.mjs';

const head = Buffer.from(
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nConnection: keep-alive\r\n\r\n:\n',
);

export function create() {
  const sockets = new Set();
  const server = createServer({ noDelay: true }, (socket) => {
    socket.once('data', () => {
      socket.write(head);
      sockets.add(socket);
    });
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  return {
    server,
    size: () => sockets.size,
    broadcast(data) {
      const bytes = frame(data);
      for (const socket of sockets) socket.write(bytes);
    },
    async close() {
      for (const socket of sockets) socket.end();
    },
  };
}
