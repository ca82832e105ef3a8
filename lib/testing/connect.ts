/*
 * Opens a stream: a real request on a real socket, ready as soon as the answer's head is in.
 * Knows node:http's client side and Venue; nothing of what the answer holds.
 * Invariant: a connect that fails leaves nothing open, and says what was asked of whom.
 */
import { type IncomingMessage, request as plainRequest, type RequestOptions } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { Socket } from 'node:net';
import { types } from 'node:util';
import { TestStream } from './test-stream.ts';
import { type ConnectTarget, Venue } from './target-server.ts';
import { deadline, heldBack } from './waiter.ts';

export type { ConnectTarget } from './target-server.ts';

/** How to connect. */
export interface ConnectOptions {
  /** @defaultValue `'GET'`, or `'POST'` with a body */
  method?: string;
  /** Sent besides `Accept: text/event-stream` and `Cache-Control: no-cache`, which they replace; `undefined` removes one. */
  headers?: Record<string, string | readonly string[] | undefined>;
  /** Text and bytes are sent as they are, everything else as JSON with its content type. */
  body?: unknown;
  /** Sent as `Last-Event-ID`, in UTF-8 as browsers do; `''` sends none. */
  lastEventId?: string;
  /**
   * Real milliseconds that may pass until the answer, and until each event, whatever fake timers say.
   *
   * @defaultValue 2000
   */
  timeout?: number;
}

/** Long enough for a busy machine, short enough to fail before the test runner gives up and says nothing of what came. */
const TIMEOUT = 2000;

/**
 * Opens a stream in a test.
 *
 * An app, a router or a server that does not listen is served on a free port of the loopback interface, which is closed
 * with the stream. A bare router has no Express around it: mount it in an app when its handler uses `res.sendStatus`,
 * `req.query` and the like.
 *
 * Under fake timers leave `setImmediate` real, since servers answer by it: `jest.useFakeTimers({ doNotFake: ['setImmediate'] })`,
 * `vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })`. Heartbeats then come as the clock is put forward.
 *
 * @param target - an Express app, a router, a plain listener, a `node:http` or `node:https` server, or a URL
 * @param path - path and query, `'/'` by default; with a URL, relative to it
 * @returns the stream, as soon as the head of the answer is in, whatever its status
 * @throws Error when there is no connection, or no answer within `timeout` milliseconds
 * @example
 * const stream = await connect(app, '/events', { lastEventId: '7' });
 * expect(await stream.next()).toMatchObject({ event: 'message', data: 'hello' });
 * await stream.close();
 */
export function connect<Events = Record<string, any>>(
  target: ConnectTarget,
  path?: string,
  options: ConnectOptions = {},
): Promise<TestStream<Events>> {
  return visit<Events>(new Venue(target), path, options);
}

async function visit<Events>(
  venue: Venue,
  path: string | undefined,
  options: ConnectOptions,
): Promise<TestStream<Events>> {
  const { lastEventId = '', timeout = TIMEOUT } = options;
  const body = payload(options.body);
  const method = options.method ?? (body === undefined ? 'GET' : 'POST');
  const route = await venue.enter(path);
  const request = `${method} ${route.protocol ?? 'http:'}//${route.host ?? 'localhost'}${route.port ? `:${route.port}` : ''}${route.path}`;
  let socket: Socket | undefined;
  let wire: string | undefined;
  const keep = (made: Socket): void => {
    socket = made;
    made.once('connect', () => (wire = `${made.localPort}:${made.remotePort}`));
  };
  try {
    const asked = { ...route, method, headers: headersOf(options, body), agent: false };
    return await ask(asked, body?.bytes, timeout, keep, (response) => {
      return new TestStream<Events>({
        response,
        socket: socket ?? response.socket,
        request,
        lastEventId,
        timeout,
        leave: () => venue.leave(wire),
        reopen: (changes) => visit<Events>(venue, path, merged(options, changes)),
      });
    });
  } catch (cause) {
    await venue.leave(wire);
    throw new Error(`${request}: ${types.isNativeError(cause) ? cause.message : String(cause)}`, { cause });
  }
}

function ask<Answer>(
  options: RequestOptions,
  body: Uint8Array | undefined,
  timeout: number,
  keep: (socket: Socket) => void,
  answered: (response: IncomingMessage) => Answer, // in the very turn of the answer, so that nothing of it is missed
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = options.protocol === 'https:' ? secureRequest(options) : plainRequest(options);
    const cancel = deadline(timeout, () => request.destroy(new Error(`no answer within ${timeout} ms${heldBack()}`)));
    request.once('socket', keep);
    request.once('response', (response) => {
      cancel();
      resolve(answered(response));
    });
    // Stays for as long as the request does: what goes wrong after the answer is told by the response as well.
    request.on('error', (error) => {
      cancel();
      reject(error);
    });
    // node:http drops a connection that changes its protocol (101) without an error.
    request.once('close', () => {
      cancel();
      reject(new Error('the connection was closed without an answer'));
    });
    request.end(body);
  });
}

interface Payload {
  readonly bytes: Uint8Array;
  readonly type?: string;
}

/** Always bytes: node:http writes the head in the encoding of a body that is a string, and breaks an id beyond ASCII. */
function payload(body: unknown): Payload | undefined {
  if (body === undefined) return undefined;
  if (body instanceof Uint8Array) return { bytes: body };
  if (typeof body === 'string') return { bytes: Buffer.from(body) };
  return { bytes: Buffer.from(JSON.stringify(body)), type: 'application/json' };
}

function headersOf(
  { headers = {}, lastEventId = '' }: ConnectOptions,
  body: Payload | undefined,
): Record<string, string | string[]> {
  const all: ConnectOptions['headers'] = { accept: 'text/event-stream', 'cache-control': 'no-cache' };
  if (body?.type !== undefined) all['content-type'] = body.type;
  if (body !== undefined) all['content-length'] = String(body.bytes.byteLength);
  // node:http takes one byte a character; browsers send the id in UTF-8.
  if (lastEventId !== '') all['last-event-id'] = Buffer.from(lastEventId).toString('latin1');
  for (const [name, value] of Object.entries(headers)) all[name.toLowerCase()] = value;
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Record<
    string,
    string | string[]
  >;
}

function merged(options: ConnectOptions, changes: ConnectOptions): ConnectOptions {
  return { ...options, ...changes, headers: { ...options.headers, ...changes.headers } };
}
