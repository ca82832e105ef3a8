/*
 * An HTTP client that gives the checks the text of a body as it arrives, over HTTP/1.1 and HTTP/2.
 * Invariant: every wait has a time limit, so a server that sends nothing fails a check and does not stop the run.
 */
import { once } from 'node:events';
import { request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { request as requestTls } from 'node:https';
import { constants, gunzipSync } from 'node:zlib';

const TIMEOUT_MS = 3000;

/** The body of one answer, as it arrives. */
export class Answer {
  text = '';
  /** `end` for a complete body, `cut` for a broken one; `undefined` while it is open. */
  over;
  #chunks = [];
  #waiting = new Set();

  constructor(status, headers, body, abort) {
    Object.assign(this, { status, headers, body, abort });
    body.on('data', (chunk) => this.#receive(chunk));
    const settle = (over) => {
      this.over ??= over;
      for (const wake of this.#waiting) wake();
    };
    body.on('end', () => settle(body.complete === false || body.rstCode > 0 ? 'cut' : 'end'));
    body.on('error', () => settle('cut'));
    body.on('aborted', () => settle('cut'));
    body.on('close', () => settle('cut'));
  }

  get bytes() {
    return Buffer.concat(this.#chunks);
  }

  /** The events that have arrived, without comments. */
  get events() {
    const blocks = this.text.split('\n\n').slice(0, -1);
    return blocks.map(parse).filter((event) => event.data !== undefined);
  }

  /** What has arrived, without gzip. */
  get #decoded() {
    if (this.headers['content-encoding'] !== 'gzip') return this.bytes;
    return this.bytes.length < 10 ? Buffer.alloc(0) : gunzipSync(this.bytes, { finishFlush: constants.Z_SYNC_FLUSH });
  }

  #receive(chunk) {
    this.#chunks.push(chunk);
    this.text = this.#decoded.toString();
    for (const wake of this.#waiting) wake();
  }

  /** Resolves when the condition is true. Rejects after a while, and when the body has ended without it. */
  until(condition, what, timeout = TIMEOUT_MS) {
    return new Promise((resolve, reject) => {
      const stop = (settle, value) => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        settle(value);
      };
      const fail = (why) =>
        stop(reject, new Error(`${what}: ${why}; received ${JSON.stringify(this.text.slice(-300))}`));
      const check = () => {
        if (condition(this)) stop(resolve);
        else if (this.over !== undefined) fail(`the body is over (${this.over})`);
      };
      const timer = setTimeout(() => fail(`not within ${timeout} ms`), timeout);
      this.#waiting.add(check);
      check();
    });
  }

  /** Resolves with the n-th event. */
  async event(n, timeout) {
    await this.until(({ events }) => events.length > n, `event ${n + 1}`, timeout);
    return this.events[n];
  }

  /** Resolves with how the body ended. */
  async ending(timeout) {
    await this.until(({ over }) => over !== undefined, 'the end of the body', timeout);
    return this.over;
  }
}

function parse(block) {
  const event = { event: 'message' };
  for (const line of block.split('\n')) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === 'data') event.data = event.data === undefined ? value : `${event.data}\n${value}`;
    else if (field !== undefined) event[field] = value;
  }
  return event;
}

/** Returns a function that sends requests to a server, and one that closes all its connections. `common`: headers of all requests. */
export function clientOf(server, port, common) {
  const open = new Set();
  const isHttp2 = server.startsWith('http2') || server === 'spdy';
  const secure = { rejectUnauthorized: false };
  const session = isHttp2 ? connectHttp2(`https://127.0.0.1:${port}`, secure) : undefined;
  session?.on('error', () => {});

  async function send(path, { method = 'GET', headers = {}, body } = {}) {
    const answer = await (isHttp2 ? sendHttp2 : sendHttp1)(path, method, { ...common, ...headers }, body);
    open.add(answer);
    return answer;
  }

  async function sendHttp1(path, method, headers, body) {
    const sent = (server === 'https' ? requestTls : request)({
      host: '127.0.0.1',
      port,
      path,
      method,
      headers,
      agent: false,
      ...(server === 'https' && secure),
    });
    sent.end(body);
    const [response] = await within(once(sent, 'response'), `the head of ${method} ${path}`);
    sent.on('error', () => {}); // the answer reports it
    return new Answer(response.statusCode, response.headers, response, () => sent.destroy());
  }

  async function sendHttp2(path, method, headers, body) {
    const stream = session.request({ ':path': path, ':method': method, ...headers });
    stream.end(body);
    const [head] = await within(once(stream, 'response'), `the head of ${method} ${path}`);
    return new Answer(head[':status'], head, stream, () => stream.close());
  }

  function close() {
    for (const answer of open) answer.abort();
    session?.destroy();
  }

  return { send, close };
}

/** Rejects if a promise does not settle in time. */
export function within(promise, what, timeout = TIMEOUT_MS) {
  let timer;
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${timeout} ms`)), timeout);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
