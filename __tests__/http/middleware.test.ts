import compression from 'compression';
import cors from 'cors';
import type { ErrorRequestHandler, Express, RequestHandler } from 'express';
import helmet from 'helmet';
import { connect as dialHttp2, createServer as createHttp2, type Http2ServerResponse } from 'node:http2';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type ConnectOptions, type TestStream } from '../../lib/testing/index.ts';
import { type AnyHandler, EXPRESSES, later } from '../fixtures/support.ts';
import { certificate } from '../fixtures/certificate.ts';
import { clock, eventually, Raw, serve } from '../fixtures/http.ts';

/** Checks that each push, broadcast, comment and heartbeat arrives at once, and not only when a buffer is full. */
async function expectLive(events: SseRouter, conn: Connection, stream: TestStream): Promise<void> {
  const waits: number[] = [];
  for (let n = 0; n < 5; n++) {
    const start = clock();
    conn.push(`push ${n}`);
    await stream.until(() => stream.events.some(({ data }) => data === `push ${n}`));
    await events.broadcast(`broadcast ${n}`);
    await stream.until(() => stream.events.some(({ data }) => data === `broadcast ${n}`));
    conn.comment(`comment ${n}`);
    await stream.until(() => stream.comments.includes(`comment ${n}`));
    waits.push(clock() - start);
  }
  expect(Math.min(...waits)).toBeLessThan(100);
  const { length } = stream.comments;
  await stream.until(() => stream.comments.length > length + 1, 1000); // heartbeats
}

describe.each(EXPRESSES)('%s', (_, make) => {
  /** Opens a stream behind this middleware. */
  async function streamBehind(
    front: RequestHandler[],
    options: SseOptions = {},
    how: ConnectOptions = {},
    handler: AnyHandler = () => {},
  ) {
    let conn!: Connection;
    const events = sse(
      (one, req, res) => {
        conn = one;
        return handler(one, req, res) as void;
      },
      { heartbeat: 50, ...options },
    );
    later(() => events.close());
    const site = await serve((app: Express) => {
      for (const one of front) app.use(one);
      app.get('/hello', (_req, res) => void res.send('hello'));
      app.use('/events', events);
      app.use(((error, _req, res, _next) => void res.status(500).send(String(error.message))) as ErrorRequestHandler);
    }, make);
    const stream = await connect(`${site.url}/events`, undefined, how);
    later(() => stream.close());
    await eventually(() => events.size === 1);
    return { ...site, events, conn, stream };
  }

  test('a wrapper whose write throws closes the connection: one error is reported, and nothing more is written', async () => {
    const onError = jest.fn();
    const failing = jest.fn(() => {
      throw new Error('a wrapper');
    });
    let fail = (): void => {};
    const wrap: RequestHandler = (_req, res, next) => {
      fail = () => Object.assign(res, { write: failing });
      const write = res.write.bind(res);
      res.write = (...args: unknown[]) => Reflect.apply(write, undefined, args) as boolean;
      next();
    };
    const { events, conn, stream } = await streamBehind([wrap], { onError, heartbeat: 20 });
    fail();
    conn.push('lost');
    expect(await stream.closed).toBe('cut');
    expect(conn.push('nor this')).toBe(false);
    await events.broadcast('nor that');
    expect([conn.readyState, conn.signal.reason, events.size]).toEqual(['closed', 'error', 0]);
    expect(failing).toHaveBeenCalledTimes(1);
    expect(onError.mock.calls).toEqual([[new Error('a wrapper'), conn]]);
  });

  describe('compression() in front', () => {
    test.each<[string, SseOptions, string, string | undefined]>([
      ['gzip, default headers', {}, 'gzip', undefined],
      ['br, default headers', {}, 'br', undefined],
      ['gzip, Cache-Control overridden', { headers: { 'Cache-Control': 'no-cache' } }, 'gzip', 'gzip'],
      ['gzip, Cache-Control removed', { headers: { 'cache-control': undefined } }, 'gzip', 'gzip'],
      ['br, Cache-Control overridden', { headers: () => ({ 'Cache-Control': 'no-cache' }) }, 'br', 'br'],
      ['no encoding accepted', { headers: { 'Cache-Control': 'no-cache' } }, 'identity', undefined],
    ])('%s: events and heartbeats arrive at once', async (_what, options, accept, coding) => {
      const how = { headers: { 'accept-encoding': accept } };
      const { events, conn, stream } = await streamBehind([compression()], options, how);
      expect(stream.headers['content-encoding']).toBe(coding);
      await expectLive(events, conn, stream);
      conn.end();
      await stream.until(() => stream.ended);
      expect(await stream.closed).toBe('end');
      expect(stream.events.at(-1)!.event).toBe('end');
      await eventually(() => events.size === 0);
    });

    test('the opening is not held back, and a client that disconnects is removed', async () => {
      const { events, stream } = await streamBehind(
        [compression()],
        { headers: { 'Cache-Control': 'no-cache' } },
        { headers: { 'accept-encoding': 'gzip' } },
      );
      await stream.until(() => stream.retry !== undefined);
      await stream.cut();
      await eventually(() => events.size === 0);
    });
  });

  test('helmet() in front: its headers stay, and the stream is live', async () => {
    const { events, conn, stream } = await streamBehind([helmet()]);
    expect(stream.headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'content-type': 'text/event-stream; charset=utf-8',
    });
    expect(stream.headers).toHaveProperty('content-security-policy');
    await expectLive(events, conn, stream);
  });

  test('cors() in front, without the option cors: its headers stay', async () => {
    const front = cors({ origin: 'https://a.example', credentials: true });
    const { stream } = await streamBehind([front], {}, { headers: { origin: 'https://a.example' } });
    expect(stream.headers).toMatchObject({
      'access-control-allow-origin': 'https://a.example',
      'access-control-allow-credentials': 'true',
      vary: 'Origin',
    });
  });

  test('express.json() has read the body of a POST: the stream stays open until the client disconnects', async () => {
    const { events, conn, stream } = await streamBehind(
      [make.json()],
      { methods: ['GET', 'POST'] },
      { method: 'POST', body: { prompt: 'hi' } },
      (one, req) => void one.push({ data: (req.body as { prompt: string }).prompt }),
    );
    expect((await stream.next()).data).toBe('hi');
    await expectLive(events, conn, stream);
    expect(conn.readyState).toBe('open');
    await stream.close();
    await eventually(() => events.size === 0);
    expect(conn.signal.reason).toBe('client');
  });

  test('a request that has been read to its end is not a client that has disconnected', async () => {
    const { events, conn, stream } = await streamBehind([
      (req, _res, next) => void req.resume().once('end', () => next()),
    ]);
    await expectLive(events, conn, stream);
    await stream.close();
    await eventually(() => events.size === 0);
  });

  test('a session middleware: it sets a cookie when the head is written, and saves before the answer ends', async () => {
    let saved = 0;
    const session: RequestHandler = (_req, res, next) => {
      const [writeHead, write, end] = [res.writeHead.bind(res), res.write.bind(res), res.end.bind(res)];
      res.writeHead = (...how: unknown[]) => {
        res.setHeader('Set-Cookie', 'sid=1; HttpOnly');
        return writeHead(...(how as [number]));
      };
      res.write = (...how: unknown[]) => write(...(how as [string]));
      res.end = (...how: unknown[]) => {
        setTimeout(() => {
          saved++;
          end(...(how as [string]));
        }, 10);
        return res;
      };
      next();
    };
    const { events, conn, stream, port } = await streamBehind([session]);
    expect(stream.headers['set-cookie']).toEqual(['sid=1; HttpOnly']);
    await expectLive(events, conn, stream);
    conn.end();
    await stream.until(() => stream.ended);
    expect(await stream.closed).toBe('end');
    expect(stream.events.at(-1)!.event).toBe('end');
    expect(saved).toBe(1);
    const raw = new Raw(port).get('/events');
    await eventually(() => events.size === 1);
    [...events.connections][0]!.close();
    await raw.until(/0\r\n\r\n$/);
    raw.get('/hello');
    await raw.until('hello');
  });

  test('several middlewares at once', async () => {
    const { events, conn, stream } = await streamBehind(
      [helmet(), cors(), compression(), make.json(), make.urlencoded({ extended: false })],
      { headers: { 'Cache-Control': 'no-store' } },
      { headers: { 'accept-encoding': 'gzip', origin: 'https://a.example' } },
    );
    expect(stream.headers).toMatchObject({ 'content-encoding': 'gzip', 'access-control-allow-origin': '*' });
    await expectLive(events, conn, stream);
  });

  test('an HTTPS server', async () => {
    let conn!: Connection;
    const events = sse((one) => void (conn = one), { heartbeat: 50 });
    later(() => events.close());
    const server = createHttps(certificate, make().use('/events', events));
    const stream = await connect(server, '/events');
    later(() => stream.close());
    await eventually(() => events.size === 1);
    await expectLive(events, conn, stream);
    stream.pause();
    for (let n = 0; n < 100; n++) conn.push('x'.repeat(65_536));
    stream.resume();
    await stream.until(() => stream.events.length > 110, 5000);
    await stream.close();
    await eventually(() => events.size === 0);
  });
});

describe('HTTP/2, with the router alone, because Express does not support HTTP/2 responses', () => {
  async function http2(
    handler: AnyHandler,
    options: SseOptions = {},
    wrap: (res: Http2ServerResponse) => void = () => {},
  ) {
    const events = sse((conn, req, res) => handler(conn, req, res) as void, options);
    later(() => events.close());
    const server = createHttp2((req, res) => {
      wrap(res);
      events(req as never, res as never, (error?: unknown) => {
        res.statusCode = error === undefined ? 404 : 500;
        res.end(error instanceof Error ? error.message : '');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    later(() => new Promise((resolve) => server.close(resolve)));
    const session = dialHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    later(() => session.destroy());
    const open = async (path = '/', headers: Record<string, string> = {}) => {
      const request = session.request({ ':path': path, ...headers });
      let text = '';
      request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      const [head] = (await new Promise<unknown[]>((resolve) =>
        request.once('response', (...all) => resolve(all)),
      )) as [Record<string, unknown>];
      return { request, head, text: () => text, ended: new Promise((resolve) => request.once('end', resolve)) };
    };
    return { events, open };
  }

  test('several streams on one socket, without a header that HTTP/2 forbids', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const conns: Connection[] = [];
    const { events, open } = await http2((conn) => void conns.push(conn), { heartbeat: 50 });
    const streams = await Promise.all([open(), open('/?x=1'), open()]);
    await eventually(() => events.size === 3);
    for (const { head } of streams) {
      expect(head[':status']).toBe(200);
      expect(head['content-type']).toBe('text/event-stream; charset=utf-8');
      for (const name of ['connection', 'keep-alive', 'transfer-encoding']) expect(head).not.toHaveProperty(name);
    }
    await events.broadcast('a');
    conns[0]!.push('b');
    await eventually(() => streams.every(({ text }) => text().includes('data: a\n\n')));
    await eventually(() => streams[0]!.text().includes('data: b\n\n'));
    await eventually(() => /\n:\n/.test(streams[1]!.text()));
    expect(streams[1]!.text()).not.toContain('data: b');
    conns[0]!.end();
    await streams[0]!.ended;
    expect(streams[0]!.text()).toMatch(/event: end\ndata: \n\n$/);
    streams[1]!.request.close();
    await eventually(() => events.size === 1);
    expect(conns[1]!.signal.reason).toBe('client');
    await events.broadcast('c');
    await eventually(() => streams[2]!.text().includes('data: c\n\n'));
    const closing = events.close();
    await streams[2]!.ended;
    await closing;
    expect(warned).not.toHaveBeenCalled();
  });

  test.each<[name: string, wrap: (res: Http2ServerResponse) => void]>([
    ['a plain response', () => {}],
    [
      'a response whose write() is replaced and returns nothing',
      (res) => {
        const write = res.write.bind(res) as (...args: unknown[]) => boolean;
        Object.assign(res, { write: (...args: unknown[]) => void write(...args) });
      },
    ],
  ])('%s: a client that does not read is disconnected, and the other client is not', async (_name, wrap) => {
    const conns: Connection[] = [];
    const { events, open } = await http2((conn) => void conns.push(conn), { maxBuffered: 100_000 }, wrap);
    const [slow, other] = [await open(), await open()];
    await eventually(() => events.size === 2);
    slow.request.pause();
    for (let n = 0; n < 500 && conns[0]!.readyState === 'open'; n++) {
      conns[0]!.push('x'.repeat(65_536));
      await new Promise(setImmediate);
    }
    expect(conns[0]!.signal.reason).toBe('slow');
    await events.broadcast('still here');
    await eventually(() => other.text().includes('still here'));
    expect(events.size).toBe(1);
  });
});
