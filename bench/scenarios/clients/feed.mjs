// A small server of event streams with a log, which the behaviours disturb: it stalls, restarts, refuses and ends.
import { once } from 'node:events';
import { createServer } from 'node:http';

const HEAD = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' };

export class Feed {
  /** The requests of streams, in their order: `{ at, method, id, token }`. */
  requests = [];
  log = [];
  open = new Set();
  tokens = new Set();
  /** Answers a request instead of the feed; returns whether it did. */
  script = () => false;
  port = 0;
  #server;
  #files;

  constructor(files) {
    this.#files = files;
  }

  async start() {
    this.#server = createServer((req, res) => this.#handle(req, res));
    this.#server.listen(this.port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = this.#server.address().port;
    return this;
  }

  /** Refuses connections until `start()`. */
  async stop() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  broadcast(data) {
    this.log.push(data);
    for (const res of this.open) if (!res.isStalled) res.write(`id: ${this.log.length}\ndata: ${data}\n\n`);
  }

  /** Breaks all connections. */
  async cut() {
    await Promise.all([...this.open].map((res) => Promise.all([once(res, 'close'), res.socket.destroy()])));
  }

  #handle(req, res) {
    const { pathname } = new URL(req.url, 'http://feed');
    if (pathname === '/token') {
      const token = `token ${Math.random()}`;
      this.tokens.add(token);
      return res.end(token);
    }
    if (pathname !== '/events') {
      const file = this.#files.get(pathname) ?? '<!DOCTYPE html><title>-</title>';
      res.setHeader('Content-Type', pathname.endsWith('.js') ? 'text/javascript' : 'text/html');
      return res.end(file);
    }
    const { 'last-event-id': raw, authorization: token } = req.headers;
    const query = new URL(req.url, 'http://feed').searchParams.get('lastEventId') ?? undefined;
    const id = raw === undefined ? query : Buffer.from(raw, 'latin1').toString();
    const request = { at: performance.now(), method: req.method, id, token };
    this.requests.push(request);
    if (this.script(req, res, request)) return;
    this.stream(res, id);
  }

  /** Begins a stream: what was missed, then what comes. */
  stream(res, id) {
    res.writeHead(200, HEAD);
    res.write(':\nretry: 300\n'); // no blank line, which @microsoft/fetch-event-source would show as a message
    const from = Number(id) || this.log.length;
    for (let n = from; n < this.log.length; n++) res.write(`id: ${n + 1}\ndata: ${this.log[n]}\n\n`);
    this.open.add(res);
    res.on('close', () => this.open.delete(res));
  }
}
