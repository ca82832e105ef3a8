// The lower bound of a burst: bare TCP sockets, and one shared Buffer with all events of a tick. It sends no ids.
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
