// What `http` and `express` have in common: responses held open in a Set, and a loop of `res.write`.
import { frame, marker } from '../events.mjs';

export const headers = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'private, no-cache, no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

export class Held {
  #open = new Set();

  admit(res) {
    res.writeHead(200, headers);
    res.write(':\n');
    this.#open.add(res);
    res.on('close', () => this.#open.delete(res));
  }

  get size() {
    return this.#open.size;
  }

  broadcast(data) {
    const bytes = frame(data);
    for (const res of this.#open) res.write(bytes);
  }

  end() {
    // With its socket, as ours does: else it would be held open for another request, and the drain wait for its time-out.
    for (const res of this.#open) res.end().socket?.end();
  }
}

/** What a careful author would write by hand: one write for what a tick has made, and a wait when it says no. */
export async function single(res, { count, perTick }) {
  res.writeHead(200, headers);
  for (let n = 1; n <= count;) {
    let text = '';
    for (const end = Math.min(count, n + perTick - 1); n <= end; n++) text += `data: ${small(n)}\n\n`;
    if (!res.write(text)) await new Promise((resolve) => res.once('drain', resolve));
    else await nextTurn();
  }
}

export const small = (n) => marker + String(n).padStart(8, '0');
export const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

/** The scenario's numbers travel in the address of a single stream. */
export function streamQuery(url) {
  const query = new URL(url, 'http://localhost').searchParams;
  return { count: Number(query.get('count')), perTick: Number(query.get('tick')) };
}
