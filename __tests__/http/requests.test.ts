import type { Request } from 'express';
import { sse, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { type AnyHandler, EXPRESSES, later } from '../fixtures/support.ts';
import { ask, clock, eventually, pause, Raw, serve, type Site } from '../fixtures/http.ts';

const AWAY = /HTTP\/1\.1 200 OK\r\n(?:(?!HTTP).)*text\/event-stream(?:(?!HTTP).)*\nretry: \d+\n/s;

describe.each(EXPRESSES)('%s', (_, make) => {
  let calls: Request[];
  beforeEach(() => (calls = []));

  /** A router at /events whose handler counts its calls. */
  async function routed(
    handler: AnyHandler = () => {},
    options: SseOptions = {},
  ): Promise<Site & { events: SseRouter }> {
    const events = sse((conn, req, res) => {
      calls.push(req);
      return handler(conn, req, res) as void;
    }, options);
    later(() => events.close());
    const site = await serve((app) => {
      app.get('/hello', (_req, res) => void res.send('hello'));
      app.get('/never', () => {});
      app.use('/events', events);
    }, make);
    return { ...site, events };
  }

  test('HTTP-01 GET opens a stream of one type, in lower case', async () => {
    const { url } = await routed();
    const stream = await connect(`${url}/events`);
    expect(stream.status).toBe(200);
    expect(stream.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    await stream.close();
  });

  test('HTTP-02 the head and the first byte of the body are there at once, in one piece, before anything is pushed', async () => {
    const { port } = await routed();
    const waits: number[] = [];
    for (let n = 0; n < 5; n++) {
      const start = clock();
      const raw = new Raw(port).get('/events');
      await raw.until('\r\n\r\n');
      waits.push(clock() - start);
      expect(raw.chunks).toHaveLength(1);
      expect(raw.text).toMatch(/\r\n\r\n[0-9a-f]+\r\n:\nretry: \d+\n/);
    }
    expect(Math.min(...waits)).toBeLessThan(50);
  });

  test('HTTP-02 a handler that is still at work has its stream opened after one interval of the heartbeat', async () => {
    const { url, events } = await routed(() => new Promise(() => {}), { heartbeat: 50 });
    const opening = connect(`${url}/events`);
    await eventually(() => events.stats().connecting === 1);
    expect(events.size).toBe(0);
    const stream = await opening;
    expect(events.size).toBe(1);
    await stream.close();
  });

  test('HTTP-05 nothing on the stream describes a body of fixed content', async () => {
    const events = sse();
    later(() => events.close());
    const { url } = await serve((app) => {
      app.set('etag', 'strong');
      app.use((_req, res, next) => {
        res.set({ ETag: '"1"', 'Last-Modified': new Date(0).toUTCString(), 'Content-Length': '5' });
        next();
      });
      app.use(events);
    }, make);
    const stream = await connect(url);
    await stream.until(() => stream.retry !== undefined);
    for (const name of ['content-length', 'etag', 'last-modified', 'content-encoding']) {
      expect(stream.headers).not.toHaveProperty(name);
    }
    await stream.close();
  });

  test.each([[[]], [['Connection: keep-alive']]])(
    'HTTP-06 HTTP/1.0 %j: no chunks, and the end is the end of the connection',
    async (headers) => {
      const { port, events } = await routed((conn) => {
        conn.push('a');
        conn.request.once('test', () => conn.close());
      });
      const raw = new Raw(port).send(['GET /events HTTP/1.0', ...headers, '', ''].join('\r\n'));
      await raw.until('data: a\n\n');
      expect(raw.text).not.toMatch(/transfer-encoding|connection: keep-alive/i);
      expect(raw.text).toMatch(/\r\n\r\n:\nretry: \d+\n/);
      await events.broadcast('b');
      await raw.until('data: b\n\n');
      calls[0]!.emit('test');
      await raw.closed;
      expect(raw.ended).toBe(true);
      expect(raw.text).toMatch(/data: b\n\n$/);
    },
  );

  test('HTTP-07 HEAD has the headers of GET and ends, without the handler and without a place', async () => {
    const { url, events } = await routed(undefined, { headers: { 'X-A': '1' }, limits: { connections: 1 } });
    const get = await connect(`${url}/events`);
    calls = [];
    const head = await ask(`${url}/events`, { method: 'HEAD' });
    expect(head.status).toBe(200);
    expect(head.text).toBe('');
    for (const name of ['content-type', 'cache-control', 'x-accel-buffering', 'x-a']) {
      expect(head.headers.get(name)).toBe(get.headers[name]);
    }
    expect(calls).toHaveLength(0);
    expect(events.size).toBe(1);
    await get.close();
  });

  test.each(['POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND'])(
    'HTTP-08 %s is a 405 that says what may',
    async (method) => {
      const { url, events } = await routed();
      const answer = await ask(`${url}/events`, { method });
      expect(answer.status).toBe(405);
      expect(answer.headers.get('allow')).toBe('GET, HEAD, OPTIONS');
      expect(answer.headers.get('content-type')).toBe('text/plain; charset=utf-8');
      expect(answer.headers.get('cache-control')).toBeNull();
      expect(answer.text).toContain(method);
      expect(calls).toHaveLength(0);
      expect(events.stats()).toMatchObject({ opened: 0, connecting: 0 });
    },
  );

  test.each([
    [['GET', 'POST'], { GET: 200, HEAD: 200, POST: 200, PUT: 405 }, 'GET, HEAD, POST, OPTIONS'],
    [['POST'], { GET: 405, HEAD: 405, POST: 200, PUT: 405 }, 'POST, OPTIONS'],
    [['GET'], { GET: 200, HEAD: 200, POST: 405, PUT: 405 }, 'GET, HEAD, OPTIONS'],
  ] as const)('HTTP-08 methods: %j', async (methods, statuses, allow) => {
    const { url } = await routed((conn) => conn.close(), { methods });
    for (const [method, status] of Object.entries(statuses)) {
      const answer = await ask(`${url}/events`, { method });
      expect([method, answer.status]).toEqual([method, status]);
      expect(answer.headers.get('allow')).toBe(status === 405 ? allow : null);
    }
    expect((await ask(`${url}/events`, { method: 'OPTIONS' })).headers.get('allow')).toBe(allow);
  });

  test('HTTP-09 OPTIONS without cors is a 204 with Allow', async () => {
    const { url, events } = await routed();
    const answer = await ask(`${url}/events`, { method: 'OPTIONS', headers: { origin: 'https://a.example' } });
    expect(answer).toMatchObject({ status: 204, text: '' });
    expect(answer.headers.get('allow')).toBe('GET, HEAD, OPTIONS');
    expect(answer.headers.get('access-control-allow-origin')).toBeNull();
    expect(calls).toHaveLength(0);
    expect(events.stats().opened).toBe(0);
  });

  test.each([
    [undefined],
    ['*/*'],
    ['text/*'],
    ['text/event-stream'],
    ['Text/Event-Stream'],
    ['text/event-stream, */*;q=0.1'],
    ['text/html, text/event-stream;q=0.1'],
  ])('HTTP-10 Accept: %s is served', async (accept) => {
    const { url } = await routed();
    const stream = await connect(`${url}/events`, undefined, { headers: { accept } });
    expect(stream.status).toBe(200);
    await stream.close();
  });

  test.each(['application/json', 'text/event-stream;q=0', 'text/html, image/*', 'text/event-stream;q=0, */*'])(
    'HTTP-11 Accept: %s is a 406',
    async (accept) => {
      const { url, events } = await routed();
      const answer = await ask(`${url}/events`, { headers: { accept } });
      expect(answer.status).toBe(406);
      expect(answer.text).toContain('text/event-stream');
      expect(calls).toHaveLength(0);
      expect(events.stats().opened).toBe(0);
    },
  );

  test('HTTP-14 only the exact path is the stream’s', async () => {
    const { url } = await routed((conn) => conn.close());
    for (const path of ['/events', '/events/', '/events?x=1', '/events/?x=/other']) {
      expect([path, (await ask(url + path)).status]).toEqual([path, 200]);
    }
    for (const path of ['/events/other', '/events/other/', '/eventsource', '/']) {
      expect([path, (await ask(url + path)).status]).toEqual([path, 404]);
    }
    expect((await ask(`${url}/events/other`, { method: 'POST' })).status).toBe(404);
    expect(calls).toHaveLength(4);
  });

  test('HTTP-14 the target of a request to a proxy, which names the host as well, is the stream’s', async () => {
    const { port } = await routed((conn, req) => void conn.push(conn.lastEventId, String(req.query.x)));
    await new Raw(port).get('http://localhost/events?x=1&lastEventId=mine').until('data: mine\ndata: 1\n\n');
    await new Raw(port).get('http://localhost/events').until('data: \ndata: undefined\n\n');
    await new Raw(port).get('http://localhost/events/other').until('HTTP/1.1 404 ');
  });

  test('HTTP-14 what comes after the router gets what falls through', async () => {
    const { url } = await serve((app) => {
      app.use('/events', sse());
      app.get('/events/count', (_req, res) => void res.send('7'));
    }, make);
    expect((await ask(`${url}/events/count`)).text).toBe('7');
  });

  test('the parameters of the path it is mounted on are visible', async () => {
    const events = sse((conn, req) => {
      conn.push({ event: 'where', data: { ...req.params, url: req.originalUrl } });
      conn.close();
    });
    const { url } = await serve((app) => app.use('/rooms/:room/events', events), make);
    const stream = await connect(`${url}/rooms/blue/events?x=1`);
    expect((await stream.next()).json).toEqual({ room: 'blue', url: '/rooms/blue/events?x=1' });
    await stream.close();
  });

  test('it is a route’s handler as well, after others, with the parameters of the route', async () => {
    const events = sse((conn, req) => {
      conn.push(req.params.room as string);
      conn.close();
    });
    const { url } = await serve((app) => {
      app.get('/rooms/:room/events', (_req, res, next) => res.set('X-Before', 'yes') && next(), events);
      app.all('/all/:room', events);
      app.route('/route/:room').get(events);
    }, make);
    for (const path of ['/rooms/blue/events', '/all/blue', '/route/blue', '/route/blue?x=1']) {
      const stream = await connect(url + path);
      expect([path, (await stream.next()).data]).toEqual([path, 'blue']);
      if (path.startsWith('/rooms')) expect(stream.headers['x-before']).toBe('yes');
      await stream.close();
    }
    expect((await ask(`${url}/rooms/blue/events`, { method: 'HEAD' })).status).toBe(200);
    expect((await ask(`${url}/all/blue`, { method: 'DELETE' })).status).toBe(405);
    expect((await ask(`${url}/rooms/blue/other`)).status).toBe(404);
  });

  test('FL-15 mounted twice it has one registry; two of them have two', async () => {
    const [one, two] = [sse(), sse()];
    const { url } = await serve((app) => {
      app.use('/a', one);
      app.use('/b', one);
      app.use('/c', two);
    }, make);
    const streams = await Promise.all(['/a', '/b', '/c'].map((path) => connect(url + path)));
    expect([one.size, two.size]).toEqual([2, 1]);
    await one.broadcast('for one');
    expect((await streams[0]!.take(2))[1]!.data).toBe('for one'); // after the checkpoint
    expect((await streams[1]!.take(2))[1]!.data).toBe('for one');
    await two.broadcast('for two');
    expect((await streams[2]!.take(2))[1]!.data).toBe('for two');
    await Promise.all(streams.map((stream) => stream.close()));
  });

  test.each<[string, AnyHandler]>([
    ['sent headers', (_conn, _req, res) => res.flushHeaders()],
    ['ended the answer', (_conn, _req, res) => void res.end('done')],
  ])('HTTP-15 middleware before that has %s: an error to Express, no crash', async (_what, before) => {
    const said = jest.fn();
    const events = sse((conn) => void conn.push('never'));
    const { url } = await serve((app) => {
      app.use((req, res, next) => {
        before(undefined as never, req, res);
        next();
      });
      app.use('/events', events);
      app.use(((error, _req, res, _next) => {
        said(error);
        res.end();
      }) as import('express').ErrorRequestHandler);
    }, make);
    await ask(`${url}/events`);
    expect(said).toHaveBeenCalledTimes(1);
    expect(said).toHaveBeenCalledWith(expect.objectContaining({ code: 'ERR_SSE_HEADERS_SENT' }));
    expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
  });

  test('HTTP-16 a server’s time limit for silent sockets does not end a stream, and is back for the next request', async () => {
    const { server, port, events } = await routed();
    server.setTimeout(120);
    const raw = new Raw(port).get('/events');
    await eventually(() => events.size === 1);
    await pause(300); // the time in which it must not happen
    expect(raw.ended).toBe(false);
    const [conn] = events.connections;
    conn!.close();
    await raw.until('0\r\n\r\n');
    const start = clock();
    raw.get('/never');
    await raw.closed;
    expect(clock() - start).toBeLessThan(1000);
  });

  test('LIM-11 the server’s own limits are not touched: a head that is too large is still refused', async () => {
    const { server, port, events } = await routed((conn) => void conn.push('open'));
    const limits = (): unknown[] => [
      server.headersTimeout,
      server.requestTimeout,
      server.keepAliveTimeout,
      server.timeout,
    ];
    const before = limits();
    const raw = new Raw(port).get('/events');
    await raw.until('data: open');
    expect(limits()).toEqual(before);
    await new Raw(port).get('/events', `Last-Event-ID: ${'x'.repeat(20_000)}`).until('HTTP/1.1 431 ');
    expect(events.size).toBe(1);
  });

  test('HTTP-19 Expect: 100-continue', async () => {
    const { port } = await routed((conn) => void conn.push('a'));
    const raw = new Raw(port).get('/events', 'Expect: 100-continue');
    await raw.until('data: a\n\n');
    expect(raw.text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  });

  test('HTTP-20 a GET whose body does not end streams, and leaves nothing', async () => {
    const { port, events } = await routed((conn) => void conn.push('a'));
    const raw = new Raw(port).get('/events', 'Content-Length: 100').send('half');
    await raw.until('data: a\n\n');
    expect(events.size).toBe(1);
    raw.socket.destroy();
    await eventually(() => events.size === 0);
    expect(events.stats().closed.client).toBe(1);
  });

  test('HTTP-21 small events do not wait for one another', async () => {
    const { port, events } = await routed();
    const raw = new Raw(port).get('/events');
    await eventually(() => events.size === 1);
    const [conn] = events.connections;
    const waits: number[] = [];
    for (let n = 0; n < 30; n++) {
      const start = clock();
      conn!.push(`#${n}`);
      await raw.until(`data: #${n}\n\n`);
      waits.push(clock() - start);
      await pause(5);
    }
    expect(waits.toSorted((a, b) => a - b)[15]).toBeLessThan(20); // Nagle and a delayed ACK would make it 40
  });

  test('HTTP-22 nosniff is left to helmet', async () => {
    const { url } = await routed();
    const stream = await connect(`${url}/events`);
    expect(stream.headers).not.toHaveProperty('x-content-type-options');
    await stream.close();
  });

  describe('pipelining', () => {
    test('a request behind an open stream is sent away, and never had a place', async () => {
      const { port, events } = await routed();
      const raw = new Raw(port).send('GET /events HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(3));
      await eventually(() => events.size === 1);
      await events.broadcast('a');
      await raw.until('data: a\n\n');
      expect(calls).toHaveLength(1);
      expect(events.stats()).toMatchObject({ connections: 1, connecting: 0, opened: 1 });
      const [conn] = events.connections;
      conn!.close();
      await raw.until(new RegExp(`${AWAY.source}.*${AWAY.source}`, 's'));
      expect(calls).toHaveLength(1);
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 1 });
    });

    test('a request behind a handler that has not opened its stream yet is sent away, too', async () => {
      let go!: () => void;
      const { port, events } = await routed(() => new Promise<void>((resolve) => (go = resolve)));
      const raw = new Raw(port).get('/events').get('/events');
      await eventually(() => events.stats().connecting === 1);
      go();
      await raw.until(':\n');
      expect(calls).toHaveLength(1);
      raw.socket.destroy();
      await eventually(() => events.size === 0);
    });

    /** A router behind a route that answers when it is told to. */
    async function behindShort(handler: AnyHandler) {
      let answer!: () => void;
      const events = sse((conn, req, res) => void handler(conn, req, res));
      later(() => events.close());
      const { port } = await serve((app) => {
        app.get('/short', (_req, res) => void (answer = () => void res.send('short')));
        app.use('/events', events);
      }, make);
      const raw = new Raw(port).get('/short').get('/events');
      await eventually(() => events.stats().connecting + events.size === 1);
      return { events, raw, answer };
    }

    test('a request behind a short answer waits for its turn, and loses nothing', async () => {
      const { events, raw, answer } = await behindShort((conn) => void conn.push('early'));
      await events.broadcast('one');
      await pause(20);
      expect(raw.text).toBe('');
      answer();
      await raw.until('data: one\n\n');
      expect(raw.text).toMatch(/short.*HTTP\/1\.1 200 OK.*\n\r\n?.*data: early\n\n.*data: one\n\n/s);
      await events.broadcast('two');
      await raw.until('data: two\n\n');
      raw.socket.destroy();
      await eventually(() => events.size === 0);
    });

    test('a client that leaves while its request waits is gone, and is told nothing more', async () => {
      let signal!: AbortSignal;
      const { events, raw } = await behindShort((conn) => void ({ signal } = conn));
      await eventually(() => events.size === 1);
      raw.socket.resetAndDestroy();
      await eventually(() => events.size === 0);
      expect(signal.reason).toBe('client');
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, behind: 0 });
    });
  });

  test('a kept socket serves other requests, and other streams, after a stream', async () => {
    const { port, events } = await routed((conn) => void conn.push('hi'));
    const raw = new Raw(port);
    for (let round = 1; round <= 12; round++) {
      raw.chunks.length = 0;
      raw.get('/events');
      await raw.until('data: hi\n\n');
      const [conn] = events.connections;
      expect(events.size).toBe(1);
      conn!.close({ retry: 7 });
      await raw.until(/retry: 7\n\r\n0\r\n\r\n$/);
      raw.get('/hello');
      await raw.until('hello');
    }
    const { socket } = calls[0]!;
    expect(calls).toHaveLength(12);
    for (const event of ['close', 'drain', 'error', 'data', 'end']) {
      expect(socket.listenerCount(event)).toBeLessThan(6); // they do not pile up
    }
  });
});
