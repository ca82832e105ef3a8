/*
 * What `push` takes, answers and refuses on an open connection, and what a connection tells of itself: cases API.
 * Elsewhere: API-11 in push-all.test.ts, API-15 where the built package is loaded. Decided otherwise by the contract: there is
 * no predicate for a broadcast (API-13), but channels, in broadcast.test.ts; the close callback of API-08 is the `signal`.
 */
import { once } from 'node:events';
import { inspect } from 'node:util';
import { sse, type Connection } from '../../lib/index.ts';
import {
  another,
  appOf,
  BARE,
  choke,
  codeOf,
  dialled,
  HEAD,
  later,
  listening,
  opened,
  overOf,
  turn,
} from '../fixtures/support.ts';

/** `push` without its types, for what TypeScript would not let through. */
function pushAny(conn: Connection, ...items: unknown[]): boolean {
  return (conn.push as (...items: unknown[]) => boolean).apply(conn, items);
}

const circular: Record<string, unknown> = {};
circular.self = circular;

describe('what is pushed', () => {
  test('WIRE-01 a string is one event, and nothing else is written', async () => {
    const { stream } = await opened((conn) => conn.push('foo'), BARE);
    expect(await stream.next()).toEqual({ event: 'message', data: 'foo', id: undefined, lastEventId: '' });
    expect(stream.text).toBe(`${HEAD}data: foo\n\n`);
  });

  test('WIRE-02 strings and numbers are the lines of one event', async () => {
    const { stream } = await opened((conn) => conn.push('foo', 2, 'baz'), BARE);
    await stream.next();
    expect(stream.text).toBe(`${HEAD}data: foo\ndata: 2\ndata: baz\n\n`);
  });

  test('WIRE-03 WIRE-04 messages are an event each', async () => {
    const { stream } = await opened(
      (conn) => conn.push({ data: 'a' }, { id: 1, event: 'tick', data: { b: 1 }, retry: 7 }),
      BARE,
    );
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: a\n\nid: 1\nevent: tick\nretry: 7\ndata: {"b":1}\n\n`);
    expect(stream.retry).toBe(7);
  });

  test('API-01 push() without arguments writes nothing, and opens nothing', async () => {
    const answers: unknown[] = [];
    const { stream, conn } = await opened(async (connection) => {
      answers.push(pushAny(connection));
      await turn();
      answers.push(connection.readyState);
    }, BARE);
    conn.push('after');
    await stream.next();
    expect(answers).toEqual([true, 'connecting']);
    expect(stream.text).toBe(`${HEAD}data: after\n\n`);
  });

  test.each<[name: string, items: unknown[], code: string]>([
    ['API-01 undefined', [undefined], 'ERR_SSE_DATA'],
    ['API-01 a function', [() => 1], 'ERR_SSE_DATA'],
    ['API-01 a symbol', [Symbol('s')], 'ERR_SSE_DATA'],
    ['API-01 null', [null], 'ERR_SSE_DATA'],
    ['API-02 a bigint', [{ data: 1n }], 'ERR_SSE_DATA'],
    ['API-02 a circular object', [{ data: circular }], 'ERR_SSE_DATA'],
    ['API-03 an object without a field', [{ foo: 1 }], 'ERR_SSE_FIELD'],
    ['API-03 a list', [['a']], 'ERR_SSE_FIELD'],
    ['API-03 a date', [new Date()], 'ERR_SSE_MESSAGE'],
    ['lines, then a message', ['a', { data: 'b' }], 'ERR_SSE_MESSAGE'],
    ['a message, then a line', [{ data: 'b' }, 'a'], 'ERR_SSE_MESSAGE'],
    ['a message, then null', [{ data: 'b' }, null], 'ERR_SSE_MESSAGE'],
    ['good messages, then one that is not', [{ id: 9, data: 'b' }, { data: 'c' }, { retry: 0 }], 'ERR_SSE_RETRY'],
  ])('%s is a TypeError, nothing of the call is written, and the stream works on', async (_name, items, code) => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    await stream.next();
    expect(codeOf(() => pushAny(conn, ...items))).toBe(code);
    expect(conn.push('after')).toBe(true);
    await stream.next();
    expect(stream.text).toBe(`${HEAD}data: before\n\ndata: after\n\n`);
  });

  test('a call that throws does not make the ids the application’s', async () => {
    const { stream, conn, events } = await opened((connection) => connection.push('before'));
    expect(() => conn.push({ id: 9, data: 'b' }, { retry: 0 })).toThrow(TypeError);
    const id = await events.broadcast('after');
    expect((await stream.take(2))[1]).toMatchObject({ data: 'after', id });
  });

  test('API-02 a toJSON that throws reaches the caller, and the next push works', async () => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    const data = {
      toJSON() {
        throw new RangeError('mine');
      },
    };
    expect(() => conn.push({ data: 'a' }, { data })).toThrow(RangeError);
    conn.push('after');
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: before\n\ndata: after\n\n`);
  });

  test('API-05 a getter is read once, and one that throws writes nothing', async () => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    let reads = 0;
    const once = {
      get data() {
        return `read ${++reads}`;
      },
    };
    const never = {
      event: 'x',
      get data(): string {
        throw new RangeError('mine');
      },
    };
    conn.push(once);
    expect(() => conn.push(never)).toThrow(RangeError);
    conn.push('after');
    expect((await stream.take(3)).map(({ data }) => data as string)).toEqual(['before', 'read 1', 'after']);
    expect(stream.text).not.toContain('event: x');
  });

  test('API-06 what is changed after the push is not changed on the wire, nor in the history', async () => {
    const { stream, conn, events, app } = await opened((connection) => connection.push('hello'));
    const { id } = await stream.next();
    const pushed = { data: { n: 1 } };
    conn.push(pushed);
    pushed.data.n = 2;
    const told = { data: { n: 3 } };
    const sent = events.broadcast(told);
    told.data.n = 4;
    await sent;
    expect((await stream.take(2)).map((event) => event.json as unknown)).toEqual([{ n: 1 }, { n: 3 }]);
    const returning = await another(app, '/events', { lastEventId: id! });
    expect((await returning.take(2)).map(({ data }) => data as string)).toEqual(['hello', '{"n":3}']);
  });

  test('a serializer is asked for data, and not for lines', async () => {
    const serialize = jest.fn((data: unknown) => `<${String(data)}>`);
    const { stream, conn, events } = await opened((connection) => connection.push('line'), { ...BARE, serialize });
    conn.push({ data: 7 });
    await events.broadcast({ data: 'all' });
    expect((await stream.take(3)).map(({ data }) => data as string)).toEqual(['line', '<7>', '<all>']);
    expect(serialize.mock.calls.map(([data]) => data)).toEqual([7, 'all']);
  });
});

describe('a connection that is over', () => {
  /** What a closed connection answers, whatever it is asked. */
  function expectQuiet(conn: Connection): void {
    expect(conn.readyState).toBe('closed');
    expect(conn.push('late')).toBe(false);
    expect(conn.push({ event: 'late', data: 1 })).toBe(false);
    expect(conn.comment('late')).toBe(false);
    expect(conn.bufferedBytes).toBe(0);
    conn.open();
    conn.close();
    conn.end();
  }

  test('API-07 push after close() answers false and writes nothing', async () => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    conn.push('last');
    conn.close();
    expectQuiet(conn);
    await conn.drained();
    expect(await stream.closed).toBe('end');
    expect(stream.text).toBe(`${HEAD}data: before\n\ndata: last\n\n`);
  });

  test('API-07 push after the client has left answers false', async () => {
    const { stream, conn } = await opened();
    const over = overOf(conn);
    await stream.close();
    expect(await over).toBe('client');
    expectQuiet(conn);
    await conn.drained();
    await conn.pushAll(['late']);
  });

  test('API-07 FL-02 pushing at full speed while the client resets its connection throws nothing', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), BARE);
    const over = overOf(conn);
    let pushed = 0;
    const pushing = (async () => {
      while (conn.push('x'.repeat(1000)) || conn.readyState === 'open') {
        if (++pushed % 100 === 0) await turn();
      }
    })();
    await stream.next();
    await stream.cut();
    expect(await over).toBe('client');
    await pushing;
    expect(pushed).toBeGreaterThan(0);
    expectQuiet(conn);
  });

  test('API-08 close() before any push opens an empty stream and ends it', async () => {
    const { stream, conn, events } = await opened((connection) => {
      connection.close();
      connection.close({ retry: 9 });
      expectQuiet(connection);
    }, BARE);
    expect(await stream.body()).toBe(HEAD);
    expect(stream.status).toBe(200);
    expect(conn.signal.reason).toBe('handler');
    expect(events.size).toBe(0);
  });

  test('API-08 close() inside the signal’s listener and after the socket has died: told once', async () => {
    const reasons: unknown[] = [];
    const { stream, conn } = await opened((connection) => {
      connection.signal.addEventListener('abort', () => {
        reasons.push(connection.signal.reason);
        connection.close();
        connection.end();
      });
    });
    const over = overOf(conn);
    await stream.cut();
    await over;
    conn.close();
    expect(reasons).toEqual(['client']);
  });

  test('close({ retry }) tells when to come back, and refuses what no client could read', async () => {
    const { stream, conn } = await opened((connection) => connection.push('a'), BARE);
    await stream.next();
    expect(codeOf(() => conn.close({ retry: 0 }))).toBe('ERR_SSE_RETRY');
    expect(conn.readyState).toBe('open');
    conn.close({ retry: 123 });
    expect(await stream.body()).toBe(`${HEAD}data: a\n\nretry: 123\n`);
  });

  test('end() says goodbye, and who returns with that is answered 204', async () => {
    const { stream, conn, app, events } = await opened((connection) => connection.push('a'), BARE);
    conn.end();
    expect(await stream.body()).toBe(`${HEAD}data: a\n\nid: sse-router:end\nevent: end\ndata: \n\n`);
    expect(conn.signal.reason).toBe('end');
    const returning = await another(app, '/events', { lastEventId: stream.lastEventId });
    expect(returning.status).toBe(204);
    expect(events.stats().opened).toBe(1);
  });
});

describe('what a connection tells of itself', () => {
  test('API-10 readyState goes from connecting over open to closed, at once', async () => {
    const states: string[] = [];
    const { conn } = await opened((connection) => {
      states.push(connection.readyState);
      connection.push('x');
      states.push(connection.readyState);
    });
    states.push(conn.readyState);
    conn.close();
    states.push(conn.readyState);
    expect(states).toEqual(['connecting', 'connecting', 'open', 'closed']);
  });

  test('id, request, lastEventId, state and channels', async () => {
    const { conn, app, events } = await opened(
      (connection) => connection.join('b', 'a', 'b'),
      {},
      { lastEventId: 'é7' },
    );
    await another(app);
    expect(new Set([...events.connections].map(({ id }) => id)).size).toBe(2);
    expect(conn.id).toMatch(/^\S+$/);
    expect(conn.request.originalUrl).toBe('/events');
    expect(conn.lastEventId).toBe('é7');
    expect(conn.state).toEqual({});
    conn.state.user = 'u';
    expect(conn.state).toEqual({ user: 'u' });
    expect([...conn.channels].toSorted()).toEqual(['a', 'b']);
    conn.leave('a', 'never joined');
    expect([...conn.channels]).toEqual(['b']);
    expect(() => (conn.channels as Set<string>).add('c')).toThrow(TypeError);
  });

  test.each([undefined, '', 7, null, ['a']])('a channel is a text that is not empty, not %p', async (channel) => {
    const { conn } = await opened();
    expect(codeOf(() => conn.join('fine', channel as string))).toBe('ERR_SSE_CHANNEL');
    expect(codeOf(() => conn.leave(channel as string))).toBe('ERR_SSE_CHANNEL');
    expect(conn.channels.size).toBe(0);
  });

  test('signal is made on first use, also when everything is over', async () => {
    const { conn, stream } = await opened();
    conn.close();
    await stream.closed;
    expect(conn.signal.aborted).toBe(true);
    expect(conn.signal.reason).toBe('handler');
    expect(conn.signal).toBe(conn.signal);
  });

  test('comment() is no event, and opens the stream', async () => {
    const { stream, conn } = await opened((connection) => connection.comment('hi\nthere'), BARE);
    conn.comment();
    conn.push('x');
    await stream.next();
    expect(stream.text).toBe(`${HEAD}: hi\n: there\n:\ndata: x\n\n`);
    expect(codeOf(() => conn.comment(7 as never))).toBe('ERR_SSE_COMMENT');
  });

  test('a slow reader: push answers false, bufferedBytes grow, drained() waits and settles', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    await conn.drained();
    stream.pause();
    const pushed = await choke(conn);
    expect(conn.push('behind')).toBe(false);
    expect(conn.bufferedBytes).toBeGreaterThan(0);
    let drained = false;
    const waiting = conn.drained().then(() => (drained = true));
    await turn();
    expect(drained).toBe(false);
    stream.resume();
    await waiting;
    expect(conn.push('y')).toBe(true);
    await stream.until(() => stream.text.endsWith('data: y\n\n'), 10_000);
    expect(stream.events).toHaveLength(pushed + 3);
  });

  test('drained() settles when the client leaves', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    stream.pause();
    await choke(conn);
    const waiting = Promise.all([conn.drained(), conn.drained()]);
    await stream.cut();
    await waiting;
    expect(conn.readyState).toBe('closed');
  });

  test('SEC-12 inspecting a connection tells nothing of its request', async () => {
    const { conn } = await opened(() => {}, {}, { headers: { authorization: 'Bearer s3cret' } });
    expect(inspect(conn, { depth: 9, showHidden: true })).not.toContain('s3cret');
    expect(inspect(conn)).toBe(`Connection { id: '${conn.id}', readyState: 'open', channels: 0, bufferedBytes: 0 }`);
  });
});

test('API-12 the registry: once each, gone with its client, exact after 1000', async () => {
  let connected = 0;
  const events = sse((conn) => {
    connected++;
    conn.push('x');
  }, BARE);
  later(() => events.close());
  const { port } = await listening(appOf(events));
  for (let round = 0; round < 10; round++) {
    const sockets = await Promise.all(Array.from({ length: 100 }, () => dialled(port)));
    await Promise.all(sockets.map((socket) => once(socket, 'data')));
    expect(events.size).toBe(100);
    const conns = [...events.connections];
    const over = Promise.all(conns.map((conn) => overOf(conn)));
    for (const [index, socket] of sockets.entries()) if (index % 2) socket.resetAndDestroy();
    for (const [index, socket] of sockets.entries()) if (!(index % 2)) socket.destroy();
    expect(new Set(await over)).toEqual(new Set(['client']));
    expect(events.size).toBe(0);
  }
  expect(connected).toBe(1000);
  expect(() => (events.connections as Set<unknown>).clear()).toThrow(TypeError);
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 1000, closed: { client: 1000 } });
});

test('API-12 a connection that is closed in its handler never has an entry', async () => {
  const sizes: number[] = [];
  const { events, conn } = await opened((connection) => {
    connection.close();
    sizes.push(connection.readyState === 'closed' ? 1 : 0);
  });
  expect(sizes).toEqual([1]);
  expect(events.connections.has(conn)).toBe(false);
  conn.join('room');
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, channels: 0 });
});
