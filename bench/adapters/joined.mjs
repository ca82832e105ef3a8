// The floor of a burst: bare TCP sockets, and everything that a turn of the event loop has made as one shared Buffer. No ids.
import { frame } from '../events.mjs';
import { bare, end } from './net.mjs';

export function create() {
  const { server, sockets, write } = bare();
  let frames = [];
  return {
    server,
    size: () => sockets.size,
    broadcast(data) {
      if (frames.push(frame(data)) > 1) return;
      setImmediate(() => {
        write(Buffer.concat(frames));
        frames = [];
      });
    },
    close: () => end(sockets),
  };
}
