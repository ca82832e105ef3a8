/*
 * An answer that did not finish must not look finished. Without control events, the router breaks off the connection after the
 * written bytes; with them, the body ends normally, and the missing `end` event says so.
 */

import compression from 'compression';
import { randomBytes } from 'node:crypto';
import type { RequestHandler } from 'express';
import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { connect as dialHttp2, createServer as createHttp2 } from 'node:http2';
import { createServer as createTlsServer } from 'node:https';
import { request as tlsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { brotliDecompressSync, constants, gunzipSync } from 'node:zlib';
import { memoryJournal, sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { certificate } from '../fixtures/certificate.ts';
import { clock, eventually, pause, Raw, serve } from '../fixtures/http.ts';
import { type AnyHandler, choke, fakeClock, later, tick } from '../fixtures/support.ts';

const HEAD = ':\nretry: 1000\n';
const POST: SseOptions = { methods: ['POST'], history: false, retry: 1000, heartbeat: false };
const GET: SseOptions = { controlEvents: false, history: false, retry: 1000, heartbeat: false };
const forever = (): Promise<never> => new Promise(() => {});

/** A generator that yields one value, and then waits for ever, or fails. */
const yielding = (next: () => unknown): AnyHandler =>
  async function* () {
    yield 'written';
    await tick();
    await tick();
    await next();
  } as AnyHandler;

const fails = yielding(() => {
  throw new Error('of the model');
});

interface Opened {
  readonly events: SseRouter;
  readonly conn: Connection;
  readonly port: number;
  readonly url: string;
  /** What fetch makes of it: the text, and whether the body failed. */
  readonly result: Promise<{ text: string; failed: boolean }>;
}

async function answer(
  handler: AnyHandler,
  options: SseOptions = POST,
  front: RequestHandler[] = [],
  headers: Record<string, string> = {},
): Promise<Opened> {
  let conn: Connection | undefined;
  const events = sse(
    (one, req, res) => {
      conn = one;
      return handler(one, req, res) as void;
    },
    { onError: () => {}, ...options },
  );
  later(() => events.close());
  const { port, url } = await serve((app) => {
    for (const one of front) app.use(one);
    app.use('/events', events);
  });
  const method = options.methods?.[0] ?? 'GET';
  const response = await fetch(`${url}/events`, { method, headers, ...(method === 'POST' && { body: '{}' }) });
  expect(response.status).toBe(200);
  return { events, conn: conn!, port, url: `${url}/events`, result: read(response) };
}

/** Decodes the bytes that have arrived before the body fails. fetch drops those that its decoder still has. */
async function decoded(url: string, encoding: string): Promise<{ text: string; failed: boolean }> {
  const request = httpRequest(url, { method: 'POST', headers: { 'accept-encoding': encoding } });
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  let failed = false;
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch {
    failed = true;
  }
  const bytes = Buffer.concat(chunks);
  const used = response.headers['content-encoding'];
  if (used === 'gzip') return { text: gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH }).toString(), failed };
  const flush = { finishFlush: constants.BROTLI_OPERATION_FLUSH };
  return { text: (used === 'br' ? brotliDecompressSync(bytes, flush) : bytes).toString(), failed };
}

async function read(response: Response): Promise<{ text: string; failed: boolean }> {
  let text = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body!) text += decoder.decode(chunk as Uint8Array, { stream: true });
    return { text, failed: false };
  } catch {
    return { text, failed: true };
  }
}

const WRITTEN = `${HEAD}data: written\n\n`;

describe.each([
  ['a router for POST alone', POST],
  ['controlEvents: false', GET],
])('%s', (_what, options) => {
  test('a generator that finishes: the body ends normally', async () => {
    const { result, conn } = await answer(
      yielding(() => {}),
      options,
    );
    expect(await result).toEqual({ text: WRITTEN, failed: false });
    expect(conn.signal.reason).toBe('end');
  });

  test.each<[what: string, handler: AnyHandler]>([
    ['a generator', fails],
    [
      'an async handler that pushes',
      async (conn) => {
        conn.push('written');
        await tick();
        await tick();
        throw new Error('of the model');
      },
    ],
    [
      'a handler that returns a stream',
      () =>
        new ReadableStream({
          start: (c) => c.enqueue('written'),
          pull: async (c) => (await tick(), await tick(), c.error(new Error('of the model'))),
        }),
    ],
    ['pushAll', async (conn) => conn.pushAll((fails as () => AsyncIterable<string>)())],
  ])('an exception of %s: fetch rejects after everything that was written', async (_source, handler) => {
    const onError = jest.fn();
    const { result, conn } = await answer(handler, { ...options, onError });
    expect(await result).toEqual({ text: WRITTEN, failed: true });
    expect(conn.signal.reason).toBe('error');
    expect(onError.mock.calls).toEqual([[new Error('of the model'), conn]]);
  });

  test.each<[what: string, handler: AnyHandler]>([
    ['a generator', yielding(forever)],
    [
      'pushAll in a handler',
      async (conn) => {
        await conn.pushAll((yielding(forever) as () => AsyncIterable<string>)());
        conn.end();
      },
    ],
    [
      'pushAll behind a handler that has returned',
      (conn) => void conn.pushAll((yielding(forever) as () => AsyncIterable<string>)()),
    ],
    [
      'a handler that pushes by itself',
      async (conn) => {
        conn.push('written');
        await forever();
      },
    ],
  ])('a shutdown and maxAge while %s is running: fetch rejects', async (_source, handler) => {
    const shutdown = await answer(handler, options);
    await shutdown.events.close();
    expect(await shutdown.result).toMatchObject({
      text: expect.stringMatching(/written\n\n(retry: 1000\n)?$/),
      failed: true,
    });
    expect(shutdown.conn.signal.reason).toBe('shutdown');
    const expired = await answer(handler, { ...options, maxAge: 150 });
    expect(await expired.result).toEqual({ text: WRITTEN, failed: true });
    expect(expired.conn.signal.reason).toBe('expired');
  });

  test.each<[what: string, end: (conn: Connection) => void, tail: string]>([
    ['close()', (conn) => conn.close(), ''],
    ['end()', (conn) => conn.end(), ''],
  ])('the application’s own %s ends the body normally, whatever is running', async (_how, end, tail) => {
    const { result } = await answer(async (conn) => {
      conn.push('written');
      await tick();
      end(conn);
      await tick();
    }, options);
    expect(await result).toEqual({ text: WRITTEN + tail, failed: false });
  });

  test('a stream whose handler has returned ends normally', async () => {
    const { result, events } = await answer((conn) => void conn.push('written'), options);
    await events.close();
    expect(await result).toEqual({ text: `${WRITTEN}retry: 1000\n`, failed: false });
  });
});

test.each([
  ['an exception', fails, false],
  ['a shutdown', yielding(forever), true],
])(
  'with control events: after %s the body ends normally, and the end event is missing',
  async (_what, handler, close) => {
    const { result, events } = await answer(handler, { ...POST, methods: ['POST', 'GET'] });
    if (close) await events.close();
    expect(await result).toMatchObject({ text: expect.not.stringContaining('event: end'), failed: false });
  },
);

describe('the connection is broken off after the written bytes', () => {
  test('without the last chunk, soon', async () => {
    const { port } = await answer(fails);
    const start = clock();
    const raw = new Raw(port).send('POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    await raw.closed;
    expect(clock() - start).toBeLessThan(500);
    expect(raw.ended).toBe(true);
    expect(raw.text).toMatch(/data: written\n\n\r\n$/);
  });

  const big = randomBytes(200_000).toString('base64');
  const bigThenFails: AnyHandler = async function* () {
    yield { data: big };
    await tick();
    throw new Error('of the model');
  } as AnyHandler;

  test.each<[what: string, options: SseOptions, front: RequestHandler[], encoding: string]>([
    ['directly', {}, [], 'identity'],
    ['gzip of the router', { compress: true }, [], 'gzip'],
    ['behind compression()', { headers: { 'Cache-Control': 'no-cache' } }, [compression()], 'gzip'],
    ['behind compression() with brotli', { headers: { 'Cache-Control': 'no-cache' } }, [compression()], 'br'],
    ['behind compression() that leaves it alone', {}, [compression()], 'gzip'],
    [
      'behind a wrapper of write',
      {},
      [
        (_req, res, next) => {
          const write = res.write.bind(res) as (...args: unknown[]) => boolean;
          res.write = (...args: unknown[]) => write(...args);
          next();
        },
      ],
      'identity',
    ],
  ])('%s: a large event arrives whole', async (_what, options, front, encoding) => {
    const { result, url } = await answer(bigThenFails, { ...POST, ...options }, front, { 'accept-encoding': encoding });
    expect((await result).failed).toBe(true);
    const { text, failed } = await decoded(url, encoding);
    expect(failed).toBe(true);
    expect(text.length).toBe(`${HEAD}data: ${big}\n\n`.length);
  });

  test('a gzip stream of the router has no trailer, and everything that was written can be decoded', async () => {
    const { port } = await answer(fails, { ...POST, compress: true }, [], { 'accept-encoding': 'gzip' });
    const request = 'POST /events HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nContent-Length: 0\r\n\r\n';
    const raw = new Raw(port).send(request);
    await raw.closed;
    let body = raw.text.slice(raw.text.indexOf('\r\n\r\n') + 4);
    let bytes = '';
    while (body !== '') {
      const size = Number.parseInt(body, 16);
      const from = body.indexOf('\r\n') + 2;
      bytes += body.slice(from, from + size);
      body = body.slice(from + size + 2);
    }
    const compressed = Buffer.from(bytes, 'latin1');
    expect(() => gunzipSync(compressed)).toThrow('unexpected end of file');
    expect(gunzipSync(compressed, { finishFlush: constants.Z_SYNC_FLUSH }).toString()).toBe(WRITTEN);
  });

  test('HTTP/1.0, where the end of the connection is the end of the body: the connection is reset', async () => {
    const { port } = await answer(fails);
    const raw = new Raw(port);
    const errors: string[] = [];
    raw.socket.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code!));
    raw.send('POST /events HTTP/1.0\r\nContent-Length: 0\r\n\r\n');
    await raw.closed;
    expect(raw.text).toMatch(/data: written\n\n$/);
    expect([raw.ended, errors]).toEqual([false, ['ECONNRESET']]);
  });

  test('a body of the request that nobody has read does not cost the last bytes', async () => {
    const { port } = await answer(fails);
    const raw = new Raw(port).send('POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n');
    raw.send('y'.repeat(8_000_000));
    await raw.closed;
    expect(raw.text).toMatch(/data: written\n\n\r\n$/);
  });

  test('over TLS', async () => {
    const events = sse(fails as never, { ...POST, onError: () => {} });
    later(() => events.close());
    const server = createTlsServer(certificate, (req, res) => events(req as never, res as never, () => res.end()));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    later(() => new Promise((resolve) => server.close(resolve)));
    const { port } = server.address() as AddressInfo;
    let text = '';
    const error = await new Promise<Error>((resolve) => {
      const request = tlsRequest({ port, method: 'POST', rejectUnauthorized: false, agent: false }, (response) => {
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('error', resolve).on('end', () => resolve(new Error('it ended')));
      });
      request.end();
    });
    expect(text).toBe(WRITTEN);
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });

  test.each([
    ['directly', false],
    ['through a wrapper of write', true],
  ])('over HTTP/2 only the stream is reset, %s', async (_how, isWrapped) => {
    const events = sse(
      async function* (_conn, req) {
        yield req.url === '/?big' ? { data: big } : 'written';
        await tick();
        await tick();
        if (req.url !== '/?good') throw new Error('of the model');
        await pause(300);
      },
      { ...POST, onError: () => {} },
    );
    later(() => events.close());
    const server = createHttp2((req, res) => {
      if (isWrapped) {
        const write = res.write.bind(res) as (...args: unknown[]) => boolean;
        res.write = ((...args: unknown[]) => write(...args)) as typeof res.write;
      }
      events(req as never, res as never, () => res.end());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    later(() => new Promise((resolve) => server.close(resolve)));
    const session = dialHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    later(() => session.destroy());
    const open = (path: string) => {
      const request = session.request({ ':path': path, ':method': 'POST' });
      const seen = { text: '', ended: false, code: undefined as number | undefined };
      request.setEncoding('utf8').on('data', (chunk: string) => (seen.text += chunk));
      request.on('end', () => (seen.ended = true)).on('error', () => {});
      request.on('close', () => (seen.code = request.rstCode));
      request.end('{}');
      return seen;
    };
    const good = open('/?good');
    const [bad, large] = [open('/'), open('/?big')];
    await eventually(() => bad.code !== undefined && large.code !== undefined && good.code !== undefined);
    expect(bad).toMatchObject({ text: WRITTEN, code: 2 });
    expect(large.text.length).toBe(`${HEAD}data: ${big}\n\n`.length);
    expect(large.code).toBe(2);
    expect(good).toEqual({ text: WRITTEN, ended: true, code: 0 });
  });

  test('a client that does not read holds it for one second at most', async () => {
    let proceed = (): void => {};
    const { conn, port, events } = await answer(
      async (one, req) => {
        one.push('written');
        if (req.query.slow === undefined) return one.end();
        await new Promise<void>((resolve) => (proceed = resolve));
        throw new Error('of the model');
      },
      { ...POST, maxBuffered: 2 ** 28 },
    );
    await eventually(() => conn.readyState === 'closed');
    const raw = new Raw(port).send('POST /events?slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    await raw.until('written');
    const [slow] = events.connections;
    raw.socket.pause();
    await choke(slow!);
    const start = clock();
    proceed();
    await eventually(() => slow!.request.socket.destroyed);
    expect(clock() - start).toBeGreaterThan(800);
    expect(clock() - start).toBeLessThan(2500);
  });

  test('a response that the application has ended itself stays whole', async () => {
    const { result } = await answer(async (conn, _req, res) => {
      conn.push('written');
      await tick();
      await tick();
      res.end();
      throw new Error('of the model');
    });
    expect(await result).toEqual({ text: WRITTEN, failed: false });
  });

  test('the next request finds a new connection', async () => {
    const { url, result } = await answer(fails);
    await result;
    const response = await fetch(url, { method: 'POST' });
    expect(await read(response)).toEqual({ text: WRITTEN, failed: true });
  });
});

test('an answer that ends while its client is behind the ring ends normally, after every broadcast', async () => {
  let conn!: Connection;
  const events = sse((one) => void (conn = one), {
    controlEvents: false,
    heartbeat: false,
    history: memoryJournal({ maxBytes: 2 ** 28 }),
  });
  later(() => events.close());
  const { port } = await serve((app) => app.use('/events', events));
  const stream = await connect(`http://127.0.0.1:${port}/events`);
  later(() => stream.close());
  await eventually(() => events.size === 1);
  stream.pause();
  const text = '.'.repeat(65_536);
  for (let n = 0; n < 500; n++) await events.broadcast(text); // more than the kernel and the ring hold
  expect(events.stats().behind).toBe(1);
  fakeClock(); // so that the second that a close may take does not pass on a busy machine
  conn.end();
  for (let n = 0; n < 300; n++) await events.broadcast(text); // the end is older than the ring, too
  stream.resume();
  expect(await stream.closed).toBe('end');
  expect(stream.events).toHaveLength(500);
});
