/*
 * Snapshots: the application's state for clients that are fresh or cannot be resumed, at an exact position and without a gap.
 */

import { Readable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import express from 'express';
import { type AnyEvents, memoryJournal, sse, type SseError, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type TestEvent, type TestStream } from '../../lib/testing/index.ts';
import { journalWithFollower } from '../fixtures/journal-with-follower.ts';
import { another, codeOf, fakeClock, opened, overOf, tick } from '../fixtures/support.ts';

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((close) => close()));
});

type Snapshot = NonNullable<SseOptions['snapshot']>;

function site(
  snapshot: Snapshot,
  options: SseOptions = {},
  pushes: string[] = [],
): { events: SseRouter; visit: (id?: string) => Promise<TestStream> } {
  const events = sse(
    (conn) => {
      for (const push of pushes) conn.push(push);
    },
    { snapshot, ...options },
  );
  open.push(() => events.close());
  const app = express().use('/events', events);
  return {
    events,
    async visit(lastEventId = '') {
      const stream = await connect(app, '/events', { lastEventId });
      open.unshift(() => stream.close());
      return stream;
    },
  };
}

/** Returns a promise with the functions that settle it. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((...ends) => ([resolve, reject] = ends));
  return { promise, resolve, reject };
}

const textsOf = (events: readonly { event: string; data: string }[]): string[] =>
  events.map(({ event, data }) => (event === 'message' ? data : `${event}: ${data}`));

describe('a snapshot', () => {
  test('is sent to a fresh client; its first message has the position', async () => {
    const { events, visit } = site(() => [{ event: 'state', data: { n: 1 } }, 'and a line']);
    const head = await events.broadcast('before');
    const [state, line] = await (await visit()).take(2);
    expect(state).toMatchObject({ event: 'state', data: '{"n":1}', id: head });
    expect(line).toMatchObject({ event: 'message', data: 'and a line', id: undefined });
  });

  test('is made when the handler has finished: it sees the state and the channels that the handler has set', async () => {
    const events = sse<AnyEvents, { user: string }>(
      async (conn) => {
        await Promise.resolve();
        conn.state.user = 'Ann';
        conn.join('notes');
        conn.push('pushed');
      },
      { snapshot: (conn) => ({ event: 'notes', data: [conn.state.user, ...conn.channels] }) },
    );
    open.push(() => events.close());
    const stream = await connect(express().use('/events', events), '/events');
    open.unshift(() => stream.close());
    expect(textsOf(await stream.take(2))).toEqual(['notes: ["Ann","notes"]', 'pushed']);
  });

  test('is made at the end of the tick in which the handler pushes, also if the handler has not finished', async () => {
    const { promise, resolve } = deferred<void>();
    const events = sse<AnyEvents, { user: string }>(
      async (conn) => {
        conn.push('pushed');
        await promise;
        conn.state.user = 'Ann';
      },
      { snapshot: (conn) => ({ event: 'notes', data: conn.state.user ?? 'nobody yet' }) },
    );
    open.push(() => events.close());
    const stream = await connect(express().use('/events', events), '/events');
    open.unshift(() => stream.close());
    expect(textsOf(await stream.take(2))).toEqual(['notes: nobody yet', 'pushed']);
    resolve();
  });

  test('is not sent to a client that can be resumed', async () => {
    const make = jest.fn(() => 'state');
    const { events, visit } = site(make);
    const id = await events.broadcast('1');
    await events.broadcast('2');
    expect(textsOf(await (await visit(id)).take(1))).toEqual(['2']);
    expect(make).not.toHaveBeenCalled();
  });

  test('follows the reset of a client that cannot be resumed, and has the same position', async () => {
    const { events, visit } = site(() => 'state', { history: { size: 2 } }, ['pushed']);
    const ids: string[] = [];
    for (let n = 1; n <= 5; n++) ids.push(await events.broadcast(String(n)));
    const stream = await visit(ids[0]);
    const [reset, state, pushed] = await stream.take(3);
    expect(reset).toMatchObject({ event: 'reset', id: ids[4] });
    expect(reset!.json).toEqual({ reason: 'lost', lastEventId: ids[0] });
    expect(state).toMatchObject({ data: 'state', id: ids[4] });
    expect(pushed).toMatchObject({ data: 'pushed', id: undefined });
    await events.broadcast('6');
    expect(await stream.next()).toMatchObject({ data: '6' });
  });

  test("comes before the handler's own pushes", async () => {
    const { visit } = site(() => 'state', {}, ['pushed']);
    const [state, pushed] = await (await visit()).take(2);
    expect(textsOf([state!, pushed!])).toEqual(['state', 'pushed']);
    expect(state!.id).toBeDefined();
    expect(pushed!.id).toBeUndefined();
  });

  test.each<[string, Snapshot]>([
    ['nothing', () => undefined],
    ['null', () => null],
    ['an empty list', () => []],
    ['a promise of nothing', () => Promise.resolve()],
  ])('of %s changes nothing: the client gets its position from a checkpoint', async (_, snapshot) => {
    const { events, visit } = site(snapshot);
    const head = await events.broadcast('before');
    expect(await (await visit()).next()).toMatchObject({ event: 'checkpoint', id: head });
  });

  test.each<[string, Snapshot]>([
    ['at once', () => ({ id: 9, data: 'state' })],
    ['later', async () => ({ id: 9, data: 'state' })],
  ])(
    'with an id of the application, made %s: no event has a second id, and later events have none',
    async (_when, make) => {
      const { events, visit } = site(make);
      const fresh = await visit();
      await events.broadcast('live');
      await fresh.take(2);
      expect(fresh.text.replace(/^retry: .*\n/m, '')).toBe(':\nid: 9\ndata: state\n\ndata: live\n\n');
      const lost = await visit('0123456789ab-1');
      await lost.take(2);
      expect(lost.text.match(/^id: .*/gm)).toEqual(['id: 9']);
    },
  );

  test('may be a generator, and receives the connection and the request', async () => {
    const { visit } = site(function* (conn, req) {
      yield { event: 'connection', data: conn.id };
      yield req.path;
    });
    const [connection, path] = await (await visit()).take(2);
    expect(connection!.data).toMatch(/-/);
    expect(path!.data).toBe('/');
  });
});

/** What a page shows that applies the events after a snapshot by the ids of their items. */
function byId({ json }: TestEvent, ...added: TestEvent[]): unknown[] {
  const items = new Map((json as { id: number }[]).map((item) => [item.id, item]));
  for (const { json: item } of added) items.set((item as { id: number }).id, item as { id: number });
  return [...items.values()];
}

test('a snapshot while a broadcast is on its way to the log: nothing is missing, and what is in both is one item by its id', async () => {
  const list: { id: number }[] = [];
  const { promise, resolve } = deferred<void>();
  const journal = memoryJournal();
  const append = journal.append.bind(journal);
  journal.append = (entry) => promise.then(() => append(entry)); // as slow as a log that other processes share
  const { events, visit } = site(() => ({ event: 'list', data: list }), { history: journal });
  list.push({ id: 1 });
  const broadcast = events.broadcast({ event: 'add', data: { id: 1 } });
  const stream = await visit();
  const state = await stream.next();
  resolve();
  await broadcast;
  const added = await stream.next();
  expect(textsOf([state, added])).toEqual(['list: [{"id":1}]', 'add: {"id":1}']);
  expect(byId(state, added)).toEqual(list);
});

describe('an asynchronous snapshot', () => {
  test('and the broadcasts meanwhile: no change is missing, and none is in both', async () => {
    // The state is a list. Each change of the list is broadcast.
    const list: number[] = [];
    const asked: (() => void)[] = [];
    const { events, visit } = site(() => {
      const state = [...list]; // read at the position, and resolved later
      return new Promise((resolve) => asked.push(() => resolve({ event: 'list', data: state })));
    });
    const add = async (n: number): Promise<void> => {
      list.push(n);
      await events.broadcast({ event: 'add', data: n });
    };
    for (let n = 0; n < 10; n++) await add(n);
    const visits = Array.from({ length: 5 }, async () => {
      const stream = await visit();
      await stream.until(() => stream.events.some(({ data }) => data === '59'));
      const [first, ...rest] = stream.events;
      expect(first).toMatchObject({ event: 'list' });
      return [...(first!.json as number[]), ...rest.map(({ json }) => json as number)];
    });
    for (let n = 10; n < 59; n++) {
      await add(n);
      await new Promise(setImmediate);
      if (n % 7 === 0) asked.shift()?.();
    }
    await add(59);
    await new Promise<void>((resolve) => {
      let rounds = 0;
      const answerAll = (): void => {
        for (const answer of asked.splice(0)) answer();
        if (++rounds < 50) setTimeout(answerAll, 2);
        else resolve();
      };
      answerAll();
    });
    for (const seen of await Promise.all(visits)) expect(seen).toEqual(list);
  });

  test('that reads its state after its position: nothing is missing, and what is in both is one item by its id', async () => {
    const list: { id: number }[] = [];
    const { promise, resolve } = deferred<void>();
    const { events, visit } = site(() => promise.then(() => ({ event: 'list', data: list })));
    const stream = await visit();
    list.push({ id: 1 });
    await events.broadcast({ event: 'add', data: { id: 1 } });
    resolve();
    const [state, added] = await stream.take(2);
    expect(textsOf([state!, added!])).toEqual(['list: [{"id":1}]', 'add: {"id":1}']);
    expect(byId(state!, added!)).toEqual(list);
  });

  test('and the pushes meanwhile: they follow the snapshot, in order with the broadcasts', async () => {
    const { promise, resolve } = deferred<string>();
    const { events, visit } = site(() => promise);
    const stream = await visit();
    const [conn] = events.connections;
    await events.broadcast('a');
    conn!.push('b');
    await events.broadcast('c');
    resolve('state');
    expect(textsOf(await stream.take(4))).toEqual(['state', 'a', 'b', 'c']);
  });

  test('of a client that disconnects meanwhile is dropped', async () => {
    const { promise, resolve } = deferred<string>();
    const onError = jest.fn();
    const { events, visit } = site(() => promise, { onError });
    const stream = await visit();
    const [conn] = events.connections;
    const over = new Promise((settle) => conn!.signal.addEventListener('abort', settle));
    await stream.cut();
    await over;
    resolve('state');
    await promise;
    await new Promise(setImmediate);
    expect(events.size).toBe(0);
    expect(onError).not.toHaveBeenCalled();
    await events.broadcast('still works');
  });

  test('of a connection that is closed meanwhile is not written after the end', async () => {
    const { promise, resolve } = deferred<string>();
    const { events, visit } = site(() => promise);
    const stream = await visit();
    const [conn] = events.connections;
    conn!.close();
    resolve('state');
    expect(await stream.closed).toBe('end');
    expect(stream.text).not.toContain('state');
  });

  test('of a connection that is ended meanwhile delays the end, because the client does not return for it', async () => {
    const { promise, resolve } = deferred<string>();
    const { events, visit } = site(() => promise, {}, ['own']);
    const stream = await visit();
    const [conn] = events.connections;
    await events.broadcast('before');
    conn!.end();
    await events.broadcast('after');
    resolve('state');
    expect(await stream.closed).toBe('end');
    expect(textsOf(stream.events)).toEqual(['state', 'own', 'before', 'end: ']);
  });

  test('of a connection that is ended meanwhile rejects: one error, and the stream ends at once', async () => {
    const { promise, reject } = deferred<string>();
    const onError = jest.fn();
    const { events, visit } = site(() => promise, { onError });
    const stream = await visit();
    const [conn] = events.connections;
    conn!.end();
    const start = performance.now();
    reject(new Error('no database'));
    expect(await stream.closed).toBe('end');
    expect(performance.now() - start).toBeLessThan(900);
    expect(onError.mock.calls.map(([error]) => (error as Error).message)).toEqual(['no database']);
  });

  test.each<['end' | 'close', string[]]>([
    ['end', ['state', 'end: ']],
    ['close', []], // the client returns for it
  ])('that calls %s() itself: the body is complete and ends once', async (how, all) => {
    const { visit } = site((conn) => {
      conn[how]();
      return 'state';
    });
    const stream = await visit();
    expect(await stream.closed).toBe('end');
    expect(textsOf(stream.events)).toEqual(all);
  });

  test('does not delay heartbeats', async () => {
    const { promise, resolve } = deferred<string>();
    const { visit } = site(() => promise, { heartbeat: 30 });
    const stream = await visit();
    await stream.until(() => stream.comments.length > 2);
    expect(stream.events).toEqual([]);
    resolve('state');
    expect(await stream.next()).toMatchObject({ data: 'state' });
  });
});

describe('a snapshot that fails', () => {
  test.each<[string, Snapshot]>([
    [
      'by throwing',
      () => {
        throw new Error('secret db password');
      },
    ],
    ['by rejecting', () => Promise.reject(new Error('secret db password'))],
    [
      'in the middle of a generator',
      function* () {
        yield 'half of it';
        throw new Error('secret db password');
      },
    ],
  ])('%s closes the stream; onError receives the error once, and the client nothing of it', async (_, snapshot) => {
    const onError = jest.fn();
    const { events, visit } = site(snapshot, { onError });
    const stream = await visit();
    expect(await stream.closed).toBe('end');
    expect(onError).toHaveBeenCalledTimes(1);
    expect(onError.mock.calls[0][0]).toMatchObject({ message: 'secret db password' });
    expect(stream.text).not.toContain('secret');
    expect(stream.events).toEqual([]);
    expect(events.size).toBe(0);
  });

  test('with a value that is not a message closes the stream as well', async () => {
    const onError = jest.fn();
    const { visit } = site(() => ({ foo: 1 }) as never, { onError });
    const stream = await visit();
    expect(await stream.closed).toBe('end');
    expect(onError.mock.calls[0][0]).toMatchObject({ code: 'ERR_SSE_FIELD' });
  });
});

describe('a snapshot that never settles', () => {
  test.each([false, 15_000] as const)(
    'closes the connection after 30 s, so that its client returns (heartbeat: %p)',
    async (heartbeat) => {
      fakeClock();
      const errors: [SseError, string | undefined][] = [];
      const snapshots = [new Promise<string>(() => {}), 'state'];
      const { app, conn, events, stream } = await opened(() => {}, {
        heartbeat,
        snapshot: () => snapshots.shift()!,
        onError: (error, of) => void errors.push([error as SseError, of?.id]),
      });
      await events.broadcast('live');
      await jest.advanceTimersByTimeAsync(29_000);
      expect(conn.readyState).toBe('open');
      await jest.advanceTimersByTimeAsync(1200);
      expect(conn.signal.reason).toBe('error');
      expect(await stream.closed).toBe('end');
      expect(stream.text).not.toContain('live'); // no event precedes the state
      expect(errors.map(([{ code, message }, id]) => [code, message.split(';')[0], id])).toEqual([
        ['ERR_SSE_TIMEOUT', 'snapshot() must settle within 30000 ms', conn.id],
      ]);
      const returned = await another(app, '/events', { lastEventId: stream.lastEventId });
      expect(await returned.next()).toMatchObject({ data: 'state' });
    },
  );

  test('has its 30 s anew when the log has lost writes and it is called again', async () => {
    fakeClock();
    const answers: ((state: string) => void)[] = [];
    const { journal, follower } = journalWithFollower();
    const snapshot = (): Promise<string> => new Promise((resolve) => answers.push(resolve));
    const { app, events, stream } = await opened(() => {}, {
      heartbeat: false,
      history: journal,
      snapshot,
      onError: () => {},
    });
    const first = await events.broadcast('1');
    await events.broadcast('2');
    answers[0]!('state');
    await stream.take(3);
    const waiting = await another(app);
    const conn = [...events.connections].at(-1)!;
    await jest.advanceTimersByTimeAsync(20_000);
    follower().rewind(first);
    await tick();
    expect(answers.length).toBeGreaterThan(2);
    answers[1]!('outdated');
    await jest.advanceTimersByTimeAsync(25_000);
    expect(conn.readyState).toBe('open');
    await jest.advanceTimersByTimeAsync(6000);
    expect(conn.signal.reason).toBe('error');
    expect(await waiting.closed).toBe('end');
    expect(waiting.text).not.toContain('outdated');
  });

  test('is the only one that is closed: a snapshot that settles in time is sent', async () => {
    fakeClock();
    const errors: unknown[] = [];
    const { conn, stream } = await opened(() => {}, {
      snapshot: () => new Promise((resolve) => setTimeout(resolve, 29_000, 'state')),
      onError: (error) => void errors.push(error),
    });
    await jest.advanceTimersByTimeAsync(60_000);
    expect(await stream.next()).toMatchObject({ data: 'state' });
    expect(conn.readyState).toBe('open');
    expect(errors).toEqual([]);
  });

  test('of a connection that has closed reports nothing', async () => {
    fakeClock();
    const errors: unknown[] = [];
    const { conn } = await opened(() => {}, {
      heartbeat: false,
      snapshot: () => new Promise(() => {}),
      onError: (error) => void errors.push(error),
    });
    conn.end();
    await jest.advanceTimersByTimeAsync(40_000);
    expect(conn.signal.reason).toBe('end');
    expect(errors).toEqual([]);
  });
});

describe('an asynchronous iterable as a snapshot', () => {
  test('of an async generator function is refused by sse()', () => {
    const snapshot = async function* () {
      yield 'a';
    };
    expect(codeOf(() => sse({ snapshot: snapshot as never }))).toBe('ERR_SSE_OPTION');
    expect(() => sse({ snapshot: snapshot as never })).toThrow(
      /^The result of snapshot must be a message, .*; received the function snapshot\. .* collects the messages in an array/,
    );
  });

  test.each<[string, () => unknown, string]>([
    [
      'an async generator',
      () =>
        (async function* () {
          yield 'a';
        })(),
      'an object of AsyncGenerator',
    ],
    ['a web stream', () => new ReadableStream(), 'an object of ReadableStream'],
    ['a promise of an async iterable', async () => Readable.from(['a']), 'an object of Readable'],
    ['bytes', () => Buffer.from('a'), 'an object of Buffer'],
  ])('as a result (%s) closes the connection, and onError receives the cure', async (_case, snapshot, received) => {
    const errors: unknown[] = [];
    const { conn } = await opened(() => {}, {
      snapshot: snapshot as never,
      onError: (error) => void errors.push(error),
    });
    expect(await overOf(conn)).toBe('error');
    expect(errors).toEqual([expect.objectContaining({ code: 'ERR_SSE_SOURCE' })]);
    expect(String(errors[0])).toContain(`The result of snapshot() must be a message, a string, an array`);
    expect(String(errors[0])).toContain(`; received ${received}. Instead of an async generator, use`);
  });
});
