/*
 * close({ wait }): an answer that is being produced has this time to finish. After it, it is broken off.
 */

import { sse, type SseOptions } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { clock, eventually, pause, serve } from '../fixtures/http.ts';
import { type AnyHandler, codeOf, later, opened, overOf, tick } from '../fixtures/support.ts';

const OPTIONS: SseOptions = {
  methods: ['GET', 'POST'],
  controlEvents: false,
  history: false,
  heartbeat: false,
  retry: 9,
};

/** A handler that says that it is `done` a while after it has begun. */
const takes = (ms: number): AnyHandler =>
  async function* () {
    yield 'begun';
    await (ms === Infinity ? new Promise(() => {}) : pause(ms));
    yield 'done';
  } as AnyHandler;

async function site(handler: AnyHandler, options: SseOptions = OPTIONS) {
  const events = sse((conn, req, res) => handler(conn, req, res) as void, options);
  later(() => events.close());
  const { url } = await serve((app) => app.use('/events', events));
  const visit = async (query = '', method: 'GET' | 'POST' = 'POST') => {
    const stream = await connect(`${url}/events${query}`, undefined, { method });
    later(() => stream.close());
    return stream;
  };
  return { events, visit };
}

test('a generator that finishes within the time ends its answer normally, and is not waited for any longer', async () => {
  const { events, visit } = await site(takes(150));
  const stream = await visit();
  const start = clock();
  await events.close({ wait: 5000 });
  expect(clock() - start).toBeGreaterThan(90);
  expect(clock() - start).toBeLessThan(2000);
  expect(await stream.closed).toBe('end');
  expect(stream.text).toBe(':\nretry: 9\ndata: begun\n\ndata: done\n\n');
  expect(events.stats().closed).toMatchObject({ end: 1, shutdown: 0 });
});

test('one that does not finish is broken off after the time', async () => {
  const { events, visit } = await site(takes(Infinity));
  const stream = await visit();
  const start = clock();
  await events.close({ wait: 200 });
  expect(clock() - start).toBeGreaterThan(190);
  expect(clock() - start).toBeLessThan(2000);
  expect(await stream.closed).toBe('cut');
  expect(stream.text).toBe(':\nretry: 9\ndata: begun\n\nretry: 9\n');
  expect(events.stats().closed).toMatchObject({ shutdown: 1 });
});

test('by default there is no time', async () => {
  const { events, visit } = await site(takes(Infinity));
  const stream = await visit();
  const start = clock();
  await events.close();
  expect(clock() - start).toBeLessThan(1000);
  expect(await stream.closed).toBe('cut');
});

test('with control events, a generator has the time as well, and the end event if it finishes', async () => {
  const { events, visit } = await site(
    (_conn, req, res) => takes(req.query.slow ? Infinity : 100)(_conn, req, res),
    {},
  );
  const [quick, slow] = [await visit('', 'GET'), await visit('?slow=1', 'GET')];
  await events.close({ wait: 400 });
  expect(await quick.closed).toBe('end');
  expect(quick.events.at(-1)!.event).toBe('end');
  expect(await slow.closed).toBe('end');
  expect(slow.events.at(-1)!.data).toBe('begun');
});

test('a handler that still waits for its first token has the time as well', async () => {
  const { events, visit } = await site(async (conn) => {
    await pause(150);
    conn.push('first');
    conn.end();
  });
  const opening = visit();
  await eventually(() => events.stats().connecting === 1);
  await events.close({ wait: 3000 });
  const stream = await opening;
  expect(stream.status).toBe(200);
  expect(await stream.body()).toContain('data: first\n\n');
  expect(await stream.closed).toBe('end');
});

test('pushAll after pushAll, and the end() behind them, belong to the answer', async () => {
  const { events, visit } = await site((conn) => {
    void (async () => {
      for (const word of ['a', 'b', 'c']) {
        await conn.pushAll(
          (async function* () {
            await pause(40);
            yield word;
          })(),
        );
      }
      conn.end();
    })();
    conn.open();
  });
  const stream = await visit();
  await events.close({ wait: 3000 });
  expect(await stream.closed).toBe('end');
  expect(stream.text).toBe(':\nretry: 9\ndata: a\n\ndata: b\n\ndata: c\n\n');
});

test('a stream that stays open after its source is exhausted ends then', async () => {
  const { events, visit } = await site(async (conn) => {
    conn.push('begun');
    await pause(150);
  });
  const stream = await visit();
  const start = clock();
  await events.close({ wait: 5000 });
  expect(clock() - start).toBeLessThan(2000);
  expect(await stream.closed).toBe('end');
  expect(stream.text).toBe(':\nretry: 9\ndata: begun\n\nretry: 9\n');
});

test('idle streams do not wait: they end within `over`, beside the answers', async () => {
  const { events, visit } = await site((conn, req, res) =>
    req.query.idle === undefined ? takes(400)(conn, req, res) : conn.open(),
  );
  const answer = await visit();
  const idle = await Promise.all(['?idle=1', '?idle=2', '?idle=3'].map((query) => visit(query, 'GET')));
  await eventually(() => events.size === 4);
  const start = clock();
  const closing = events.close({ over: 200, wait: 5000 });
  await Promise.all(idle.map(({ closed }) => closed));
  expect(clock() - start).toBeLessThan(390);
  expect(answer.ended).toBe(false);
  await closing;
  expect(await answer.closed).toBe('end');
  expect(answer.events.at(-1)!.data).toBe('done');
});

test('`over` may be longer than `wait`: an answer is broken off when the time has passed', async () => {
  const { events, visit } = await site(takes(Infinity));
  const streams = await Promise.all(Array.from({ length: 5 }, () => visit()));
  await eventually(() => events.size === 5);
  const start = clock();
  const ends: number[] = [];
  for (const conn of events.connections) void overOf(conn).then(() => ends.push(clock() - start));
  await events.close({ over: 500, wait: 150 });
  expect(Math.min(...ends)).toBeGreaterThan(140);
  expect(Math.max(...ends)).toBeGreaterThan(350);
  for (const stream of streams) expect(await stream.closed).toBe('cut');
});

test('a client that leaves during the time, and a time that nobody needs', async () => {
  const { events, visit } = await site(takes(Infinity));
  const stream = await visit();
  const start = clock();
  const closing = events.close({ over: 60_000, wait: 60_000 });
  await stream.close();
  await closing;
  expect(clock() - start).toBeLessThan(2000);
});

test.each([-1, NaN, '5', null, 2 ** 31])('close({ wait: %p }) throws, and nothing is closed', async (wait) => {
  const { events, conn } = await opened();
  expect(codeOf(() => events.close({ wait: wait as number }))).toBe('ERR_SSE_OPTION');
  expect(() => events.close({ wait: wait as number })).toThrow(/wait must be a number of milliseconds from 0/);
  await tick();
  expect(conn.readyState).toBe('open');
});
