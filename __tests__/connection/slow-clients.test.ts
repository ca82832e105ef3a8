import compression from 'compression';
import { randomBytes } from 'node:crypto';
import express from 'express';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type TestStream } from '../../lib/testing/index.ts';
import { another, appOf, BARE, choke, later, opened, overOf, tick } from '../fixtures/support.ts';
import { clock, eventually, pause } from '../fixtures/http.ts';

const BIG = 'x'.repeat(65_536);

/** Returns a router behind this middleware, and one open stream. */
async function behind(front: express.RequestHandler[], options: SseOptions) {
  let conn!: Connection;
  const events: SseRouter = sse((one) => void (conn = one), options);
  later(() => events.close());
  const app = express();
  app.use(...(front as [express.RequestHandler]), events);
  const stream: TestStream = await connect(app, '/', { headers: { 'accept-encoding': 'gzip' } });
  later(() => stream.close());
  await eventually(() => events.size === 1);
  return { events, conn, stream };
}

const pass: express.RequestHandler = (_req, _res, next) => next();
const wrapped: express.RequestHandler = (_req, res, next) => {
  const write = res.write.bind(res);
  res.write = ((...how: Parameters<typeof write>) => write(...how)) as typeof res.write;
  next();
};

describe.each<[front: string, handler: express.RequestHandler, options: SseOptions]>([
  ['nothing', pass, {}],
  ['compression() that does not compress', compression(), {}],
  ['compression() that compresses', compression({ level: 1 }), { headers: { 'Cache-Control': 'no-cache' } }],
  ['a wrapper of res.write', wrapped, {}],
])('with %s in front', (_front, handler, options) => {
  test('1,500 pushes of 64 KiB to a client that does not read: its buffer is bounded, then it is disconnected', async () => {
    const { events, conn, stream } = await behind([handler], { ...BARE, ...options, maxBuffered: 1_000_000 });
    stream.pause();
    const { socket } = conn.request;
    let most = 0;
    for (let n = 0; n < 1500 && conn.readyState === 'open'; n++) {
      conn.push(randomBytes(32_768).toString('hex'));
      most = Math.max(most, conn.bufferedBytes, socket.writableLength);
      await tick();
    }
    expect(await overOf(conn)).toBe('slow');
    expect(most).toBeLessThan(1_000_000 + 3 * 65_600);
    expect(conn).toMatchObject({ readyState: 'closed', bufferedBytes: 0 });
    expect(conn.push('late')).toBe(false);
    expect(socket.destroyed).toBe(true);
    expect(events.stats()).toMatchObject({ connections: 0, behind: 0, bufferedBytes: 0, closed: { slow: 1 } });
    stream.resume();
    expect(await stream.closed).toBe('cut');
  });

  test('1,500 broadcasts of 64 KiB to a client that does not read: its buffer stays small, and it stays connected', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { events, conn, stream } = await behind([handler], { ...options, maxBuffered: 1000, retry: 1000 });
    stream.pause();
    const { socket } = conn.request;
    let most = 0;
    for (let n = 0; n < 1500; n++) {
      await events.broadcast(n % 2 ? BIG : randomBytes(32_768).toString('hex'));
      if (n % 4 === 0) await tick();
      most = Math.max(most, conn.bufferedBytes, socket.writableLength);
    }
    expect(most).toBeLessThan(600_000);
    expect(conn.readyState).toBe('open');
    // The compressor may just have accepted a reset into its own buffers. A few more events fill them again.
    for (let n = 0; n < 50 && events.stats().behind === 0; n++) {
      await events.broadcast(randomBytes(32_768).toString('hex'));
      await tick();
    }
    expect(events.stats().behind).toBe(1);
    stream.resume();
    await stream.until(() => stream.events.some(({ event }) => event === 'reset'), 10_000);
    await events.broadcast('live');
    await stream.until(() => stream.events.at(-1)!.data === 'live');
    const reset = stream.events.find(({ event }) => event === 'reset')!;
    expect(reset.json).toMatchObject({ reason: 'lost' });
    await eventually(() => events.stats().behind === 0);
    expect(warned).not.toHaveBeenCalled(); // about too many listeners
  });

  test('a client that stops reading for a while receives what it missed, once and in order', async () => {
    const { events, stream } = await behind([handler], {
      ...options,
      history: { size: 1e6, maxBytes: 1e9 },
      maxBuffered: 1000,
    });
    stream.pause();
    for (let n = 0; n < 400; n++) {
      const text = `${n} ${n % 2 ? BIG : randomBytes(32_768).toString('hex')}`;
      await events.broadcast(text);
      if (n % 2) await tick();
    }
    expect(events.stats().behind).toBe(1);
    stream.resume();
    await stream.until(() => stream.events.at(-1)?.data.startsWith('399 ') ?? false, 10_000);
    expect(stream.events.slice(1).map(({ data }) => Number.parseInt(data, 10))).toEqual(
      Array.from({ length: 400 }, (_, n) => n),
    );
  });
});

test('push() returns false while the client is behind, and drained() resolves afterwards', async () => {
  const { conn, stream, events } = await opened(() => {}, { ...BARE, maxBuffered: 1e9 });
  expect(conn.push('x')).toBe(true);
  await conn.drained(); // at once
  stream.pause();
  await choke(conn);
  expect(conn.push('x')).toBe(false);
  expect(events.stats().behind).toBe(1);
  expect(events.stats().bufferedBytes).toBe(conn.bufferedBytes);
  const drained = conn.drained();
  stream.resume();
  await drained;
  expect(conn.push('y')).toBe(true);
  expect(events.stats().behind).toBe(0);
});

test.each<[how: string, leave: (all: { conn: Connection; stream: TestStream }) => unknown]>([
  ['the client disconnects', ({ stream }) => stream.cut()],
  ['close()', ({ conn }) => conn.close()],
  ['end()', ({ conn }) => conn.end()],
])('drained() settles when the connection closes: %s', async (_how, leave) => {
  const { conn, stream } = await opened(() => {}, { ...BARE, maxBuffered: 1e9 });
  stream.pause();
  await choke(conn);
  const drained = Promise.all([conn.drained(), conn.drained()]);
  leave({ conn, stream });
  await drained;
  expect(conn.readyState).toBe('closed');
  await conn.drained();
});

test('channels that are joined or left while the client is behind apply only to later broadcasts', async () => {
  const { conn, events, stream } = await opened((one) => one.join('room', 'x', 'y'), { maxBuffered: 1e9 });
  stream.pause();
  await choke(conn);
  await events.broadcast('not for x', { except: 'x' });
  await events.broadcast('for the room, without the muted', { to: 'room', except: 'muted' });
  await events.broadcast('for z', { to: 'z' });
  conn.leave('x', 'y');
  conn.join('muted', 'z');
  conn.leave('muted', 'z');
  conn.join('x');
  conn.leave('x');
  conn.join('muted', 'z');
  await events.broadcast('for the room, still without the muted', { to: 'room', except: 'muted' });
  await events.broadcast('for y', { to: 'y' });
  await events.broadcast('still not for x', { except: 'x' });
  conn.leave('muted');
  conn.join('x');
  await events.broadcast('not for x', { except: 'x' });
  await events.broadcast('for clients that are no longer muted', { except: 'muted' });
  await events.broadcast('for z now', { to: 'z' });
  stream.resume();
  await stream.until(({ events: all }) => all.at(-1)?.data === 'for z now');
  const all = stream.events.map(({ data }) => data).filter((text) => /^(still|not|for) /.test(text));
  expect(all).toEqual([
    'for the room, without the muted',
    'still not for x',
    'for clients that are no longer muted',
    'for z now',
  ]);
});

test('one of 100 clients does not read: the others receive a broadcast within 100 ms', async () => {
  const { app, events, conn, stream } = await opened(() => {}, { maxBuffered: 1e9 });
  stream.pause();
  await choke(conn);
  const others = await Promise.all(Array.from({ length: 99 }, () => another(app)));
  const waits: number[] = [];
  for (let n = 0; n < 5; n++) {
    const start = clock();
    await events.broadcast(`#${n}`);
    await Promise.all(others.map((other) => other.until(() => other.events.at(-1)?.data === `#${n}`)));
    waits.push(clock() - start);
  }
  expect(Math.min(...waits)).toBeLessThan(100);
  expect(events.stats()).toMatchObject({ connections: 100, behind: 1 });
  for (const other of others)
    expect(other.events.slice(1).map(({ data }) => data)).toEqual(['#0', '#1', '#2', '#3', '#4']);
});

test('a client that reads survives any burst within one tick, and any single event', async () => {
  const { conn, stream } = await opened(() => {}, { ...BARE, maxBuffered: 1 });
  for (let n = 0; n < 200; n++) conn.push(`${n} ${BIG}`);
  await stream.take(200, 10_000);
  expect(stream.events.map(({ data }) => Number.parseInt(data, 10))).toEqual(Array.from({ length: 200 }, (_, n) => n));
  await conn.drained();
  const large = 'é'.repeat(4_000_000);
  conn.push(large);
  expect((await stream.next(10_000)).data === large).toBe(true);
  expect(conn.readyState).toBe('open');
});

describe('slowTimeout', () => {
  const stopTime = (): void => void jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });

  test.each<[what: string, options: SseOptions, before: number, after: number]>([
    ['30 seconds by default', {}, 29_000, 2000],
    ['the configured time', { slowTimeout: 5000 }, 4500, 1000],
  ])(
    'a client that accepts no byte while data is pending is disconnected: after %s',
    async (_what, options, before, after) => {
      stopTime();
      const { conn, stream, events } = await opened(() => {}, { ...BARE, maxBuffered: 1e9, ...options });
      stream.pause();
      await choke(conn);
      await jest.advanceTimersByTimeAsync(before);
      expect(conn.readyState).toBe('open');
      await jest.advanceTimersByTimeAsync(after);
      expect(await overOf(conn)).toBe('slow');
      expect(conn.request.socket.destroyed).toBe(true);
      expect(events.stats()).toMatchObject({ connections: 0, behind: 0, closed: { slow: 1 } });
    },
  );

  test('a client without pending data may accept nothing for any time', async () => {
    stopTime();
    const { conn, stream } = await opened(() => {}, { ...BARE, slowTimeout: 1000 });
    stream.pause();
    await jest.advanceTimersByTimeAsync(100_000);
    expect(conn.readyState).toBe('open');
  });

  test('a client that is slow but accepts bytes is not disconnected', async () => {
    const { conn, stream } = await opened(() => {}, { ...BARE, slowTimeout: 700, maxBuffered: 1e9 });
    stream.pause();
    await choke(conn);
    for (let n = 0; n < 300; n++) conn.push(BIG);
    for (let n = 0; n < 5; n++) {
      const { length } = stream.events;
      stream.resume();
      await stream.until(() => stream.events.length > length + 32);
      stream.pause();
      await pause(300);
    }
    expect(conn.readyState).toBe('open');
    expect(conn.bufferedBytes).toBeGreaterThan(0);
  });
});

test('a client that was disconnected returns with its id, and receives everything', async () => {
  const { events, conn, stream } = await opened((one) => one.join('room'), { slowTimeout: 100, maxBuffered: 1e9 });
  await events.broadcast('one', { to: 'room' });
  await stream.take(2);
  stream.pause();
  await choke(conn);
  await events.broadcast('two', { to: 'room' });
  expect(await overOf(conn)).toBe('slow');
  stream.resume();
  expect(await stream.closed).toBe('cut');
  const again = await stream.reconnect();
  later(() => again.close());
  expect(await again.next()).toMatchObject({ event: 'message', data: 'two' });
});

test('a replay of 50 MB is sent no faster than the client reads', async () => {
  const { events, stream } = await opened(() => {}, { history: { size: 1e6, maxBytes: 1e9 }, maxBuffered: 1000 });
  const id = await events.broadcast('before');
  await stream.close();
  await eventually(() => events.size === 0);
  for (let n = 0; n < 800; n++) await events.broadcast(`${n} ${BIG}`);
  const again = await connect(appOf(events), '/events', { lastEventId: id });
  later(() => again.close());
  again.pause();
  const [conn] = events.connections;
  let most = 0;
  for (let n = 0; n < 200; n++) {
    most = Math.max(most, conn!.bufferedBytes, conn!.request.socket.writableLength);
    await tick();
  }
  expect(most).toBeLessThan(600_000);
  again.resume();
  await again.until(() => again.events.at(-1)?.data.startsWith('799 ') ?? false, 10_000);
  expect(again.events.map(({ data }) => Number.parseInt(data, 10))).toEqual(Array.from({ length: 800 }, (_, n) => n));
});
