import type { ErrorRequestHandler, Request, Response } from 'express';
import { sse, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type TestStream } from '../../lib/testing/index.ts';
import { type AnyHandler, EXPRESSES, later } from '../fixtures/support.ts';
import { ask, eventually, serve, type Site } from '../fixtures/http.ts';

describe.each(EXPRESSES)('%s', (_, make) => {
  async function routed(
    options: SseOptions = {},
    before: (req: Request, res: Response) => unknown = () => {},
    handler?: AnyHandler,
  ): Promise<Site & { events: SseRouter }> {
    const events = sse(handler as never, options);
    later(() => events.close());
    const site = await serve((app) => {
      app.use((req, res, next) => {
        before(req, res);
        next();
      });
      app.use('/events', events);
      app.use(((error, _req, res, _next) => void res.status(500).send(String(error.message))) as ErrorRequestHandler);
    }, make);
    return { ...site, events };
  }

  async function headersOf(...how: Parameters<typeof routed>): Promise<TestStream['headers']> {
    const { url } = await routed(...how);
    const stream = await connect(`${url}/events`);
    later(() => stream.close());
    expect(stream.status).toBe(200);
    return stream.headers;
  }

  test('the default headers', async () => {
    const headers = await headersOf();
    expect(headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'private, no-cache, no-store, no-transform',
      'x-accel-buffering': 'no',
    });
    expect(Object.keys(headers).filter((name) => name.startsWith('access-control-'))).toEqual([]);
  });

  test('Connection, Keep-Alive and Transfer-Encoding are never set', async () => {
    let set!: jest.SpyInstance;
    await headersOf({}, (_req, res) => (set = jest.spyOn(res, 'setHeader')));
    const names = set.mock.calls.map(([name]) => (name as string).toLowerCase());
    expect(names).toContain('content-type');
    for (const name of ['connection', 'keep-alive', 'transfer-encoding']) expect(names).not.toContain(name);
  });

  test.each<[what: string, headers: SseOptions['headers'], expected: Record<string, unknown>]>([
    ['adds headers', { 'X-A': '1', 'x-b': '2' }, { 'x-a': '1', 'x-b': '2', 'x-accel-buffering': 'no' }],
    ['overrides a default', { 'Cache-Control': 'no-cache' }, { 'cache-control': 'no-cache' }],
    ['overrides a default in lower case', { 'cache-control': 'no-cache' }, { 'cache-control': 'no-cache' }],
    ['overrides a default in upper case', { 'X-ACCEL-BUFFERING': 'yes' }, { 'x-accel-buffering': 'yes' }],
    ['removes a default', { 'X-Accel-Buffering': undefined }, { 'x-accel-buffering': undefined }],
    ['removes a default in lower case', { 'x-accel-buffering': undefined }, { 'x-accel-buffering': undefined }],
    ['accepts lists', { 'Set-Cookie': ['a=1', 'b=2'] }, { 'set-cookie': ['a=1', 'b=2'] }],
    ['accepts Latin-1', { 'X-A': 'é' }, { 'x-a': 'é' }],
    ['uses the last of two spellings', { 'X-A': '1', 'x-a': '2' }, { 'x-a': '2' }],
    [
      'may be a function',
      (req) => ({ 'X-A': req.path, 'cache-control': 'no-store' }),
      { 'x-a': '/', 'cache-control': 'no-store' },
    ],
    ['may be a function that removes', () => ({ 'X-Accel-Buffering': undefined }), { 'x-accel-buffering': undefined }],
  ])('the option headers: %s', async (_what, headers, expected) => {
    const got = await headersOf({ headers });
    for (const [name, value] of Object.entries(expected)) expect([name, got[name]]).toEqual([name, value]);
    expect(got['content-type']).toBe('text/event-stream; charset=utf-8');
  });

  test('the option headers: a function is called for every request', async () => {
    const headers = jest.fn((req: Request) => ({ 'X-Query': req.query.n as string }));
    const { url } = await routed({ headers }, undefined, (conn) => conn.close());
    for (const n of ['1', '2']) expect((await ask(`${url}/events?n=${n}`)).headers.get('x-query')).toBe(n);
    expect(headers).toHaveBeenCalledTimes(2);
    expect((await ask(`${url}/events?n=3`, { method: 'HEAD' })).headers.get('x-query')).toBe('3');
  });

  test.each<[what: string, headers: () => never, text: string]>([
    [
      'throws',
      () => {
        throw new Error('no tenant');
      },
      'no tenant',
    ],
    [
      'returns what cannot be sent',
      () => ({ 'X-A': 'a\r\nX-B: b' }) as never,
      'headers["X-A"] must be a name and a value that HTTP allows',
    ],
    ['returns a string', () => 'X-A: 1' as never, 'an object of names and values'],
    ['returns nothing', () => undefined as never, 'an object of names and values'],
  ])(
    'the option headers: a function that %s causes an error in Express, and no connection is registered',
    async (_what, headers, text) => {
      const handler = jest.fn();
      const { url, events } = await routed({ headers }, undefined, handler);
      const answer = await ask(`${url}/events`);
      expect(answer.status).toBe(500);
      expect(answer.text).toContain(text);
      expect(handler).not.toHaveBeenCalled();
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
    },
  );

  test('headers of earlier middleware stay', async () => {
    const headers = await headersOf({}, (_req, res) => {
      res.set({ 'X-Request-Id': '7', 'Content-Security-Policy': "default-src 'self'" });
      res.append('Set-Cookie', 'a=1');
      res.append('Set-Cookie', 'b=2');
    });
    expect(headers).toMatchObject({
      'x-request-id': '7',
      'content-security-policy': "default-src 'self'",
      'set-cookie': ['a=1', 'b=2'],
    });
  });

  test.each<[before: string | string[] | undefined, option: string | string[], after: string]>([
    ['Cookie', 'Accept-Language', 'Cookie, Accept-Language'],
    ['Cookie, Origin', 'origin', 'Cookie, Origin'],
    [['Cookie', 'Origin'], ['X-A', 'cookie'], 'Cookie, Origin, X-A'],
    [undefined, 'X-A', 'X-A'],
  ])('Vary: %j of earlier middleware and then %j become %s', async (before, vary, after) => {
    const headers = await headersOf({ headers: { vary } }, (_req, res) => {
      if (before !== undefined) res.setHeader('Vary', before);
    });
    expect(headers.vary).toBe(after);
  });

  test('Vary: CORS appends to the existing value', async () => {
    const headers = await headersOf(
      { cors: { origin: ['https://a.example'] } },
      (_req, res) => void res.vary('Cookie'),
    );
    expect(headers.vary).toBe('Cookie, Origin');
  });

  test('headers that a handler sets before the opening are sent', async () => {
    const headers = await headersOf({}, undefined, async (_conn, _req, res) => {
      await Promise.resolve();
      res.cookie('seen', 'yes');
      res.set('X-User', '7');
    });
    expect(headers).toMatchObject({ 'set-cookie': ['seen=yes; Path=/'], 'x-user': '7' });
  });

  test.each<[what: string, handler: AnyHandler, status: number]>([
    ['answers 403', (_conn, _req, res) => void res.sendStatus(403), 403],
    ['answers with JSON', (_conn, _req, res) => void res.status(409).json({ error: 'no' }), 409],
    [
      'throws',
      () => {
        throw new Error('no');
      },
      500,
    ],
    [
      'pushes and throws',
      (conn) => {
        conn.push('never');
        throw new Error('no');
      },
      500,
    ],
    ['rejects', () => Promise.reject(new Error('no')), 500],
  ])(
    'an answer that is not a stream has none of the stream’s headers: a handler that %s',
    async (_what, handler, status) => {
      const { url, events } = await routed({ headers: { 'X-A': '1' } }, undefined, handler);
      const answer = await ask(`${url}/events`);
      expect(answer.status).toBe(status);
      for (const name of ['x-accel-buffering', 'cache-control', 'x-a'])
        expect([name, answer.headers.get(name)]).toEqual([name, null]);
      expect(answer.headers.get('content-type')).not.toContain('event-stream');
      expect(answer.text).not.toContain('data:');
      await eventually(() => events.stats().connecting === 0 && events.size === 0);
    },
  );
});
