import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { sse, type Connection } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { another, appOf, BARE, choke, codeOf, later, listening, opened, overOf, tick } from '../fixtures/support.ts';
import { ask, clock, eventually, pause, Raw } from '../fixtures/http.ts';
import { TYPESCRIPT } from '../fixtures/typescript.ts';

/** Whether the server closes within this time. */
function closes(server: import('node:http').Server, ms: number): Promise<boolean> {
  return Promise.race([
    new Promise<boolean>((resolve) => server.close(() => resolve(true))),
    pause(ms).then(() => false),
  ]);
}

describe('server.close()', () => {
  test.each([
    ['alone does not complete while streams are open', false],
    ['completes at once when the router has been closed', true],
  ])('%s', async (_what, first) => {
    const events = sse();
    later(() => events.close());
    const { server, port } = await listening(appOf(events));
    const raws = Array.from({ length: 20 }, () => new Raw(port).get('/events'));
    await eventually(() => events.size === 20);
    const start = clock();
    if (first) await events.close();
    expect(await closes(server, first ? 1000 : 200)).toBe(first);
    if (!first) return;
    expect(clock() - start).toBeLessThan(1000);
    expect(events.size).toBe(0);
    await Promise.all(raws.map(({ closed }) => closed));
    for (const raw of raws) expect(raw.text).toMatch(/retry: \d+\n\r\n0\r\n\r\n$/);
  });
});

test('each client receives a retry delay of its own, after all pushes, and then the end of the stream', async () => {
  const { app, events } = await opened(() => {}, { history: false });
  const streams = await Promise.all(Array.from({ length: 20 }, () => another(app)));
  for (const conn of events.connections) conn.push('the last');
  await events.close();
  expect(await Promise.all(streams.map(({ closed }) => closed))).toEqual(streams.map(() => 'end'));
  for (const { text } of streams) expect(text).toMatch(/data: the last\n\nretry: \d+\n$/);
  const retries = streams.map(({ retry }) => retry!);
  expect(new Set(retries).size).toBeGreaterThan(10);
  for (const retry of retries) expect(retry >= 2000 && retry <= 5000).toBe(true);
});

test.each([
  [{ retry: 7 }, 7],
  [{ retry: { min: 9, max: 9 } }, 9],
])('%j is the retry delay that clients receive', async (options, retry) => {
  const { events, stream } = await opened(() => {}, { ...options, history: false });
  await events.close();
  await stream.closed;
  expect(stream.text).toBe(`:\nretry: ${retry}\nretry: ${retry}\n`);
});

test('a handler notices the shutdown by its signal', async () => {
  const reasons: unknown[] = [];
  const { events, conn } = await opened(
    async ({ signal }) => {
      await once(signal, 'abort');
      reasons.push(signal.reason);
    },
    { ...BARE, heartbeat: 20 },
  );
  await eventually(() => events.size === 1);
  await events.close();
  expect(await overOf(conn)).toBe('shutdown');
  await tick();
  expect(reasons).toEqual(['shutdown']);
});

test('`over` spreads the ends over this time, and no longer', async () => {
  const { app, events } = await opened();
  for (let n = 0; n < 39; n++) await another(app);
  const start = clock();
  const ends: number[] = [];
  for (const conn of events.connections) void overOf(conn).then(() => ends.push(clock() - start));
  await events.close({ over: 400 });
  expect(ends).toHaveLength(40);
  expect(ends[10]).toBeGreaterThan(60);
  expect(ends[20]).toBeGreaterThan(150);
  expect(ends[39]).toBeGreaterThan(300);
  expect(clock() - start).toBeLessThan(1400);
});

test('close() settles as soon as no client is left, for example when the clients disconnect', async () => {
  const { app, events, stream } = await opened(() => {}, BARE);
  const streams = [stream, await another(app), await another(app)];
  const start = clock();
  const closing = events.close({ over: 60_000 });
  await Promise.all(streams.map((each) => each.close()));
  await closing;
  expect(clock() - start).toBeLessThan(2000);
});

test.each([-1, NaN, '5', null, 2 ** 31])('close({ over: %p }) throws, and closes nothing', async (over) => {
  const { events, conn } = await opened();
  expect(codeOf(() => events.close({ over: over as number }))).toBe('ERR_SSE_OPTION');
  expect(() => events.close({ over: over as number })).toThrow(/over must be a number of milliseconds from 0/);
  expect(conn.readyState).toBe('open');
});

test.each([2000, '2000', null, true])(
  'close(%p) throws, because the time is a named option, and closes nothing',
  async (how) => {
    const { events, conn } = await opened();
    expect(codeOf(() => events.close(how as never))).toBe('ERR_SSE_OPTION');
    expect(() => events.close(how as never)).toThrow(/\{ over: … \}/);
    expect(conn.readyState).toBe('open');
  },
);

test('a client that does not read is destroyed after one second, and does not delay the others', async () => {
  const { app, events, conn, stream } = await opened(() => {}, { ...BARE, maxBuffered: 1e9 });
  stream.pause();
  await choke(conn);
  const other = await another(app);
  const start = clock();
  const closing = events.close();
  expect(await other.closed).toBe('end');
  expect(clock() - start).toBeLessThan(900);
  await closing;
  expect(clock() - start).toBeGreaterThan(900);
  expect(clock() - start).toBeLessThan(2500);
  expect(conn.request.socket.destroyed).toBe(true);
});

test.each([
  ['by default', {}],
  ['even with whenFull: reject', { limits: { connections: 10, whenFull: 'reject' } } as const],
])('a request during the shutdown is answered with a retry delay, %s', async (_when, options) => {
  const handler = jest.fn();
  const { app, events, stream } = await opened(handler, options);
  const { url } = await listening(app);
  await another(app);
  const closing = events.close({ over: 300 });
  const answers = await Promise.all([ask(url), ask(url), ask(url)]);
  for (const answer of answers) {
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(answer.text).toMatch(/^: [^\n]*\nretry: \d+\n$/);
  }
  expect(new Set(answers.map(({ text }) => text)).size).toBeGreaterThan(1);
  expect(handler).toHaveBeenCalledTimes(2);
  expect((await ask(url, { headers: { 'last-event-id': 'sse-router:end' } })).status).toBe(204);
  expect((await ask(url, { method: 'HEAD' })).status).toBe(200);
  await closing;
  expect((await ask(url)).text).toMatch(/^: [^\n]*\nretry: \d+\n$/);
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, refused: { shutdown: 4 } });
  await stream.close();
});

test('a connection that is still connecting is answered so as well, and a late push of its handler does nothing', async () => {
  let go!: () => void;
  let conn!: Connection;
  const events = sse(async (one) => {
    conn = one;
    await new Promise<void>((resolve) => (go = resolve));
    expect(conn.push('late')).toBe(false);
  });
  const { url } = await listening(appOf(events));
  const opening = connect(url);
  await eventually(() => events.stats().connecting === 1);
  await events.close();
  const stream = await opening;
  expect(stream.status).toBe(200);
  expect(await stream.body()).toMatch(/retry: \d+\n$/);
  go();
  await tick();
  expect(conn.readyState).toBe('closed');
});

test('a second close() returns the same promise; afterwards push returns false and broadcast rejects', async () => {
  const { events, conn } = await opened();
  const closing = events.close();
  expect(events.close()).toBe(closing);
  expect(events.close({ over: 5000 })).toBe(closing);
  expect(conn.push('late')).toBe(false);
  await closing;
  expect(events.close()).toBe(closing);
  await expect(events.broadcast('late')).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
  expect(events.size).toBe(0);
});

test('the first connection ends at once, even if the process stalls during close()', async () => {
  const { events, conn } = await opened();
  const now = performance.now.bind(performance);
  let stalls = 0;
  const stalled = jest.spyOn(performance, 'now').mockImplementation(() => now() + 50 * stalls++);
  const closing = events.close();
  expect(conn.push('late')).toBe(false);
  stalled.mockRestore();
  await closing;
});

test('no timer of the router is left in the process', async () => {
  const count = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = count();
  const events = sse({ maxAge: 1e6 });
  const { port } = await listening(appOf(events));
  const raw = new Raw(port).get('/events');
  await eventually(() => events.size === 1);
  await events.broadcast('x');
  await events.close();
  await raw.closed;
  await eventually(count, 2000, (now) => now <= before);
});

describe('a process', () => {
  const children: ChildProcess[] = [];
  afterEach(() => children.splice(0).forEach((child) => child.kill('SIGKILL')));

  function start(how: string): { child: ChildProcess; output: () => string } {
    const file = join(__dirname, '../fixtures', 'shutdown-server.ts');
    const child = spawn(process.execPath, [...TYPESCRIPT, file, how], { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    let text = '';
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    return { child, output: () => text };
  }

  test('with 100 streams ends by itself at SIGTERM, with exit code 0, and each stream ends normally', async () => {
    const { child, output } = start('shutdown');
    await eventually(() => output().includes('listening'), 10_000);
    const port = Number(/\d+/.exec(output())![0]);
    const raws = Array.from({ length: 100 }, () => new Raw(port).get('/events'));
    await Promise.all(raws.map((raw) => raw.until('checkpoint')));
    const start_ = clock();
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    expect(await exit).toEqual([0, null]);
    expect(clock() - start_).toBeLessThan(5000);
    expect(output()).toContain('closed');
    await Promise.all(raws.map(({ closed }) => closed));
    for (const raw of raws) expect(raw.text).toMatch(/retry: \d+\n\r\n0\r\n\r\n$/);
  });

  test('ends by itself when only timers of the router are left', async () => {
    const { child, output } = start('timers');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(output()).toBe('broadcast\n');
  });
});
