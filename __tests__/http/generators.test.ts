/*
 * Handlers that yield: what is sent, how they end, and how they are let go (design rules 1, 5 and 8; case FL-05).
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
  turn,
} from '../fixtures/support.ts';

const BYE = 'id: sse-router:end\nevent: end\ndata: \n\n';

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
          await turn();
          yield item;
        }
      },
  ],
  ['handler that returns a list', (items) => () => [...items]],
  ['async handler that resolves with a list', (items) => async () => [...items]],
])('a %s', (_name, wrap) => {
  test('sends what it yields in order, and then the stream is over for good', async () => {
    const { stream, conn } = await opened(wrap(['a', { event: 'b', data: 1 }, 'c\nd']), BARE);
    expect(await stream.body()).toBe(`${HEAD}data: a\n\nevent: b\ndata: 1\n\ndata: c\ndata: d\n\n${BYE}`);
    expect(conn.signal.reason).toBe('end');
  });

  test('that yields nothing says goodbye at once', async () => {
    const { stream } = await opened(wrap([]), BARE);
    expect(await stream.body()).toBe(HEAD + BYE);
  });

  test('that yields what cannot be sent after the opening ends the stream with an error', async () => {
    const onError = jest.fn();
    const { stream, conn } = await opened(
      wrap(
        (function* () {
          yield 'x'.repeat(200_000); // more than waits for the end of a turn
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

test('FL-05 an async generator that throws after the opening closes the stream; its text stays here', async () => {
  const onError = jest.fn();
  const error = new Error('secret');
  const { stream, conn } = await opened(
    async function* () {
      yield 'before';
      await turn();
      await turn();
      throw error;
    },
    { ...BARE, onError },
  );
  expect(await stream.body()).toBe(`${HEAD}data: before\n\n`); // no goodbye: the client may come back
  expect(onError.mock.calls).toEqual([[error, conn]]);
});

test('what joins before the first yield counts', async () => {
  const { stream, events } = await opened(async function* (conn) {
    conn.join('room');
    yield 'hello';
    await new Promise(() => {});
  });
  await stream.next();
  await events.broadcast('in the room', { to: 'room' });
  expect((await stream.next()).data).toBe('in the room');
});

test('the generator is let go when the client leaves: its finally runs', async () => {
  const freed = gate();
  const { stream, conn } = await opened(async function* () {
    try {
      for (let n = 0; ; n++) {
        await turn();
        yield `${n}`;
      }
    } finally {
      freed.open();
    }
  }, BARE);
  await stream.take(3);
  await stream.close();
  await freed.pass;
  expect(conn.signal.reason).toBe('client');
});

test('it is let go when the stream is closed from elsewhere, and says no goodbye then', async () => {
  const freed = gate();
  const { stream, conn } = await opened(function* () {
    try {
      for (;;) yield 'x'.repeat(70_000);
    } finally {
      freed.open();
    }
  }, BARE);
  await stream.next();
  conn.close();
  await freed.pass;
  expect(await stream.body()).not.toContain('event: end');
});

test('an endless generator is drawn at the reader’s speed', async () => {
  let drawn = 0;
  const { stream, conn } = await opened(function* () {
    for (;;) {
      drawn++;
      yield 'x'.repeat(65_536);
    }
  }, BARE);
  await stream.next();
  stream.pause();
  let before = -1;
  while (before !== drawn) {
    before = drawn;
    for (let turns = 0; turns < 50; turns++) await turn();
  }
  expect(conn.readyState).toBe('open'); // and not cut: it never held more than it may
  expect(conn.bufferedBytes).toBeLessThan(1_048_576);
  stream.resume();
  await stream.until(() => drawn > before);
});

test('a client that the generator has said goodbye to does not come back', async () => {
  let asked = 0;
  const events = sse(
    function* () {
      asked++;
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
  expect(asked).toBe(1);
});

test('a producer over POST stops when its reader leaves', async () => {
  const stopped = gate();
  const events = sse(
    async function* (conn, req) {
      const { prompt } = (req as { body?: { prompt?: string } }).body ?? {};
      conn.signal.addEventListener('abort', stopped.open, { once: true });
      for (let n = 0; !conn.signal.aborted; n++) {
        yield { event: 'token', data: `${prompt ?? ''}${n}` };
        await turn();
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

test('a generator whose reader vanishes while it waits for it is let go', async () => {
  const freed = gate();
  const choked = gate();
  const { stream, conn } = await opened(
    async function* () {
      try {
        yield 'first';
        await choked.pass;
        for (;;) yield 'x'.repeat(65_536);
      } finally {
        freed.open();
      }
    },
    { ...BARE, maxBuffered: 2 ** 28 },
  );
  const over = overOf(conn);
  await stream.next();
  stream.pause();
  await choke(conn);
  choked.open();
  await turn();
  await stream.cut();
  expect(await over).toBe('client');
  await freed.pass;
});
