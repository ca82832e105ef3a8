import { createServer } from 'node:http';
import type { ErrorRequestHandler, Request, Response } from 'express';
import corsPackage from 'cors';
import { sse, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { type AnyHandler, codeOf, EXPRESSES, later } from '../fixtures/support.ts';
import { ask, eventually, type Init, listen, Raw, serve, type Site } from '../fixtures/http.ts';

const A = 'https://a.example';

/** Returns the headers that start with Access-Control-. */
function allowed(headers: Headers): Record<string, string> {
  return Object.fromEntries([...headers].filter(([name]) => name.startsWith('access-control-')));
}

describe.each(EXPRESSES)('%s', (_, make) => {
  let calls = 0;
  beforeEach(() => (calls = 0));

  async function routed(
    cors: SseOptions['cors'],
    options: SseOptions = {},
    handler: AnyHandler = (conn) => conn.close(),
    around: (app: import('express').Express) => void = () => {},
  ): Promise<Site & { events: SseRouter; at: string }> {
    const events = sse(
      (conn, req, res) => {
        calls++;
        return handler(conn, req, res) as void;
      },
      { ...options, cors },
    );
    later(() => events.close());
    const site = await serve((app) => {
      around(app);
      app.use('/events', events);
      app.use(((error, _req, res, _next) => void res.status(500).send(String(error.message))) as ErrorRequestHandler);
    }, make);
    return { ...site, events, at: `${site.url}/events` };
  }

  const from = (origin: string, more: Record<string, string> = {}): Init => ({ headers: { origin, ...more } });

  function preflight(origin: string, headers = 'last-event-id', method = 'GET'): Init {
    return {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': method, 'access-control-request-headers': headers },
    };
  }

  test.each([[undefined], [false]])('cors: %s sends no CORS header, and refuses no origin', async (cors) => {
    const { at } = await routed(cors);
    for (const origin of [A, 'null', 'http://127.0.0.1']) {
      const answer = await ask(at, from(origin));
      expect(answer.status).toBe(200);
      expect(allowed(answer.headers)).toEqual({});
    }
    expect(allowed((await ask(at, preflight(A))).headers)).toEqual({});
  });

  const rules: [name: string, origin: NonNullable<Exclude<SseOptions['cors'], boolean>>['origin']][] = [
    ['a string', A],
    ['a list', ['https://b.example', A]],
    ['a pattern', /^https:\/\/a\.example$/],
    ['a pattern with state (the flag g)', /^https:\/\/a\.example$/g],
    ['a list with a pattern', [/^https:\/\/a\.example$/]],
    ['a function', (origin, answer) => answer(null, origin === A)],
    ['an asynchronous function', (origin, answer) => setImmediate(answer, null, origin === A ? A : false)],
  ];

  describe.each(rules)('origin: %s', (_name, origin) => {
    test('an allowed origin is named in the answer', async () => {
      const { at } = await routed({ origin });
      for (let round = 0; round < 2; round++) {
        const answer = await ask(at, from(A));
        expect(answer.status).toBe(200);
        expect(allowed(answer.headers)).toEqual({ 'access-control-allow-origin': A });
        expect(answer.headers.get('vary')).toBe('Origin');
      }
    });

    test('every other origin gets 403 before the handler runs, and counts in no limit', async () => {
      const { at, port, events } = await routed({ origin, credentials: true }, { limits: { connections: 1 } });
      const foreign = [
        'https://a.example.evil.com',
        'https://evil-a.example',
        'http://a.example',
        'https://a.example:8443',
        'https://A.EXAMPLE',
        'https://a.example.',
        'https://a.example/',
        'https://sub.a.example',
        'https://a.example@evil.com',
        'null',
        'nonsense',
      ];
      for (const other of foreign) {
        const answer = await ask(at, from(other, { cookie: 'sid=1' }));
        expect([other, answer.status]).toEqual([other, 403]);
        expect(answer.headers.get('access-control-allow-origin')).toBeNull();
        expect(answer.headers.get('vary')).toBe('Origin');
        expect(answer.text).not.toContain(other);
      }
      for (const lines of [
        [`Origin: ${A}`, 'Origin: https://evil.example'],
        [`Origin: https://evil.example`, `Origin: ${A}`],
        [`Origin: ${A}\rX-A: 1`],
        [`Origin: ${A}, https://evil.example`],
      ]) {
        const raw = new Raw(port).get('/events', ...lines, 'Connection: close');
        await raw.closed;
        expect(raw.text).toMatch(/^HTTP\/1\.1 40[03] /);
        expect(raw.text).not.toMatch(/access-control-allow-origin/i);
      }
      expect(calls).toBe(0);
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0, refused: { connections: 0 } });
    });

    test('every answer has Vary: Origin', async () => {
      const { at } = await routed({ origin });
      for (const init of [
        {},
        from(A),
        from('https://b.invalid'),
        preflight(A),
        preflight('https://b.invalid'),
        { method: 'PUT' },
        { headers: { accept: 'text/html' } },
        { method: 'HEAD' },
        { method: 'OPTIONS' },
      ]) {
        const answer = await ask(at, init);
        expect([init, answer.headers.get('vary')]).toEqual([init, expect.stringMatching(/(^|, )Origin(,|$)/)]);
      }
    });

    test('a preflight of a foreign origin gets no CORS header', async () => {
      const { at, events } = await routed({ origin, credentials: true });
      const answer = await ask(at, preflight('https://evil.example'));
      expect(answer.status).toBe(403);
      expect(allowed(answer.headers)).toEqual({});
      expect(calls).toBe(0);
      expect(events.stats().opened).toBe(0);
    });
  });

  test.each([[true], [{}], [{ origin: '*' }], [{ origin: true }]])(
    'cors: %j allows every origin, without credentials',
    async (cors) => {
      const { at } = await routed(cors);
      for (const origin of [A, 'https://b.example', 'null']) {
        const answer = await ask(at, from(origin));
        expect(answer.status).toBe(200);
        const reflected = typeof cors === 'object' && 'origin' in cors && cors.origin === true;
        expect(allowed(answer.headers)).toEqual({ 'access-control-allow-origin': reflected ? origin : '*' });
        if (reflected) expect(answer.headers.get('vary')).toBe('Origin');
      }
    },
  );

  test('with credentials the header is exactly `true`; without, it is absent', async () => {
    const answers = await Promise.all(
      [{ origin: A, credentials: true }, { origin: A, credentials: false }, { origin: A }].map(async (cors) => {
        const { at } = await routed(cors);
        return (await ask(at, from(A))).headers.get('access-control-allow-credentials');
      }),
    );
    expect(answers).toEqual(['true', null, null]);
  });

  test.each<[name: string, options: corsPackage.CorsOptions | undefined]>([
    ['cors()', undefined],
    ['cors() that reflects the origin, with credentials', { origin: true, credentials: true }],
  ])('%s in front: the header has one value, the router’s', async (_name, options) => {
    const { at } = await routed({ origin: A }, {}, undefined, (app) => app.use(corsPackage(options)));
    const answer = await ask(at, from(A));
    expect(answer.status).toBe(200);
    expect(answer.headers.get('access-control-allow-origin')).toBe(A);
    const foreign = await ask(at, from('https://evil.example'));
    expect(foreign.status).toBe(403);
    expect(foreign.headers.get('access-control-allow-origin')).toBeNull();
  });

  describe('preflight', () => {
    test.each(['last-event-id', 'cache-control,last-event-id,x-requested-with', 'authorization', 'x-own'])(
      'for the header %s',
      async (headers) => {
        const { at, events } = await routed({ origin: A, credentials: true });
        const answer = await ask(at, preflight(A, headers));
        expect(answer).toMatchObject({ status: 204, text: '' });
        expect(allowed(answer.headers)).toEqual({
          'access-control-allow-origin': A,
          'access-control-allow-credentials': 'true',
          'access-control-allow-methods': 'GET',
          'access-control-allow-headers': headers,
          'access-control-max-age': '600',
        });
        expect(answer.headers.get('vary')).toBe('Origin, Access-Control-Request-Headers');
        expect(calls).toBe(0);
        expect(events.stats()).toMatchObject({ opened: 0, connecting: 0 });
      },
    );

    test('the options of the `cors` package narrow and extend the answer', async () => {
      const { at } = await routed(
        { origin: A, allowedHeaders: ['Authorization'], exposedHeaders: ['X-A'], maxAge: 5, optionsSuccessStatus: 200 },
        { methods: ['GET', 'POST'] },
      );
      const answer = await ask(at, preflight(A, 'x-other', 'POST'));
      expect(answer.status).toBe(200);
      expect(allowed(answer.headers)).toMatchObject({
        'access-control-allow-headers': 'Authorization',
        'access-control-allow-methods': 'GET,POST',
        'access-control-max-age': '5',
      });
      expect((await ask(at, from(A))).headers.get('access-control-expose-headers')).toBe('X-A');
    });

    test('with preflightContinue the next handler answers', async () => {
      const { at } = await routed({ origin: A, preflightContinue: true });
      const answer = await ask(at, preflight(A));
      expect(answer.status).toBe(404);
      expect(answer.headers.get('access-control-allow-origin')).toBe(A);
      expect(calls).toBe(0);
    });

    test('for a method that opens no stream, the allowed methods exclude it', async () => {
      const { at } = await routed({ origin: A });
      const answer = await ask(at, preflight(A, 'last-event-id', 'POST'));
      expect(answer.headers.get('access-control-allow-methods')).toBe('GET');
    });
  });

  test.each<[name: string, status: number, init: Init, options: SseOptions, handler: AnyHandler]>([
    ['401 of the handler', 401, {}, {}, (_conn, _req, res) => void res.sendStatus(401)],
    ['405', 405, { method: 'PUT' }, {}, () => {}],
    ['406', 406, { headers: { accept: 'text/html' } }, {}, () => {}],
    [
      '500',
      500,
      {},
      {},
      () => {
        throw new Error('no');
      },
    ],
    ['503', 503, {}, { limits: { connections: 1, whenFull: 'reject' } }, () => {}],
    ['200 with a retry delay', 200, {}, { limits: { connections: 1 } }, () => {}],
  ])('an allowed origin can read a %s', async (name, status, init, options, handler) => {
    const { at, events } = await routed({ origin: A, credentials: true }, options, handler);
    const holder = options.limits && (await connect(at));
    if (holder) await eventually(() => events.size === 1);
    const answer = await ask(at, { ...init, headers: { ...init.headers, origin: A } });
    expect([name, answer.status]).toEqual([name, status]);
    expect(allowed(answer.headers)).toMatchObject({
      'access-control-allow-origin': A,
      'access-control-allow-credentials': 'true',
    });
    await holder?.close();
  });

  test('CORS by the option headers alone', async () => {
    const headers = { 'Access-Control-Allow-Origin': A, 'Access-Control-Allow-Credentials': 'true' };
    const { at } = await routed(undefined, { headers });
    for (const origin of [A, 'https://b.example']) {
      const answer = await ask(at, from(origin));
      expect(answer.status).toBe(200);
      expect(allowed(answer.headers)).toEqual({
        'access-control-allow-origin': A,
        'access-control-allow-credentials': 'true',
      });
    }
  });

  describe('the same origin', () => {
    test.each<[name: string, headers: (host: string) => Record<string, string>, status: number]>([
      ['no Origin', () => ({}), 200],
      ['the host of the request', (host) => ({ origin: `http://${host}` }), 200],
      ['the host of the request, with TLS that a proxy terminates', (host) => ({ origin: `https://${host}` }), 200],
      ['another port of the host', () => ({ origin: 'http://127.0.0.1:1' }), 403],
      ['another host', () => ({ origin: 'http://localhost' }), 403],
      ['Sec-Fetch-Site: same-origin', () => ({ origin: 'https://x.example', 'sec-fetch-site': 'same-origin' }), 200],
      ['Sec-Fetch-Site: same-site', (host) => ({ origin: `http://${host}`, 'sec-fetch-site': 'same-site' }), 403],
      ['Sec-Fetch-Site: cross-site', (host) => ({ origin: `http://${host}`, 'sec-fetch-site': 'cross-site' }), 403],
      [
        'the forwarded host of an untrusted proxy',
        () => ({ origin: 'https://x.example', 'x-forwarded-host': 'x.example' }),
        403,
      ],
    ])('%s', async (_name, headers, status) => {
      const { at, port } = await routed({ origin: A });
      const stream = await connect(at, undefined, { headers: headers(`127.0.0.1:${port}`) });
      expect(stream.status).toBe(status);
      await stream.close();
    });

    test('with origin: false, only the same origin gets a stream', async () => {
      const { at, port } = await routed({ origin: false });
      for (const [origin, status] of [
        [`http://127.0.0.1:${port}`, 200],
        [A, 403],
        ['null', 403],
      ] as const)
        expect([origin, (await ask(at, from(origin))).status]).toEqual([origin, status]);
    });

    test('the forwarded host of a trusted proxy', async () => {
      const { at, port } = await routed({ origin: A }, {}, undefined, (app) => app.set('trust proxy', 'loopback'));
      const forwarded = { 'x-forwarded-host': 'x.example', 'x-forwarded-proto': 'https' };
      for (const [origin, status] of [
        ['https://x.example', 200],
        [`http://127.0.0.1:${port}`, 403],
      ] as const) {
        const stream = await connect(at, undefined, { headers: { origin, ...forwarded } });
        expect([origin, stream.status]).toEqual([origin, status]);
        await stream.close();
      }
    });
  });

  test.each([true, false])(
    'an origin function that answers %s after other code has answered the request changes nothing',
    async (is) => {
      let answerOrigin!: () => void;
      const { at, events } = await routed(
        { origin: (_origin, answer) => (answerOrigin = () => answer(null, is)) },
        {},
        undefined,
        (app) =>
          app.use((_req, res, next) => {
            next();
            res.status(503).send('too late');
          }),
      );
      const answer = await ask(at, from(A));
      expect(answer).toMatchObject({ status: 503, text: 'too late' });
      expect(answerOrigin).not.toThrow();
      expect(calls).toBe(0);
      expect(events.stats()).toMatchObject({ opened: 0, connecting: 0 });
    },
  );

  test.each<[name: string, origin: (origin: string | undefined, answer: (error: Error | null) => void) => void]>([
    ['answers with an error', (_origin, answer) => answer(new Error('no database'))],
    [
      'throws',
      () => {
        throw new Error('no database');
      },
    ],
  ])('an origin function that %s causes an error in Express, and no stream opens', async (_name, origin) => {
    const { at, events } = await routed({ origin });
    const answer = await ask(at, from(A));
    expect(answer).toMatchObject({ status: 500, text: 'no database' });
    expect(calls).toBe(0);
    expect(events.stats()).toMatchObject({ opened: 0, connecting: 0 });
  });
});

describe.each(EXPRESSES)('events.cors in front of authentication, %s', (_, make) => {
  async function guarded(cors: SseOptions['cors'], options: SseOptions = {}) {
    const events = sse((conn) => conn.close(), { ...options, cors });
    later(() => events.close());
    let asked = 0;
    const site = await serve((app) => {
      app.use('/events', events.cors, (req, res, next) => {
        asked++;
        if (req.headers.authorization === 'Bearer good') next();
        else res.set('WWW-Authenticate', 'Bearer').sendStatus(401);
      });
      app.use('/events', events);
      app.use(((error, _req, res, _next) => void res.status(500).send(String(error.message))) as ErrorRequestHandler);
    }, make);
    return { events, at: `${site.url}/events`, asked: () => asked };
  }
  const preflight = {
    'access-control-request-method': 'GET',
    'access-control-request-headers': 'authorization,last-event-id',
  };
  const good = { authorization: 'Bearer good' };
  const cors = { origin: [A], credentials: true };

  test('a preflight gets 204 without authentication', async () => {
    const { at, asked } = await guarded(cors);
    const answer = await ask(at, { method: 'OPTIONS', headers: { origin: A, ...preflight } });
    expect(answer.status).toBe(204);
    expect(allowed(answer.headers)).toEqual({
      'access-control-allow-origin': A,
      'access-control-allow-credentials': 'true',
      'access-control-allow-methods': 'GET',
      'access-control-allow-headers': 'authorization,last-event-id',
      'access-control-max-age': '600',
    });
    expect(asked()).toBe(0);
  });

  test('a 401 has the CORS headers, so that the page can read it', async () => {
    const { at, asked } = await guarded(cors);
    const answer = await ask(at, { headers: { origin: A } });
    expect(answer.status).toBe(401);
    expect(allowed(answer.headers)).toEqual({
      'access-control-allow-origin': A,
      'access-control-allow-credentials': 'true',
    });
    expect(answer.headers.get('vary')).toBe('Origin');
    expect(asked()).toBe(1);
  });

  test('a foreign origin gets 403 before authentication, for its preflight as well', async () => {
    const { at, events, asked } = await guarded(cors);
    const origin = 'https://b.example';
    for (const init of [{ headers: { origin, ...good } }, { method: 'OPTIONS', headers: { origin, ...preflight } }]) {
      const answer = await ask(at, init);
      expect(answer.status).toBe(403);
      expect(allowed(answer.headers)).toEqual({});
      expect(answer.text).toContain('trust proxy');
    }
    expect(asked()).toBe(0);
    expect(events.stats().opened).toBe(0);
  });

  test('an authenticated request gets the stream, with the CORS headers once', async () => {
    const { at, events } = await guarded(cors);
    const answer = await ask(at, { headers: { origin: A, ...good } });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(answer.headers.get('vary')).toBe('Origin');
    expect(answer.headers.get('access-control-allow-origin')).toBe(A);
    expect(events.stats().opened).toBe(1);
  });

  test('an origin function is called once for a request', async () => {
    const origin = jest.fn((_origin: unknown, answer: (error: null, is: boolean) => void) => {
      setImmediate(answer, null, true);
    });
    const { at } = await guarded({ origin: origin as never });
    for (let round = 1; round <= 3; round++) {
      expect((await ask(at, { headers: { origin: A, ...good } })).status).toBe(200);
      expect(origin).toHaveBeenCalledTimes(round);
    }
  });

  test('an origin function that fails is an error to Express', async () => {
    const { at, asked } = await guarded({ origin: (_origin, answer) => answer(new Error('no database')) });
    expect(await ask(at, { headers: { origin: A } })).toMatchObject({ status: 500, text: 'no database' });
    expect(asked()).toBe(0);
  });

  test('other requests go on: without an origin, OPTIONS that is no preflight, and all without the option', async () => {
    const { at } = await guarded(cors);
    expect((await ask(at)).status).toBe(401);
    expect((await ask(at, { headers: good })).status).toBe(200);
    expect((await ask(at, { method: 'OPTIONS', headers: { origin: A } })).status).toBe(401);
    const without = await guarded(false);
    const answer = await ask(without.at, { method: 'OPTIONS', headers: { origin: A, ...preflight } });
    expect([answer.status, allowed(answer.headers)]).toEqual([401, {}]);
    expect((await ask(without.at, { headers: { origin: A, ...good } })).status).toBe(200);
  });

  test('with `preflightContinue`, preflights go on to the middleware behind it', async () => {
    const { at, asked } = await guarded({ ...cors, preflightContinue: true });
    const answer = await ask(at, { method: 'OPTIONS', headers: { origin: A, ...preflight } });
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([401, A]);
    expect(asked()).toBe(1);
  });

  test('a response that has been sent goes on to the router, which reports it', async () => {
    const events = sse({ cors });
    later(() => events.close());
    const errors: unknown[] = [];
    const { url } = await serve((app) => {
      app.use((_req, res, next) => {
        res.sendStatus(204);
        next();
      });
      app.use('/events', events.cors, events);
      app.use(((error, _req, _res, _next) => void errors.push(error.code)) as ErrorRequestHandler);
    }, make);
    expect((await ask(`${url}/events`, { headers: { origin: A } })).status).toBe(204);
    expect(errors).toEqual(['ERR_SSE_HEADERS_SENT']);
  });
});

test('a router without an Express application trusts no proxy, and refuses a foreign origin', async () => {
  const events = sse((conn) => conn.close(), { cors: { origin: A } });
  later(() => events.close());
  const next = jest.fn();
  const { url } = await listen(createServer((req, res) => events(req as Request, res as Response, next)));
  const statuses = await Promise.all([A, 'https://b.example'].map((origin) => ask(url, { headers: { origin } })));
  expect(statuses.map(({ status }) => status)).toEqual([200, 403]);
  expect(next).not.toHaveBeenCalled();
});

test('a function that answers `*` allows every origin, but none with credentials', async () => {
  const origin = ((_origin, answer) => answer(null, '*')) as corsPackage.CorsOptions['origin'];
  const makers = [{ origin }, { origin, credentials: true }].map((cors) => sse((conn) => conn.close(), { cors }));
  later(() => Promise.all(makers.map((events) => events.close())));
  const { url } = await serve((app) => makers.forEach((events, n) => app.use(`/${n}`, events)));
  const [open, closed] = await Promise.all([0, 1].map((n) => ask(`${url}/${n}`, { headers: { origin: A } })));
  expect([open!.status, allowed(open!.headers)]).toEqual([200, { 'access-control-allow-origin': '*' }]);
  expect([closed!.status, allowed(closed!.headers)]).toEqual([403, {}]);
});

test.each<[name: string, cors: SseOptions['cors']]>([
  ['`*` with credentials', { origin: '*', credentials: true }],
  ['no origin with credentials', { credentials: true }],
  ['every origin with credentials', { origin: true, credentials: true }],
  ['a pattern that matches every origin, with credentials', { origin: /.*/, credentials: true }],
  ['such a pattern in a list, with credentials', { origin: [A, /^https?:/], credentials: true }],
  ['`*` in a list, with credentials', { origin: [A, '*'], credentials: true }],
  ['`null` with credentials', { origin: 'null', credentials: true }],
  ['`null` in a list, with credentials', { origin: [A, 'null'], credentials: true }],
])('%s: sse() throws, and the message contains the cure', (_name, cors) => {
  expect(codeOf(() => sse({ cors }))).toBe('ERR_SSE_CORS');
  expect(() => sse({ cors })).toThrow(/credentials.*origin: \['https:\/\/app\.example'\], credentials: true/);
});

test.each([{ origin: undefined }, { origin: [A, undefined] }])(
  'cors: %j, as of a variable that is missing, throws instead of allowing every origin',
  (cors) => {
    expect(codeOf(() => sse({ cors: cors as SseOptions['cors'] }))).toBe('ERR_SSE_CORS');
    expect(() => sse({ cors: cors as SseOptions['cors'] })).toThrow(/received undefined\. .*leave origin out/);
  },
);

test('`null` is allowed if it is listed, without credentials', async () => {
  const events = sse((conn) => conn.close(), { cors: { origin: ['null', A] } });
  later(() => events.close());
  const { url } = await serve((app) => app.use(events));
  const answer = await ask(url, { headers: { origin: 'null' } });
  expect(answer.status).toBe(200);
  expect(answer.headers.get('access-control-allow-origin')).toBe('null');
});

test.each(['file://', 'chrome-extension://abcdef', 'capacitor://localhost', 'app://.'])(
  'the origin %s of an application without a web server can be listed',
  async (origin) => {
    const events = sse((conn) => conn.close(), { cors: { origin: [origin], credentials: true } });
    later(() => events.close());
    const { url } = await serve((app) => app.use(events));
    const answer = await ask(url, { headers: { origin } });
    expect(answer.status).toBe(200);
    expect(allowed(answer.headers)).toEqual({
      'access-control-allow-origin': origin,
      'access-control-allow-credentials': 'true',
    });
    expect((await ask(url, { headers: { origin: 'null' } })).status).toBe(403);
  },
);

test.each(['file:', 'file:///', 'https://', 'https:///a.example', 'localhost:3000'])(
  'the origin %s is refused at once, with an example',
  (origin) => {
    expect(() => sse({ cors: { origin: [origin] } })).toThrow(/^cors\.origin must be an origin .* Write '/);
  },
);
