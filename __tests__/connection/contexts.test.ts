/*
 * The application's functions run in the async context of their own request, whichever shared tick or timer calls them.
 * The clients of each test connect together, and what they wait for settles in one tick: that is when contexts are confused.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { Readable } from 'node:stream';
import type { Request, RequestHandler, Response } from 'express';
import { memoryJournal, sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type ConnectOptions, type TestStream } from '../../lib/testing/index.ts';
import { choke, EXPRESSES, gate, later, overOf, tick, type AnyHandler } from '../fixtures/support.ts';
import { eventually, pause, serve } from '../fixtures/http.ts';

const tenant = new AsyncLocalStorage<string>();
const here = (): string => tenant.getStore() ?? 'nobody';

/** Each user has a stream of its own, and the middleware in front sets the user. */
const setTenant: RequestHandler = (req, _res, next) => tenant.run(String(req.query.who), next);
const USERS = Array.from({ length: 20 }, (_, n) => (['alice', 'bob'][n] ?? `user${n}`) as string);
const userOf = (req: Request): string => String(req.query.who);

describe.each(EXPRESSES)('%s', (_name, make) => {
  interface Crowd {
    readonly events: SseRouter;
    readonly conns: Map<string, Connection>;
    /** Connects these users together. */
    readonly visit: (users?: readonly string[], how?: ConnectOptions) => Promise<Map<string, TestStream>>;
  }

  /** A router behind the middleware that sets the user. */
  async function crowd(handler: AnyHandler, options: SseOptions = {}, front: RequestHandler[] = []): Promise<Crowd> {
    const conns = new Map<string, Connection>();
    const events = sse((conn, req, res) => {
      conns.set(userOf(req), conn);
      return handler(conn, req, res) as void;
    }, options);
    later(() => events.close());
    const { url } = await serve((app) => app.use(setTenant, ...front).use('/events', events), make);
    return {
      events,
      conns,
      async visit(users = USERS, how = {}) {
        const streams = await Promise.all(
          users.map(async (user) => [user, await connect(`${url}/events?who=${user}`, undefined, how)] as const),
        );
        later(() => Promise.all(streams.map(([, stream]) => stream.close())));
        return new Map(streams);
      },
    };
  }

  /** Expects that the first `secret` event of each stream is its user's own. */
  async function expectOwnSecrets(streams: Map<string, TestStream>): Promise<void> {
    const secretOf = async (stream: TestStream): Promise<string> => {
      for (;;) {
        const { event, data } = await stream.next();
        if (event === 'secret') return data;
      }
    };
    const secrets = [...streams].map(async ([user, stream]) => [user, await secretOf(stream)]);
    expect(await Promise.all(secrets)).toEqual([...streams.keys()].map((user) => [user, user]));
  }

  /** A handler that all users leave in one tick. */
  function together(): AnyHandler {
    const { pass, open } = gate();
    let entered = 0;
    return async (conn) => {
      if (++entered === USERS.length) open();
      await pass;
      conn.join(here());
    };
  }

  const secret = (): { event: string; data: string } => ({ event: 'secret', data: here() });

  describe('snapshot', () => {
    test.each<[name: string, options: SseOptions]>([
      ['returns a message', { snapshot: secret }],
      ['returns a promise', { snapshot: () => Promise.resolve().then(secret) }],
      ['waits for a timer', { snapshot: () => pause(5).then(secret) }],
      [
        'returns a generator',
        {
          snapshot: function* () {
            yield secret();
          },
        },
      ],
      [
        'returns the promise of a generator',
        {
          snapshot: async () => {
            await tick();
            return (function* () {
              yield secret();
            })();
          },
        },
      ],
      [
        'is encoded by a serialize that reads the context',
        { snapshot: () => ({ event: 'secret', data: {} }), serialize: here },
      ],
      [
        'is a promise that is encoded by a serialize that reads the context',
        { snapshot: () => pause(5).then(() => ({ event: 'secret', data: {} })), serialize: here },
      ],
    ])('that %s runs as its own user, after 20 handlers that settled together', async (_how, options) => {
      const { visit } = await crowd(together(), options);
      await expectOwnSecrets(await visit());
    });

    test('runs as its own user where the heartbeat opens the stream', async () => {
      const { visit } = await crowd(() => new Promise(() => {}), { snapshot: secret, heartbeat: 40 });
      await expectOwnSecrets(await visit());
    });

    test('runs as its own user after an id that is not in the log', async () => {
      const journal = memoryJournal();
      const { events, visit } = await crowd(together(), { history: journal, snapshot: secret });
      const id = await events.broadcast('x');
      await expectOwnSecrets(await visit(USERS, { lastEventId: id.replace(/^.{12}/, 'AAAAAAAAAAAA') }));
    });

    test('runs as its own user if it returns an object with a `then` that settles all of them in one tick', async () => {
      const waiting: (() => void)[] = [];
      // As query builders do: `then` registers with a shared client, which calls back in a context of its own.
      const query = {
        // oxlint-disable-next-line unicorn/no-thenable -- that is the case
        then(resolve: (value: unknown) => void) {
          waiting.push(() => resolve({ event: 'secret', data: {} }));
          if (waiting.length === USERS.length) for (const settle of waiting) settle();
        },
      };
      const { visit } = await crowd(() => {}, { snapshot: () => query as never, serialize: here });
      await expectOwnSecrets(await visit());
    });
  });

  describe('abort listeners', () => {
    const endings: [name: string, end: (crowd: Crowd, streams: Map<string, TestStream>) => unknown, SseOptions?][] = [
      ['maxAge', () => {}, { maxAge: 60 }],
      ['the shutdown of the router', ({ events }) => events.close()],
      ['another request', ({ conns }) => tenant.run('mallory', () => conns.forEach((conn) => conn.end()))],
      ['their clients', (_crowd, streams) => streams.forEach((stream) => void stream.close())],
    ];

    test.each(endings)('run as their own user when %s ends the streams', async (_how, end, options = {}) => {
      const seen: [user: string, ran: string][] = [];
      const site = await crowd((conn, req) => {
        conn.signal.addEventListener('abort', () => seen.push([userOf(req), here()]));
        conn.open();
      }, options);
      const streams = await site.visit();
      await eventually(() => site.conns.size === USERS.length);
      await tick();
      void end(site, streams);
      await eventually(() => seen.length === USERS.length);
      expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
    });

    test('run as the user of their connection, also those that another request adds', async () => {
      const seen: string[] = [];
      const { conns, visit, events } = await crowd((conn) => {
        conn.open();
        return conn.signal.aborted;
      });
      await visit(['alice']);
      tenant.run('mallory', () => conns.get('alice')!.signal.addEventListener('abort', () => seen.push(here())));
      await tenant.run('mallory', () => events.close());
      expect(seen).toEqual(['alice']);
    });

    test('run as the user of their connection if only onError was set, and the signal is first read elsewhere', async () => {
      const seen: string[] = [];
      const { conns, visit, events } = await crowd((conn) => conn.open(), { onError: () => {} });
      await visit(['alice']);
      tenant.run('mallory', () => conns.get('alice')!.signal.addEventListener('abort', () => seen.push(here())));
      await events.close();
      expect(seen).toEqual(['alice']);
    });

    test('run as the user of their connection after another request has called pushAll', async () => {
      const seen: string[] = [];
      const { conns, visit, events } = await crowd(async (conn) => {
        conn.open();
        await tick();
        await tick();
        conn.signal.addEventListener('abort', () => seen.push(here()));
      });
      const visiting = visit(['alice']);
      await eventually(() => conns.size === 1);
      await tenant.run('mallory', () => conns.get('alice')!.pushAll(['x']));
      await visiting;
      await eventually(() => events.size === 1);
      await tick();
      await tick();
      await events.close();
      expect(seen).toEqual(['alice']);
    });
  });

  describe('onError', () => {
    test.each<[name: string, fail: (conn: Connection, together: Promise<void>) => unknown, SseOptions?]>([
      [
        'a handler that rejects after the opening',
        async (conn, together) => {
          conn.open();
          await together;
          throw new Error('boom');
        },
      ],
      [
        'a generator that throws after the opening',
        async function* (_conn, together) {
          yield 'x';
          await together;
          throw new Error('boom');
        },
      ],
      [
        'a snapshot that throws',
        (_conn, together) => together,
        {
          snapshot: () => {
            throw new Error('boom');
          },
        },
      ],
      ['a snapshot that rejects', (_conn, together) => together, { snapshot: () => Promise.reject(new Error('boom')) }],
    ])('is called as the user of the connection for %s', async (_how, fail, options = {}) => {
      const { pass, open } = gate();
      const seen: [user: string, ran: string][] = [];
      let entered = 0;
      const { visit } = await crowd(
        (conn) => {
          if (++entered === USERS.length) setTimeout(open, 20);
          return fail(conn, pass);
        },
        { ...options, onError: (_error, conn) => void seen.push([userOf(conn!.request), here()]) },
      );
      void visit().catch(() => {});
      await eventually(() => seen.length === USERS.length);
      expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
    });

    test('is called as the user of the connection for a wrapper of res.write that throws', async () => {
      const seen: [user: string, ran: string][] = [];
      let isFailing = false;
      const wrap: RequestHandler = (_req, res, next) => {
        const write = res.write.bind(res) as (...args: unknown[]) => boolean;
        res.write = (...args: unknown[]) => {
          if (isFailing) throw new Error('a wrapper');
          return write(...args);
        };
        next();
      };
      const { events, conns, visit } = await crowd(
        (conn) => conn.open(),
        { onError: (_error, conn) => void seen.push([userOf(conn!.request), here()]) },
        [wrap],
      );
      await visit();
      await eventually(() => conns.size === USERS.length);
      isFailing = true;
      await tenant.run('mallory', () => events.broadcast('x'));
      await eventually(() => seen.length === USERS.length);
      expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
    });
  });

  describe('sources', () => {
    test.each<[name: string, source: (seen: (what: string) => void) => unknown]>([
      [
        'a generator',
        function* (seen) {
          try {
            for (let n = 0; ; n++) {
              seen('next');
              yield 'x'.repeat(n < 2 ? 10 : 65_536);
            }
          } finally {
            seen('release');
          }
        },
      ],
      [
        'an async generator',
        async function* (seen) {
          try {
            for (let n = 0; ; n++) {
              await tick();
              seen('next');
              yield 'x'.repeat(n < 2 ? 10 : 65_536);
            }
          } finally {
            seen('release');
          }
        },
      ],
      [
        'a web stream',
        (seen) =>
          new ReadableStream({
            async pull(controller) {
              await tick();
              seen('next');
              controller.enqueue('x'.repeat(65_536));
            },
            cancel: () => seen('release'),
          }),
      ],
      [
        'a Node stream',
        (seen) =>
          new Readable({
            read() {
              seen('next');
              this.push('x'.repeat(65_536));
            },
            destroy(_error, callback) {
              seen('release');
              callback(null);
            },
          }),
      ],
    ])('%s is read and released as its own user, also after a slow client has drained', async (_how, source) => {
      const seen: [user: string, ran: string, what: string][] = [];
      const { conns, events, visit } = await crowd((_conn, req) => {
        const user = userOf(req);
        return source((what) => seen.push([user, here(), what])) as void;
      });
      const users = USERS.slice(0, 4);
      const streams = await visit(users);
      streams.forEach((stream) => stream.pause());
      await eventually(() => [...conns.values()].every((conn) => conn.bufferedBytes > 0), 10_000);
      const reads = seen.length;
      streams.forEach((stream) => stream.resume());
      await eventually(() => seen.length > reads + 20, 10_000);
      void tenant.run('mallory', () => events.close());
      await eventually(() => seen.filter(([, , what]) => what === 'release').length === users.length, 5000);
      expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
    });

    test('a source of pushAll is released in the context of the call', async () => {
      const seen: string[] = [];
      const { conns, events, visit } = await crowd((conn) => conn.open(), { snapshot: () => 'x' });
      await visit(['alice']);
      async function* source(): AsyncGenerator<string> {
        try {
          yield here();
          await new Promise(() => {});
        } finally {
          seen.push(here());
        }
      }
      const iterator = source();
      void tenant.run('carol', () => conns.get('alice')!.pushAll(iterable(iterator, () => seen.push(here()))));
      await tick();
      await events.close();
      expect(seen).toEqual(['carol']);
    });

    function iterable(iterator: AsyncGenerator<string>, onReturn: () => unknown): AsyncIterable<string> {
      return {
        [Symbol.asyncIterator]: () => ({
          next: () => iterator.next(),
          return: async () => {
            onReturn();
            return { done: true, value: undefined };
          },
        }),
      };
    }
  });

  test('the code after drained() continues as its own user', async () => {
    const seen: [user: string, ran: string][] = [];
    const { pass, open } = gate();
    const { conns, visit } = await crowd(async (conn, req) => {
      conn.open();
      await pass;
      await choke(conn);
      void conn.drained().then(() => seen.push([userOf(req), here()]));
      await conn.drained();
      seen.push([userOf(req), here()]);
    });
    const users = USERS.slice(0, 4);
    const streams = await visit(users);
    streams.forEach((stream) => stream.pause());
    open();
    await eventually(() => [...conns.values()].every((conn) => conn.bufferedBytes > 0), 10_000);
    await pause(50);
    streams.forEach((stream) => stream.resume());
    await eventually(() => seen.length === 2 * users.length, 10_000);
    expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
  });

  test('recheck runs as the user of the connection, and what it waits for as well', async () => {
    const seen: [user: string, ran: string][] = [];
    const { visit } = await crowd((conn) => conn.open(), {
      recheck: {
        every: 50,
        async check(conn) {
          seen.push([userOf(conn.request), here()]);
          await tick();
          seen.push([userOf(conn.request), here()]);
          return true;
        },
      },
    });
    await visit();
    await eventually(() => new Set(seen.map(([user]) => user)).size === USERS.length);
    expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
  });

  test('serialize runs as the user of the connection, whoever pushes', async () => {
    const { conns, visit } = await crowd((conn) => conn.open(), { serialize: here, history: false });
    const streams = await visit();
    await eventually(() => conns.size === USERS.length);
    tenant.run('mallory', () => conns.forEach((conn) => conn.push({ event: 'secret', data: {} })));
    await expectOwnSecrets(streams);
  });

  describe('functions that decide about a request', () => {
    /** An origin check that answers all requests at once, in a context of its own: as a batching loader does. */
    function batchedOrigin(size: number): NonNullable<Exclude<SseOptions['cors'], boolean>>['origin'] {
      const waiting: (() => void)[] = [];
      return (_origin, answer) => {
        waiting.push(() => answer(null, true));
        if (waiting.length === size) for (const settle of waiting) settle();
      };
    }

    test('headers, clientKey and the handler run as their own user, after a cors.origin that answers all at once', async () => {
      const seen: [user: string, ran: string, what: string][] = [];
      const saw = (req: Request, what: string): number => seen.push([userOf(req), here(), what]);
      const { visit } = await crowd((_conn, req) => void saw(req, 'handler'), {
        cors: { origin: batchedOrigin(USERS.length) },
        headers: (req) => ({ 'X-N': String(saw(req, 'headers')) }),
        limits: {
          perClient: 5,
          clientKey: (req) => {
            saw(req, 'clientKey');
            return userOf(req);
          },
        },
      });
      await visit(USERS, { headers: { origin: 'https://app.example' } });
      expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
      expect(seen).toHaveLength(3 * USERS.length);
    });

    test('the handler runs as its own user where the requests waited for the journal', async () => {
      const seen: [user: string, ran: string][] = [];
      const { pass, open } = gate();
      const journal = memoryJournal();
      const window = journal.window.bind(journal);
      journal.window = async (max) => {
        await pass;
        return window(max);
      };
      let waiting = 0;
      const { visit } = await crowd((_conn, req) => void seen.push([userOf(req), here()]), { history: journal }, [
        (_req, _res, next) => {
          next();
          if (++waiting === USERS.length) open();
        },
      ]);
      await visit();
      expect(seen).toHaveLength(USERS.length);
      expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
    });

    test('the result of a handler is used as its own user, if it is an object with a `then`', async () => {
      const waiting: (() => void)[] = [];
      const seen: [user: string, ran: string][] = [];
      const { visit } = await crowd((_conn, req) => ({
        // oxlint-disable-next-line unicorn/no-thenable -- that is the case
        then(resolve: (value: unknown) => void) {
          waiting.push(() =>
            resolve(
              (function* () {
                seen.push([userOf(req), here()]);
                yield 'x';
              })(),
            ),
          );
          if (waiting.length === USERS.length) for (const settle of waiting) settle();
        },
      }));
      await visit();
      await eventually(() => seen.length === USERS.length);
      expect(seen.filter(([user, ran]) => user !== ran)).toEqual([]);
    });
  });

  test('a listener of the response never runs as another user, where the end is the router’s', async () => {
    const seen: [user: string, ran: string][] = [];
    const listen = (req: Request, res: Response): unknown => res.on('finish', () => seen.push([userOf(req), here()]));
    const { visit } = await crowd((_conn, req, res) => void listen(req, res), { maxAge: 60 });
    await visit();
    await eventually(() => seen.length === USERS.length);
    expect(seen.filter(([user, ran]) => ran !== 'nobody' && user !== ran)).toEqual([]);
  });

  test('a router without such a function keeps no context', async () => {
    const { conns, visit } = await crowd((conn) => void conn.push('x'));
    await visit(['alice']);
    expect((conns.get('alice') as unknown as { context: unknown }).context).toBeUndefined();
    expect(overOf(conns.get('alice')!)).toBeInstanceOf(Promise); // which reads the signal
    expect((conns.get('alice') as unknown as { context: unknown }).context).toBeDefined();
  });
});
