/*
 * The client of one tab, on real sockets: opening, headers, refusals, retries, positions, silence, iterators, the page's life.
 * The page is faked; pages.test.ts has real ones.
 */
import { connect, type ConnectOptions, type EventStream, StreamError, type Status } from '../../lib/client/index.ts';
import { sse } from '../../lib/index.ts';
import { eventually, pause, serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';
import { fakePage, type FakePage } from './fixtures/page.ts';
import { scriptedServer } from './fixtures/scripted-server.ts';

let page: FakePage;
beforeEach(() => {
  page = fakePage();
});

interface Watched {
  readonly stream: EventStream;
  readonly seen: unknown[];
  readonly statuses: Status[];
  readonly errors: StreamError[];
}

/** A stream with its listeners; closed after the test. */
function watch(url: string, options: ConnectOptions = {}, names: readonly string[] = ['message']): Watched {
  const stream = connect(url, options);
  later(() => stream.close());
  const seen: unknown[] = [];
  const statuses: Status[] = [];
  const errors: StreamError[] = [];
  stream.onStatus((status) => statuses.push(status));
  stream.onError((error) => errors.push(error));
  for (const name of names) stream.on(name, (data) => seen.push(data));
  return { stream, seen, statuses, errors };
}

/** The delays that timers are set to from now on. */
function spyTimers(): () => number[] {
  const spy = jest.spyOn(globalThis, 'setTimeout');
  return () => spy.mock.calls.map(([, delay]) => delay ?? 0).filter((delay) => delay < 44_000);
}

describe('opening', () => {
  test('a stream opens with its first listener, and then once', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('data: a\n\n'));
    const stream = connect(url);
    later(() => stream.close());
    expect(stream.status).toBe('idle');
    await pause(30);
    expect(exchanges).toHaveLength(0);
    const seen: string[] = [];
    stream.on('message', (data) => seen.push(`1 ${data}`));
    expect(stream.status).toBe('idle'); // until the end of the tick: no listener is called while it is added
    stream.on('message', (data) => seen.push(`2 ${data}`));
    const statuses: Status[] = [];
    stream.onStatus((status) => statuses.push(status));
    expect(statuses).toEqual([]);
    await eventually(() => seen.length === 2);
    expect(statuses).toEqual(['connecting', 'open']);
    expect(seen).toEqual(['1 a', '2 a']);
    const { request } = await exchange(1);
    expect(request.method).toBe('GET');
    expect(request.headers).toMatchObject({ accept: 'text/event-stream' });
    expect(request.headers['last-event-id']).toBeUndefined();
    expect(exchanges).toHaveLength(1);
  });

  test.each([
    ['a status listener', (stream: EventStream) => stream.onStatus(() => {})],
    ['an error listener', (stream: EventStream) => stream.onError(() => {})],
    ['an iterator', (stream: EventStream) => void stream[Symbol.asyncIterator]().next()],
  ])('a stream opens with %s', async (_what, listen) => {
    const { url, exchange } = await scriptedServer((one) => one.open());
    const stream = connect(url);
    later(() => stream.close());
    listen(stream);
    await exchange(1);
  });

  test('without a document, a stream never opens, and a relative URL is no error', async () => {
    delete (globalThis as { document?: unknown }).document;
    const { url, exchanges } = await scriptedServer();
    for (const address of [url, '/events']) {
      const { stream } = watch(address);
      stream.reconnect();
      expect(stream.status).toBe('idle');
    }
    await pause(30);
    expect(exchanges).toHaveLength(0);
  });

  test('a relative URL is resolved when the stream is made, as EventSource does', async () => {
    const { port, exchange } = await scriptedServer((one) => one.open());
    (document as { baseURI: string }).baseURI = `http://127.0.0.1:${port}/a/b`;
    const stream = connect('events');
    (document as { baseURI: string }).baseURI = `http://127.0.0.1:${port}/c/d`;
    later(() => stream.close());
    stream.on('message', () => {});
    expect((await exchange(1)).request.url).toBe('/a/events');
    expect(() => connect('http://')).toThrow('Invalid URL');
  });

  test('close() is final', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('data: a\n\n'));
    const { stream, statuses } = watch(url);
    const one = await exchange(1);
    await eventually(() => stream.status === 'open');
    stream.close();
    await eventually(() => one.isClosed);
    stream.reconnect();
    stream.on('message', () => {});
    page.fire('pageshow');
    page.fire('online');
    await pause(30);
    expect(exchanges).toHaveLength(1);
    expect(statuses).toEqual(['connecting', 'open', 'closed']);
  });

  test('a listener of any kind may close the stream', async () => {
    const { url, exchanges } = await scriptedServer((one) => one.open('data: a\n\ndata: b\n\n'));
    const first = connect(url);
    first.onStatus(() => first.close());
    const second = connect(url);
    later(() => second.close());
    const seen: unknown[] = [];
    second.on('message', (data) => {
      seen.push(data);
      second.close();
    });
    await eventually(() => second.status === 'closed');
    await pause(30);
    expect(first.status).toBe('closed');
    expect(seen).toEqual(['a']);
    expect(exchanges.every(({ isClosed }) => isClosed)).toBe(true);
  });

  test('a signal closes it, also one that has aborted before', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open());
    const controller = new AbortController();
    const { stream } = watch(url, { signal: controller.signal });
    const one = await exchange(1);
    controller.abort();
    expect(stream.status).toBe('closed');
    await eventually(() => one.isClosed);
    expect(watch(url, { signal: controller.signal }).stream.status).toBe('closed');
    await pause(30);
    expect(exchanges).toHaveLength(1);
  });
});

describe('headers', () => {
  test('a function is asked at every connect; fixed ones are sent as they are', async () => {
    const { url, exchange } = await scriptedServer((one, number) => {
      if (number < 3) one.open('retry: 10\ndata: a\n\n').end();
      else one.open();
    });
    let token = 0;
    watch(url, { headers: async () => ({ authorization: `Bearer ${++token}`, accept: 'text/event-stream, x/y' }) });
    const last = await exchange(3);
    expect(last.request.headers).toMatchObject({ authorization: 'Bearer 3', accept: 'text/event-stream, x/y' });
    const other = await scriptedServer((one) => one.open());
    watch(other.url, { headers: [['x-one', '1']] });
    expect((await other.exchange(1)).request.headers).toMatchObject({ 'x-one': '1' });
  });

  test.each([401, 403])(
    'after a %d, the client asks for fresh headers and tries once more, at once',
    async (status) => {
      const { url, exchange, exchanges } = await scriptedServer((one) => {
        if (one.request.headers.authorization === 'fresh') one.open();
        else one.answer(status);
      });
      const tokens = ['stale', 'fresh'];
      const { stream, errors } = watch(url, { headers: () => ({ authorization: tokens.shift()! }) });
      await eventually(() => stream.status === 'open');
      expect((await exchange(2)).at - exchanges[0]!.at).toBeLessThan(300);
      expect(errors).toEqual([]);
    },
  );

  test('after the second 401 it is refused, until reconnect(), which begins with its second attempt', async () => {
    let answer = (number: number): number => (number < 4 ? 401 : 200);
    const { url, exchanges } = await scriptedServer((one, number) => {
      const status = answer(number);
      if (status === 200) one.open('retry: 5\ndata: a\n\n');
      else one.answer(status);
    });
    let asked = 0;
    const { stream, statuses, errors } = watch(url, { headers: () => ({ authorization: String(++asked) }) });
    await eventually(() => stream.status === 'refused');
    expect(exchanges).toHaveLength(2);
    stream.reconnect();
    await eventually(() => stream.status === 'refused' && exchanges.length === 3);
    await pause(50);
    expect(exchanges).toHaveLength(3);
    expect(errors.map(({ code, status }) => [code, status])).toEqual([
      ['refused', 401],
      ['refused', 401],
    ]);
    stream.reconnect();
    await eventually(() => stream.status === 'open');
    // Once it has been open, a 401 has two attempts again.
    answer = (number) => (number === 5 ? 401 : 200);
    exchanges[3]!.cut();
    await eventually(() => exchanges.length === 6 && stream.status === 'open');
    expect(asked).toBe(6);
    expect(statuses.filter((status) => status === 'refused')).toHaveLength(2);
  });

  test.each([400, 401, 403, 404, 405, 410, 451, 499])('without a function, %d is refused at once', async (status) => {
    const { url, exchanges } = await scriptedServer((one) => one.answer(status));
    const { stream, errors } = watch(url, { headers: { authorization: 'x' } });
    await eventually(() => stream.status === 'refused');
    page.fire('online');
    page.fire('visibilitychange');
    await pause(30);
    expect(exchanges).toHaveLength(1);
    expect(errors).toMatchObject([{ code: 'refused', status }]);
    expect(errors[0]).toBeInstanceOf(StreamError);
  });

  test('a function that fails is an error, and the client retries', async () => {
    const { url, exchange } = await scriptedServer((one) => one.open());
    let asked = 0;
    const { errors } = watch(url, {
      retry: { min: 10, max: 10 },
      headers: async () => {
        if (++asked === 1) throw new Error('no token');
        return {};
      },
    });
    await exchange(1);
    expect(errors).toMatchObject([{ code: 'headers', cause: { message: 'no token' } }]);
  });

  test('a 503 between two 401s does not make the second one final', async () => {
    const script = [401, 503, 401];
    const { url, exchanges } = await scriptedServer((one) => {
      const status = script.shift();
      if (status) one.answer(status);
      else one.open();
    });
    const { stream, errors } = watch(url, { retry: { min: 10, max: 10 }, headers: () => ({ authorization: 'x' }) });
    await eventually(() => stream.status === 'open');
    expect(exchanges).toHaveLength(4);
    expect(errors).toMatchObject([{ code: 'status', status: 503 }]);
  });
});

describe('retries', () => {
  test.each([408, 425, 429, 500, 502, 503, 201, 304])('after a %d the client tries again', async (status) => {
    const { url, exchange } = await scriptedServer((one, number) => (number === 1 ? one.answer(status) : one.open()));
    const { errors, statuses } = watch(url, { retry: { min: 10, max: 10 } });
    await exchange(2);
    await eventually(() => statuses.at(-1) === 'open');
    expect(errors).toMatchObject([{ code: 'status', status }]);
    expect(statuses).toEqual(['connecting', 'waiting', 'connecting', 'open']);
  });

  test('after a 200 that is no event stream the client tries again', async () => {
    const { url, exchange } = await scriptedServer((one, number) => {
      if (number === 1) one.answer(200, { 'content-type': 'text/html' }, 'data: a\n\n');
      else if (number === 2) one.answer(200);
      else one.open('data: b\n\n', { 'content-type': 'Text/Event-Stream;charset=UTF-8' });
    });
    const { errors, seen } = watch(url, { retry: { min: 10, max: 10 } });
    await exchange(3);
    await eventually(() => seen.length === 1);
    expect(errors).toMatchObject([{ code: 'type' }, { code: 'type' }]);
    expect(seen).toEqual(['b']);
  });

  test('a connection that breaks is an error; one that the server ends is none', async () => {
    const { url, exchange } = await scriptedServer((one) => one.open('retry: 10\n\n'));
    const { errors, statuses } = watch(url);
    await eventually(() => statuses.at(-1) === 'open');
    (await exchange(1)).end();
    await exchange(2);
    await eventually(() => statuses.at(-1) === 'open');
    expect(errors).toEqual([]);
    (await exchange(2)).cut();
    await exchange(3);
    expect(errors).toMatchObject([{ code: 'network', cause: { message: expect.any(String) } }]);
  });

  test('the delay is the server’s retry, never less, plus up to a quarter; it doubles with every failure, up to max', async () => {
    const delays = spyTimers();
    const { url, exchange } = await scriptedServer((one, number) => {
      if (number === 1) one.open('retry: 20\ndata: a\n\n').end();
      else if (number < 6) one.answer(503);
      else if (number === 6) one.open('data: b\n\n').end();
      else one.open();
    });
    watch(url, { retry: { min: 1, max: 100 } });
    await exchange(7);
    const bases = [20, 40, 80, 100, 100, 20];
    const set = delays().filter((delay) => delay >= 19 && delay !== 200);
    expect(set).toHaveLength(6);
    set.forEach((delay, index) => {
      expect(delay).toBeGreaterThan(bases[index]! - 1.1); // a timer is set for what is left
      expect(delay).toBeLessThanOrEqual(bases[index]! * 1.25);
    });
  });

  test('a retry above max is not shortened, and zero is no loop without a delay', async () => {
    const delays = spyTimers();
    const { url, exchange } = await scriptedServer((one, number) => {
      if (number === 1) one.open('retry: 60\n\n').end();
      else if (number === 2) one.open('retry: 0\n\n').end();
      else one.answer(500);
    });
    watch(url, { retry: { min: 1, max: 30 } });
    await exchange(6);
    expect(delays()[0]).toBeGreaterThan(58.9);
    expect(delays().length).toBeGreaterThanOrEqual(4);
  });

  test('without a retry of the server, the delay is between zero and min, doubled up to max', async () => {
    const delays = spyTimers();
    jest.spyOn(Math, 'random').mockReturnValue(0.5);
    const { url, exchange } = await scriptedServer((one) => one.answer(500));
    watch(url, { retry: { min: 40, max: 100 } });
    await exchange(5);
    // A timer may fire a moment too early; it is then set for what is left.
    const set = delays().filter((delay) => delay > 5);
    expect(set.map(Math.round).slice(0, 4)).toEqual([20, 40, 50, 50]);
  });

  test.each([
    ['seconds', () => '1'],
    ['a date', () => new Date(Date.now() + 2000).toUTCString()],
  ])('Retry-After in %s is honoured', async (_what, value) => {
    const delays = spyTimers();
    const { url } = await scriptedServer((one) => one.answer(503, { 'retry-after': value() }));
    const { stream } = watch(url, { retry: { min: 1, max: 1 } });
    await eventually(() => stream.status === 'waiting');
    expect(delays()[0]).toBeGreaterThanOrEqual(950);
    expect(delays()[0]).toBeLessThanOrEqual(2000);
  });

  test('a delay beyond what a timer can wait is no delay of zero', async () => {
    const { url, exchanges } = await scriptedServer((one) => one.open('retry: 2147483647\n\n').end());
    const { stream } = watch(url);
    await eventually(() => stream.status === 'waiting');
    await pause(50);
    expect(exchanges).toHaveLength(1);
  });

  test('reconnect() connects now, also while the stream is open', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one, number) => {
      if (number === 2) one.answer(503, { 'retry-after': '100' });
      else one.open(`id: ${number}\ndata: ${number}\n\n`);
    });
    const { stream, seen } = watch(url);
    await eventually(() => seen.length === 1);
    stream.reconnect();
    await eventually(() => stream.status === 'waiting');
    expect(exchanges[0]!.isClosed).toBe(true);
    expect((await exchange(2)).lastEventId).toBe('1');
    stream.reconnect();
    await eventually(() => seen.length === 2);
    expect(seen).toEqual(['1', '3']);
  });

  test('a stream without events that lasts is no failure; one that closes after its first comment is', async () => {
    const delays = spyTimers();
    let hasHeartbeat = true;
    const { url, exchange, exchanges } = await scriptedServer((one) => {
      one.open(':\nretry: 100\n\n');
      if (hasHeartbeat) setTimeout(() => one.write(':\n').end(), 50);
      else one.end();
    });
    const { errors } = watch(url, { retry: { min: 100, max: 10_000 } });
    await exchange(4);
    const gaps = exchanges.slice(1).map(({ at }, index) => at - exchanges[index]!.at);
    expect(Math.max(...gaps)).toBeLessThan(50 + 125 + 100); // doubled twice, the delay would be 400 ms
    hasHeartbeat = false;
    await eventually(() => delays().some((delay) => delay > 390));
    expect(errors).toEqual([]);
  });

  test.each([
    [{ max: 20 }, 20],
    [{ min: 20 }, 40],
  ])('an incomplete retry %j has the defaults for the rest', async (retry, delay) => {
    const delays = spyTimers();
    jest.spyOn(Math, 'random').mockReturnValue(1);
    const { url, exchange } = await scriptedServer((one) => one.answer(503));
    watch(url, { retry: retry as { min: number; max: number } });
    await exchange(3);
    // A timer may fire a moment too early; it is then set for what is left.
    expect(Math.round(delays().filter((one) => one > 10)[1]!)).toBe(delay);
  });

  test('a clock that is set back delays neither a retry nor the detection of silence', async () => {
    const { url, exchange } = await scriptedServer((one, number) => {
      if (number === 1) one.open('retry: 200\n:\n\n');
      else one.open(':\n\n');
    });
    const { stream, errors } = watch(url, { silence: 300 });
    await eventually(() => stream.status === 'open');
    const real = Date.now;
    jest.spyOn(Date, 'now').mockImplementation(() => real() - 3_600_000);
    const at = performance.now();
    await eventually(() => errors.length === 1, 2_000);
    expect(errors).toMatchObject([{ code: 'silence' }]);
    await eventually(() => stream.status === 'waiting');
    jest.spyOn(Date, 'now').mockImplementation(() => real() - 7_200_000);
    await exchange(2, 2_000);
    expect(performance.now() - at).toBeLessThan(3_000);
  });

  test('close() in a listener of `waiting` makes no further request, also without a delay', async () => {
    const { url, exchanges } = await scriptedServer((one) => one.open('data: a\n\n').end());
    const stream = connect(url, { retry: { min: 0, max: 0 } });
    const statuses: Status[] = [];
    stream.onStatus((status) => {
      statuses.push(status);
      if (status === 'waiting') stream.close();
    });
    stream.on('message', () => {});
    await eventually(() => exchanges.length > 1 || stream.status === 'closed', 3000).catch(() => {});
    stream.close();
    await pause(50);
    expect(exchanges.filter(({ isClosed }) => !isClosed)).toEqual([]);
    expect(statuses.slice(statuses.indexOf('closed'))).toEqual(['closed']);
  });

  test('reconnect() in a listener of `waiting`, as the page is suspended, loses nothing', async () => {
    const { url, exchange } = await scriptedServer((one, number) => one.open(`id: ${number}\ndata: ${number}\n\n`));
    const { stream, seen } = watch(url);
    await eventually(() => seen.length === 1);
    stream.onStatus((status) => {
      if (status === 'waiting') stream.reconnect();
    });
    page.fire('pagehide');
    page.fire('pageshow');
    expect((await exchange(2)).lastEventId).toBe('1');
    await eventually(() => stream.status === 'open');
    expect(seen).toEqual(['1', '2']);
  });

  test('reconnect() in a listener of the status opens one stream', async () => {
    const { url, exchanges } = await scriptedServer((one, number) => one.open(`retry: 5\ndata: ${number}\n\n`));
    const stream = connect(url);
    later(() => stream.close());
    const seen: unknown[] = [];
    stream.onStatus((status) => {
      if (status === 'connecting') stream.reconnect();
    });
    stream.on('message', (data) => seen.push(data));
    await eventually(() => stream.status === 'open');
    await pause(50);
    expect(seen).toEqual(['1']);
    expect(exchanges).toHaveLength(1);
    stream.close();
    await eventually(() => exchanges.every(({ isClosed }) => isClosed));
  });

  test('a retry of 400 digits has no effect', async () => {
    const delays = spyTimers();
    const { url, exchange } = await scriptedServer((one) => one.open(`retry: 20\nretry: ${'9'.repeat(400)}\n\n`).end());
    watch(url);
    await exchange(2);
    expect(Math.max(...delays().filter((delay) => delay < 30_000))).toBeLessThan(2_000);
  });
});

describe('the end', () => {
  test('a 204 ends the stream', async () => {
    const { url, exchanges } = await scriptedServer((one) => one.answer(204));
    const { stream, errors, statuses } = watch(url);
    await eventually(() => stream.status === 'ended');
    page.fire('online');
    await pause(30);
    expect(exchanges).toHaveLength(1);
    expect(errors).toEqual([]);
    expect(statuses).toEqual(['connecting', 'ended']);
  });

  test('the router’s end ends the stream, is shown, and leaves the position for reconnect()', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => {
      one.open('id: 5\ndata: a\n\nevent: end\nid: sse-router:end\ndata\n\ndata: b\n\n').end();
    });
    const { stream, seen } = watch(url, { parse: (data) => JSON.parse(`"${data}"`) }, ['message', 'end']);
    await eventually(() => stream.status === 'ended');
    expect(seen).toEqual(['a', '']);
    expect(stream.lastEventId).toBe('5');
    await pause(30);
    expect(exchanges).toHaveLength(1);
    stream.reconnect();
    expect((await exchange(2)).lastEventId).toBe('5');
  });

  test('an end of another server is an ordinary event', async () => {
    const { url, exchange } = await scriptedServer((one) => {
      one.open('retry: 10\nid: 5\nevent: end\ndata: {"a":1}\n\n').end();
    });
    const { seen } = watch(url, {}, ['end']);
    await exchange(2);
    expect(seen[0]).toEqual({ a: 1 });
  });

  test('a block without data is no end', async () => {
    const { url } = await scriptedServer((one) => one.open('event: end\nid: stage-1~end\n\ndata: 2\n\n'));
    const { stream, seen } = watch(url);
    await eventually(() => seen.length === 1);
    expect(seen).toEqual(['2']);
    expect(stream.status).toBe('open');
  });
});

describe('positions and data', () => {
  test('the client comes back with the last id, as UTF-8, and shows no checkpoint', async () => {
    const { url, exchange } = await scriptedServer((one, number) => {
      if (number === 1) one.open('retry: 10\nid: é…💥\ndata: a\n\n').end();
      else if (number === 2) one.open('event: checkpoint\nid: 8\ndata\n\n').end();
      else one.open();
    });
    const { stream, seen } = watch(url, {}, ['message', 'checkpoint']);
    expect((await exchange(2)).lastEventId).toBe('é…💥');
    expect((await exchange(3)).lastEventId).toBe('8');
    expect(stream.lastEventId).toBe('8');
    expect(seen).toEqual(['a']);
  });

  test('`from` is the first position', async () => {
    const { url, exchange } = await scriptedServer((one) => one.open());
    const { stream } = watch(url, { from: 'ä7' });
    expect(stream.lastEventId).toBe('ä7');
    expect((await exchange(1)).lastEventId).toBe('ä7');
  });

  test('text that begins as an object or an array is JSON, all other text stays', async () => {
    const lines = ['{"a":1}', '[1]', ' 12', '12', 'null', '"x"', '{', '[', '[link](x)'];
    const { url } = await scriptedServer((one) => one.open(lines.map((line) => `data: ${line}\n\n`).join('')));
    const { seen } = watch(url);
    await eventually(() => seen.length === lines.length);
    expect(seen).toEqual([{ a: 1 }, [1], ' 12', '12', 'null', '"x"', '{', '[', '[link](x)']);
  });

  test('`parse` gets the text and the name; what it throws is an error, and the stream goes on', async () => {
    const { url } = await scriptedServer((one) =>
      one.open('event: x\ndata: 1\n\nevent: x\ndata: {\n\nevent: x\ndata: 2\n\n'),
    );
    const { seen, errors } = watch(url, { parse: (data, event) => [JSON.parse(data), event] }, ['x']);
    await eventually(() => seen.length === 2);
    expect(seen).toEqual([
      [1, 'x'],
      [2, 'x'],
    ]);
    expect(errors).toMatchObject([{ code: 'parse', cause: expect.any(SyntaxError) }]);
  });

  test('a reset is an object, whatever `parse` is; another server’s reset is an ordinary event', async () => {
    const text = 'id: 4\nevent: reset\ndata: {"reason":"lost","lastEventId":"1"}\n\nevent: reset\ndata: {"a":1}\n\n';
    const { url } = await scriptedServer((one) => one.open(text));
    const { seen, stream } = watch(url, { parse: String }, ['reset']);
    await eventually(() => seen.length === 2);
    expect(seen).toEqual([{ reason: 'lost', lastEventId: '1' }, '{"a":1}']);
    expect(stream.lastEventId).toBe('4');
  });

  test('events named status, error, open and the like are events', async () => {
    const names = ['status', 'error', 'open', 'constructor', '__proto__'];
    const { url } = await scriptedServer((one) =>
      one.open(names.map((name) => `event: ${name}\ndata: ${name}\n\n`).join('')),
    );
    const { seen, statuses, errors } = watch(url, {}, names);
    await eventually(() => seen.length === names.length);
    expect(seen).toEqual(names);
    expect(statuses).toEqual(['connecting', 'open']);
    expect(errors).toEqual([]);
  });

  test('bytes: UTF-8 cut anywhere, a BOM at the start, CR LF', async () => {
    const { url, exchange } = await scriptedServer((one) => one.open());
    const { seen } = watch(url);
    const bytes = Buffer.from('\uFEFFdata: é…💥\r\ndata: \uFEFFx\r\n\r\n');
    const one = await exchange(1);
    for (const byte of bytes) {
      one.write(new Uint8Array([byte]));
      await pause(1);
    }
    await eventually(() => seen.length === 1);
    expect(seen).toEqual(['é…💥\n\uFEFFx']);
  });
});

describe('a POST', () => {
  const POST = { method: 'POST', body: '{"a":1}', headers: () => ({ 'content-type': 'application/json' }) } as const;

  test('sends its body; a normal end completes it, and it is not repeated', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('retry: 5\ndata: a\n\n').end());
    const { stream, seen } = watch(url, POST);
    const { request, body } = await exchange(1);
    expect(request.method).toBe('POST');
    expect(request.headers['content-type']).toBe('application/json');
    await expect(body).resolves.toBe('{"a":1}');
    await eventually(() => stream.status === 'ended');
    await pause(30);
    expect(seen).toEqual(['a']);
    expect(exchanges).toHaveLength(1);
  });

  test.each([
    ['is cut off', 'network', (one: { open(): { cut(): void } }) => one.open().cut()],
    ['meets a 503', 'status', (one: { answer(status: number): void }) => one.answer(503)],
    ['meets a 401', 'refused', (one: { answer(status: number): void }) => one.answer(401)],
  ])('that %s is refused and not repeated, until reconnect()', async (_what, code, script) => {
    const { url, exchange, exchanges } = await scriptedServer(script as never);
    const { stream, errors } = watch(url, POST);
    await eventually(() => stream.status === 'refused');
    page.fire('online');
    page.fire('visibilitychange');
    await pause(30);
    expect(exchanges).toHaveLength(1);
    expect(errors).toMatchObject([{ code }]);
    stream.reconnect();
    await exchange(2);
  });

  test.each([
    ['pagehide', 'pageshow'],
    ['freeze', 'resume'],
  ])('goes on through %s and %s, and is sent once', async (gone, back) => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('id: 1\ndata: a\n\n'));
    const { stream, statuses, seen, errors } = watch(url, POST);
    const one = await exchange(1);
    await eventually(() => seen.length === 1);
    page.hidden = true;
    for (const type of [gone, 'visibilitychange']) page.fire(type);
    page.hidden = false;
    for (const type of [back, 'visibilitychange', 'online', gone, back]) page.fire(type);
    stream.on('message', () => {}); // a late listener does not start it either
    one.write('id: 2\ndata: b\n\n');
    await eventually(() => seen.length === 2);
    one.end();
    await eventually(() => stream.status === 'ended');
    expect(seen).toEqual(['a', 'b']);
    expect(statuses).toEqual(['connecting', 'open', 'ended']);
    await pause(1_100); // `online` would retry within a second
    expect([errors, exchanges.length]).toEqual([[], 1]);
  });

  test('that the browser breaks off while the page is away is refused, and not sent again', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('id: 1\ndata: a\n\n'));
    const { stream, seen, errors } = watch(url, POST);
    const one = await exchange(1);
    await eventually(() => seen.length === 1);
    page.fire('pagehide');
    one.cut();
    await eventually(() => stream.status === 'refused');
    for (const type of ['pageshow', 'visibilitychange', 'online']) page.fire(type);
    await pause(1_100);
    expect(errors).toMatchObject([{ code: 'network' }]);
    expect(exchanges).toHaveLength(1);
    stream.reconnect();
    expect((await exchange(2)).lastEventId).toBe('1');
  });

  test('that is complete stays so in the back/forward cache, and one that is closed as well', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('data: a\n\n').end());
    const { stream, errors } = watch(url, POST);
    await eventually(() => stream.status === 'ended');
    const closed = watch(url, POST);
    await exchange(2);
    closed.stream.close();
    for (const type of ['pagehide', 'pageshow', 'online']) page.fire(type);
    await pause(50);
    expect([stream.status, closed.stream.status]).toEqual(['ended', 'closed']);
    expect([...errors, ...closed.errors]).toEqual([]);
    expect(exchanges).toHaveLength(2);
  });

  test.each(['POST', 'post'])('%s ends with a break, if the stream has no listener', async (method) => {
    const { url, exchange } = await scriptedServer((one) => one.open('data: a\n\ndata: b\n\n'));
    const stream = connect(url, { ...POST, method: method as 'POST' });
    for await (const _ of stream) break;
    expect(stream.status).toBe('closed');
    const one = await exchange(1);
    await eventually(() => one.isClosed);
  });

  test.each([
    ['a listener', (stream: EventStream) => void stream.on('other', () => {})],
    ['another loop', (stream: EventStream) => void stream[Symbol.asyncIterator]().next()],
  ])('continues after a break for %s', async (_what, use) => {
    const { url } = await scriptedServer((one) => one.open('data: a\n\n'));
    const stream = connect(url, POST);
    later(() => stream.close());
    use(stream);
    for await (const _ of stream) break;
    await pause(30);
    expect(stream.status).toBe('open');
  });

  test('is `ended`, not closed, after a loop to its end', async () => {
    const { url } = await scriptedServer((one) => one.open('data: a\n\n').end());
    const stream = connect(url, POST);
    for await (const _ of stream);
    expect(stream.status).toBe('ended');
  });

  test('that broke resumes with reconnect()', async () => {
    const { url, exchange } = await scriptedServer((one, number) => {
      if (number === 1) one.open('id: 7\ndata: a\n\n');
      else one.open().end();
    });
    const { stream, seen } = watch(url, POST);
    await eventually(() => seen.length === 1);
    (await exchange(1)).cut();
    await eventually(() => stream.status === 'refused');
    stream.reconnect();
    expect((await exchange(2)).lastEventId).toBe('7');
  });
});

describe('silence', () => {
  test('while connecting, a server that does not answer is given up', async () => {
    const { url, exchange, exchanges } = await scriptedServer();
    const { errors } = watch(url, { silence: 60, retry: { min: 1, max: 1 } });
    await exchange(2);
    expect(errors).toMatchObject([{ code: 'silence' }]);
    expect(exchanges[1]!.at - exchanges[0]!.at).toBeGreaterThanOrEqual(55);
    await eventually(() => exchanges[0]!.isClosed);
  });

  test('headers that do not come are given up as well', async () => {
    const { url } = await scriptedServer();
    const { errors } = watch(url, { silence: 30, headers: () => new Promise(() => {}) });
    await eventually(() => errors.length > 0);
    expect(errors).toMatchObject([{ code: 'silence' }]);
  });

  test('an open stream may be quiet, until a comment has come', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('retry: 5\ndata: a\n\n'));
    const { stream, errors } = watch(url, { silence: 40 });
    const one = await exchange(1);
    await pause(500);
    expect(stream.status).toBe('open');
    expect(exchanges).toHaveLength(1);
    one.write(':\n');
    await eventually(() => exchanges.length > 1);
    expect(errors).toMatchObject([{ code: 'silence' }]);
    await eventually(() => one.isClosed);
  });

  test('bytes keep it open, and set no timer each', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open(':\n'));
    const { seen } = watch(url, { silence: 300 });
    const one = await exchange(1);
    const spy = jest.spyOn(globalThis, 'setTimeout');
    for (let n = 0; n < 100; n++) {
      one.write('data: x\n\n');
      await pause(5);
    }
    await eventually(() => seen.length === 100);
    expect(spy.mock.calls.length).toBeLessThan(15);
    expect(exchanges).toHaveLength(1);
  });

  test('false never gives up', async () => {
    const { url, exchanges } = await scriptedServer();
    const { stream } = watch(url, { silence: false });
    await pause(100);
    expect(stream.status).toBe('connecting');
    expect(exchanges).toHaveLength(1);
  });
});

describe('listeners', () => {
  test('one that throws affects no other; the exception is reported', async () => {
    const { url } = await scriptedServer((one) => one.open('data: a\n\ndata: b\n\n'));
    const stream = connect(url);
    later(() => stream.close());
    const seen: unknown[] = [];
    stream.onStatus(() => {
      throw new Error('status');
    });
    stream.on('message', () => {
      throw new Error('event');
    });
    stream.on('message', (data) => seen.push(data));
    await eventually(() => seen.length === 2);
    expect(page.reported.map((error) => (error as Error).message)).toEqual(['status', 'status', 'event', 'event']);
  });

  test('the returned function removes the listener, and only this one', async () => {
    const { url, exchange } = await scriptedServer((one) => one.open('data: a\n\n'));
    const stream = connect(url);
    later(() => stream.close());
    const seen: string[] = [];
    const listener = (data: string): void => void seen.push(data);
    const remove = stream.on('message', listener);
    stream.on('message', listener);
    await eventually(() => seen.length === 2);
    remove();
    remove();
    (await exchange(1)).write('data: b\n\n');
    await eventually(() => seen.length === 3);
    expect(seen).toEqual(['a', 'a', 'b']);
  });

  test('a listener that is removed or added by another one meanwhile is not called with this event', async () => {
    const { url } = await scriptedServer((one) => one.open('data: a\n\ndata: b\n\n'));
    const stream = connect(url);
    later(() => stream.close());
    const seen: string[] = [];
    stream.on('message', (data) => {
      seen.push(`1 ${data}`);
      remove();
      if (data === 'a') stream.on('message', (later) => seen.push(`3 ${later}`));
    });
    const remove = stream.on('message', (data) => seen.push(`2 ${data}`));
    await eventually(() => seen.length >= 3);
    expect(seen).toEqual(['1 a', '1 b', '3 b']);
  });

  test('the second argument is the event, with its position', async () => {
    const { url } = await scriptedServer((one) => one.open('id: 1\nevent: x\ndata: [1]\n\n'));
    const stream = connect(url);
    later(() => stream.close());
    const seen: unknown[] = [];
    stream.on('x', (_data, event) => seen.push(event));
    await eventually(() => seen.length === 1);
    expect(seen).toEqual([{ event: 'x', data: [1], id: '1' }]);
  });
});

describe('iterators', () => {
  test('yields the events, and finishes with the end', async () => {
    const { url, exchange } = await scriptedServer((one) => one.open('id: 1\ndata: a\n\n'));
    void exchange(1).then((one) => one.write('event: x\ndata: b\n\nevent: end\nid: sse-router:end\ndata\n\n'));
    const seen: unknown[] = [];
    const stream = connect(url);
    later(() => stream.close());
    for await (const { event, data, id } of stream) seen.push([event, data, id]);
    expect(seen).toEqual([
      ['message', 'a', '1'],
      ['x', 'b', '1'],
      ['end', '', '1'],
    ]);
    for await (const _ of stream) seen.push('more');
    expect(seen).toHaveLength(3);
  });

  test('close() finishes it, after the events that it holds', async () => {
    const { url } = await scriptedServer((one) => one.open('data: a\n\ndata: b\n\n'));
    const stream = connect(url);
    const seen: unknown[] = [];
    for await (const { data } of stream) {
      seen.push(data);
      if (data === 'a') stream.close();
    }
    expect(seen[0]).toBe('a');
    const other = connect(url);
    const pending = other[Symbol.asyncIterator]().next();
    other.close();
    await expect(pending).resolves.toMatchObject({ done: true });
  });

  test('throws on refused', async () => {
    const { url } = await scriptedServer((one) => one.answer(403));
    const stream = connect(url);
    later(() => stream.close());
    const read = async (): Promise<void> => {
      for await (const _ of stream);
    };
    await expect(read()).rejects.toMatchObject({ code: 'refused', status: 403 });
    await expect(read()).rejects.toMatchObject({ code: 'refused', status: 403 });
  });

  test('holds 1,000 events, yields them, and throws `behind`; the stream goes on at full speed', async () => {
    const { url } = await scriptedServer((one) =>
      one.open(Array.from({ length: 1500 }, (_, n) => `data: ${n}\n\n`).join('')),
    );
    const { stream, seen } = watch(url);
    const iterator = stream[Symbol.asyncIterator]();
    const first = await iterator.next();
    await eventually(() => seen.length === 1500);
    const held = [first.value];
    const read = async (): Promise<void> => {
      for (;;) held.push((await iterator.next()).value);
    };
    await expect(read()).rejects.toMatchObject({ code: 'behind' });
    expect(held).toHaveLength(1000);
    expect(held.at(-1)!.data).toBe('999');
    expect(stream.status).toBe('open');
  });

  test('several iterators and a break do not disturb one another', async () => {
    const { url, exchange } = await scriptedServer((one) => one.open('data: a\n\n'));
    const stream = connect(url);
    later(() => stream.close());
    const read = async (count: number): Promise<unknown[]> => {
      const seen: unknown[] = [];
      for await (const { data } of stream) if (seen.push(data) === count) break;
      return seen;
    };
    const all = Promise.all([read(1), read(2), read(3)]);
    (await exchange(1)).write('data: b\n\ndata: c\n\n');
    await expect(all).resolves.toEqual([['a'], ['a', 'b'], ['a', 'b', 'c']]);
    expect(stream.status).toBe('open');
  });
});

describe('the page’s life', () => {
  test('offline defers the next attempt after a failure, and closes nothing', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.open('retry: 10\ndata: a\n\n'));
    const { stream, seen, statuses } = watch(url);
    await eventually(() => seen.length === 1);
    page.onLine = false;
    page.fire('offline');
    (await exchange(1)).write('data: b\n\n');
    await eventually(() => seen.length === 2);
    expect(stream.status).toBe('open');
    exchanges[0]!.cut();
    await eventually(() => stream.status === 'offline');
    await pause(60);
    expect(exchanges).toHaveLength(1);
    jest.spyOn(Math, 'random').mockReturnValue(0.1);
    page.onLine = true;
    const at = performance.now();
    page.fire('online');
    await exchange(2);
    expect(performance.now() - at).toBeGreaterThan(90); // a tenth of a second, for this random number
    await eventually(() => stream.status === 'open');
    expect(statuses).toEqual(['connecting', 'open', 'offline', 'waiting', 'connecting', 'open']);
  });

  test('a retry that is due offline waits for the network', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one) => one.answer(503));
    const { stream } = watch(url, { retry: { min: 60, max: 60 } });
    await exchange(1);
    await eventually(() => stream.status === 'waiting');
    page.onLine = false;
    await eventually(() => stream.status === 'offline');
    await pause(80);
    expect(exchanges).toHaveLength(1);
    page.fire('visibilitychange'); // localhost works offline
    await exchange(2);
  });

  test('a page that becomes visible tries at once; a hidden one keeps its stream', async () => {
    const { url, exchange, exchanges } = await scriptedServer((one, number) => {
      if (number === 1) one.answer(503);
      else one.open();
    });
    jest.spyOn(Math, 'random').mockReturnValue(0.9);
    const { stream } = watch(url, { retry: { min: 100_000, max: 100_000 } });
    await eventually(() => stream.status === 'waiting');
    page.hidden = true;
    page.fire('visibilitychange');
    await pause(30);
    expect(exchanges).toHaveLength(1);
    page.hidden = false;
    page.fire('visibilitychange');
    await exchange(2);
    await eventually(() => stream.status === 'open');
    page.hidden = true;
    page.fire('visibilitychange');
    await pause(30);
    expect(exchanges[1]!.isClosed).toBe(false);
    expect(exchanges).toHaveLength(2);
  });

  test.each([
    ['pagehide', 'pageshow'],
    ['freeze', 'resume'],
  ])('%s closes the stream, %s joins again at the same position', async (gone, back) => {
    const { url, exchange, exchanges } = await scriptedServer((one, number) =>
      one.open(`id: ${number}\ndata: ${number}\n\n`),
    );
    const { stream, seen } = watch(url);
    page.fire(back); // of the load
    await eventually(() => seen.length === 1);
    page.hidden = true;
    page.fire(gone);
    page.fire('visibilitychange');
    expect(stream.status).toBe('waiting');
    await eventually(() => exchanges[0]!.isClosed);
    await pause(30);
    expect(exchanges).toHaveLength(1);
    page.fire(back);
    page.fire(back);
    expect((await exchange(2)).lastEventId).toBe('1');
    await eventually(() => seen.length === 2);
    expect(exchanges).toHaveLength(2);
  });

  test('a stream that is idle, ended or refused stays so', async () => {
    const { url, exchanges } = await scriptedServer((one) => one.answer(404));
    const idle = connect(url);
    const { stream: refused } = watch(url);
    await eventually(() => refused.status === 'refused');
    page.fire('pagehide');
    page.fire('pageshow');
    await pause(30);
    expect([idle.status, refused.status]).toEqual(['idle', 'refused']);
    expect(exchanges).toHaveLength(1);
    refused.reconnect();
    await eventually(() => exchanges.length === 2);
  });

  test('streams of POST have no listeners at the window, and closed ones none at all', async () => {
    const { url, exchanges } = await scriptedServer((one) => one.open('data: a\n\n').end());
    const { signal } = new AbortController();
    const registered = new Set<string>();
    let last = 0;
    for (const target of [globalThis, signal]) {
      const add = target.addEventListener;
      const remove = target.removeEventListener;
      const ids = new Map<unknown, number>();
      const idOf = (type: string, call: unknown): string => {
        if (!ids.has(call)) ids.set(call, ++last);
        return `${type} ${ids.get(call)}`;
      };
      target.addEventListener = (type: string, call: never, options?: AddEventListenerOptions) => {
        registered.add(idOf(type, call));
        options?.signal?.addEventListener('abort', () => registered.delete(idOf(type, call)));
        add.call(target, type, call, options);
      };
      target.removeEventListener = (type: string, call: never, options?: boolean) => {
        registered.delete(idOf(type, call));
        remove.call(target, type, call, options);
      };
    }
    for (let n = 0; n < 10; n++) {
      const answer = connect(url, { method: 'POST' });
      for await (const _ of answer);
    }
    connect(url, { method: 'POST', signal }).close();
    expect(registered.size).toBe(0);
    const { stream } = watch(url);
    await eventually(() => stream.status === 'open' || stream.status === 'waiting');
    expect(registered.size).toBe(6);
    stream.close();
    expect(registered.size).toBe(0);
    expect(exchanges.length).toBeGreaterThan(10);
  });

  test('a stream that is opened again listens again', async () => {
    const { url, exchange } = await scriptedServer((one, number) =>
      one.open(number === 2 ? '' : 'event: end\nid: sse-router:end\ndata\n\n'),
    );
    const controller = new AbortController();
    const { stream } = watch(url, { signal: controller.signal });
    await eventually(() => stream.status === 'ended');
    stream.reconnect();
    await eventually(() => stream.status === 'open');
    page.fire('pagehide');
    expect(stream.status).toBe('waiting');
    page.fire('pageshow');
    await exchange(3);
    await eventually(() => stream.status === 'ended');
    controller.abort();
    expect(stream.status).toBe('closed');
  });
});

test('with our router: through cuts, every event once and in order', async () => {
  const events = sse({ retry: 5 });
  later(() => events.close());
  const { url, server } = await serve((app) => app.use('/events', events));
  const { seen, stream } = watch(`${url}/events`, {}, ['message', 'reset']);
  await eventually(() => stream.status === 'open');
  for (let n = 0; n < 200; n++) {
    void events.broadcast(String(n));
    if (n % 20 === 10) server.closeAllConnections();
    await pause(2);
  }
  await eventually(() => seen.length === 200);
  expect(seen).toEqual(Array.from({ length: 200 }, (_, n) => String(n)));
});
