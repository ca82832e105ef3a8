/*
 * Design rule 6: one order, one id, one path. API-02, API-12 (channels), API-13 (`to` and `except` in place of a predicate), LIM-09.
 */
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import type { TestStream } from '../../lib/testing/index.ts';
import { another, appOf, BARE, HEAD, later, opened, turn } from '../fixtures/support.ts';

/** A router whose clients join the channels of their query: `?a&b`. */
function rooms(options: SseOptions = {}) {
  const events = sse((conn, req) => {
    conn.join(...new URL(req.originalUrl, 'http://x').searchParams.keys());
    conn.push('hello');
  }, options);
  later(() => events.close());
  const app = appOf(events);
  const enter = async (query: string): Promise<TestStream> => {
    const stream = await another(app, `/events?${query}`);
    await stream.next();
    return stream;
  };
  return { events, enter };
}

/** What each stream has got, once everybody has had an event for everybody. */
async function gotBy(events: SseRouter, streams: TestStream[]): Promise<string[][]> {
  await events.broadcast('the end');
  return Promise.all(
    streams.map(async (stream) => {
      await stream.until(() => stream.events.at(-1)?.data === 'the end');
      return stream.events.slice(1, -1).map(({ data }) => data as string);
    }),
  );
}

describe('who gets it', () => {
  test.each<[name: string, to: string | string[] | undefined, except: string | string[] | undefined, who: string]>([
    ['without `to`, everyone', undefined, undefined, '- a b ab c'],
    ['to a channel', 'a', undefined, 'a ab'],
    ['to a list of one', ['b'], undefined, 'b ab'],
    ['to several, once each', ['a', 'b'], undefined, 'a b ab'],
    ['to the same twice, once', ['a', 'a'], undefined, 'a ab'],
    ['to nobody', [], undefined, ''],
    ['to a channel that nobody has joined', 'z', undefined, ''],
    ['to everyone, except', undefined, 'a', '- b c'],
    ['to everyone, except some', undefined, ['a', 'c'], '- b'],
    ['to everyone, except nobody', undefined, [], '- a b ab c'],
    ['to a channel, except those who have joined another as well', 'a', 'b', 'a'],
    ['to a channel, except itself', 'a', ['a'], ''],
    ['to nobody, except somebody', [], 'a', ''],
  ])('API-13 %s', async (_name, to, except, who) => {
    const { events, enter } = rooms();
    const names = ['-', 'a', 'b', 'ab', 'c'];
    const streams = await Promise.all(['', 'a', 'b', 'a&b', 'c'].map(enter));
    await events.broadcast('x', { ...(to !== undefined && { to }), ...(except !== undefined && { except }) });
    const got = await gotBy(events, streams);
    expect(names.filter((_, index) => got[index]!.includes('x')).join(' ')).toBe(who);
    expect(got.every((data) => data.length <= 1)).toBe(true);
  });

  test('`undefined` means absent, as in options', async () => {
    const { events, enter } = rooms();
    const stream = await enter('a');
    await events.broadcast('x', { to: undefined, except: undefined });
    expect(await gotBy(events, [stream])).toEqual([['x']]);
  });

  test.each([[''], [7], [null], [['a', '']], [['a', 7]], [{}]])(
    'a channel is a text that is not empty: %p',
    async (to) => {
      const { events, enter } = rooms();
      const stream = await enter('a');
      await expect(events.broadcast('x', { to: to as string })).rejects.toMatchObject({ code: 'ERR_SSE_CHANNEL' });
      await expect(events.broadcast('x', { except: to as string })).rejects.toMatchObject({ code: 'ERR_SSE_CHANNEL' });
      expect(await gotBy(events, [stream])).toEqual([[]]);
    },
  );

  test('who leaves a channel gets what came before, and nothing after; who joins, the other way round', async () => {
    const { events, enter } = rooms();
    const stream = await enter('a');
    const [conn] = events.connections;
    await events.broadcast('a before', { to: 'a' });
    await events.broadcast('b before', { to: 'b' });
    conn!.leave('a');
    conn!.join('b');
    await events.broadcast('a after', { to: 'a' });
    await events.broadcast('b after', { to: 'b' });
    expect(await gotBy(events, [stream])).toEqual([['a before', 'b after']]);
  });

  test('a closed connection gets nothing more, also not what was broadcast in the tick of its closing', async () => {
    const { events, enter } = rooms();
    const [first, second] = [await enter('a'), await enter('a')];
    const [conn] = events.connections;
    await events.broadcast('before');
    conn!.close();
    await events.broadcast('after');
    expect(await gotBy(events, [second!])).toEqual([['before', 'after']]);
    expect(await first!.closed).toBe('end');
    expect(first!.events.map(({ data }) => data as string)).toEqual(['hello', 'before']);
  });
});

describe('its id and its order', () => {
  test('the answer is the id on the wire, ids grow by one, and `position` is the last', async () => {
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

  test('another router has another epoch', async () => {
    const a = rooms().events;
    const b = rooms().events;
    expect((await a.broadcast('x')).split('-')[0]).not.toBe((await b.broadcast('x')).split('-')[0]);
  });

  test('`await broadcast(a); push(b)` arrives as a, b, for each connection and however often', async () => {
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

  test('many at once keep the order of the calls, for all', async () => {
    const { events, enter } = rooms();
    const streams = await Promise.all(['a', 'b', 'a&b'].map(enter));
    const sent = Array.from({ length: 300 }, (_, n) => `${n}`);
    const ids = await Promise.all(sent.map((data) => events.broadcast(data)));
    expect(ids.map((id) => Number(id.split('-')[1]))).toEqual(sent.map((_, n) => n + 1));
    expect(await gotBy(events, streams)).toEqual([sent, sent, sent]);
  });

  test('with the log in memory it has been delivered when it is answered', async () => {
    const { stream, conn, events } = await opened();
    await stream.next();
    await events.broadcast('x');
    conn.close(); // what was delivered still leaves
    await stream.closed;
    expect(stream.events.at(-1)).toMatchObject({ data: 'x' });
  });
});

describe('own ids', () => {
  test('a broadcast that brings its own id is a TypeError, and reaches nobody', async () => {
    const { stream, events } = await opened();
    await expect(events.broadcast({ id: 7, data: 'x' })).rejects.toMatchObject({
      name: 'TypeError',
      code: 'ERR_SSE_ID',
    });
    expect(await gotBy(events, [stream])).toEqual([[]]);
  });

  test('with `history: false` it is the application’s, and nothing else is written', async () => {
    const { stream, events } = await opened((conn) => void conn.push('hi'), BARE);
    expect(events.position).toBe('');
    expect(await events.broadcast({ id: 7, data: 'x' })).toBe('7');
    expect(await events.broadcast('y')).toBe('');
    await stream.take(3);
    expect(stream.text).toBe(`${HEAD}data: hi\n\nid: 7\ndata: x\n\ndata: y\n\n`);
  });

  test('with `history: false` who opens after more broadcasts than are kept begins with the oldest that is', async () => {
    const events: SseRouter = sse(async (conn) => {
      conn.push('words');
      for (let n = 1; n <= 1100; n++) await events.broadcast(String(n));
      await turn();
    }, BARE);
    later(() => events.close());
    const stream = await another(appOf(events));
    await stream.until(() => stream.events.at(-1)?.data === '1100');
    const kept = Array.from({ length: 1024 }, (_, i) => String(1100 - 1023 + i));
    expect(stream.events.map(({ data }) => data)).toEqual(['words', ...kept]);
  });

  test('with `history: false` nothing is resumed: no reset, no checkpoint, `lastEventId` tells', async () => {
    const { stream, conn, events } = await opened((connection) => void connection.comment('hi'), BARE, {
      lastEventId: 'aaaaaaaaaaaa-1',
    });
    await events.broadcast('x');
    await stream.next();
    expect(conn.lastEventId).toBe('aaaaaaaaaaaa-1');
    expect(stream.text).toBe(`${HEAD}: hi\ndata: x\n\n`);
  });

  test('a connection that pushes an id of its own gets broadcasts without theirs; others are not concerned', async () => {
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

  test('one that does so in its first words gets no position', async () => {
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

describe('what cannot be broadcast', () => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;

  test.each<[name: string, message: unknown, code: string]>([
    ['nothing', undefined, 'ERR_SSE_MESSAGE'],
    ['a number', 7, 'ERR_SSE_MESSAGE'],
    ['a foreign object', { foo: 1 }, 'ERR_SSE_FIELD'],
    ['SEC-01 a forged event', { event: 'm\nevent: admin', data: '' }, 'ERR_SSE_EVENT'],
    ['SEC-03 a forged retry', { retry: '5\ndata: x', data: '' }, 'ERR_SSE_RETRY'],
    ['a bigint', { data: 1n }, 'ERR_SSE_DATA'],
    ['a circular object', { data: circular }, 'ERR_SSE_DATA'],
  ])('API-02 %s: it rejects, nobody gets a part, no id is used up', async (_name, message, code) => {
    const { events, enter } = rooms();
    const streams = await Promise.all(['a', 'b'].map(enter));
    const before = await events.broadcast('before');
    await expect(events.broadcast(message as string)).rejects.toMatchObject({ name: 'TypeError', code });
    const after = await events.broadcast('after');
    expect(await gotBy(events, streams)).toEqual([
      ['before', 'after'],
      ['before', 'after'],
    ]);
    expect(Number(after.split('-')[1])).toBe(Number(before.split('-')[1]) + 1);
    expect(events.stats().broadcasts).toBe(3);
  });

  test.each([
    ['at once', async () => {}],
    ['later', turn],
  ])('after close(), %s, it rejects', async (_name, meanwhile) => {
    const { events } = rooms();
    await meanwhile();
    await events.close();
    await expect(events.broadcast('x')).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
  });
});

test('a retry alone goes to all, is no event, and takes no id onto the wire', async () => {
  const { stream, events } = await opened(() => {}, { retry: 1000 });
  await stream.next();
  const before = stream.text;
  await events.broadcast({ retry: 7 });
  const id = await events.broadcast('x');
  await stream.next();
  expect(stream.text).toBe(`${before}retry: 7\nid: ${id}\ndata: x\n\n`);
});

test('LIM-09 it is encoded once, for however many, live, late or returning', async () => {
  const { events, enter } = rooms();
  const streams = await Promise.all(Array.from({ length: 200 }, (_, n) => enter(n % 3 ? 'a' : 'b&c')));
  const toJSON = jest.fn(() => ({ n: 1 }));
  await events.broadcast({ data: { toJSON } });
  await events.broadcast({ data: { toJSON } }, { to: ['a', 'b', 'c'] });
  const returning = await Promise.all(streams.slice(0, 20).map((stream) => stream.reconnect()));
  for (const stream of returning) later(() => stream.close());
  expect(await gotBy(events, streams.slice(20))).toEqual(streams.slice(20).map(() => ['{"n":1}', '{"n":1}']));
  expect(toJSON).toHaveBeenCalledTimes(2);
});

test('an error of one connection does not concern the others: SEC-14', async () => {
  const conns: Connection[] = [];
  const onError = jest.fn();
  const { events, enter } = rooms({ onError });
  const [one, two, three] = [await enter('a'), await enter('a'), await enter('a')];
  conns.push(...events.connections);
  expect(() => conns[0]!.push({ data: 1n } as never)).toThrow(TypeError);
  conns[1]!.signal.addEventListener('abort', () => conns[0]!.push('told by another'));
  conns[1]!.close();
  await turn();
  await events.broadcast('x');
  expect(await gotBy(events, [one!, three!])).toEqual([['told by another', 'x'], ['x']]);
  expect(await two!.closed).toBe('end');
  expect(onError).not.toHaveBeenCalled();
});
