/*
 * Streams through middleware that replaces methods of the response, as loggers, compressors and interceptors do.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import type { RequestHandler, Response } from 'express';
import { createGzip } from 'node:zlib';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type TestStream } from '../../lib/testing/index.ts';
import { choke, EXPRESSES, gate, later, overOf, tick, type AnyHandler } from '../fixtures/support.ts';
import { clock, eventually, serve } from '../fixtures/http.ts';

type AnyFunction = (...args: unknown[]) => unknown;

/** Middleware that replaces `write`. `replace` gets the plain function and returns the replacement. */
function wrapWrite(replace: (write: AnyFunction) => AnyFunction): RequestHandler {
  return (_req, res, next) => {
    res.write = replace(res.write.bind(res) as AnyFunction) as typeof res.write;
    next();
  };
}

/** Collects the body and passes it on at the end, as loggers of bodies do. `bodies` gets each body. */
function logBodies(bodies: string[]): RequestHandler {
  return (_req, res, next) => {
    const chunks: unknown[] = [];
    const { write, end } = res as unknown as { write: AnyFunction; end: AnyFunction };
    const wrapped = {
      write(...args: unknown[]) {
        chunks.push(args[0]);
        write.apply(res, args);
      },
      end(...args: unknown[]) {
        if (args[0]) chunks.push(args[0]);
        bodies.push(Buffer.concat(chunks as Buffer[]).toString());
        end.apply(res, args);
      },
    };
    Object.assign(res, wrapped);
    next();
  };
}

/** Compresses as @polka/compression 1 does: it delays the head, moves listeners to its compressor, and has no method to flush. */
function compressor(movesAllListeners: boolean): RequestHandler {
  return (_req, res, next) => {
    const { writeHead, write, end, on } = res as unknown as Record<string, AnyFunction>;
    let pending: [unknown, unknown][] | undefined = [];
    let gzip: ReturnType<typeof createGzip> | undefined;
    let status = 200;
    let isStarted = false;
    const start = (): void => {
      isStarted = true;
      const listeners = pending!;
      if (res.getHeader('Content-Encoding')) {
        pending = undefined;
        for (const listener of listeners) on!.apply(res, listener);
      } else {
        res.setHeader('Content-Encoding', 'gzip');
        gzip = createGzip();
        gzip.on('data', (chunk) => write!.call(res, chunk) || gzip!.pause());
        on!.call(res, 'drain', () => gzip!.resume());
        gzip.on('end', () => end!.call(res));
        for (const [type, listener] of listeners) gzip.on(type as string, listener as () => void);
      }
      writeHead!.call(res, status);
    };
    Object.assign(res, {
      writeHead(code: number) {
        status = code;
        return res;
      },
      write(...args: unknown[]) {
        if (!isStarted) start();
        return gzip ? gzip.write(...(args as [string])) : write!.apply(res, args);
      },
      end(...args: unknown[]) {
        if (!isStarted) start();
        return gzip ? gzip.end(...(args as [])) : end!.apply(res, args);
      },
      on(type: string, listener: () => void) {
        if (!pending || !(movesAllListeners || type === 'drain')) on!.call(res, type, listener);
        else if (gzip) gzip.on(type, listener);
        else pending.push([type, listener]);
        return res;
      },
    });
    next();
  };
}

/** Expects that pushes, broadcasts and comments arrive at once. */
async function expectNoDelay(events: SseRouter, conn: Connection, stream: TestStream): Promise<void> {
  const waits: number[] = [];
  for (let n = 0; n < 5; n++) {
    const start = clock();
    expect(conn.push(`push ${n}`)).toBe(true);
    await stream.until(() => stream.events.some(({ data }) => data === `push ${n}`));
    await events.broadcast(`broadcast ${n}`);
    await stream.until(() => stream.events.some(({ data }) => data === `broadcast ${n}`));
    conn.comment(`comment ${n}`);
    await stream.until(() => stream.comments.includes(`comment ${n}`));
    waits.push(clock() - start);
  }
  expect(Math.min(...waits)).toBeLessThan(100);
}

describe.each(EXPRESSES)('%s', (_name, make) => {
  interface Behind {
    readonly events: SseRouter;
    readonly conn: Connection;
    readonly stream: TestStream;
    readonly errors: unknown[];
    readonly visit: () => Promise<TestStream>;
  }

  /** A stream behind middleware. */
  async function behind(front: RequestHandler, options: SseOptions = {}, handler?: AnyHandler): Promise<Behind> {
    let conn!: Connection;
    const errors: unknown[] = [];
    const events = sse(
      (one, req, res) => {
        conn = one;
        return handler?.(one, req, res) as void;
      },
      { onError: (error) => void errors.push(error), ...options },
    );
    later(() => events.close());
    const { url } = await serve((app) => app.use(front).use('/events', events), make);
    const visit = async (): Promise<TestStream> => {
      const stream = await connect(`${url}/events`, undefined, { headers: { 'accept-encoding': 'gzip' } });
      later(() => stream.close());
      return stream;
    };
    const stream = await visit();
    await eventually(() => events.size === 1);
    return { events, conn, stream, errors, visit };
  }

  const wrappers: [name: string, front: () => RequestHandler][] = [
    [
      'returns nothing',
      () =>
        wrapWrite(
          (write) =>
            (...args) =>
              void write(...args),
        ),
    ],
    [
      'returns null',
      () =>
        wrapWrite(
          (write) =>
            (...args) => (write(...args), null),
        ),
    ],
    [
      'returns 0',
      () =>
        wrapWrite(
          (write) =>
            (...args) => (write(...args), 0),
        ),
    ],
    [
      'returns a promise',
      () =>
        wrapWrite(
          (write) =>
            async (...args) =>
              write(...args),
        ),
    ],
    [
      'returns true',
      () =>
        wrapWrite(
          (write) =>
            (...args) => (write(...args), true),
        ),
    ],
    [
      'returns what Node returns',
      () =>
        wrapWrite(
          (write) =>
            (...args) =>
              write(...args),
        ),
    ],
    ['returns nothing, and collects the body', () => logBodies([])],
    ['compresses, and moves all listeners to its compressor', () => compressor(true)],
    ['compresses, and moves the listeners of `drain` to its compressor', () => compressor(false)],
  ];

  describe.each(wrappers)('a wrapper that %s', (_what, front) => {
    test('delays nothing, and drained() settles', async () => {
      const { events, conn, stream } = await behind(front(), { heartbeat: 50 });
      await expectNoDelay(events, conn, stream);
      await conn.drained();
      const { length } = stream.comments;
      await stream.until(() => stream.comments.length > length + 1, 1000); // heartbeats
      await events.broadcast('x'.repeat(300_000));
      await stream.until(() => stream.events.at(-1)!.data.length === 300_000);
    });

    test('does not hide that a client is behind: push() returns false, nothing is lost, and drained() settles', async () => {
      const { events, conn, stream } = await behind(front());
      stream.pause();
      const pushed = await choke(conn);
      expect(conn.bufferedBytes).toBeLessThan(1_048_576);
      await events.broadcast('later');
      stream.resume();
      await conn.drained();
      await stream.until(() => stream.events.at(-1)?.data === 'later', 10_000);
      expect(stream.events.filter(({ data }) => data.length === 65_536)).toHaveLength(pushed);
    });

    test('does not hide a client that does not read: the connection is closed as slow', async () => {
      const { events, conn, stream } = await behind(front(), { slowTimeout: 200 });
      const over = overOf(conn);
      stream.pause();
      await choke(conn);
      expect(await over).toBe('slow');
      expect(events.size).toBe(0);
    });

    test('does not hide that a client disconnects', async () => {
      const { events, conn, stream } = await behind(front(), {}, (one) => one.open());
      const over = overOf(conn);
      await stream.close();
      expect(await over).toBe('client');
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0 });
    });

    test('does not hide that a client disconnects before the opening', async () => {
      const conns: Connection[] = [];
      const events = sse((conn) => {
        conns.push(conn);
        return new Promise(() => {});
      });
      later(() => events.close());
      const { url } = await serve((app) => app.use(front()).use('/events', events), make);
      const leaving = new AbortController();
      void fetch(`${url}/events`, { signal: leaving.signal }).catch(() => {});
      await eventually(() => conns.length === 1);
      leaving.abort();
      await eventually(() => events.stats().connecting === 0);
      expect(conns[0]!.signal.reason).toBe('client');
    });

    test.each<[name: string, end: (behind: Behind) => unknown, last: string | undefined]>([
      ['end()', ({ conn }) => conn.end(), 'end'],
      ['the shutdown', ({ events }) => events.close(), 'message'],
    ])('leaves the end of the body intact at %s', async (_how, end, last) => {
      const site = await behind(front());
      const { stream, conn, errors } = site;
      conn.push('x'.repeat(200_000));
      await tick();
      void end(site);
      await stream.until(() => stream.ended);
      expect(await stream.closed).toBe('end');
      expect(stream.events.at(-1)!.event).toBe(last);
      expect(stream.events.some(({ data }) => data.length === 200_000)).toBe(true);
      expect(errors).toEqual([]);
    });
  });

  test('a logger of bodies gets the whole body, as bytes', async () => {
    const bodies: string[] = [];
    const { stream, conn, events } = await behind(logBodies(bodies), { retry: 1000, headers: { 'X-Name': 'é' } });
    conn.push('é€💥');
    await events.broadcast('b');
    await tick();
    conn.end();
    await stream.until(() => stream.ended);
    expect(bodies).toEqual([stream.text]);
    expect(stream.headers['x-name']).toBe('é');
  });

  test('a middleware that compresses and cannot be flushed leaves the stream as it is, and the router’s own gzip as well', async () => {
    const { stream } = await behind(compressor(true));
    expect(stream.headers['content-encoding']).toBe('identity');
    const own = await behind(compressor(true), { compress: true });
    expect(own.stream.headers['content-encoding']).toBe('gzip');
    await expectNoDelay(own.events, own.conn, own.stream);
  });

  test('a response whose emit() is replaced, and passes no `close` on: a client that disconnects is noticed', async () => {
    const { conn, stream } = await behind((_req, res, next) => {
      const emit = res.emit.bind(res) as AnyFunction;
      Object.assign(res, { emit: (...args: unknown[]) => args[0] !== 'close' && emit(...args) });
      next();
    });
    const over = overOf(conn);
    await stream.close();
    expect(await over).toBe('client');
  });

  test('middleware that holds the response back causes one warning, with the cure', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const events = sse({ heartbeat: 30 });
    later(() => events.close());
    const { url } = await serve((app) => {
      app.use(wrapWrite(() => () => undefined)); // as express-interceptor does: it writes the whole body at its end
      app.use('/events', events);
    }, make);
    const leaving = new AbortController();
    later(() => leaving.abort());
    for (let n = 0; n < 3; n++) void fetch(`${url}/events`, { signal: leaving.signal }).catch(() => {});
    await eventually(() => events.stats().heartbeats > 6);
    expect(warned.mock.calls).toEqual([
      [expect.stringMatching(/holds its response back.*Exclude/), { code: 'SSE_HELD_BACK' }],
    ]);
  });

  describe('the async context', () => {
    const tenant = new AsyncLocalStorage<string>();
    const here = (): string => tenant.getStore() ?? 'nobody';
    const users = Array.from({ length: 20 }, (_, n) => `user${n}`);

    test.each(['writeHead', 'write', 'end', 'flush'] as const)(
      'a wrapper of res.%s runs as its own user',
      async (name) => {
        const seen: [user: string, ran: string][] = [];
        const { pass, open } = gate();
        let entered = 0;
        const events = sse(async () => {
          if (++entered === users.length) open();
          await pass;
        });
        later(() => events.close());
        const wrap = (res: Response, user: string): void => {
          const methods = res as unknown as Record<string, AnyFunction>;
          const plain = name === 'flush' ? () => {} : methods[name]!.bind(res);
          if (name === 'flush') methods.write = methods.write!.bind(res);
          methods[name] = (...args) => {
            seen.push([user, here()]);
            return plain(...args);
          };
        };
        const { url } = await serve((app) => {
          app.use((req, res, next) => {
            const user = String(req.query.who);
            wrap(res, user);
            tenant.run(user, next);
          });
          app.use('/events', events);
        }, make);
        const streams = await Promise.all(users.map((user) => connect(`${url}/events?who=${user}`)));
        later(() => Promise.all(streams.map((stream) => stream.close())));
        await eventually(() => events.size === users.length);
        await tenant.run('mallory', () => events.broadcast('x'));
        await tenant.run('mallory', () => events.close());
        expect(new Set(seen.map(([user]) => user)).size).toBe(users.length);
        expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
      },
    );
  });
});

test('a head that is no text, as that of spdy 4, is not measured', async () => {
  const events = sse((conn) => void conn.push('x'));
  later(() => events.close());
  const { url } = await serve((app) => {
    app.use((_req, res, next) => {
      const writeHead = res.writeHead.bind(res) as AnyFunction;
      Object.assign(res, {
        writeHead(...args: unknown[]) {
          writeHead(...args);
          const header = (res as unknown as { _header: string })._header;
          Object.defineProperty(res, '_header', { value: true, writable: true, configurable: true });
          process.nextTick(() => Object.assign(res, { _header: header }));
          return res;
        },
        write: wrapHeader(res),
      });
      next();
    });
    app.use('/events', events);
  });
  const stream = await connect(`${url}/events`);
  later(() => stream.close());
  expect((await stream.next()).data).toBe('x');

  /** Node needs its head where the first write follows in the same tick. */
  function wrapHeader(res: Response): AnyFunction {
    const write = res.write.bind(res) as AnyFunction;
    return (...args) => {
      const internals = res as unknown as { _header: unknown };
      if (internals._header === true)
        internals._header = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n';
      return write(...args);
    };
  }
});
