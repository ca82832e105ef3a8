import type { Socket } from 'node:net';
import { EventSource } from 'eventsource';
import { memoryJournal, sse, type Connection, type SseOptions } from '../../lib/index.ts';
import type { TestStream } from '../../lib/testing/index.ts';
import {
  another,
  type AnyHandler,
  appOf,
  BARE,
  choke,
  codeOf,
  fakeClock,
  gate,
  HEAD,
  later,
  listening,
  opened,
  overOf,
  tick,
} from '../fixtures/support.ts';
import { ask, eventually } from '../fixtures/http.ts';

const END = 'id: sse-router:end\nevent: end\ndata: \n\n';

/** Returns an EventSource, which reconnects as a browser does. */
function source(url: string) {
  const es = new EventSource(url);
  later(() => es.close());
  const seen = { events: [] as string[], errors: [] as (number | undefined)[], opened: 0 };
  es.addEventListener('message', ({ data }) => seen.events.push(data as string));
  es.addEventListener('error', ({ code }) => seen.errors.push(code));
  es.addEventListener('open', () => seen.opened++);
  return { es, seen };
}

/** Returns a router whose handler receives each connection and its number. */
async function site(handler: (conn: Connection, n: number) => unknown, options: SseOptions = {}) {
  let calls = 0;
  const conns: Connection[] = [];
  const events = sse((conn) => {
    conns.push(conn);
    return handler(conn, ++calls) as void;
  }, options);
  later(() => events.close());
  return { events, conns, ...(await listening(appOf(events))) };
}

describe('close()', () => {
  test('ends the response normally, after all pushes, and writes nothing else', async () => {
    const { stream, conn } = await opened((one) => void one.push('a'), BARE);
    await stream.next();
    conn.push('b');
    conn.push({ event: 'c', data: 'c' });
    conn.close();
    expect(conn.readyState).toBe('closed');
    expect(conn.push('late')).toBe(false);
    expect(conn.comment('late')).toBe(false);
    expect(await stream.body()).toBe(`${HEAD}data: a\n\ndata: b\n\nevent: c\ndata: c\n\n`);
    expect(await stream.closed).toBe('end');
    expect(conn.signal.reason).toBe('handler');
    conn.close();
    conn.end();
  });

  test('makes an EventSource return with its id, after the given delay, without missing an event', async () => {
    const { events, conns, url } = await site(() => {}, { retry: 1 });
    const { seen } = source(url);
    await eventually(() => conns.length === 1);
    const id = await events.broadcast('one');
    await eventually(() => seen.events.length === 1);
    conns[0]!.close({ retry: 50 });
    await events.broadcast('two');
    await eventually(() => conns.length === 2);
    expect(conns[1]!.lastEventId).toBe(id);
    await eventually(() => seen.events.length === 2);
    expect(seen).toMatchObject({ events: ['one', 'two'], opened: 2 });
  });

  test('in the handler, before any push, gives a complete, empty stream', async () => {
    const { stream } = await opened((conn) => conn.close({ retry: 77 }), BARE);
    expect(await stream.body()).toBe(`${HEAD}retry: 77\n`);
    expect(stream.status).toBe(200);
  });

  test('in the tick of the opening loses no push, and Express still answers an exception after it', async () => {
    const { stream } = await opened((conn) => {
      conn.push('a');
      conn.close();
    }, BARE);
    expect(await stream.body()).toBe(`${HEAD}data: a\n\n`);
    const failed = await opened((conn) => {
      conn.close();
      throw Object.assign(new Error('no'), { status: 418 });
    }, BARE);
    expect(failed.stream.status).toBe(418);
  });

  test.each([0, -1, 1.5, NaN, 2 ** 31, '5', null, true])(
    'with retry: %p throws, and the stream stays open',
    async (retry) => {
      const { conn, stream } = await opened(() => {}, BARE);
      expect(codeOf(() => conn.close({ retry: retry as number }))).toBe('ERR_SSE_RETRY');
      expect(conn.readyState).toBe('open');
      conn.push('still here');
      expect((await stream.next()).data).toBe('still here');
    },
  );

  test.each([5000, 'text', null])(
    'close(%p) throws, because the delay is a named option, and the stream stays open',
    async (how) => {
      const { conn } = await opened(() => {}, BARE);
      expect(codeOf(() => conn.close(how as never))).toBe('ERR_SSE_OPTION');
      expect(() => conn.close(how as never)).toThrow(/\{ retry: … \}/);
      expect(conn.readyState).toBe('open');
    },
  );
});

describe('end()', () => {
  test('writes the `end` event last, and ends the response', async () => {
    const { stream, conn, events } = await opened((one) => void one.push('a'), BARE);
    await stream.next();
    conn.push('b');
    conn.end();
    expect(await stream.body()).toBe(`${HEAD}data: a\n\ndata: b\n\n${END}`);
    expect(conn.signal.reason).toBe('end');
    expect(conn.push('late')).toBe(false);
    expect(events.stats().closed).toMatchObject({ end: 1 });
  });

  test('in the handler, before anything is pushed', async () => {
    const { stream } = await opened((conn) => conn.end(), BARE);
    expect(await stream.body()).toBe(HEAD + END);
  });

  test.each([[BARE], [{ retry: 1 }], [{ retry: 1, snapshot: () => 'state' }]])(
    'with %j: a returning EventSource gets 204, and stops for good',
    async (options) => {
      const { conns, url } = await site((conn) => void conn.push('a'), { ...options, retry: 1 });
      const { es, seen } = source(url);
      const ended = jest.fn();
      es.addEventListener('end', ended);
      await eventually(() => seen.events.includes('a'));
      conns[0]!.end();
      await eventually(() => es.readyState === EventSource.CLOSED);
      expect(ended).toHaveBeenCalledTimes(1);
      expect(seen.errors.at(-1)).toBe(204);
      expect(conns).toHaveLength(1);
    },
  );

  test.each([
    ['the header', '', { 'last-event-id': 'sse-router:end' }],
    ['Yaffle’s query', '?lastEventId=sse-router%3Aend', {}],
    ['amvtek’s query', '?evs_last_event_id=sse-router:end', {}],
  ])('any process answers 204, without state and without the handler: %s', async (_how, query, headers) => {
    const { events, conns, url } = await site(() => {});
    const answer = await ask(url + query, { headers: headers as Record<string, string> });
    expect(answer).toMatchObject({ status: 204, text: '' });
    expect(conns).toHaveLength(0);
    expect(events.stats()).toMatchObject({ opened: 0, connecting: 0 });
  });

  test.each<[string, SseOptions, 'GET' | 'POST']>([
    ['controlEvents: false', { controlEvents: false }, 'GET'],
    ['controlEvents: false and a snapshot', { controlEvents: false, snapshot: () => 'state' }, 'GET'],
    ['POST alone among its methods', { methods: ['POST'] }, 'POST'],
  ])('a router that never sends `end` (%s) passes its id on to the handler', async (_case, options, method) => {
    const ids: string[] = [];
    const { url } = await site((conn) => {
      ids.push(conn.lastEventId);
      conn.push('x');
      conn.end();
    }, options);
    const headers = { 'last-event-id': 'sse-router:end' };
    const answer = await ask(url, { method, headers });
    expect(answer).toMatchObject({ status: 200, text: expect.stringContaining('data: x\n\n') });
    expect(answer.text).not.toContain('reset');
    expect(ids).toEqual(['sse-router:end']);
    expect((await ask(url, { method: 'HEAD', headers })).status).toBe(method === 'GET' ? 200 : 405);
  });

  test('with history: false and control events, the answer is the 204: the router does send `end`', async () => {
    const { conns, url } = await site(() => {}, { history: false });
    for (const method of ['GET', 'HEAD']) {
      expect((await ask(url, { method, headers: { 'last-event-id': 'sse-router:end' } })).status).toBe(204);
    }
    expect(conns).toHaveLength(0);
  });

  test('an allowed origin can read the 204', async () => {
    const { url } = await site(() => {}, { cors: { origin: 'https://a.example', credentials: true } });
    const answer = await ask(url, { headers: { 'last-event-id': 'sse-router:end', origin: 'https://a.example' } });
    expect(answer.status).toBe(204);
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://a.example');
  });

  test('the application cannot push the id of the `end` event', async () => {
    const { conn } = await opened(() => {}, BARE);
    expect(codeOf(() => conn.push({ id: 'sse-router:end', data: 'x' }))).toBe('ERR_SSE_ID');
  });
});

describe('what a handler returns', () => {
  test.each<[what: string, handler: AnyHandler]>([
    [
      'a generator that finishes',
      function* () {
        yield 'a';
        yield 'b';
      } as AnyHandler,
    ],
    [
      'an async generator that finishes',
      async function* () {
        yield 'a';
        await tick();
        yield 'b';
      } as AnyHandler,
    ],
    ['a list', () => ['a', 'b']],
  ])('%s ends the connection', async (_what, handler) => {
    const { stream, conn } = await opened(handler, BARE);
    expect(await stream.body()).toBe(`${HEAD}data: a\n\ndata: b\n\n${END}`);
    expect(conn.signal.reason).toBe('end');
  });

  test.each<[what: string, handler: AnyHandler]>([
    ['nothing', () => {}],
    ['a promise of nothing', () => Promise.resolve()],
  ])('%s leaves the connection open', async (_what, handler) => {
    const { stream, conn } = await opened(handler, BARE);
    await tick();
    conn.push('later');
    expect((await stream.next()).data).toBe('later');
  });

  const secret = new Error('SECRET of the database');
  test.each<[what: string, handler: AnyHandler]>([
    [
      'a generator that throws',
      async function* () {
        yield 'a';
        await tick();
        await tick();
        throw secret;
      } as AnyHandler,
    ],
    [
      'an async handler that rejects',
      async (conn) => {
        conn.push('a');
        await tick();
        await tick();
        throw secret;
      },
    ],
    ['a snapshot that rejects', (conn) => void conn.push('a')],
  ])(
    '%s, after the opening: the connection closes, onError receives the error once, and the client nothing of it',
    async (what, handler) => {
      const onError = jest.fn();
      const snapshot = what.startsWith('a snapshot')
        ? { snapshot: () => tick().then(() => Promise.reject(secret)) }
        : {};
      const { stream, conn } = await opened(handler, { ...BARE, onError, ...snapshot });
      const body = await stream.body();
      expect(body).not.toContain('SECRET');
      expect(body).not.toContain('event: end');
      if (!what.startsWith('a snapshot')) expect(body).toBe(`${HEAD}data: a\n\n`);
      expect(await overOf(conn)).toBe('error');
      expect(onError.mock.calls).toEqual([[secret, conn]]);
    },
  );
});

test('a close that waits for a snapshot, on a response whose end() throws: onError receives the error, and the socket is destroyed', async () => {
  const thrown = new Error('of a wrapper');
  const onError = jest.fn();
  const handler: AnyHandler = (conn, _req, res) => {
    res.end = () => {
      throw thrown;
    };
    conn.push('a');
    conn.close();
  };
  const { stream, conn } = await opened(handler, { ...BARE, onError, snapshot: () => new Promise(() => {}) });
  expect(await stream.closed).toBe('cut');
  expect(stream.text).toBe(`${HEAD}data: a\n\n`);
  expect(onError.mock.calls).toEqual([[thrown, conn]]);
});

/** Expects that the socket is destroyed one second after the close. The clock is faked. */
async function expectCutAfterOneSecond(socket: Socket, stream: TestStream): Promise<void> {
  await jest.advanceTimersByTimeAsync(900);
  expect(socket.destroyed).toBe(false);
  await jest.advanceTimersByTimeAsync(200);
  await eventually(() => socket.destroyed);
  stream.resume();
  expect(await stream.closed).toBe('cut');
}

describe('a client that does not read has one second after the close', () => {
  test.each<
    [how: string, end: (all: { conn: Connection; events: { close(): Promise<void> } }) => unknown, reason: string]
  >([
    ['close()', ({ conn }) => conn.close(), 'handler'],
    ['end()', ({ conn }) => conn.end(), 'end'],
    ['the router’s close()', ({ events }) => events.close(), 'shutdown'],
  ])('%s: then the socket is destroyed', async (_how, end, reason) => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    const { conn, events, stream } = await opened(() => {}, { ...BARE, maxBuffered: 1e9 });
    stream.pause();
    await choke(conn);
    const { socket } = conn.request;
    end({ conn, events });
    await tick();
    expect(conn.readyState).toBe('closed');
    expect(events.size).toBe(0);
    await expectCutAfterOneSecond(socket, stream);
    expect(conn.signal.reason).toBe(reason);
  });

  test('a client that reads again within it receives everything', async () => {
    const { conn, stream } = await opened(() => {}, { ...BARE, maxBuffered: 1e9 });
    stream.pause();
    const pushed = await choke(conn);
    conn.push('the last');
    conn.end();
    stream.resume();
    await stream.until(() => stream.ended, 900);
    expect(await stream.closed).toBe('end');
    expect(stream.events).toHaveLength(pushed + 2);
    expect(stream.events.at(-2)!.data).toBe('the last');
    expect(stream.events.at(-1)!.event).toBe('end');
  });
});

describe('a connection that is behind when it closes', () => {
  test.each<[how: string, end: (all: { conn: Connection; events: { close(): Promise<void> } }) => unknown]>([
    ['close()', ({ conn }) => conn.close()],
    ['end()', ({ conn }) => conn.end()],
    ['the router’s close()', ({ events }) => events.close()],
  ])('%s: receives the earlier broadcasts in order with its own pushes, and no later broadcast', async (how, end) => {
    const { conn, events, stream } = await opened(() => {}, { maxBuffered: 1e9 });
    stream.pause();
    const pushed = await choke(conn);
    await events.broadcast('one');
    conn.push('own');
    await events.broadcast('two');
    const closing = end({ conn, events });
    if (how !== 'the router’s close()') await events.broadcast('after');
    expect(events.stats()).toMatchObject({ connections: 0, behind: 0 });
    await tick();
    stream.resume();
    await stream.until(() => stream.ended, 900);
    expect(await stream.closed).toBe('end');
    const endEvent = how === 'end()' ? ['end'] : [];
    expect(stream.events.slice(1 + pushed).map(({ event, data }) => data || event)).toEqual([
      'one',
      'own',
      'two',
      ...endEvent,
    ]);
    expect(events.stats()).toMatchObject({ connections: 0, behind: 0 });
    await closing;
  });

  test('is destroyed after one second, without an `end` event, so that its client returns for the rest', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    const { conn, events, stream } = await opened(() => {}, { maxBuffered: 1e9 });
    stream.pause();
    await choke(conn);
    await events.broadcast('missed');
    const { socket } = conn.request;
    conn.end();
    await tick();
    await expectCutAfterOneSecond(socket, stream);
    expect(stream.text).not.toContain('event: end');
  });
});

describe('an `end()` whose second passes before everything is sent ends the response without an `end` event', () => {
  test('a snapshot is missing: the client returns, and receives it with the `end` event', async () => {
    fakeClock();
    const { pass, open } = gate();
    const { app, stream } = await opened((conn) => conn.end(), {
      heartbeat: false,
      snapshot: () => pass.then(() => 'state'),
    });
    await stream.until(() => stream.retry !== undefined);
    await jest.advanceTimersByTimeAsync(900);
    expect(stream.ended).toBe(false);
    await jest.advanceTimersByTimeAsync(200);
    expect(await stream.closed).toBe('end');
    expect(stream.events.map(({ event }) => event)).toEqual([]);
    expect(stream.lastEventId).toBe('');
    open();
    const again = await another(app);
    expect(await again.closed).toBe('end');
    expect(again.events.map(({ event, data }) => data || event)).toEqual(['state', 'end']);
  });

  test('a snapshot fails: the client returns, and receives it with the `end` event', async () => {
    const snapshot = jest.fn<Promise<string>, []>().mockResolvedValue('state');
    snapshot.mockImplementationOnce(() => tick().then(() => Promise.reject(new Error('of the database'))));
    const onError = jest.fn();
    const { app, stream } = await opened((conn) => conn.end(), { heartbeat: false, snapshot, onError });
    expect(await stream.closed).toBe('end');
    expect(stream.events.map(({ event }) => event)).toEqual([]);
    expect(onError).toHaveBeenCalledTimes(1);
    const again = await another(app);
    expect(await again.closed).toBe('end');
    expect(again.events.map(({ event, data }) => data || event)).toEqual(['state', 'end']);
  });

  test('a replay waits for the log: the client returns with its last id, and receives the rest with the `end` event', async () => {
    fakeClock();
    const journal = memoryJournal({ size: 40_000 });
    const read = journal.read.bind(journal);
    const { pass, open } = gate();
    journal.read = (after, limit) => pass.then(() => read(after, limit));
    const events = sse((conn) => conn.end(), { history: journal, heartbeat: false });
    later(() => events.close());
    const first = await events.broadcast('0');
    for (let n = 1; n <= 17_000; n++) await events.broadcast(String(n)); // the first id is older than the ring
    const app = appOf(events);
    const stream = await another(app, '/events', { lastEventId: first });
    await stream.until(() => stream.retry !== undefined);
    await jest.advanceTimersByTimeAsync(1100);
    expect(await stream.closed).toBe('end');
    expect(stream.events.map(({ event }) => event)).toEqual([]);
    open();
    const again = await another(app, '/events', { lastEventId: first });
    expect(await again.closed).toBe('end');
    expect(again.events).toHaveLength(17_001);
    expect(again.events.at(-1)!.event).toBe('end');
  });
});

test('a stream that breaks off within an event: the client does not fire the part, and receives the whole event on return', async () => {
  const { events, url, conns } = await site(() => {}, { retry: 1 });
  const { seen } = source(url);
  await eventually(() => conns.length === 1);
  await events.broadcast('one');
  await eventually(() => seen.events.length === 1);
  const { socket } = conns[0]!.request;
  const write = socket.write.bind(socket) as (data: Buffer | string, ...how: unknown[]) => boolean;
  socket.write = ((data: Buffer | string, ...how: unknown[]) =>
    data.length < 1000 ? write(data, ...how) : write(data.slice(0, 1000), () => socket.destroy())) as typeof write;
  const long = 'two'.repeat(100_000);
  await events.broadcast(long);
  await eventually(() => seen.events.length === 2);
  expect(seen.events).toEqual(['one', long]);
  expect(conns).toHaveLength(2);
});
