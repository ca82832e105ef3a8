import type { Request } from 'express';
import { memoryJournal, sse, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { type AnyHandler, EXPRESSES, later } from '../fixtures/support.ts';
import { ask, clock, eventually, pause, Raw, serve, type Site } from '../fixtures/http.ts';

const RETRY_LATER = /HTTP\/1\.1 200 OK\r\n(?:(?!HTTP).)*text\/event-stream(?:(?!HTTP).)*\nretry: \d+\n/s;

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

  test('GET opens a stream with one content type, in lower case', async () => {
    const { url } = await routed();
    const stream = await connect(`${url}/events`);
    expect(stream.status).toBe(200);
    expect(stream.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    await stream.close();
  });

  test('the head and the first bytes of the body arrive at once, in one piece, without any push', async () => {
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

  test('the stream of a handler that does not settle opens after one heartbeat interval', async () => {
    const { url, events } = await routed(() => new Promise(() => {}), { heartbeat: 50 });
    const opening = connect(`${url}/events`);
    await eventually(() => events.stats().connecting === 1);
    expect(events.size).toBe(0);
    const stream = await opening;
    expect(events.size).toBe(1);
    await stream.close();
  });

  test('no header of the stream describes a body of fixed content', async () => {
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
    'HTTP/1.0 %j: the body has no chunks, and ends with the connection',
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

  test('HEAD gets the headers of GET and ends; it runs no handler and counts in no limit', async () => {
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

  test('HEAD of a client that has ended gets the 204 of GET', async () => {
    const { url } = await routed();
    const headers = { 'last-event-id': 'sse-router:end' };
    for (const method of ['GET', 'HEAD']) expect((await ask(`${url}/events`, { method, headers })).status).toBe(204);
  });

  test.each(['POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND'])('%s gets 405 with the allowed methods', async (method) => {
    const { url, events } = await routed();
    const answer = await ask(`${url}/events`, { method });
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('GET, HEAD, OPTIONS');
    expect(answer.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(answer.headers.get('cache-control')).toBe('no-store'); // not the value of the streams
    expect(answer.text).toBe(`${method} is not allowed here. The allowed methods are GET, HEAD, OPTIONS.\n`);
    expect(calls).toHaveLength(0);
    expect(events.stats()).toMatchObject({ opened: 0, connecting: 0 });
  });

  test.each([
    [['GET', 'POST'], { GET: 200, HEAD: 200, POST: 200, PUT: 405 }, 'GET, HEAD, POST, OPTIONS'],
    [['POST'], { GET: 405, HEAD: 405, POST: 200, PUT: 405 }, 'POST, OPTIONS'],
    [['GET'], { GET: 200, HEAD: 200, POST: 405, PUT: 405 }, 'GET, HEAD, OPTIONS'],
  ] as const)('the option methods: %j', async (methods, statuses, allow) => {
    const { url } = await routed((conn) => conn.close(), { methods });
    for (const [method, status] of Object.entries(statuses)) {
      const answer = await ask(`${url}/events`, { method });
      expect([method, answer.status]).toEqual([method, status]);
      expect(answer.headers.get('allow')).toBe(status === 405 ? allow : null);
    }
    expect((await ask(`${url}/events`, { method: 'OPTIONS' })).headers.get('allow')).toBe(allow);
  });

  test('OPTIONS without cors gets 204 with Allow', async () => {
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
  ])('Accept: %s gets a stream', async (accept) => {
    const { url } = await routed();
    const stream = await connect(`${url}/events`, undefined, { headers: { accept } });
    expect(stream.status).toBe(200);
    await stream.close();
  });

  test.each(['application/json', 'text/event-stream;q=0', 'text/html, image/*', 'text/event-stream;q=0, */*'])(
    'Accept: %s gets 406',
    async (accept) => {
      const { url, events } = await routed();
      const answer = await ask(`${url}/events`, { headers: { accept } });
      expect(answer.status).toBe(406);
      expect(answer.text).toContain('text/event-stream');
      expect(calls).toHaveLength(0);
      expect(events.stats().opened).toBe(0);
    },
  );

  test('the router answers on its exact path only', async () => {
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

  test('the router answers a request target with a host, as a proxy receives it', async () => {
    const { port } = await routed((conn, req) => void conn.push(conn.lastEventId, String(req.query.x)));
    await new Raw(port).get('http://localhost/events?x=1&lastEventId=mine').until('data: mine\ndata: 1\n\n');
    await new Raw(port).get('http://localhost/events').until('data: \ndata: undefined\n\n');
    await new Raw(port).get('http://localhost/events/other').until('HTTP/1.1 404 ');
  });

  test('a request for a longer path falls through to the next handler', async () => {
    const { url } = await serve((app) => {
      app.use('/events', sse());
      app.get('/events/count', (_req, res) => void res.send('7'));
    }, make);
    expect((await ask(`${url}/events/count`)).text).toBe('7');
  });

  test('the parameters of the mount path are visible', async () => {
    const events = sse((conn, req) => {
      conn.push({ event: 'where', data: { ...req.params, url: req.originalUrl } });
      conn.close();
    });
    const { url } = await serve((app) => app.use('/rooms/:room/events', events), make);
    const stream = await connect(`${url}/rooms/blue/events?x=1`);
    expect((await stream.next()).json).toEqual({ room: 'blue', url: '/rooms/blue/events?x=1' });
    await stream.close();
  });

  test('the router is also a handler of a route, after other handlers and with the parameters of the route', async () => {
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

  test('a router that is mounted twice has one registry; two routers have two', async () => {
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
    ['has sent the headers', (_conn, _req, res) => res.flushHeaders()],
    ['has ended the answer', (_conn, _req, res) => void res.end('done')],
  ])('middleware in front that %s causes an error in Express, and no crash', async (_what, before) => {
    const onError = jest.fn();
    const events = sse((conn) => void conn.push('never'));
    const { url } = await serve((app) => {
      app.use((req, res, next) => {
        before(undefined as never, req, res);
        next();
      });
      app.use('/events', events);
      app.use(((error, _req, res, _next) => {
        onError(error);
        res.end();
      }) as import('express').ErrorRequestHandler);
    }, make);
    await ask(`${url}/events`);
    expect(onError).toHaveBeenCalledTimes(1);
    expect(onError).toHaveBeenCalledWith(expect.objectContaining({ code: 'ERR_SSE_HEADERS_SENT' }));
    expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
  });

  test('the server’s timeout for idle sockets does not end a stream, and applies to the next request again', async () => {
    const { server, port, events } = await routed();
    server.setTimeout(120);
    const raw = new Raw(port).get('/events');
    await eventually(() => events.size === 1);
    await pause(300); // the stream must not end in this time
    expect(raw.ended).toBe(false);
    const [conn] = events.connections;
    conn!.close();
    await raw.until('0\r\n\r\n');
    const start = clock();
    raw.get('/never');
    await raw.closed;
    expect(clock() - start).toBeLessThan(1000);
  });

  test('the limits of the server stay as they are: a head that is too large is still refused', async () => {
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

  test('Expect: 100-continue gets 100, then the stream', async () => {
    const { port } = await routed((conn) => void conn.push('a'));
    const raw = new Raw(port).get('/events', 'Expect: 100-continue');
    await raw.until('data: a\n\n');
    expect(raw.text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  });

  test('a GET with an incomplete body gets a stream, and its connection is removed afterwards', async () => {
    const { port, events } = await routed((conn) => void conn.push('a'));
    const raw = new Raw(port).get('/events', 'Content-Length: 100').send('half');
    await raw.until('data: a\n\n');
    expect(events.size).toBe(1);
    raw.socket.destroy();
    await eventually(() => events.size === 0);
    expect(events.stats().closed.client).toBe(1);
  });

  test('small events do not wait for each other', async () => {
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
    expect(waits.toSorted((a, b) => a - b)[15]).toBeLessThan(20); // with Nagle’s algorithm and delayed ACKs it would be 40 ms
  });

  test('the router does not set X-Content-Type-Options, which is the task of helmet', async () => {
    const { url } = await routed();
    const stream = await connect(`${url}/events`);
    expect(stream.headers).not.toHaveProperty('x-content-type-options');
    await stream.close();
  });

  describe('pipelining', () => {
    test('a request behind an open stream is answered with a retry delay, and is never registered', async () => {
      const { port, events } = await routed();
      const raw = new Raw(port).send('GET /events HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(3));
      await eventually(() => events.size === 1);
      await events.broadcast('a');
      await raw.until('data: a\n\n');
      expect(calls).toHaveLength(1);
      expect(events.stats()).toMatchObject({ connections: 1, connecting: 0, opened: 1 });
      const [conn] = events.connections;
      conn!.close();
      await raw.until(new RegExp(`${RETRY_LATER.source}.*${RETRY_LATER.source}`, 's'));
      expect(calls).toHaveLength(1);
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 1 });
    });

    test('a request behind a connection that is still connecting is answered with a retry delay, too', async () => {
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

    /** Sends a request to a route, which answers when `answer` is called, and behind it one to the router. */
    async function behindShortAnswer(handler: AnyHandler) {
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

    test('a request behind a short answer waits for that answer, and loses no event', async () => {
      const { events, raw, answer } = await behindShortAnswer((conn) => void conn.push('early'));
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

    test('a client that disconnects while its request waits is removed', async () => {
      let signal!: AbortSignal;
      const { events, raw } = await behindShortAnswer((conn) => void ({ signal } = conn));
      await eventually(() => events.size === 1);
      raw.socket.resetAndDestroy();
      await eventually(() => events.size === 0);
      expect(signal.reason).toBe('client');
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, behind: 0 });
    });
  });

  test('a socket that is kept alive serves requests and streams after a stream', async () => {
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
      expect(socket.listenerCount(event)).toBeLessThan(6); // no listener of an earlier request is left
    }
  });
});

describe('before the journal is open', () => {
  async function unopened(limits: SseOptions['limits'] = {}): Promise<Site & { events: SseRouter; open: () => void }> {
    const journal = memoryJournal();
    const open = journal.open.bind(journal);
    let resume = (): void => {};
    journal.open = async () => {
      await new Promise<void>((resolve) => (resume = resolve));
      await open();
    };
    const events = sse(() => {}, { history: journal, limits, methods: ['GET', 'POST'] });
    later(() => events.close());
    const site = await serve((app) => app.use('/events', events));
    return { ...site, events, open: () => resume() };
  }

  test('a request that waits has a place within the limits, until its client disconnects', async () => {
    const { port, events, open } = await unopened({ connections: 2 });
    const waiting = [new Raw(port).get('/events'), new Raw(port).get('/events')];
    await pause(50);
    const third = new Raw(port).get('/events');
    await third.until(RETRY_LATER);
    expect(events.stats().refused.connections).toBe(1);
    waiting[0]!.socket.destroy();
    await pause(50);
    const fourth = new Raw(port).get('/events');
    await pause(50);
    expect([waiting[1]!.text, fourth.text]).toEqual(['', '']);
    open();
    await Promise.all([waiting[1]!.until('retry: '), fourth.until('retry: ')]);
    expect(events.size).toBe(2);
  });

  test('close() answers the requests that wait, and settles', async () => {
    const { port, events } = await unopened();
    const get = new Raw(port).get('/events');
    const post = new Raw(port).send('POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    await pause(50);
    await events.close();
    await get.until(RETRY_LATER);
    await post.until(/^HTTP\/1\.1 503 [^]*\r\nRetry-After: \d\r\n/i);
  });

  test('a journal that fails to open at each attempt is reported once, until its cause changes', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    const journal = memoryJournal();
    let cause = 'wrong password';
    let attempts = 0;
    journal.open = async () => {
      attempts++;
      throw new Error(cause);
    };
    const errors: unknown[] = [];
    const events = sse({ history: journal, onError: (error) => void errors.push(error) });
    later(() => events.close());
    await jest.advanceTimersByTimeAsync(20_000);
    expect(attempts).toBeGreaterThan(5);
    expect(errors.map(String)).toEqual(['Error: wrong password']);
    cause = 'no permission';
    await jest.advanceTimersByTimeAsync(20_000);
    expect(errors.map(String)).toEqual(['Error: wrong password', 'Error: no permission']);
    jest.useRealTimers();
  });
});
