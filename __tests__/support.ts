/*
 * What the tests of the core share: a router in an app, a stream to it, and the tidying up.
 * Knows Express 4 and 5, the package and its testing kit.
 * Invariant: what was opened through here is closed after each test, whatever became of the test.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { connect as dial, type AddressInfo, type Socket } from 'node:net';
import express, { type Express, type Request, type Response } from 'express';
import express4 from 'express4';
import { sse, type CloseReason, type Connection, type SseOptions, type SseRouter } from '../lib/index.ts';
import { connect, type ConnectOptions, type TestStream } from '../lib/testing/index.ts';

/** Both Expresses, for `describe.each` and `test.each`. */
export const EXPRESSES: [name: string, make: typeof express][] = [
  ['Express 4', express4 as unknown as typeof express],
  ['Express 5', express],
];

/** Options under which the opening writes `:\nretry: 1000\n` and nothing else: no ids, no checkpoint, no heartbeat. */
export const BARE: SseOptions = { history: false, retry: 1000, heartbeat: false };
export const HEAD = ':\nretry: 1000\n';

const left: (() => unknown)[] = [];

/** Calls this after the test; the last first. */
export function later(close: () => unknown): void {
  left.push(close);
}

afterEach(async () => {
  jest.useRealTimers();
  jest.restoreAllMocks();
  for (const close of left.splice(0).toReversed()) await close();
});

/** A router in an app, at `/events`. Errors are answered with their status and text, and are not printed. */
export function appOf(events: SseRouter, make: typeof express = express): Express {
  const app = make();
  app.set('env', 'test');
  app.use('/events', events);
  return app;
}

/** Any handler: what it returns is not looked at here. */
export type AnyHandler = (conn: Connection, req: Request, res: Response) => unknown;

export interface Opened {
  readonly events: SseRouter;
  readonly app: Express;
  readonly conn: Connection;
  readonly stream: TestStream;
}

/** A stream that has been opened to a router of its own. */
export async function opened(
  handler: AnyHandler = () => {},
  options: SseOptions = {},
  how: ConnectOptions & { make?: typeof express } = {},
): Promise<Opened> {
  let conn: Connection | undefined;
  const events = sse((connection, req, res) => {
    conn = connection;
    return handler(connection, req, res) as void;
  }, options);
  later(() => events.close());
  const app = appOf(events, how.make);
  const stream = await connect(app, '/events', how);
  later(() => stream.close());
  return { events, app, conn: conn!, stream };
}

/** A stream more, to the same app. */
export async function another(app: Express, path = '/events', how: ConnectOptions = {}): Promise<TestStream> {
  const stream = await connect(app, path, how);
  later(() => stream.close());
  return stream;
}

/** The reason for which a connection is over, once it is. */
export function overOf({ signal }: Connection): Promise<CloseReason> {
  return new Promise((resolve) => {
    const tell = (): void => resolve(signal.reason as CloseReason);
    if (signal.aborted) tell();
    else signal.addEventListener('abort', tell, { once: true });
  });
}

/** A server that listens for as long as the test lasts. */
export async function listening(app: Express): Promise<{ server: Server; port: number; url: string }> {
  const server = createServer(app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  later(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { server, port, url: `http://127.0.0.1:${port}/events` };
}

/** A socket that has sent this request, to see what a parser would hide. */
export async function dialled(port: number, request = 'GET /events HTTP/1.1\r\nHost: x\r\n\r\n'): Promise<Socket> {
  const socket = dial(port, '127.0.0.1');
  later(() => socket.destroy());
  socket.on('error', () => {}); // a test that cuts it knows
  await once(socket, 'connect');
  socket.write(request);
  return socket;
}

/** A promise, and what settles it. */
export function gate(): { pass: Promise<void>; open: () => void; fail: (error: unknown) => void } {
  let open!: () => void;
  let fail!: (error: unknown) => void;
  const pass = new Promise<void>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { pass, open, fail };
}

/** Fakes the clock, and leaves alone what real sockets need. */
export function fakeClock(): void {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
}

/** Lets the turn end, and with it what was said in it. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Pushes until the kernel takes no more for this reader, which must have been paused. Tells how many events that took. */
export async function choke(conn: Connection): Promise<number> {
  for (let pushed = 1; ; pushed++) {
    if (conn.push('x'.repeat(65_536))) {
      await turn();
      continue;
    }
    if (conn.readyState === 'closed') throw new Error(`The connection is over: ${String(conn.signal.reason)}`);
    let drained = false;
    void conn.drained().then(() => (drained = true));
    for (let turns = 0; turns < 50 && !drained; turns++) await turn();
    if (!drained) return pushed;
  }
}

/** What was thrown, by its code. */
export function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return (error as TypeError & { code: string }).code;
  }
  return 'nothing was thrown';
}
