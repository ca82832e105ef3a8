// The common part of `http` and `express`: open responses in a Set, a loop of `res.write`, and a Map from a user to its response.
import { frame, marker } from '../events.mjs';

export const headers = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'private, no-cache, no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

export class Held {
  #open = new Set();
  #users = new Map();

  admit(res) {
    res.writeHead(200, headers);
    res.write(':\n');
    this.#open.add(res);
    res.on('close', () => this.#open.delete(res));
  }

  admitUser(res, user) {
    this.admit(res);
    this.#users.set(user, res);
    res.on('close', () => this.#users.delete(user));
  }

  get size() {
    return this.#open.size;
  }

  broadcast(data) {
    const bytes = frame(data);
    for (const res of this.#open) res.write(bytes);
  }

  send(user, data) {
    this.#users.get(user)?.write(frame(data));
  }

  end() {
    // This also ends the socket, as ours does. Otherwise the socket stays open for another request until its time-out, and the shutdown
    // waits for it.
    for (const res of this.#open) res.end().socket?.end();
  }
}

/** Sends as a careful author would without a library: one write per tick, and a wait for `drain` if the write returns false. */
export async function single(res, { count, perTick }) {
  res.writeHead(200, headers);
  for (let n = 1; n <= count;) {
    let text = '';
    for (const end = Math.min(count, n + perTick - 1); n <= end; n++) text += `data: ${small(n)}\n\n`;
    if (!res.write(text)) await new Promise((resolve) => res.once('drain', resolve));
    else await nextTick();
  }
}

export const small = (n) => marker + String(n).padStart(8, '0');
export const nextTick = () => new Promise((resolve) => setImmediate(resolve));

/** Reads the user from the query of a request for `/private`. */
export const userOf = (url) => Number(new URL(url, 'http://localhost').searchParams.get('user'));

/** Reads the numbers of the scenario from the query of the request. */
export function streamQuery(url) {
  const query = new URL(url, 'http://localhost').searchParams;
  return { count: Number(query.get('count')), perTick: Number(query.get('tick')) };
}
