/*
 * More for tests on real sockets: an app that listens, a client that writes its own bytes, and waiting until something holds.
 * Knows Express, node:net and `support.ts`; nothing of the package.
 * Invariant: what was opened here is closed after each test.
 */
import { createServer, type Server } from 'node:http';
import { connect as dial, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as startTimer } from 'node:timers';
import express, { type Express } from 'express';
import { later as afterwards } from './support.ts';

const later = startTimer; // held as it was loaded: a deadline is real time, whatever a test has done to the clock
const hrtime = process.hrtime.bigint.bind(process.hrtime);

/** An app that listens on a free port. */
export interface Site {
  readonly server: Server;
  readonly port: number;
  readonly url: string;
}

export function serve(mount: (app: Express) => void, make: () => Express = express): Promise<Site> {
  const app = make();
  app.set('env', 'test'); // Express prints no errors then
  mount(app);
  return listen(createServer(app));
}

export async function listen(server: Server): Promise<Site> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  afterwards(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { server, port, url: `http://127.0.0.1:${port}` };
}

/** Real milliseconds. */
export function clock(): number {
  return Number(hrtime() / 1000n) / 1000;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => later(resolve, ms));
}

/** Waits until something holds; when it does not within `ms`, says what it was at last. */
export async function eventually<T>(look: () => T, ms = 3000, wanted: (value: T) => boolean = Boolean): Promise<T> {
  for (const until = clock() + ms; ;) {
    const value = look();
    if (wanted(value)) return value;
    if (clock() > until) throw new Error(`Not within ${ms} ms: ${String(look)}; at last it was ${String(value)}`);
    await new Promise((resolve) => later(resolve, 2));
  }
}

/** A client that says exactly what it is told to, and reads only while it is let. */
export class Raw {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  /** Whether the server has said that nothing more comes. */
  ended = false;
  readonly chunks: string[] = [];

  constructor(port: number) {
    this.socket = dial(port, '127.0.0.1');
    this.socket.setNoDelay(true).setEncoding('latin1');
    this.socket.on('data', (chunk: string) => this.chunks.push(chunk));
    this.socket.on('end', () => (this.ended = true)).on('error', () => {});
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()));
    afterwards(() => this.socket.destroy());
  }

  /** Everything received, a character a byte. */
  get text(): string {
    return this.chunks.join('');
  }

  send(text: string): this {
    this.socket.write(text);
    return this;
  }

  get(path: string, ...headers: string[]): this {
    return this.send([`GET ${path} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n'));
  }

  /** Waits until the text has this in it. */
  async until(what: string | RegExp, ms?: number): Promise<string> {
    const found = (): boolean => (typeof what === 'string' ? this.text.includes(what) : what.test(this.text));
    try {
      await eventually(found, ms);
    } catch {
      throw new Error(`${String(what)} did not come. What came: ${JSON.stringify(this.text.slice(-1000))}`);
    }
    return this.text;
  }
}

export type Init = Omit<RequestInit, 'headers'> & { headers?: Record<string, string> };

/** A plain request, whatever the answer is. */
export async function ask(url: string, init: Init = {}): Promise<{ status: number; headers: Headers; text: string }> {
  const response = await fetch(url, { ...init, headers: { connection: 'close', ...init.headers } });
  return { status: response.status, headers: response.headers, text: await response.text() };
}
