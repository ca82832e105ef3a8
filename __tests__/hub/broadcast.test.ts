/*
 * Broadcasts: which connections receive them, in which order, with which ids, and which messages are refused.
 */
import {
  sse,
  type Connection,
  type SseOptions,
  type SseRouter,
  type SseRouterWithoutHistory,
} from '../../lib/index.ts';
import type { TestStream } from '../../lib/testing/index.ts';
import { another, appOf, BARE, HEAD, later, opened, tick } from '../fixtures/support.ts';

/** Returns a router whose clients join the channels in their query, for example `?a&b`. */
function channelRouter(options: SseOptions = {}) {
  const events = sse((conn, req) => {
    conn.join(...new URL(req.originalUrl, 'http://x').searchParams.keys());
    conn.push('hello');
  }, options);
  later(() => events.close());
  const app = appOf(events);
  const join = async (query: string): Promise<TestStream> => {
    const stream = await another(app, `/events?${query}`);
    await stream.next();
    return stream;
  };
  return { events, join };
}

/** Returns what each stream has received by the time all of them have received a last broadcast. */
async function receivedBy(events: SseRouter, streams: TestStream[]): Promise<string[][]> {
  await events.broadcast('the end');
  return Promise.all(
    streams.map(async (stream) => {
      await stream.until(() => stream.events.at(-1)?.data === 'the end');
      return stream.events.slice(1, -1).map(({ data }) => data as string);
    }),
  );
}

describe('the receivers', () => {
  test.each<
    [name: string, to: string | string[] | undefined, except: string | string[] | undefined, receivers: string]
  >([
    ['without `to`, every connection receives it', undefined, undefined, '- a b ab c'],
    ['to a channel', 'a', undefined, 'a ab'],
    ['to a list of one', ['b'], undefined, 'b ab'],
    ['to several channels, each connection receives it once', ['a', 'b'], undefined, 'a b ab'],
    ['to the same channel twice, each connection receives it once', ['a', 'a'], undefined, 'a ab'],
    ['to an empty list', [], undefined, ''],
    ['to a channel without connections', 'z', undefined, ''],
    ['to every connection, except a channel', undefined, 'a', '- b c'],
    ['to every connection, except several channels', undefined, ['a', 'c'], '- b'],
    ['to every connection, except an empty list', undefined, [], '- a b ab c'],
    ['to a channel, except connections that have joined another channel too', 'a', 'b', 'a'],
    ['to a channel, except itself', 'a', ['a'], ''],
    ['to an empty list, except a channel', [], 'a', ''],
  ])('%s', async (_name, to, except, receivers) => {
    const { events, join } = channelRouter();
    const names = ['-', 'a', 'b', 'ab', 'c'];
    const streams = await Promise.all(['', 'a', 'b', 'a&b', 'c'].map(join));
    await events.broadcast('x', { ...(to !== undefined && { to }), ...(except !== undefined && { except }) });
    const received = await receivedBy(events, streams);
    expect(names.filter((_, index) => received[index]!.includes('x')).join(' ')).toBe(receivers);
    expect(received.every((data) => data.length <= 1)).toBe(true);
  });

  test.each(['to', 'except'])('an explicit `%s: undefined` is a TypeError, and reaches no connection', async (name) => {
    const { events, join } = channelRouter();
    const streams = [await join('a'), await join('b')];
    const user = undefined as { channel: string } | undefined;
    await expect(events.broadcast('secret', { [name]: user?.channel } as never)).rejects.toMatchObject({
      name: 'TypeError',
      code: 'ERR_SSE_CHANNEL',
      message: expect.stringMatching(
        `^${name} must be a channel or a list of channels; received undefined. Leave it out`,
      ),
    });
    expect(await receivedBy(events, streams)).toEqual([[], []]);
  });

  test('options without channels, and a key that is undefined, reach every connection', async () => {
    const { events, join } = channelRouter();
    const streams = [await join('a'), await join('b')];
    await events.broadcast('x', { key: undefined });
    await events.broadcast('y', undefined);
    expect(await receivedBy(events, streams)).toEqual([
      ['x', 'y'],
      ['x', 'y'],
    ]);
  });

  test.each([[''], [7], [null], [['a', '']], [['a', 7]], [{}]])(
    'a channel must be a non-empty string, not %p',
    async (to) => {
      const { events, join } = channelRouter();
      const stream = await join('a');
      await expect(events.broadcast('x', { to: to as string })).rejects.toMatchObject({ code: 'ERR_SSE_CHANNEL' });
      await expect(events.broadcast('x', { except: to as string })).rejects.toMatchObject({ code: 'ERR_SSE_CHANNEL' });
      expect(await receivedBy(events, [stream])).toEqual([[]]);
    },
  );

  test('a connection receives a channel’s broadcasts from its join until its leave', async () => {
    const { events, join } = channelRouter();
    const stream = await join('a');
    const [conn] = events.connections;
    await events.broadcast('a before', { to: 'a' });
    await events.broadcast('b before', { to: 'b' });
    conn!.leave('a');
    conn!.join('b');
    await events.broadcast('a after', { to: 'a' });
    await events.broadcast('b after', { to: 'b' });
    expect(await receivedBy(events, [stream])).toEqual([['a before', 'b after']]);
  });

  test('a closed connection receives nothing more, not even a broadcast in the tick of its close', async () => {
    const { events, join } = channelRouter();
    const [first, second] = [await join('a'), await join('a')];
    const [conn] = events.connections;
    await events.broadcast('before');
    conn!.close();
    await events.broadcast('after');
    expect(await receivedBy(events, [second!])).toEqual([['before', 'after']]);
    expect(await first!.closed).toBe('end');
    expect(first!.events.map(({ data }) => data as string)).toEqual(['hello', 'before']);
  });
});

describe('id and order', () => {
  test('broadcast() resolves with the id on the wire, ids grow by one, and `position` is the last id', async () => {
    const { stream, events } = await opened();
    const { id: start } = await stream.next();
    expect(start).toMatch(/^[0-9a-z]+-0$/);
    const ids = [
      await events.broadcast('a'),
      await events.broadcast({ event: 'b', data: 1 }),
      await events.broadcast('c'),
    ];
    expect((await stream.take(3)).map(({ id, event, data }) => [id, event, data])).toEqual([
      [ids[0], 'message', 'a'],
      [ids[1], 'b', '1'],
      [ids[2], 'message', 'c'],
    ]);
    expect(ids.map((id) => id.split('-')[1])).toEqual(['1', '2', '3']);
    expect(events.position).toBe(ids[2]);
  });

  test('another router has another epoch in its ids', async () => {
    const a = channelRouter().events;
    const b = channelRouter().events;
    expect((await a.broadcast('x')).split('-')[0]).not.toBe((await b.broadcast('x')).split('-')[0]);
  });

  test('`await broadcast(a); push(b)` arrives as a, b, however often', async () => {
    const { stream, conn, events } = await opened();
    const expected: string[] = [];
    for (let n = 0; n < 50; n++) {
      await events.broadcast(`all ${n}`);
      conn.push(`own ${n}`);
      expected.push(`all ${n}`, `own ${n}`);
    }
    expect((await stream.take(101)).slice(1).map(({ data }) => data as string)).toEqual(expected);
  });

  test('`push(a); await broadcast(b)` arrives as a, b', async () => {
    const { stream, conn, events } = await opened();
    conn.push('own');
    await events.broadcast('all');
    expect((await stream.take(3)).slice(1).map(({ data }) => data as string)).toEqual(['own', 'all']);
  });

  test('many concurrent broadcasts keep the order of the calls, for every connection', async () => {
    const { events, join } = channelRouter();
    const streams = await Promise.all(['a', 'b', 'a&b'].map(join));
    const sent = Array.from({ length: 300 }, (_, n) => `${n}`);
    const ids = await Promise.all(sent.map((data) => events.broadcast(data)));
    expect(ids.map((id) => Number(id.split('-')[1]))).toEqual(sent.map((_, n) => n + 1));
    expect(await receivedBy(events, streams)).toEqual([sent, sent, sent]);
  });

  test('with the journal in memory, a broadcast is delivered when its promise resolves', async () => {
    const { stream, conn, events } = await opened();
    await stream.next();
    await events.broadcast('x');
    conn.close(); // a delivered broadcast is still sent
    await stream.closed;
    expect(stream.events.at(-1)).toMatchObject({ data: 'x' });
  });
});

describe('ids of the application', () => {
  test('a broadcast with an id of the application rejects with a TypeError, and reaches no connection', async () => {
    const { stream, events } = await opened();
    await expect(events.broadcast({ id: 7 as never, data: 'x' })).rejects.toMatchObject({
      name: 'TypeError',
      code: 'ERR_SSE_ID',
    });
    expect(await receivedBy(events, [stream])).toEqual([[]]);
  });

  test('with `history: false` a broadcast may have an id of the application, and no other id is written', async () => {
    const { stream, events } = await opened((conn) => void conn.push('hi'), BARE);
    expect(events.position).toBe('');
    expect(await (events as SseRouterWithoutHistory).broadcast({ id: 7, data: 'x' })).toBe('7');
    expect(await events.broadcast('y')).toBe('');
    await stream.take(3);
    expect(stream.text).toBe(`${HEAD}data: hi\n\nid: 7\ndata: x\n\ndata: y\n\n`);
  });

  test('with `history: false` a connection that opens late begins with the oldest broadcast that is kept', async () => {
    const events: SseRouter = sse(async (conn) => {
      conn.push('own');
      for (let n = 1; n <= 1100; n++) await events.broadcast(String(n));
      await tick();
    }, BARE);
    later(() => events.close());
    const stream = await another(appOf(events));
    await stream.until(() => stream.events.at(-1)?.data === '1100');
    const kept = Array.from({ length: 1024 }, (_, i) => String(1100 - 1023 + i));
    expect(stream.events.map(({ data }) => data)).toEqual(['own', ...kept]);
  });

  test('with `history: false` nothing is resumed: no reset, no checkpoint, but `lastEventId` is set', async () => {
    const { stream, conn, events } = await opened((connection) => void connection.comment('hi'), BARE, {
      lastEventId: 'aaaaaaaaaaaa-1',
    });
    await events.broadcast('x');
    await stream.next();
    expect(conn.lastEventId).toBe('aaaaaaaaaaaa-1');
    expect(stream.text).toBe(`${HEAD}: hi\ndata: x\n\n`);
  });

  test('a connection that pushes an id of the application receives broadcasts without ids; other connections do not', async () => {
    const { stream, conn, events, app } = await opened((connection) => void connection.push('hello'));
    const other = await another(app);
    const ids = [await events.broadcast('first')];
    await stream.take(2);
    conn.push({ id: 1, data: 'foo' });
    ids.push(await events.broadcast('second'));
    expect((await stream.take(2)).map(({ data, id }) => [data, id])).toEqual([
      ['foo', '1'],
      ['second', undefined],
    ]);
    expect((await other.take(3)).map(({ id }) => id).slice(1)).toEqual(ids);
    expect(stream.lastEventId).toBe('1');
  });

  test('a connection that does so in its first push gets no position', async () => {
    const { stream, events } = await opened((conn) => void conn.push({ id: 1, data: 'foo' }), { retry: 1000 });
    await events.broadcast('all');
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}id: 1\ndata: foo\n\ndata: all\n\n`);
  });

  test('a Last-Event-ID of another form alone claims nothing: the client receives a reset and positions', async () => {
    const { stream, conn, events } = await opened(
      (connection) => void connection.push('hi'),
      { retry: 1000 },
      { lastEventId: '42' },
    );
    const { position } = events;
    const id = await events.broadcast('all');
    await stream.take(3);
    expect(conn.lastEventId).toBe('42');
    const reset = `id: ${position}\nevent: reset\ndata: {"reason":"unknown","lastEventId":"42"}\n\n`;
    expect(stream.text).toBe(`${HEAD}${reset}data: hi\n\nid: ${id}\ndata: all\n\n`);
  });
});

describe('a refused broadcast', () => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;

  test.each<[name: string, message: unknown, code: string]>([
    ['nothing', undefined, 'ERR_SSE_MESSAGE'],
    ['a number', 7, 'ERR_SSE_MESSAGE'],
    ['an object that is not a message', { foo: 1 }, 'ERR_SSE_FIELD'],
    ['a forged event', { event: 'm\nevent: admin', data: '' }, 'ERR_SSE_EVENT'],
    ['a forged retry', { retry: '5\ndata: x', data: '' }, 'ERR_SSE_RETRY'],
    ['a bigint', { data: 1n }, 'ERR_SSE_DATA'],
    ['a circular object', { data: circular }, 'ERR_SSE_DATA'],
  ])('%s: it rejects, no connection receives a part of it, and no id is used', async (_name, message, code) => {
    const { events, join } = channelRouter();
    const streams = await Promise.all(['a', 'b'].map(join));
    const before = await events.broadcast('before');
    await expect(events.broadcast(message as string)).rejects.toMatchObject({ name: 'TypeError', code });
    const after = await events.broadcast('after');
    expect(await receivedBy(events, streams)).toEqual([
      ['before', 'after'],
      ['before', 'after'],
    ]);
    expect(Number(after.split('-')[1])).toBe(Number(before.split('-')[1]) + 1);
    expect(events.stats().broadcasts).toBe(3);
  });

  test.each([
    ['at once', async () => {}],
    ['later', tick],
  ])('a broadcast after close(), %s, rejects', async (_name, meanwhile) => {
    const { events } = channelRouter();
    await meanwhile();
    await events.close();
    await expect(events.broadcast('x')).rejects.toMatchObject({
      code: 'ERR_SSE_CLOSED',
      message: expect.stringMatching(/^broadcast\(\) must .*events\.close\(\).*clearInterval\(\)/),
    });
    await expect(events.disconnect({ to: 'a' })).rejects.toMatchObject({
      code: 'ERR_SSE_CLOSED',
      message: expect.stringMatching(/^disconnect\(\) must .*events\.close\(\)/),
    });
  });
});

test('a broadcast of a retry alone reaches every connection, without an event or an id', async () => {
  const { stream, events } = await opened(() => {}, { retry: 1000 });
  await stream.next();
  const before = stream.text;
  await events.broadcast({ retry: 7 });
  const id = await events.broadcast('x');
  await stream.next();
  expect(stream.text).toBe(`${before}retry: 7\nid: ${id}\ndata: x\n\n`);
});

test('a broadcast is encoded once for all connections, live, behind or returning', async () => {
  const { events, join } = channelRouter();
  const streams = await Promise.all(Array.from({ length: 200 }, (_, n) => join(n % 3 ? 'a' : 'b&c')));
  const toJSON = jest.fn(() => ({ n: 1 }));
  await events.broadcast({ data: { toJSON } });
  await events.broadcast({ data: { toJSON } }, { to: ['a', 'b', 'c'] });
  const returning = await Promise.all(streams.slice(0, 20).map((stream) => stream.reconnect()));
  for (const stream of returning) later(() => stream.close());
  expect(await receivedBy(events, streams.slice(20))).toEqual(streams.slice(20).map(() => ['{"n":1}', '{"n":1}']));
  expect(toJSON).toHaveBeenCalledTimes(2);
});

test('an error of one connection does not affect the others', async () => {
  const conns: Connection[] = [];
  const onError = jest.fn();
  const { events, join } = channelRouter({ onError });
  const [one, two, three] = [await join('a'), await join('a'), await join('a')];
  conns.push(...events.connections);
  expect(() => conns[0]!.push({ data: 1n } as never)).toThrow(TypeError);
  conns[1]!.signal.addEventListener('abort', () => conns[0]!.push('pushed by another'));
  conns[1]!.close();
  await tick();
  await events.broadcast('x');
  expect(await receivedBy(events, [one!, three!])).toEqual([['pushed by another', 'x'], ['x']]);
  expect(await two!.closed).toBe('end');
  expect(onError).not.toHaveBeenCalled();
});
