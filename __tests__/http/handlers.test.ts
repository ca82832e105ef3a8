/*
 * What a handler may do before the stream opens, on Express 4 and 5, and where its errors go before and after the opening.
 * The bytes of the opening are in connection/opening.test.ts, generators in generators.test.ts.
 */
import { once } from 'node:events';
import express, { type NextFunction, type Request, type Response } from 'express';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import {
  another,
  type AnyHandler,
  appOf,
  BARE,
  dialled,
  EXPRESSES,
  fakeClock,
  gate,
  HEAD,
  later,
  listening,
  opened,
  overOf,
  tick,
} from '../fixtures/support.ts';

/** Returns an app with an error handler of its own, and the errors that this handler received. */
function appWithErrors(handler: AnyHandler, make = express, options: SseOptions = BARE) {
  const reported: unknown[] = [];
  const passed: unknown[] = [];
  const events = sse(handler as () => void, { onError: (error) => reported.push(error), ...options });
  later(() => events.close());
  const app = appOf(events, make);
  app.use((error: Error, _req: Request, res: Response, next: NextFunction) => {
    passed.push(error);
    if (res.headersSent) return next(error);
    res.status(500).type('text').send(`handled ${error.message}`);
  });
  return { app, events, passed, reported };
}

function expectNoConnection(events: SseRouter): void {
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, channels: 0 });
}

describe.each(EXPRESSES)('%s: before the opening', (_name, make) => {
  const boom = new Error('boom');

  test.each<[name: string, handler: AnyHandler]>([
    [
      'throws',
      () => {
        throw boom;
      },
    ],
    ['rejects', () => Promise.reject(boom)],
    [
      'rejects later',
      async () => {
        await tick();
        throw boom;
      },
    ],
    [
      'pushes and joins, and throws in the same tick',
      (conn) => {
        conn.join('room');
        conn.comment('hi');
        conn.push('discarded');
        throw boom;
      },
    ],
    [
      'opens and throws in the same tick',
      (conn) => {
        conn.open();
        throw boom;
      },
    ],
    [
      'closes and throws in the same tick',
      (conn) => {
        conn.push('x');
        conn.close();
        throw boom;
      },
    ],
    [
      'pushes and rejects in the same tick',
      async (conn) => {
        await Promise.resolve();
        conn.push('discarded');
        throw boom;
      },
    ],
    [
      'is a generator that throws at once',
      // oxlint-disable-next-line require-yield -- that is the case
      function* () {
        throw boom;
      },
    ],
    [
      'is an async generator that throws at once',
      // oxlint-disable-next-line require-yield -- that is the case
      async function* () {
        await tick();
        throw boom;
      },
    ],
    [
      'is a generator that throws in the tick of its first yield',
      function* () {
        yield 'discarded';
        throw boom;
      },
    ],
  ])(
    'a handler that %s before the opening: Express answers the error, and no connection is registered',
    async (_case, handler) => {
      const { app, events, passed, reported } = appWithErrors(handler, make);
      const stream = await another(app);
      expect(stream.status).toBe(500);
      expect(stream.headers['content-type']).toBe('text/plain; charset=utf-8');
      for (const name of ['cache-control', 'x-accel-buffering']) expect(stream.headers).not.toHaveProperty(name);
      expect(await stream.body()).toBe('handled boom');
      expect(passed).toEqual([boom]);
      expect(reported).toEqual([]);
      expectNoConnection(events);
    },
  );

  test('without an error handler of the app, Express answers 500', async () => {
    const events = sse(() => {
      throw boom;
    });
    later(() => events.close());
    const stream = await another(appOf(events, make));
    expect(stream.status).toBe(500);
    expect(stream.headers['content-type']).toContain('text/html');
  });

  // For Express, next() without an error means the next handler, which may be a page for every path.
  test.each<[how: string, handler: AnyHandler]>([
    ['rejects', () => Promise.reject()],
    [
      'throws',
      () => {
        throw null;
      },
    ],
  ])('a handler that %s without a value still causes an error', async (_how, handler) => {
    const { app, passed } = appWithErrors(handler, make);
    app.use((_req: Request, res: Response) => void res.send('the next one'));
    expect((await another(app)).status).toBe(500);
    expect(passed).toEqual([expect.any(Error)]);
  });

  test('bytes as the result of a handler are refused by their own name', async () => {
    const { app, passed } = appWithErrors(() => Buffer.from('x'), make);
    expect((await another(app)).status).toBe(500);
    expect(String(passed[0])).toContain(
      'The result of the handler must be a generator, an array or a readable stream; received',
    );
    expect(String(passed[0])).not.toContain('pushAll');
  });

  test('an error with a status is answered with this status', async () => {
    const events = sse(() => {
      throw Object.assign(new Error('unauthorized'), { status: 401 });
    });
    later(() => events.close());
    expect((await another(appOf(events, make))).status).toBe(401);
  });

  test.each<[name: string, handler: AnyHandler]>([
    ['at once', (_conn, _req, res) => res.sendStatus(403)],
    [
      'later',
      async (_conn, _req, res) => {
        await tick();
        res.sendStatus(403);
      },
    ],
    [
      'after a join and a push',
      (conn, _req, res) => {
        conn.join('room');
        conn.push('x');
        res.sendStatus(403);
      },
    ],
  ])('a handler may answer the request itself: %s', async (_case, handler) => {
    let conn!: Connection;
    const { app, events, passed } = appWithErrors((connection, req, res) => {
      conn = connection;
      return handler(connection, req, res);
    }, make);
    const stream = await another(app);
    expect(stream.status).toBe(403);
    expect(await stream.body()).toBe('Forbidden');
    expect(stream.headers).not.toHaveProperty('x-accel-buffering');
    await tick();
    expect(conn.readyState).toBe('closed');
    expect(conn.signal.reason).toBe('handler');
    expect(conn.push('late')).toBe(false);
    expect(passed).toEqual([]);
    expectNoConnection(events);
  });

  test('a handler that rejects after the opening: the stream ends, and contains nothing of the error', async () => {
    const { pass, fail } = gate();
    const { app, events, passed, reported } = appWithErrors(async (conn) => {
      conn.push('before');
      await pass;
    }, make);
    const stream = await another(app);
    await stream.next();
    const [conn] = events.connections;
    fail(boom);
    expect(await stream.body()).toBe(`${HEAD}data: before\n\n`);
    expect(passed).toEqual([]);
    expect(reported).toEqual([boom]);
    expect(conn!.signal.reason).toBe('error');
    expectNoConnection(events);
  });

  test('the stream stays open after the handler has returned or resolved', async () => {
    for (const handler of [
      () => {},
      async () => {
        await tick();
      },
    ]) {
      const { stream, conn } = await opened(handler, BARE, { make });
      await tick();
      conn.push('still there');
      expect((await stream.next()).data).toBe('still there');
    }
  });

  test('without a handler, every request gets a stream', async () => {
    const events = sse(BARE);
    later(() => events.close());
    const stream = await another(appOf(events, make));
    await stream.until(() => stream.comments.length === 1);
    expect(stream.text).toBe(HEAD);
    expect(events.size).toBe(1);
  });
});

describe('a handler that does not settle', () => {
  test('the stream opens after one heartbeat interval, and not before', async () => {
    fakeClock();
    const { pass, fail } = gate();
    const entered = gate();
    const { app, events, passed, reported } = appWithErrors(
      () => {
        entered.open();
        return pass;
      },
      express,
      { ...BARE, heartbeat: 5000 },
    );
    let stream: Awaited<ReturnType<typeof another>> | undefined;
    const answer = another(app).then((answered) => (stream = answered));
    await entered.pass;
    await jest.advanceTimersByTimeAsync(4900);
    await tick();
    expect(events.stats()).toMatchObject({ connections: 0, connecting: 1 });
    await jest.advanceTimersByTimeAsync(200);
    await answer;
    await stream!.until(() => stream!.text === HEAD);
    expect(events.size).toBe(1);
    fail(new Error('too late for Express'));
    expect(await stream!.body()).toBe(HEAD);
    expect(passed).toEqual([]);
    expect(reported).toEqual([new Error('too late for Express')]);
  });
});

test.each<[how: string, send: (res: Response) => void]>([
  ['flushHeaders', (res) => res.flushHeaders()],
  ['writeHead', (res) => void res.writeHead(200, { 'Content-Type': 'text/event-stream' })],
  ['write', (res) => void res.write('x')],
])('a handler that sends the head itself with %s and also pushes causes ERR_SSE_HEADERS_SENT', async (_how, send) => {
  const onError = jest.fn();
  const events = sse(
    (conn, _req, res) => {
      send(res);
      conn.push('never');
      setImmediate(() => res.end());
    },
    { ...BARE, onError },
  );
  later(() => events.close());
  const stream = await connect(appOf(events), '/events');
  later(() => stream.close());
  await stream.closed;
  expect(stream.events).toEqual([]);
  expect(onError.mock.calls).toEqual([[expect.objectContaining({ code: 'ERR_SSE_HEADERS_SENT' }), expect.anything()]]);
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
});

test.each<[how: string, send: (res: Response) => void]>([
  ['write', (res) => void res.write('x')],
  ['write, as an event stream', (res) => void res.type('text/event-stream').write('data: x\n\n')],
  ['flushHeaders', (res) => res.flushHeaders()],
  ['writeHead', (res) => res.writeHead(200).flushHeaders()],
])('a handler that sends the head itself by %s, and does not push, is reported to onError', async (_how, send) => {
  const onError = jest.fn();
  const events = sse((_conn, _req, res) => send(res), { ...BARE, onError });
  later(() => events.close());
  const stream = await connect(appOf(events), '/events');
  later(() => stream.close());
  await tick();
  expect(onError.mock.calls).toEqual([[expect.objectContaining({ code: 'ERR_SSE_HEADERS_SENT' }), expect.anything()]]);
  expect(onError.mock.calls[0][0].message).toMatch(/conn\.push\(\)/);
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
});

test.each<[how: string, answer: (res: Response) => void]>([
  ['begins an answer of another type', (res) => void res.type('text/plain').write('x')],
  ['begins an answer with another status', (res) => res.status(403).flushHeaders()],
  ['ends an answer without a type', (res) => void res.end('x')],
  [
    'begins an answer of another type with writeHead',
    (res) => {
      for (const name of res.getHeaderNames()) res.removeHeader(name); // Node then keeps the headers of writeHead() as text only
      res.writeHead(200, { 'Content-Type': 'text/plain' }).write('x');
    },
  ],
])('a handler that %s, and does not push, causes no error', async (_how, answer) => {
  const onError = jest.fn();
  const events = sse((_conn, _req, res) => answer(res), { ...BARE, onError });
  later(() => events.close());
  const stream = await connect(appOf(events), '/events');
  later(() => stream.close());
  await tick();
  expect(onError).not.toHaveBeenCalled();
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
});

test.each<[version: string, how: string, end: (conn: Connection, events: SseRouter) => unknown]>([
  ['1.1', 'end()', (conn) => conn.end()],
  ['1.1', 'close({ retry })', (conn) => conn.close({ retry: 500 })],
  ['1.1', 'a push', (conn) => conn.push('late')],
  ['1.1', 'a broadcast', (_conn, events) => events.broadcast('late')],
  ['1.0', 'end()', (conn) => conn.end()],
  ['1.0', 'the router’s close()', (_conn, events) => events.close()],
])(
  'nothing is written behind an end that the application has written: HTTP/%s, then %s',
  async (version, _how, end) => {
    let answer!: Response;
    const { app, events } = appWithErrors((conn, _req, res) => {
      answer = res;
      conn.push('x');
    });
    const { port } = await listening(app);
    const socket = await dialled(port, `GET /events HTTP/${version}\r\nHost: x\r\n\r\n`);
    let text = '';
    socket.setEncoding('latin1').on('data', (more: string) => (text += more));
    const has = async (what: string): Promise<void> => {
      while (!text.includes(what)) await tick();
    };
    await has('data: x\n\n');
    const [conn] = events.connections;
    const over = overOf(conn!);
    answer.write('tail\n'.repeat(400_000)); // so that the end waits behind it
    answer.end();
    await end(conn!, events);
    await over;
    if (version === '1.1') await has('\r\n0\r\n\r\n');
    else await once(socket, 'close');
    expect(text).not.toMatch(/late|event: end|retry: 500/);
    expect(text.split('0\r\n\r\n').slice(1)).toEqual(version === '1.1' ? [''] : []);
    expectNoConnection(events);
  },
);

test.each(EXPRESSES)('%s: a wrapped router is recognised as the handler of a route', async (_name, make) => {
  const events = sse((conn) => void conn.push('x'), BARE);
  later(() => events.close());
  // express-async-errors wraps every handler like this.
  const wrapped = Object.assign(function (this: unknown, ...all: Parameters<typeof events>) {
    return events.apply(this, all);
  }, events);
  const stream = await connect(make().get('/events', wrapped), '/events');
  later(() => stream.close());
  expect((await stream.next()).data).toBe('x');
});

describe('onError', () => {
  test.each<[name: string, onError: () => unknown]>([
    [
      'throws',
      () => {
        throw new Error('second');
      },
    ],
    ['rejects', () => Promise.reject(new Error('second'))],
  ])('an onError that %s is contained, and the stream still ends', async (_name, onError) => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const unhandled = jest.fn();
    process.on('unhandledRejection', unhandled);
    later(() => process.off('unhandledRejection', unhandled));
    const { pass, fail } = gate();
    const { stream, conn, events } = await opened(
      async (connection) => {
        connection.push('x');
        await pass;
      },
      { ...BARE, onError: onError as () => void },
    );
    const over = overOf(conn);
    fail(new Error('first'));
    expect(await over).toBe('error');
    expect(await stream.body()).toBe(`${HEAD}data: x\n\n`);
    await tick();
    await tick();
    expect(unhandled).not.toHaveBeenCalled();
    expect(warned).toHaveBeenCalledWith(expect.objectContaining({ message: 'second' }));
    expectNoConnection(events);
  });

  test('without it, an error after the opening becomes a process warning', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { pass, fail } = gate();
    const { stream } = await opened(async (conn) => {
      conn.push('x');
      await pass;
    }, BARE);
    const error = new Error('unexpected');
    fail(error);
    await stream.body();
    expect(warned.mock.calls).toEqual([[error]]);
  });

  test('an error of another realm becomes a warning too, although the process refuses it as it is (under Jest, errors are such)', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation((warning) => {
      if (typeof warning !== 'string') throw new TypeError('must be of type string or an instance of Error');
    });
    const { stream } = await opened(async (conn) => {
      conn.push('x');
      await tick();
      throw new Error('unexpected');
    }, BARE);
    expect(await stream.body()).toBe(`${HEAD}data: x\n\n`);
    expect(warned).toHaveBeenLastCalledWith(expect.stringContaining('Error: unexpected'));
  });

  test('it receives the connection', async () => {
    const onError = jest.fn();
    const { pass, fail } = gate();
    const { stream, conn } = await opened(
      async (connection) => {
        connection.push('x');
        await pass;
      },
      { ...BARE, onError },
    );
    fail('a thrown text');
    await stream.body();
    expect(onError.mock.calls).toEqual([['a thrown text', conn]]);
  });
});

test('a handler that rejects because the client has disconnected causes no error', async () => {
  const onError = jest.fn();
  const done = gate();
  const { stream, conn } = await opened(
    async ({ signal }) => {
      try {
        await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      } finally {
        done.open();
      }
    },
    { ...BARE, onError, heartbeat: 1 },
  );
  await stream.close();
  await done.pass;
  await tick();
  expect(conn.signal.reason).toBe('client');
  expect(onError).not.toHaveBeenCalled();
});

test('the router waits for a thenable as for a promise', async () => {
  const { pass, open } = gate();
  // oxlint-disable-next-line no-thenable -- the queries of knex and mongoose are thenables
  const events = sse(() => ({ then: pass.then.bind(pass) }) as Promise<void>, BARE);
  later(() => events.close());
  const answer = another(appOf(events));
  while (events.stats().connecting === 0 && events.size === 0) await tick();
  await tick();
  await tick();
  expect(events.size).toBe(0);
  open();
  await answer;
  expect(events.size).toBe(1);
});
