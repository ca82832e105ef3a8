import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect as dial, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import express from 'express';
import { sse, type Connection, type SseOptions } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import {
  another,
  type AnyHandler,
  appOf,
  BARE,
  choke,
  gate,
  later,
  listening,
  opened,
  type Opened,
  overOf,
  tick,
} from '../fixtures/support.ts';
import { journalWithFollower } from '../fixtures/journal-with-follower.ts';
import { ask, eventually, pause, Raw } from '../fixtures/http.ts';

/** Delays a request, in the tests of clients that disconnect meanwhile. */
let wait: (go: () => void) => void;
const allowLater = (answer: (error: null, is: boolean) => void): void => wait(() => answer(null, true));

/** Stops the clock; sockets still work. */
function stopTime(): void {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
}
const advance = (ms: number): Promise<void> => jest.advanceTimersByTimeAsync(ms);

describe('heartbeat', () => {
  test('after each 15 seconds of silence, the router sends one heartbeat of two bytes', async () => {
    stopTime();
    const { stream } = await opened(() => {}, { history: false, retry: 1000 });
    await stream.until(() => stream.retry === 1000);
    await advance(14_999);
    await tick();
    expect(stream.text).toBe(':\nretry: 1000\n');
    for (const beats of [1, 2, 3]) {
      await advance(15_000);
      await stream.until(() => stream.comments.length === 1 + beats);
    }
    expect(stream.text).toBe(':\nretry: 1000\n:\n:\n:\n');
  });

  test.each<[what: string, write: (all: Opened) => unknown]>([
    ['a push', ({ conn }) => conn.push('x')],
    ['a comment', ({ conn }) => conn.comment('x')],
    ['a broadcast', ({ events }) => events.broadcast('x')],
  ])('%s restarts the heartbeat interval', async (_what, write) => {
    stopTime();
    const all = await opened(() => {}, { ...BARE, heartbeat: 1000 });
    const { stream } = all;
    await advance(600);
    await write(all);
    await stream.until(() => stream.text.includes('x'));
    await advance(900);
    await tick();
    expect(stream.text.endsWith(':\n')).toBe(false);
    await advance(200);
    await stream.until(() => stream.text.endsWith('\n:\n'));
  });

  test('heartbeat: false sends no heartbeat', async () => {
    stopTime();
    const { stream, conn } = await opened(() => {}, BARE);
    await advance(3_600_000);
    conn.push('x');
    await stream.next();
    expect(stream.comments).toEqual(['']); // the comment of the opening
  });

  test('with history, a client whose id is behind the head gets one checkpoint in place of the heartbeat', async () => {
    stopTime();
    const { stream, events } = await opened(() => {}, { heartbeat: 1000 });
    await stream.next(); // the first checkpoint
    const id = await events.broadcast('for another channel', { to: 'elsewhere' });
    await advance(1100);
    expect(await stream.next()).toMatchObject({ event: 'checkpoint', data: '', id });
    await advance(1000);
    await stream.until(() => stream.comments.length === 2);
    expect(stream.lastEventId).toBe(id);
  });

  test('so does a client that has received a broadcast without an event, and therefore without an id', async () => {
    stopTime();
    const { stream, events } = await opened(() => {}, { heartbeat: 1000 });
    await stream.next();
    const id = await events.broadcast({ retry: 1234 });
    await advance(1100);
    expect(await stream.next()).toMatchObject({ event: 'checkpoint', data: '', id });
    expect(stream.retry).toBe(1234);
  });

  test('a jump of the wall clock has no effect', async () => {
    stopTime();
    const { stream, events } = await opened(() => {}, { ...BARE, heartbeat: 1000, maxAge: 10_000 });
    for (const jump of [86_400_000, -2 * 86_400_000]) {
      jest.setSystemTime(Date.now() + jump);
      await advance(500);
      await tick();
    }
    expect(events.size).toBe(1);
    await advance(100);
    await stream.until(() => stream.comments.length === 2);
  });

  test('a client that is behind gets no heartbeat', async () => {
    const { stream, conn } = await opened(() => {}, { ...BARE, heartbeat: 20, maxBuffered: 1e9 });
    stream.pause();
    await choke(conn);
    const { bufferedBytes } = conn;
    expect(bufferedBytes).toBeGreaterThan(0);
    await pause(100); // five intervals in which it must not grow
    expect(conn.bufferedBytes).toBeLessThanOrEqual(bufferedBytes);
  });
});

describe('retry', () => {
  test('each connection gets a delay of its own, between 2 and 5 seconds', async () => {
    const { app, stream } = await opened();
    const streams = await Promise.all(Array.from({ length: 30 }, () => another(app)));
    await Promise.all(streams.map((one) => one.until(() => one.retry !== undefined)));
    const all = [stream, ...streams].map(({ retry }) => retry!);
    for (const retry of all) {
      expect(retry).toBeGreaterThanOrEqual(2000);
      expect(retry).toBeLessThanOrEqual(5000);
    }
    expect(new Set(all).size).toBeGreaterThan(15);
  });

  test.each([
    [7, ':\nretry: 7\n'],
    [{ min: 9, max: 9 }, ':\nretry: 9\n'],
    [false, ':\n'],
  ] as const)('retry: %j opens with %j', async (retry, opening) => {
    const { stream, conn } = await opened(() => {}, { history: false, retry });
    conn.push('x');
    await stream.next();
    expect(stream.text).toBe(`${opening}data: x\n\n`);
  });
});

describe('maxAge', () => {
  test('the stream ends normally, and the client keeps its id', async () => {
    stopTime();
    const { stream, conn, events } = await opened(() => {}, { maxAge: 60_000, heartbeat: false });
    const id = await events.broadcast('x');
    await stream.take(2);
    await advance(59_000);
    expect(conn.readyState).toBe('open');
    await advance(1100);
    expect(await stream.closed).toBe('end');
    expect(await overOf(conn)).toBe('expired');
    expect(stream.events).toHaveLength(2); // no `end` event
    expect(stream.lastEventId).toBe(id);
    expect(events.stats()).toMatchObject({ connections: 0, closed: { expired: 1 } });
  });

  test('with a range, each connection gets an age of its own', async () => {
    stopTime();
    const { app, events } = await opened(() => {}, { maxAge: { min: 10_000, max: 20_000 }, heartbeat: false });
    for (let n = 0; n < 30; n++) await another(app);
    await advance(9900);
    expect(events.size).toBe(31);
    const left: number[] = [];
    for (let second = 0; second < 11; second++) {
      await advance(1000);
      left.push(events.size);
    }
    expect(new Set(left).size).toBeGreaterThan(4);
    expect(left.at(-1)).toBe(0);
  });

  test('a client that does not read is disconnected as well', async () => {
    const { stream, conn, events } = await opened(() => {}, { ...BARE, maxAge: 1000, maxBuffered: 1e9 });
    stream.pause();
    await choke(conn);
    const { socket } = conn.request;
    await eventually(() => events.size === 0);
    await eventually(() => socket.destroyed);
    expect(await overOf(conn)).toBe('expired');
  });
});

describe('limits while the journal is not open', () => {
  /** A router whose journal opens when the test says so. */
  async function waitingSite(limits: NonNullable<SseOptions['limits']>, more: SseOptions = {}) {
    const { pass, open } = gate();
    const { journal } = journalWithFollower();
    const openJournal = journal.open.bind(journal);
    journal.open = () => pass.then(openJournal);
    const events = sse((conn) => void conn.push('x'), { history: journal, limits, ...more });
    later(() => events.close());
    later(open);
    const app = appOf(events);
    app.set('trust proxy', true);
    const { port, url } = await listening(app);
    const connecting = (count: number) => eventually(() => events.stats().connecting === count);
    return { events, port, url, open, connecting };
  }

  test('requests that wait for it count, and the next one is refused at once', async () => {
    const { events, port, url, open, connecting } = await waitingSite({ connections: 2 });
    const waiting = [new Raw(port).get('/events'), new Raw(port).get('/events')];
    await connecting(2);
    expect((await ask(url)).text).toMatch(/^: full\nretry: \d+\n$/);
    expect(events.stats()).toMatchObject({ connections: 0, connecting: 2, refused: { connections: 1 } });
    open();
    for (const raw of waiting) await raw.until('data: x');
    expect(events.stats()).toMatchObject({ connections: 2, connecting: 0 });
    expect((await ask(url)).text).toContain(': full');
  });

  test('they count for their client', async () => {
    const { port, open, connecting } = await waitingSite({ perClient: 1 });
    const from = (ip: string): Raw => new Raw(port).get('/events', `X-Forwarded-For: ${ip}`);
    const first = from('192.0.2.1');
    await connecting(1);
    await from('192.0.2.1').until('too many connections of one client');
    const other = from('192.0.2.2');
    await connecting(2);
    open();
    await Promise.all([first.until('data: x'), other.until('data: x')]);
  });

  test('a client that disconnects meanwhile makes way at once', async () => {
    const { events, port, open, connecting } = await waitingSite({ connections: 1 });
    const first = new Raw(port).get('/events');
    await connecting(1);
    first.socket.destroy();
    await connecting(0);
    const second = new Raw(port).get('/events');
    await connecting(1);
    open();
    await second.until('data: x');
    expect(events.stats()).toMatchObject({ connections: 1, connecting: 0, refused: { connections: 0 } });
  });

  test('close() does not wait for them', async () => {
    const { events, port, connecting } = await waitingSite({ connections: 1 });
    const raw = new Raw(port).get('/events');
    await connecting(1);
    const start = performance.now();
    await events.close();
    expect(performance.now() - start).toBeLessThan(5000);
    await raw.until('retry: ');
    await connecting(0);
  });

  test('the age of a stream is that of its opening', async () => {
    const ages = [60_000, 0];
    const { port, open, connecting } = await waitingSite({ connections: 1 }, { maxAge: () => ages.shift()! });
    const raw = new Raw(port).get('/events');
    await connecting(1);
    open();
    await raw.until('\r\n0\r\n'); // the end of the body
    expect(raw.text).not.toContain('data: x'); // it has expired
  });
});

describe('limits', () => {
  const RETRY_LATER = /^: ?[^\n]*(full|too many)[^\n]*\nretry: (\d+)\n$/;

  async function site(limits: SseOptions['limits'], more: SseOptions = {}, handler: AnyHandler = () => {}) {
    const events = sse((conn, req, res) => handler(conn, req, res) as void, { ...more, limits });
    later(() => events.close());
    const app = appOf(events);
    app.set('trust proxy', true);
    const { url, port } = await listening(app);
    return { events, url, port };
  }
  const as = (ip: string): { headers: Record<string, string> } => ({ headers: { 'x-forwarded-for': ip } });

  test('over `connections`: an empty stream with a retry delay, until a connection closes', async () => {
    const { events, url } = await site({ connections: 2 });
    const two = await Promise.all([connect(url), connect(url)]);
    const retries = new Set<string>();
    for (let n = 0; n < 5; n++) {
      const answer = await ask(url);
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
      expect(answer.text).toMatch(RETRY_LATER);
      retries.add(RETRY_LATER.exec(answer.text)![2]!);
    }
    expect(retries.size).toBeGreaterThan(2);
    expect(events.stats()).toMatchObject({ connections: 2, opened: 2, refused: { connections: 5 } });
    await two[0].close();
    await eventually(() => events.size === 1);
    const third = await connect(url);
    await eventually(() => events.size === 2);
    await Promise.all([two[1].close(), third.close()]);
  });

  test('over `perClient`, by req.ip: other clients are not affected', async () => {
    const { events, url } = await site({ perClient: 1 });
    const one = await connect(url, undefined, as('192.0.2.1'));
    const refused = (await ask(url, as('192.0.2.1'))).text;
    expect(refused).toMatch(RETRY_LATER);
    expect(refused).toContain('behind a proxy, set Express');
    const other = await connect(url, undefined, as('192.0.2.2'));
    await eventually(() => events.size === 2);
    await one.close();
    await eventually(() => events.size === 1);
    const again = await connect(url, undefined, as('192.0.2.1'));
    await eventually(() => events.size === 2);
    await Promise.all([other.close(), again.close()]);
  });

  test.each([
    ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', true],
    ['2001:db8:1:2::1', '2001:0DB8:0001:0002::1', true],
    ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
    ['::ffff:192.0.2.1', '192.0.2.1', true],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.2', false],
    ['::ffff:cb00:7109', '203.0.113.9', true],
    ['0:0:0:0:0:ffff:203.0.113.9', '::FFFF:CB00:7109', true],
    ['::ffff:cb00:7109', '::ffff:cb00:710a', false],
    ['0:0:0:0:0:ffff:203.0.113.9', '0:0:0:0:0:ffff:203.0.113.10', false],
    ['203.0.113.9:50001', '203.0.113.9:50002', true],
    ['203.0.113.9:50001', '203.0.113.9', true],
    ['203.0.113.9:50001', '203.0.113.10:50001', false],
    ['[2001:db8::7]:443', '[2001:db8::7]:50001', true],
    ['[2001:db8::7]:443', '2001:db8::7', true],
    ['[2001:db8::7]:443', '[2001:db8:0:1::7]:443', false],
    ['[::ffff:203.0.113.9]:443', '203.0.113.9', true],
    ['fe80::1%eth0', 'fe80::1%eth1', true],
    ['fe80::1%eth0', 'fe80::2%eth0', false],
    ['::203.0.113.9', '203.0.113.9', true],
    ['1:2:3:4:5::192.0.2.1', '1:2:3:4:6::192.0.2.2', true],
    ['64:ff9b::203.0.113.9', '203.0.113.9', true],
    ['64:ff9b::203.0.113.9', '64:ff9b::203.0.113.10', false],
    ['::ffff:0:203.0.113.9', '::ffff:0:203.0.113.10', false],
    ['2002:cb00:7109:1::1', '2002:cb00:7109:2::1', true],
    ['2001:0:1:2:3:4:34ff:8ef6', '203.0.113.9', true],
    ['::1', '127.0.0.1', false],
    ['client-a', 'client-b', false],
    ['client-a', 'client-a', true],
    ['localhost:1', 'localhost:2', true],
  ])('%s and %s are one client: %s', async (one, other, same) => {
    const { url } = await site({ perClient: 1 });
    const stream = await connect(url, undefined, as(one));
    const second = await connect(url, undefined, as(other));
    await second.until(() => second.retry !== undefined);
    expect(RETRY_LATER.test(second.text)).toBe(same);
    await Promise.all([stream.close(), second.close()]);
  });

  test.each(['unknown', 'unix:'])(
    'with `perClient`, requests whose address is %s are not counted together',
    async (ip) => {
      const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
      const { url, events } = await site({ perClient: 1 });
      const two = await Promise.all([connect(url, undefined, as(ip)), connect(url, undefined, as(ip))]);
      await eventually(() => events.size === 2);
      expect(warned).toHaveBeenCalledTimes(1);
      await Promise.all(two.map((stream) => stream.close()));
    },
  );

  test('with `perClient`, requests over a Unix socket are not counted, and one warning contains the cure', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const events = sse({ limits: { perClient: 1 } });
    later(() => events.close());
    const socketPath = join(await mkdtemp(join(tmpdir(), 'sse-')), 'socket');
    const server = createServer(appOf(events)).listen(socketPath);
    later(() => rm(dirname(socketPath), { recursive: true }));
    later(() => server.close());
    await once(server, 'listening');
    const two = await Promise.all([connect(server, '/events'), connect(server, '/events')]);
    await eventually(() => events.size === 2);
    expect(warned.mock.calls).toEqual([
      [
        expect.stringMatching(/limits\.perClient .*received undefined.*trust proxy.*clientKey/),
        { code: 'SSE_CLIENT_UNKNOWN' },
      ],
    ]);
    await Promise.all(two.map((stream) => stream.close()));
  });

  test('`clientKey` identifies a client', async () => {
    const { url } = await site({ perClient: 1, clientKey: (req) => String(req.headers['x-user']) });
    const stream = await connect(url, undefined, { headers: { 'x-user': 'a' } });
    expect((await ask(url, { headers: { 'x-user': 'a' } })).text).toMatch(RETRY_LATER);
    const other = await connect(url, undefined, { headers: { 'x-user': 'b' } });
    await other.until(() => other.text.includes('retry'));
    expect(other.text).not.toMatch(RETRY_LATER);
    await Promise.all([stream.close(), other.close()]);
  });

  test("a `clientKey` of '' identifies one client as well", async () => {
    const { url } = await site({ perClient: 1, clientKey: () => '' });
    const stream = await connect(url);
    expect((await ask(url)).text).toMatch(RETRY_LATER);
    await stream.close();
  });

  test('a `clientKey` that throws causes an error in Express, and counts in no limit', async () => {
    const { url, events } = await site({
      perClient: 1,
      clientKey: () => {
        throw new Error('no session');
      },
    });
    expect((await ask(url)).status).toBe(500);
    expect(events.stats()).toMatchObject({ connecting: 0, opened: 0 });
  });

  test.each([
    ['a promise', async () => 'a'],
    ['undefined', () => undefined],
    ['null', () => null],
  ])('a `clientKey` that returns %s causes an error in Express', async (_what, clientKey) => {
    const { url, events } = await site({ perClient: 1, clientKey: clientKey as never });
    expect((await ask(url)).status).toBe(500);
    expect(events.stats()).toMatchObject({ connecting: 0, opened: 0 });
  });

  test.each([
    [{ connections: 1 }, 503],
    [{ perClient: 1 }, 429],
  ])('whenFull: reject, with %j: %i and a jittered Retry-After', async (limits, status) => {
    const { url, events } = await site({ ...limits, whenFull: 'reject' });
    const stream = await connect(url);
    const delays = new Set<string>();
    for (let n = 0; n < 20; n++) {
      const answer = await ask(url);
      expect(answer.status).toBe(status);
      expect(answer.headers.get('content-type')).not.toContain('event-stream');
      expect(answer.headers.get('retry-after')).toMatch(/^[2-5]$/);
      delays.add(answer.headers.get('retry-after')!);
    }
    expect(delays.size).toBeGreaterThan(1);
    expect(events.stats()).toMatchObject({ connections: 1, refused: { [Object.keys(limits)[0]!]: 20 } });
    await stream.close();
  });

  test('a connection that is still connecting counts, until its client disconnects', async () => {
    const { url, events } = await site({ connections: 1 }, {}, () => new Promise(() => {}));
    const abort = new AbortController();
    const waiting = fetch(url, { signal: abort.signal }).catch(() => 'left');
    await eventually(() => events.stats().connecting === 1);
    expect((await ask(url)).text).toMatch(RETRY_LATER);
    abort.abort();
    expect(await waiting).toBe('left');
    await eventually(() => events.stats().connecting === 0);
    const second = fetch(url, { signal: AbortSignal.timeout(500) }).catch(() => 'given up');
    await eventually(() => events.stats().connecting === 1);
    await second;
  });

  test.each<[what: string, options: SseOptions, requests: string[]]>([
    ['a middleware', {}, ['GET /wait/events']],
    ['the check of its origin', { cors: { origin: (_origin, answer) => allowLater(answer) } }, ['GET /events']],
    ['a middleware, behind another request on its socket', {}, ['GET /never', 'GET /wait/events']],
  ])(
    'a client that disconnects while its request waits for %s is never registered',
    async (_what, options, requests) => {
      const handler = jest.fn();
      const events = sse(handler, { limits: { connections: 1, perClient: 1 }, ...options });
      later(() => events.close());
      const entered = gate();
      const disconnected = gate();
      wait = async (go) => {
        entered.open();
        await disconnected.pass;
        go();
      };
      const app = express();
      app.get('/never', () => {});
      app.use('/wait', (_req, _res, next) => wait(next));
      app.use(['/wait/events', '/events'], events);
      const { port, server } = await listening(app);
      const closed = new Promise<void>((resolve) =>
        server.once('connection', (at) => at.once('close', () => resolve())),
      );
      const lines = requests.map((request) => `${request} HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n\r\n`);
      const socket = dial(port, '127.0.0.1', () => socket.write(lines.join('')));
      await entered.pass;
      socket.destroy();
      await closed;
      disconnected.open();
      await tick();
      await tick();
      expect(handler).not.toHaveBeenCalled();
      expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
    },
  );

  test.each<[what: string, handler: AnyHandler]>([
    ['answers the request itself', (_conn, _req, res) => void res.sendStatus(403)],
    [
      'throws',
      () => {
        throw new Error('no');
      },
    ],
    ['rejects', () => Promise.reject(new Error('no'))],
    ['closes', (conn) => conn.close()],
    ['ends', (conn) => conn.end()],
  ])('the connection of a handler that %s counts no longer', async (_what, handler) => {
    const { url, events } = await site({ connections: 1, perClient: 1 }, {}, handler);
    for (let n = 0; n < 3; n++) expect((await ask(url)).text).not.toMatch(RETRY_LATER);
    expect(events.stats()).toMatchObject({
      connections: 0,
      connecting: 0,
      refused: { connections: 0, perClient: 0, shutdown: 0 },
    });
  });
});

describe('a disconnect of the client', () => {
  /** Connects many clients that read everything. */
  const connectMany = (port: number, size: number): Socket[] =>
    Array.from({ length: size }, () => {
      const socket = dial(port, '127.0.0.1').on('error', () => {});
      socket.resume().write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n');
      return socket;
    });

  test.each<[how: string, leave: (raw: Raw) => void]>([
    ['a FIN', (raw) => raw.socket.destroy()],
    ['an RST', (raw) => raw.socket.resetAndDestroy()],
    ['a half-close', (raw) => raw.socket.end()],
  ])('%s is noticed at once: the signal aborts once, and the registry is empty', async (_how, leave) => {
    const { app, events, stream } = await opened();
    await stream.close();
    const { port } = await listening(app);
    await eventually(() => events.size === 0);
    const raw = new Raw(port).get('/events');
    await eventually(() => events.size === 1);
    const [conn] = events.connections as ReadonlySet<Connection>;
    conn!.join('room');
    const abort = jest.fn();
    conn!.signal.addEventListener('abort', abort);
    leave(raw);
    await eventually(() => events.size === 0, 1000); // not at a heartbeat
    expect(abort).toHaveBeenCalledTimes(1);
    expect(conn!.signal.reason).toBe('client');
    expect(conn).toMatchObject({ readyState: 'closed', bufferedBytes: 0 });
    expect(conn!.push('late')).toBe(false);
    expect(events.stats()).toMatchObject({ connections: 0, channels: 0, behind: 0, closed: { client: 2 } });
  });

  test('pushes at full speed throw nothing while the client disconnects', async () => {
    const { app, events } = await opened();
    const { port } = await listening(app);
    for (let n = 0; n < 10; n++) {
      const raw = new Raw(port).get('/events');
      await eventually(() => events.size === 2);
      const conn = [...events.connections].at(-1)!;
      setImmediate(() => raw.socket.resetAndDestroy());
      while (conn.push('x'.repeat(1000)) || conn.readyState !== 'closed') await tick();
      await eventually(() => events.size === 1);
    }
    expect(events.stats().closed).toMatchObject({ client: 10, error: 0 });
  });

  test('an onError that throws does not prevent the close', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { events, conn, stream } = await opened(
      async function* () {
        yield 'one';
        await tick();
        throw new Error('of the source');
      } as AnyHandler,
      {
        onError() {
          throw new Error('of onError');
        },
      },
    );
    expect((await stream.next()).data).toBe('one');
    expect(await stream.closed).toBe('end');
    expect(await overOf(conn)).toBe('error');
    expect(events.size).toBe(0);
    expect(warned).toHaveBeenCalledWith(expect.objectContaining({ message: 'of onError' }));
  });

  test('clients that disconnect at once, or while events flow, are removed', async () => {
    const { app, events } = await opened((conn) => {
      const push = (): unknown => conn.push('x');
      push();
      const more = setInterval(push, 1);
      conn.signal.addEventListener('abort', () => clearInterval(more));
    });
    const { port } = await listening(app);
    for (let n = 0; n < 50; n++) {
      const raw = new Raw(port).get('/events');
      if (n % 2) await raw.until('data: x');
      else await new Promise((resolve) => raw.socket.once('connect', resolve));
      raw.socket.resetAndDestroy();
    }
    await eventually(() => events.size === 1 && events.stats().connecting === 0);
  });

  test('2,000 clients that reset their sockets at once are removed, and each signal aborts once', async () => {
    let aborts = 0;
    const { app, events } = await opened((conn) => conn.signal.addEventListener('abort', () => aborts++));
    const { port } = await listening(app);
    const sockets: Socket[] = [];
    while (sockets.length < 2000) {
      sockets.push(...connectMany(port, 400)); // more would overflow the kernel's backlog
      await eventually(() => events.size === 1 + sockets.length, 10_000);
    }
    const before = process.cpuUsage();
    for (const socket of sockets) socket.resetAndDestroy();
    await eventually(() => events.size === 1, 10_000);
    const { user, system } = process.cpuUsage(before); // CPU time, because other processes may use the core meanwhile
    expect((user + system) / 1000).toBeLessThan(2000);
    await tick();
    expect(aborts).toBe(2000);
    expect(events.stats()).toMatchObject({ connections: 1, connecting: 0, behind: 0, closed: { client: 2000 } });
  });

  test('10,000 connections open and close, and leave no timer, socket or listener', async () => {
    const { app, events } = await opened((conn) => {
      conn.join('everyone', `user-${conn.id}`);
      conn.push('hi');
    });
    const { port, server } = await listening(app);
    const counts = (): unknown => ({
      timers: process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length,
      sockets: process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length,
      server: server.eventNames().map((name) => [name, server.listenerCount(name)]),
      process: process.eventNames().map((name) => [name, process.listenerCount(name)]),
      registry: [events.size, events.stats().connecting, events.stats().channels, events.stats().behind],
    });
    const wave = async (size: number): Promise<void> => {
      const before = events.stats().opened;
      const sockets = connectMany(port, size);
      await eventually(() => events.stats().opened === before + size, 10_000);
      const closed = sockets.map((socket) => once(socket, 'close'));
      for (const [n, socket] of sockets.entries()) {
        if (n % 2) socket.destroy();
        else socket.resetAndDestroy();
      }
      await Promise.all(closed);
      await eventually(() => events.size === 1);
    };
    const before = counts(); // before the first wave: after one, a socket that closes late would count as existing
    for (let n = 0; n < 25; n++) await wave(400);
    await eventually(counts, 10_000, (now) => JSON.stringify(now) === JSON.stringify(before)).catch(() => {});
    expect(counts()).toEqual(before);
    expect(events.stats()).toMatchObject({ opened: 10_001, closed: { client: 10_000 } });
    expect(events.stats().channels).toBe(2); // those of the remaining connection
  }, 60_000);

  test('1,000 clients that reconnect at once with their ids each receive what they missed', async () => {
    const { app, events } = await opened(() => {});
    const { port } = await listening(app);
    const id = await events.broadcast('before');
    await events.broadcast('missed');
    const reconnect = (): Raw => new Raw(port).get('/events', `Last-Event-ID: ${id}`);
    const raws = Array.from({ length: 500 }, reconnect);
    await eventually(() => events.size === 501, 10_000);
    raws.push(...Array.from({ length: 500 }, reconnect));
    await eventually(() => events.size === 1001, 10_000);
    await events.broadcast('live');
    await Promise.all(raws.map((raw) => raw.until('data: live\n\n', 10_000)));
    for (const raw of raws) expect(raw.text.match(/(?<=data: ).*/g)).toEqual(['missed', 'live']);
    expect(events.stats().resumes.resumed).toBe(1000);
  });
});
