// The process of the readers: each is an HTTP request whose tokens are numbered and timed.
// Invariant: a reader is complete only if it has every token once and in order.
import { request } from 'node:http';
import { machineTime } from '../../gauges.mjs';
import { answer } from '../../processes.mjs';

const readers = new Map();

class Reader {
  openedAt = machineTime();
  status;
  body = '';
  isOver = false;
  overAt;
  /** The data of the event `end`. */
  end;
  first;
  last = 0;
  count = 0;
  faults = 0;
  bytes = 0;
  lastArrival;
  /** How long each token took that was made after the head of the response had arrived. */
  late = [];
  ids = [];
  #rest = '';
  #event;
  #id;

  constructor({ port, path, method = 'GET', headers = {} }) {
    this.answered = new Promise((resolve) => {
      const sent = request({ port, host: '127.0.0.1', path, method, headers, agent: false }, (res) => {
        this.status = res.statusCode;
        this.headAt = machineTime();
        resolve();
        res.setEncoding('latin1');
        res.on('data', (text) => (this.status === 200 ? this.#read(text) : (this.body += text)));
        res.on('error', () => {});
        res.on('close', () => this.#close());
      });
      sent.on('error', () => {
        this.#close();
        resolve();
      });
      sent.end();
      this.abort = () => sent.destroy();
    });
  }

  #close() {
    this.isOver = true;
    this.overAt = machineTime();
  }

  #read(text) {
    this.bytes += text.length;
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line.startsWith('data: {"n":')) this.#token(parseInt(line.slice(11)), Number(/"at":([\d.]+)/.exec(line)[1]));
    else if (line.startsWith('data: ') && this.#event === 'end') this.end = line.slice(6);
    else if (line.startsWith('event: ')) this.#event = line.slice(7);
    else if (line.startsWith('id: ')) this.#id = line.slice(4);
    else if (line === '') {
      if (this.#id !== undefined && this.ids.length < 100) this.ids[this.last] = this.#id;
      this.#event = undefined;
    }
  }

  #token(n, at) {
    const now = machineTime();
    if (this.first === undefined) this.first = n;
    else if (n !== this.last + 1) this.faults++;
    this.last = n;
    this.count++;
    this.lastArrival = now;
    if (at > this.headAt) this.late.push(now - at);
  }

  get report() {
    const { status, body, isOver, end, first, last, count, faults, bytes, late, ids, openedAt, overAt, lastArrival } =
      this;
    return { status, body, isOver, end, first, last, count, faults, bytes, late, ids, openedAt, overAt, lastArrival };
  }
}

/** Resolves when `done()` returns true, or after `timeout` milliseconds. */
async function when(done, timeout) {
  const end = performance.now() + timeout;
  while (!done()) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return true;
}

const chosen = (names) => (names === undefined ? [...readers.values()] : names.map((name) => readers.get(name)));

answer({
  /** Resolves when the head of the response has arrived. */
  async open({ name, ...request }) {
    const reader = new Reader(request);
    readers.set(name, reader);
    await reader.answered;
    return { status: reader.status };
  },
  /**
   * Opens `count` readers, a hundred at the same time. `*` in the path is the number of the reader. The port changes with the number:
   * a run that one of several processes produces is read at the next one.
   */
  async openMany({ count, path, ports, ...request }) {
    let next = 0;
    const worker = async () => {
      while (next < count) {
        const i = next++;
        const port = ports[(i + 1) % ports.length];
        const reader = new Reader({ ...request, port, path: path.replace('*', i) });
        readers.set(`many-${i}`, reader);
        await reader.answered;
      }
    };
    await Promise.all(Array.from({ length: Math.min(100, count) }, worker));
    return { refused: [...readers.values()].filter(({ status }) => status !== 200).length };
  },
  over: ({ names, timeout }) => when(() => chosen(names).every(({ isOver }) => isOver), timeout),
  received: ({ last, timeout }) => when(() => chosen().every((reader) => reader.last >= last), timeout),
  report: ({ name }) => readers.get(name).report,
  reports: () => chosen().map(({ report }) => report),
  clear() {
    for (const { abort } of readers.values()) abort();
    readers.clear();
  },
});
