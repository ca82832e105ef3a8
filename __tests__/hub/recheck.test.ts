/*
 * `recheck` and functions for `maxAge`: permission that ends without a call of the application.
 */

import type { Connection, SseError } from '../../lib/index.ts';
import { collectGarbage } from '../fixtures/garbage.ts';
import { another, appOf, codeOf, dialled, fakeClock, later, listening, opened, overOf } from '../fixtures/support.ts';
import { sse } from '../../lib/index.ts';

test('a check that returns or resolves with false closes the connection as expired, true does not', async () => {
  const answers = new Map<Connection, unknown>();
  const checked = new Set<Connection>();
  const check = (conn: Connection) => (checked.add(conn), answers.get(conn)) as boolean;
  const { events, app } = await opened((conn) => conn.open(), { recheck: { every: 50, check } });
  for (let n = 0; n < 3; n++) await another(app);
  const conns = [...events.connections];
  [true, Promise.resolve(true), false, Promise.resolve(false)].forEach((answer, n) => answers.set(conns[n]!, answer));
  expect(await Promise.all([overOf(conns[2]!), overOf(conns[3]!)])).toEqual(['expired', 'expired']);
  checked.clear();
  while (checked.size < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  expect([...events.connections]).toEqual(conns.slice(0, 2));
});

test.each<[unknown, string]>([
  [undefined, 'undefined'],
  [null, 'null'],
  [0, 'the number 0'],
  ['', 'the string ""'],
  [1, 'the number 1'],
  ['false', 'the string "false"'],
  [{ active: false }, 'an object of Object'],
])('a check that gives %p, which is no boolean, closes the connection with an error', async (answer, described) => {
  for (const result of [answer, Promise.resolve(answer)]) {
    const errors: [unknown, unknown][] = [];
    const { conn } = await opened((one) => one.open(), {
      recheck: { every: 20, check: () => result as boolean },
      onError: (error, of) => void errors.push([error, of]),
    });
    expect(await overOf(conn)).toBe('error');
    const message = `The result of recheck.check() must be true or false; received ${described}. Return a comparison`;
    expect(errors).toEqual([
      [expect.objectContaining({ code: 'ERR_SSE_OPTION', message: expect.stringContaining(message) }), conn],
    ]);
  }
});

test('a check that throws or rejects closes the connection with an error, which goes to onError once', async () => {
  const errors: string[] = [];
  const check = (conn: Connection): boolean | Promise<boolean> => {
    if (conn.state['throws']) throw new Error('thrown');
    return Promise.reject(new Error('rejected'));
  };
  const conns: Connection[] = [];
  const throwsFirst = (conn: Connection): void => {
    conn.state['throws'] = conns.push(conn) === 1;
    conn.open();
  };
  const { app } = await opened(throwsFirst, {
    recheck: { every: 30, check },
    onError: (error, conn) => void errors.push(`${(error as Error).message} ${conn !== undefined}`),
  });
  await another(app);
  expect(await Promise.all(conns.map(overOf))).toEqual(['error', 'error']);
  expect(errors.toSorted()).toEqual(['rejected true', 'thrown true']);
});

test('the checks of many connections are spread over `every`, each connection is checked once in it, and 64 run at once', async () => {
  fakeClock();
  const counts = new Map<Connection, number>();
  let running = 0;
  let most = 0;
  let burst = 0;
  let inStep = 0;
  const check = async (conn: Connection): Promise<boolean> => {
    counts.set(conn, (counts.get(conn) ?? 0) + 1);
    most = Math.max(most, ++running);
    inStep++;
    await new Promise((resolve) => setTimeout(resolve, 100));
    running--;
    return true;
  };
  const events = sse((conn) => conn.open(), { heartbeat: false, recheck: { every: 10_000, check } });
  later(() => events.close());
  const app = appOf(events);
  for (let n = 0; n < 40; n++) await another(app);
  for (let ms = 0; ms < 20_000; ms += 20) {
    inStep = 0;
    await jest.advanceTimersByTimeAsync(20);
    burst = Math.max(burst, inStep);
  }
  expect(most).toBeLessThanOrEqual(64);
  expect(burst).toBeLessThanOrEqual(2);
  expect(counts.size).toBe(40);
  for (const count of counts.values()) expect([1, 2, 3]).toContain(count);
});

test('a check that never settles closes the connection after 30 s', async () => {
  fakeClock();
  const errors: SseError[] = [];
  const { conn } = await opened((one) => one.open(), {
    heartbeat: false,
    recheck: { every: 1000, check: () => new Promise(() => {}) },
    onError: (error) => void errors.push(error as SseError),
  });
  await jest.advanceTimersByTimeAsync(33_000);
  expect(conn.signal.reason).toBe('error');
  expect(errors.map(({ code }) => code)).toEqual(['ERR_SSE_TIMEOUT']);
});

describe('keeps no connection in memory that has ended', () => {
  test.each<[string, () => Promise<boolean>]>([
    ['a round that has not reached its end', () => Promise.resolve(true)],
    ['checks that never settle', () => new Promise(() => {})],
  ])('with %s', async (_, answer) => {
    let checks = 0;
    const ended: WeakRef<Connection>[] = [];
    const events = sse(
      (conn) => {
        ended.push(new WeakRef(conn));
        conn.open();
      },
      { heartbeat: false, recheck: { every: 20_000, check: () => (checks++, answer()) } },
    );
    later(() => events.close());
    const { port } = await listening(appOf(events));
    const openAll = async (count: number) => {
      const sockets = await Promise.all(Array.from({ length: count }, () => dialled(port)));
      while (events.size < count) await new Promise((resolve) => setTimeout(resolve, 5));
      return () => sockets.forEach((socket) => socket.destroy());
    };
    const closeFirst = await openAll(150);
    while (checks === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    closeFirst();
    for (let n = 0; n < 12; n++) {
      while (events.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const close = await openAll(50);
      close();
    }
    while (events.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, 50)); // the sockets close on the server's side
    await collectGarbage();
    expect(ended).toHaveLength(750);
    // The checks that run keep theirs, and the last batch may have bytes on their way.
    expect(ended.filter((conn) => conn.deref() !== undefined).length).toBeLessThan(checks + 60);
  });
});

describe('maxAge as a function', () => {
  test('gives each stream the remaining life of its permission', async () => {
    fakeClock();
    const { app, conn } = await opened((one) => one.open(), {
      heartbeat: false,
      maxAge: (req) => (req.query['ms'] === undefined ? 60_000 : Number(req.query['ms'])),
    });
    const short = await another(app, '/events?ms=5000');
    await jest.advanceTimersByTimeAsync(6000);
    expect(await short.closed).toBe('end');
    expect(conn.readyState).toBe('open');
    await jest.advanceTimersByTimeAsync(60_000);
    expect(conn.signal.reason).toBe('expired');
  });

  test.each([
    [0, 'also in the millisecond of its creation'],
    [-5, 'also in the millisecond of its creation'],
    [0, ''],
    [-5, ''],
  ])(
    'with %d the stream of a router has expired at once, and its handler receives a closed connection, %s',
    async (ms, when) => {
      if (when !== '') fakeClock(); // time stands still
      const { conn, stream } = await opened((one) => void one.push('secret'), { maxAge: () => ms });
      expect(conn.signal.reason).toBe('expired');
      expect(await stream.body()).not.toContain('secret');
    },
  );

  test('with false or Infinity, the stream never expires; anything else is an error of Express', async () => {
    fakeClock();
    const { app, conn, events } = await opened((one) => one.open(), {
      heartbeat: false,
      maxAge: (req) => (req.query['bad'] ? (NaN as number) : false),
    });
    await jest.advanceTimersByTimeAsync(100_000_000);
    expect(conn.readyState).toBe('open');
    const { status } = await another(app, '/events?bad=1');
    expect(status).toBe(500);
    expect(events.size).toBe(1);
  });
});

test.each<[unknown, string]>([
  [{ every: 0, check: () => true }, 'recheck.every must be'],
  [{ every: 10 }, 'recheck.check must be a function'],
  [
    { every: 10, check: () => true, each: 1 },
    'The name of each part of recheck must be every or check; received the string "each".',
  ],
  [() => true, 'recheck must be'],
])('recheck: %p throws at set-up', (recheck, message) => {
  expect(codeOf(() => sse({ recheck } as never))).toBe('ERR_SSE_OPTION');
  expect(() => sse({ recheck } as never)).toThrow(message);
});
