// A peer's process and its clients, over real sockets. Everything that a row opens is closed after it.
import { fork } from 'node:child_process';
import { connect } from 'node:net';
import { connect as connectHttp2 } from 'node:http2';
import { fileURLToPath } from 'node:url';
import { createGunzip } from 'node:zlib';
import { createParser } from 'eventsource-parser';

/** Thrown where a peer does not offer what a row is about. */
export class Missing extends Error {}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function until(condition, ms = 2000) {
  for (const end = performance.now() + ms; performance.now() < end; await pause(10)) {
    const value = await condition();
    if (value) return value;
  }
  return undefined;
}

export class Scene {
  #open = [];

  constructor(peer) {
    this.peer = peer;
  }

  /** Starts the program of the peer in a process of its own. */
  async start(setup = {}) {
    const app = await new App(this.peer).start({ itemCount: 1000, ...setup });
    this.#open.push(app);
    return app;
  }

  async end() {
    for (const one of this.#open) await one.end();
  }
}

class App {
  #process;
  #calls = new Map();
  #streams = new Set();
  #next = 1;
  stderr = '';
  isDead = false;

  constructor(peer) {
    this.peer = peer;
  }

  async start(setup) {
    this.#process = fork(
      fileURLToPath(new URL('peer-process.mjs', import.meta.url)),
      [this.peer, JSON.stringify(setup)],
      {
        execArgv: ['--expose-gc'],
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
        env: { ...process.env, NODE_ENV: 'production' },
      },
    );
    this.#process.stderr.setEncoding('utf8').on('data', (text) => (this.stderr += text));
    const { unwrap } = (await import(`./peers/${this.peer}.mjs`)).offers;
    this.unwrap = unwrap ?? ((data) => data);
    return new Promise((resolve, reject) => {
      this.#process.on('message', (message) => {
        if ('port' in message) resolve(Object.assign(this, message));
        else this.#settle(message);
      });
      this.#process.once('exit', () => {
        this.isDead = true;
        reject(new Error(`${this.peer} does not start: ${this.stderr.slice(0, 500)}`));
        for (const { reject: fail } of this.#calls.values()) fail(new Error('the process ended'));
      });
    });
  }

  #settle({ id, value, error }) {
    const { resolve, reject } = this.#calls.get(id);
    this.#calls.delete(id);
    if (error !== undefined) reject(new Error(error));
    else if (value?.isMissing) reject(new Missing());
    else resolve(value);
  }

  call(name, args = {}) {
    return new Promise((resolve, reject) => {
      if (this.isDead) return reject(new Error('the process ended'));
      const id = this.#next++;
      this.#calls.set(id, { resolve, reject });
      this.#process.send({ id, name, args });
    });
  }

  /** Throws {@link Missing} unless the program has this route. */
  needs(route) {
    if (!this.offers.routes.includes(route)) throw new Missing();
  }

  broadcast = (message) => this.call('broadcast', message);
  size = () => this.call('size');

  /** Opens a stream, and waits until the program counts it. */
  async join(path = '/events', how = {}) {
    const before = await this.size();
    const stream = this.open(path, how);
    if (!(await until(async () => (await this.size()) > before))) throw new Error('no stream opens');
    await pause(20);
    return stream;
  }

  open(path = '/events', how = {}) {
    const stream = new Stream(this, path, how);
    this.#streams.add(stream);
    return stream;
  }

  async end() {
    for (const stream of this.#streams) stream.close();
    if (this.isDead) return;
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await ended;
  }
}

/** A client on a raw socket: the bytes of the answer, its head, and its events as the standard reads them. */
class Stream {
  head = '';
  headers = {};
  status = 0;
  body = '';
  events = [];
  comments = 0;
  retry = undefined;
  lastEventId = '';
  isOver = false;
  isBroken = false;
  firstByteAt = undefined;
  #raw = Buffer.alloc(0);
  #unzip;
  #parser = createParser({
    onEvent: ({ event, data, id }) => {
      if (id !== undefined) this.lastEventId = id;
      this.events.push({ event: event ?? 'message', data, id: this.lastEventId });
    },
    onComment: () => this.comments++,
    onRetry: (ms) => (this.retry = ms),
  });

  constructor(app, path, { method = 'GET', headers = {}, body = '', isPaused = false } = {}) {
    this.app = app;
    this.begun = performance.now();
    const lines = Object.entries({
      Host: '127.0.0.1',
      Accept: 'text/event-stream',
      ...(body === '' ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }),
      ...headers,
    })
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}: ${value}\r\n`);
    this.socket = connect(app.port, '127.0.0.1', () => {
      this.socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
      if (isPaused) this.socket.pause();
    });
    this.socket.on('error', () => (this.isBroken = true));
    this.socket.on('close', () => (this.isOver = true));
    this.socket.on('data', (bytes) => this.#receive(bytes));
  }

  #receive(bytes) {
    this.#raw = Buffer.concat([this.#raw, bytes]);
    if (this.status === 0) {
      const at = this.#raw.indexOf('\r\n\r\n');
      if (at === -1) return;
      this.head = this.#raw.toString('latin1', 0, at);
      this.#raw = this.#raw.subarray(at + 4);
      const [first, ...rest] = this.head.split('\r\n');
      this.status = Number(first.split(' ')[1]);
      for (const line of rest) {
        const [, name, value] = /^([^:]+):\s*(.*)$/.exec(line);
        this.headers[name.toLowerCase()] = value;
      }
      if (this.headers['content-encoding'] === 'gzip') {
        this.#unzip = createGunzip().on('data', (text) => this.#read(text));
        this.#unzip.on('error', () => {});
      }
    }
    if (this.headers['transfer-encoding'] !== 'chunked') {
      if (this.#raw.length > 0) this.#feed(this.#raw);
      this.#raw = Buffer.alloc(0);
      return;
    }
    for (;;) {
      const at = this.#raw.indexOf('\r\n');
      if (at === -1) return;
      const size = Number.parseInt(this.#raw.toString('latin1', 0, at), 16);
      if (this.#raw.length < at + 2 + size + 2) return;
      if (size === 0) this.isOver = this.isComplete = true;
      else this.#feed(this.#raw.subarray(at + 2, at + 2 + size));
      this.#raw = this.#raw.subarray(at + 2 + size + 2);
      if (size === 0) return;
    }
  }

  #feed(bytes) {
    this.firstByteAt ??= performance.now() - this.begun;
    if (this.#unzip) this.#unzip.write(bytes);
    else this.#read(bytes);
  }

  #decoder = new TextDecoder();
  #read(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (this.body.length < 100_000) this.body += text;
    this.#parser.feed(text);
  }

  /** The data of the messages: parsed where they are JSON, and without the events of the router itself. */
  get values() {
    return this.events
      .filter(({ event }) => !['checkpoint', 'reset', 'end', 'state'].includes(event))
      .map(({ data }) => this.app.unwrap(parsed(data)));
  }

  named(name) {
    return this.events.filter(({ event }) => event === name);
  }

  answered = (ms = 1000) => until(() => this.status > 0, ms);
  over = (ms = 1000) => until(() => this.isOver, ms);
  received = (count, ms = 1000) => until(() => this.values.length >= count, ms);
  pause = () => this.socket.pause();
  close() {
    this.socket.destroy();
  }
}

export function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

/** Reads a stream over HTTP/2 without TLS, as a proxy does. Returns the data of its first message. */
export function readOverHttp2(app, send) {
  return new Promise((resolve) => {
    const session = connectHttp2(`http://127.0.0.1:${app.port}`);
    const finish = (value) => {
      session.destroy();
      resolve(value);
    };
    session.on('error', () => finish(undefined));
    const request = session.request({ ':path': '/events', accept: 'text/event-stream' });
    request.on('error', () => finish(undefined));
    request.on('response', () => setTimeout(() => send(), 100));
    let text = '';
    request.setEncoding('utf8').on('data', (piece) => {
      text += piece;
      if (text.includes('over http/2')) finish(true);
    });
    setTimeout(() => finish(undefined), 2000);
  });
}
