/*
 * Handlers that are generators: what the stream contains, how it ends, and when the generator is stopped.
 */
import { EventSource } from 'eventsource';
import { sse, type Connection } from '../../lib/index.ts';
import {
  another,
  appOf,
  BARE,
  choke,
  gate,
  HEAD,
  later,
  listening,
  opened,
  overOf,
  tick,
} from '../fixtures/support.ts';

const END = 'id: sse-router:end\nevent: end\ndata: \n\n';

describe.each<[name: string, wrap: (items: Iterable<unknown>) => (conn: Connection) => unknown]>([
  [
    'generator',
    (items) =>
      function* () {
        yield* items;
      },
  ],
  [
    'async generator',
    (items) =>
      async function* () {
        for (const item of items) {
          await tick();
          yield item;
        }
      },
  ],
  ['handler that returns a list', (items) => () => [...items]],
  ['async handler that resolves with a list', (items) => async () => [...items]],
])('a %s', (_name, wrap) => {
  test('each yielded item is sent in order, and then the connection ends', async () => {
    const { stream, conn } = await opened(wrap(['a', { event: 'b', data: 1 }, 'c\nd']), BARE);
    expect(await stream.body()).toBe(`${HEAD}data: a\n\nevent: b\ndata: 1\n\ndata: c\ndata: d\n\n${END}`);
    expect(conn.signal.reason).toBe('end');
  });

  test('an empty one ends the connection at once', async () => {
    const { stream } = await opened(wrap([]), BARE);
    expect(await stream.body()).toBe(HEAD + END);
  });

  test('an invalid item after the opening closes the connection with an error', async () => {
    const onError = jest.fn();
    const { stream, conn } = await opened(
      wrap(
        (function* () {
          yield 'x'.repeat(200_000); // more than is held back until the end of a tick
          yield { data: 1n };
        })(),
      ),
      { ...BARE, onError },
    );
    const text = await stream.body();
    expect(text).toHaveLength(HEAD.length + 200_008);
    expect(conn.signal.reason).toBe('error');
    expect(onError.mock.calls).toEqual([[expect.objectContaining({ code: 'ERR_SSE_DATA' }), conn]]);
  });
});

test('an async generator that throws after the opening closes the stream, which contains nothing of the error', async () => {
  const onError = jest.fn();
  const error = new Error('secret');
  const { stream, conn } = await opened(
    async function* () {
      yield 'before';
      await tick();
      await tick();
      throw error;
    },
    { ...BARE, onError },
  );
  expect(await stream.body()).toBe(`${HEAD}data: before\n\n`); // no `end` event: the client may reconnect
  expect(onError.mock.calls).toEqual([[error, conn]]);
});

test('a join before the first yield counts', async () => {
  const { stream, events } = await opened(async function* (conn) {
    conn.join('room');
    yield 'hello';
    await new Promise(() => {});
  });
  await stream.next();
  await events.broadcast('in the room', { to: 'room' });
  expect((await stream.next()).data).toBe('in the room');
});

test('the generator is stopped when the client disconnects: its finally block runs', async () => {
  const stopped = gate();
  const { stream, conn } = await opened(async function* () {
    try {
      for (let n = 0; ; n++) {
        await tick();
        yield `${n}`;
      }
    } finally {
      stopped.open();
    }
  }, BARE);
  await stream.take(3);
  await stream.close();
  await stopped.pass;
  expect(conn.signal.reason).toBe('client');
});

test('the generator is stopped when other code closes the stream, without an `end` event', async () => {
  const stopped = gate();
  const { stream, conn } = await opened(function* () {
    try {
      for (;;) yield 'x'.repeat(70_000);
    } finally {
      stopped.open();
    }
  }, BARE);
  await stream.next();
  conn.close();
  await stopped.pass;
  expect(await stream.body()).not.toContain('event: end');
});

test('an endless generator is read at the speed of the client', async () => {
  let produced = 0;
  const { stream, conn } = await opened(function* () {
    for (;;) {
      produced++;
      yield 'x'.repeat(65_536);
    }
  }, BARE);
  await stream.next();
  stream.pause();
  let before = -1;
  while (before !== produced) {
    before = produced;
    for (let ticks = 0; ticks < 50; ticks++) await tick();
  }
  expect(conn.readyState).toBe('open'); // it was not closed, because it never held too many bytes
  expect(conn.bufferedBytes).toBeLessThan(1_048_576);
  stream.resume();
  await stream.until(() => produced > before);
});

test('a client does not reconnect after its generator has finished', async () => {
  let requests = 0;
  const events = sse(
    function* () {
      requests++;
      yield 'only once';
    },
    { retry: 1 },
  );
  later(() => events.close());
  const { url } = await listening(appOf(events));
  const source = new EventSource(url);
  later(() => source.close());
  const data: unknown[] = [];
  source.addEventListener('message', (event) => data.push(event.data));
  await new Promise<void>((resolve) => {
    source.addEventListener('error', () => {
      if (source.readyState === source.CLOSED) resolve();
    });
  });
  expect(data).toEqual(['only once']);
  expect(requests).toBe(1);
});

test('a generator over POST stops when its client disconnects', async () => {
  const stopped = gate();
  const events = sse(
    async function* (conn, req) {
      const { prompt } = (req as { body?: { prompt?: string } }).body ?? {};
      conn.signal.addEventListener('abort', stopped.open, { once: true });
      for (let n = 0; !conn.signal.aborted; n++) {
        yield { event: 'token', data: `${prompt ?? ''}${n}` };
        await tick();
      }
    },
    { ...BARE, methods: ['POST'] },
  );
  later(() => events.close());
  const stream = await another(appOf(events), '/events', { method: 'POST', body: { prompt: 'p' } });
  expect((await stream.take(2)).map(({ data }) => data as string)).toEqual(['0', '1']); // no body parser in this app
  await stream.close();
  await stopped.pass;
  expect(events.size).toBe(0);
});

test('a generator is stopped when its client disconnects while the generator waits for a drain', async () => {
  const stopped = gate();
  const filled = gate();
  const { stream, conn } = await opened(
    async function* () {
      try {
        yield 'first';
        await filled.pass;
        for (;;) yield 'x'.repeat(65_536);
      } finally {
        stopped.open();
      }
    },
    { ...BARE, maxBuffered: 2 ** 28 },
  );
  const over = overOf(conn);
  await stream.next();
  stream.pause();
  await choke(conn);
  filled.open();
  await tick();
  await stream.cut();
  expect(await over).toBe('client');
  await stopped.pass;
});
