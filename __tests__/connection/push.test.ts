/*
 * `push()` on an open connection: what it accepts, returns and refuses. Also the properties of a connection.
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
  tick,
} from '../fixtures/support.ts';

/** Calls `push` with arguments that its types refuse. */
function pushAny(conn: Connection, ...items: unknown[]): boolean {
  return (conn.push as (...items: unknown[]) => boolean).apply(conn, items);
}

const circular: Record<string, unknown> = {};
circular.self = circular;

describe('push()', () => {
  test('writes one event for a string, and nothing else', async () => {
    const { stream } = await opened((conn) => conn.push('foo'), BARE);
    expect(await stream.next()).toEqual({ event: 'message', data: 'foo', id: undefined, lastEventId: '' });
    expect(stream.text).toBe(`${HEAD}data: foo\n\n`);
  });

  test('writes several strings and numbers as the lines of one event', async () => {
    const { stream } = await opened((conn) => conn.push('foo', 2, 'baz'), BARE);
    await stream.next();
    expect(stream.text).toBe(`${HEAD}data: foo\ndata: 2\ndata: baz\n\n`);
  });

  test('writes one event for each message', async () => {
    const { stream } = await opened(
      (conn) => conn.push({ data: 'a' }, { id: 1, event: 'tick', data: { b: 1 }, retry: 7 }),
      BARE,
    );
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: a\n\nid: 1\nevent: tick\nretry: 7\ndata: {"b":1}\n\n`);
    expect(stream.retry).toBe(7);
  });

  test('without arguments writes nothing, and does not open the stream', async () => {
    const answers: unknown[] = [];
    const { stream, conn } = await opened(async (connection) => {
      answers.push(pushAny(connection));
      await tick();
      answers.push(connection.readyState);
    }, BARE);
    conn.push('after');
    await stream.next();
    expect(answers).toEqual([true, 'connecting']);
    expect(stream.text).toBe(`${HEAD}data: after\n\n`);
  });

  test.each<[name: string, items: unknown[], code: string]>([
    ['undefined', [undefined], 'ERR_SSE_DATA'],
    ['a function', [() => 1], 'ERR_SSE_DATA'],
    ['a symbol', [Symbol('s')], 'ERR_SSE_DATA'],
    ['null', [null], 'ERR_SSE_DATA'],
    ['a bigint', [{ data: 1n }], 'ERR_SSE_DATA'],
    ['a circular object', [{ data: circular }], 'ERR_SSE_DATA'],
    ['an object without a field', [{ foo: 1 }], 'ERR_SSE_FIELD'],
    ['a list', [['a']], 'ERR_SSE_FIELD'],
    ['a date', [new Date()], 'ERR_SSE_MESSAGE'],
    ['lines, then a message', ['a', { data: 'b' }], 'ERR_SSE_MESSAGE'],
    ['a message, then a line', [{ data: 'b' }, 'a'], 'ERR_SSE_MESSAGE'],
    ['a message, then null', [{ data: 'b' }, null], 'ERR_SSE_MESSAGE'],
    ['valid messages, then an invalid one', [{ id: 9, data: 'b' }, { data: 'c' }, { retry: 0 }], 'ERR_SSE_RETRY'],
  ])('throws a TypeError for %s, writes nothing of the call, and the stream stays open', async (_name, items, code) => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    await stream.next();
    expect(codeOf(() => pushAny(conn, ...items))).toBe(code);
    expect(conn.push('after')).toBe(true);
    await stream.next();
    expect(stream.text).toBe(`${HEAD}data: before\n\ndata: after\n\n`);
  });

  test('that throws does not switch the connection to ids of the application', async () => {
    const { stream, conn, events } = await opened((connection) => connection.push('before'));
    expect(() => conn.push({ id: 9, data: 'b' }, { retry: 0 })).toThrow(TypeError);
    const id = await events.broadcast('after');
    expect((await stream.take(2))[1]).toMatchObject({ data: 'after', id });
  });

  test('passes an exception of toJSON to the caller, and the next push works', async () => {
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

  test('reads a getter once, and writes nothing if it throws', async () => {
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

  test('copies the data: a later change has no effect on the wire or in the history', async () => {
    const { stream, conn, events, app } = await opened((connection) => connection.push('hello'));
    const { id } = await stream.next();
    const pushed = { data: { n: 1 } };
    conn.push(pushed);
    pushed.data.n = 2;
    const broadcast = { data: { n: 3 } };
    const sent = events.broadcast(broadcast);
    broadcast.data.n = 4;
    await sent;
    expect((await stream.take(2)).map((event) => event.json as unknown)).toEqual([{ n: 1 }, { n: 3 }]);
    const returning = await another(app, '/events', { lastEventId: id! });
    expect((await returning.take(2)).map(({ data }) => data as string)).toEqual(['hello', '{"n":3}']);
  });

  test('calls the serializer for data, and not for lines', async () => {
    const serialize = jest.fn((data: unknown) => `<${String(data)}>`);
    const { stream, conn, events } = await opened((connection) => connection.push('line'), { ...BARE, serialize });
    conn.push({ data: 7 });
    await events.broadcast({ data: 'all' });
    expect((await stream.take(3)).map(({ data }) => data as string)).toEqual(['line', '<7>', '<all>']);
    expect(serialize.mock.calls.map(([data]) => data)).toEqual([7, 'all']);
  });
});

describe('a closed connection', () => {
  /** Expects that every method does nothing. */
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

  test('push() after close() returns false and writes nothing', async () => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    conn.push('last');
    conn.close();
    expectQuiet(conn);
    await conn.drained();
    expect(await stream.closed).toBe('end');
    expect(stream.text).toBe(`${HEAD}data: before\n\ndata: last\n\n`);
  });

  test('push() after the client has disconnected returns false', async () => {
    const { stream, conn } = await opened();
    const over = overOf(conn);
    await stream.close();
    expect(await over).toBe('client');
    expectQuiet(conn);
    await conn.drained();
    await conn.pushAll(['late']);
  });

  test('pushes at full speed throw nothing while the client resets its socket', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), BARE);
    const over = overOf(conn);
    let pushed = 0;
    const pushing = (async () => {
      while (conn.push('x'.repeat(1000)) || conn.readyState === 'open') {
        if (++pushed % 100 === 0) await tick();
      }
    })();
    await stream.next();
    await stream.cut();
    expect(await over).toBe('client');
    await pushing;
    expect(pushed).toBeGreaterThan(0);
    expectQuiet(conn);
  });

  test('close() before any push opens an empty stream and ends it', async () => {
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

  test('close() in an abort listener and after a disconnect does nothing: the signal aborts once', async () => {
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

  test('close({ retry }) writes the delay, and refuses an invalid one', async () => {
    const { stream, conn } = await opened((connection) => connection.push('a'), BARE);
    await stream.next();
    expect(codeOf(() => conn.close({ retry: 0 }))).toBe('ERR_SSE_RETRY');
    expect(conn.readyState).toBe('open');
    conn.close({ retry: 123 });
    expect(await stream.body()).toBe(`${HEAD}data: a\n\nretry: 123\n`);
  });

  test('end() writes the `end` event, and a client that returns with its id gets 204', async () => {
    const { stream, conn, app, events } = await opened((connection) => connection.push('a'), BARE);
    conn.end();
    expect(await stream.body()).toBe(`${HEAD}data: a\n\nid: sse-router:end\nevent: end\ndata: \n\n`);
    expect(conn.signal.reason).toBe('end');
    const returning = await another(app, '/events', { lastEventId: stream.lastEventId });
    expect(returning.status).toBe(204);
    expect(events.stats().opened).toBe(1);
  });
});

describe('the properties of a connection', () => {
  test('readyState changes at once: connecting, open, closed', async () => {
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

  test.each([undefined, '', 7, null, ['a']])('a channel must be a non-empty string, not %p', async (channel) => {
    const { conn } = await opened();
    expect(codeOf(() => conn.join('fine', channel as string))).toBe('ERR_SSE_CHANNEL');
    expect(codeOf(() => conn.leave(channel as string))).toBe('ERR_SSE_CHANNEL');
    expect(conn.channels.size).toBe(0);
  });

  test('signal is made on first use, also after the close', async () => {
    const { conn, stream } = await opened();
    conn.close();
    await stream.closed;
    expect(conn.signal.aborted).toBe(true);
    expect(conn.signal.reason).toBe('handler');
    expect(conn.signal).toBe(conn.signal);
  });

  test('comment() writes a comment, and opens the stream', async () => {
    const { stream, conn } = await opened((connection) => connection.comment('hi\nthere'), BARE);
    conn.comment();
    conn.push('x');
    await stream.next();
    expect(stream.text).toBe(`${HEAD}: hi\n: there\n:\ndata: x\n\n`);
    expect(codeOf(() => conn.comment(7 as never))).toBe('ERR_SSE_COMMENT');
  });

  test('while the client is slow, push() returns false and bufferedBytes grows; drained() settles afterwards', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    await conn.drained();
    stream.pause();
    const pushed = await choke(conn);
    expect(conn.push('behind')).toBe(false);
    expect(conn.bufferedBytes).toBeGreaterThan(0);
    let drained = false;
    const waiting = conn.drained().then(() => (drained = true));
    await tick();
    expect(drained).toBe(false);
    stream.resume();
    await waiting;
    expect(conn.push('y')).toBe(true);
    await stream.until(() => stream.text.endsWith('data: y\n\n'), 10_000);
    expect(stream.events).toHaveLength(pushed + 3);
  });

  test('drained() settles when the client disconnects', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    stream.pause();
    await choke(conn);
    const waiting = Promise.all([conn.drained(), conn.drained()]);
    await stream.cut();
    await waiting;
    expect(conn.readyState).toBe('closed');
  });

  test('inspecting a connection shows nothing of its request', async () => {
    const { conn } = await opened(() => {}, {}, { headers: { authorization: 'Bearer s3cret' } });
    expect(inspect(conn, { depth: 9, showHidden: true })).not.toContain('s3cret');
    expect(inspect(conn)).toBe(`Connection { id: '${conn.id}', readyState: 'open', channels: 0, bufferedBytes: 0 }`);
  });
});

test('the registry has each connection once, until its client disconnects: exact after 1,000', async () => {
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

test('a connection that is closed in its handler is never registered', async () => {
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
