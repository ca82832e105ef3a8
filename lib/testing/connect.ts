/*
 * Opens a stream in a test: a real request on a real socket.
 * Invariant: a connect that fails leaves nothing open, and its error names the request.
 */
import type { Socket } from 'node:net';
import { types } from 'node:util';
import { sendRequest } from '../http-client/request.ts';
import { checkOptions, checkPath, checkTarget, encodeBody } from './arguments.ts';
import { type ConnectTarget, TargetServer } from './target-server.ts';
import { TestStream } from './test-stream.ts';
import { fakeTimerHint, startDeadline } from './waiter.ts';

export type { ConnectTarget } from './target-server.ts';

/** How to connect. */
export interface ConnectOptions {
  /** @defaultValue `'GET'`, or `'POST'` with a body */
  method?: string;
  /** Sent besides `Accept: text/event-stream` and `Cache-Control: no-cache`, which they replace; `undefined` removes one. */
  headers?: Record<string, string | readonly string[] | undefined>;
  /** Text and bytes are sent unchanged, any other value as JSON with its content type. A value that JSON loses is an error. */
  body?: unknown;
  /** Sent as `Last-Event-ID`, in UTF-8 as browsers send it; `''` sends none. */
  lastEventId?: string;
  /**
   * The longest wait for the response, and later for each event, in milliseconds of real time. Fake timers do not change it.
   *
   * @defaultValue 2000
   */
  timeout?: number;
}

/** Long enough for a busy machine; short enough to fail before the test runner does, whose message shows nothing of the stream. */
const DEFAULT_TIMEOUT_MS = 2000;

/**
 * Opens a stream in a test.
 *
 * An app, a router or a server that does not listen is served on a free port of the loopback interface. The port is closed
 * with the stream. A bare router runs without an Express app: mount it in an app if its handlers use `res.sendStatus`,
 * `req.query` or the like.
 *
 * Under fake timers, keep `setImmediate` real, because servers need it to answer:
 * `jest.useFakeTimers({ doNotFake: ['setImmediate'] })`,
 * `vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })`. Advance the clock to receive heartbeats.
 *
 * @param target - an Express app, a router, a plain listener, a `node:http` or `node:https` server, or a URL
 * @param path - path and query, `'/'` by default; with a URL, relative to it
 * @returns the stream, as soon as the head of the response has arrived, whatever its status
 * @throws Error if there is no connection, or no response within `timeout` milliseconds
 * @throws {SseTypeError} `ERR_SSE_OPTION` if the target is none of these, the path is no string, or an option is not valid
 * @example
 * const stream = await connect(app, '/events', { lastEventId: '7' });
 * expect(await stream.next()).toMatchObject({ event: 'message', data: 'hello' });
 * await stream.close();
 *
 * const signedIn = await connect(app, '/events', { headers: { cookie: 'session=7' } }); // options are the third argument
 */
export async function connect<Events = Record<string, any>>(
  target: ConnectTarget,
  path?: string,
  options: ConnectOptions = {},
): Promise<TestStream<Events>> {
  checkTarget(target);
  checkPath(path);
  checkOptions(options);
  return open<Events>(new TargetServer(target), path, options);
}

async function open<Events>(
  server: TargetServer,
  path: string | undefined,
  options: ConnectOptions,
): Promise<TestStream<Events>> {
  const { headers = {}, lastEventId = '', timeout = DEFAULT_TIMEOUT_MS } = options;
  const body = encodeBody(options.body);
  const method = options.method ?? (body === undefined ? 'GET' : 'POST');
  const target = await server.acquire(path);
  const port = target.port ? `:${target.port}` : '';
  const request = `${method} ${target.protocol ?? 'http:'}//${target.hostname ?? 'localhost'}${port}${target.path}`;
  const abort = new AbortController();
  const cancelDeadline = startDeadline(timeout, () => {
    abort.abort(new Error(`no answer within ${timeout} ms${fakeTimerHint()}`));
  });
  let socket: Socket | undefined;
  let ports: string | undefined;
  try {
    return await sendRequest(
      { target, method, headers, body, lastEventId, signal: abort.signal },
      {
        onSocket: (made) => {
          socket = made;
          made.once('connect', () => (ports = `${made.localPort}:${made.remotePort}`));
        },
        onResponse: (response) => {
          return new TestStream<Events>({
            response,
            socket: socket ?? response.socket,
            request,
            lastEventId,
            timeout,
            release: () => server.release(ports),
            reopen: async (position, changes) => {
              checkOptions(changes); // before the merge spreads a string into its characters
              return open<Events>(server, path, mergeOptions(options, { lastEventId: position, ...changes }));
            },
          });
        },
      },
    );
  } catch (cause) {
    await server.release(ports);
    throw new Error(`${request}: ${types.isNativeError(cause) ? cause.message : String(cause)}`, { cause });
  } finally {
    cancelDeadline();
  }
}

function mergeOptions(options: ConnectOptions, changes: ConnectOptions): ConnectOptions {
  return { ...options, ...changes, headers: { ...options.headers, ...changes.headers } };
}
