/*
 * The public types: what must compile and what must not, checked by `tsc --noEmit`. An `@ts-expect-error` before a line that compiles
 * is itself an error. Only the expectations about types run, and they do nothing at run time.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { expectTypeOf } from 'expect-type';
import type { PoolClient } from 'pg';
import express, { type Request, type Response, type Router } from 'express';
import { inspector } from '../../lib/inspector/index.ts';
import { metrics } from '../../lib/metrics/index.ts';
import { runs, type RunsRouter } from '../../lib/runs/index.ts';
import {
  memoryJournal,
  sse,
  type BroadcastOptions,
  type CloseReason,
  type Connection,
  type Journal,
  type Message,
  type SseHandler,
  type SseOptions,
  type SseRouter,
  type SseRouterWithoutHistory,
  type SseStats,
} from '../../lib/index.ts';

interface Order {
  id: number;
  total: number;
}

/** An interface has no index signature, and must be accepted as a map all the same. */
interface Events {
  order: Order;
  tick: number;
  ping: undefined;
  note: string | undefined;
}

type WithMessage = { message: { text: string }; tick: number };

/** Compiles programs with the compiler's command, and returns what it reports of each. */
function errorsOf(programs: Readonly<Record<string, string>>): Record<string, string> {
  const root = join(__dirname, '../..');
  mkdirSync(join(root, '.tmp'), { recursive: true });
  const folder = mkdtempSync(join(root, '.tmp/types-'));
  try {
    const names = Object.keys(programs);
    for (const [n, name] of names.entries()) {
      writeFileSync(join(folder, `${n}.ts`), `import { sse } from '../../lib/index.ts';\n${programs[name]}\n`);
    }
    const config = { extends: '../../tsconfig.json', include: ['*.ts'] };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const { stdout } = spawnSync('npx', ['tsc', '-p', folder, '--pretty', 'false'], { encoding: 'utf8' });
    const reports = stdout.split(/^(?=\S*?\d+\.ts\()/m);
    return Object.fromEntries(
      names.map((name, n) => [name, reports.filter((report) => /(\d+)\.ts\(/.exec(report)?.[1] === `${n}`).join('')]),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Takes code that is compiled and never called. */
const compiled = (_name: string, _code: (...given: never[]) => unknown): void => {};

test('an event map checks the names and payloads of push', () => {
  compiled('push', (conn: Connection<Events>) => {
    conn.push({ event: 'order', data: { id: 1, total: 2 } });
    conn.push({ event: 'tick', data: 1, id: '7', retry: 5 }, { event: 'order', data: { id: 1, total: 2 } });
    conn.push({ event: 'ping' }, { event: 'note' }, { event: 'note', data: 'x' });
    conn.push({ retry: 5 });
    conn.push('lines', 2, 'need no map');
    // @ts-expect-error a name that is not in the map
    conn.push({ event: 'oder', data: { id: 1, total: 2 } });
    // @ts-expect-error a payload of another event
    conn.push({ event: 'order', data: 1 });
    // @ts-expect-error a payload without one of its fields
    conn.push({ event: 'order', data: { id: 1 } });
    // @ts-expect-error a message without its payload
    conn.push({ event: 'tick' });
    // @ts-expect-error a payload for an event without one
    conn.push({ event: 'ping', data: 1 });
    // @ts-expect-error `message` is not in the map
    conn.push({ data: 'x' });
    // @ts-expect-error a field that no message has
    conn.push({ event: 'tick', data: 1, name: 'x' });
    // @ts-expect-error the second message has a wrong payload
    conn.push({ event: 'tick', data: 1 }, { event: 'tick', data: '1' });
    // @ts-expect-error lines and messages in one call
    conn.push('x', { event: 'tick', data: 1 });
    // @ts-expect-error a retry is a number
    conn.push({ event: 'tick', data: 1, retry: '5' });
    // @ts-expect-error an id is a string or a number
    conn.push({ event: 'tick', data: 1, id: true });
    // @ts-expect-error a line is a string or a number
    conn.push(true);
    // @ts-expect-error undefined is not a line
    conn.push(undefined);
  });
});

test('an event map checks the messages of a broadcast within a transaction', () => {
  compiled('within', async (events: SseRouter<Events>, client: PoolClient) => {
    const joined = events.within(client);
    expectTypeOf(await joined.broadcast({ event: 'tick', data: 1 }, { to: 'a', key: 'k' })).toEqualTypeOf<void>();
    await events.within((text: string) => client.query(text)).broadcast({ event: 'ping' });
    await events.within({ query: async (_text: string, _values?: unknown[]) => [] }).broadcast({ event: 'ping' });
    // @ts-expect-error -- an event that the map does not have
    await joined.broadcast({ event: 'tock', data: 1 });
    // @ts-expect-error -- data of another type
    await joined.broadcast({ event: 'tick', data: '1' });
    // @ts-expect-error -- no client and no function
    events.within({});
    // @ts-expect-error -- a function that takes no statement
    events.within((n: number) => n);
  });
});

test('an event map checks the messages of broadcast', () => {
  compiled('broadcast', async (events: SseRouter<Events>) => {
    expectTypeOf(await events.broadcast({ event: 'tick', data: 1 })).toEqualTypeOf<string>();
    await events.broadcast({ event: 'ping' }, { to: 'a', except: ['b'] });
    await events.broadcast({ event: 'ping' }, { to: ['a', 'b'] as const });
    // @ts-expect-error a name that is not in the map
    await events.broadcast({ event: 'tock', data: 1 });
    // @ts-expect-error a payload of another type
    await events.broadcast({ event: 'tick', data: '1' });
    await events.broadcast({ event: 'ping' }, undefined);
    // @ts-expect-error an unknown option
    await events.broadcast({ event: 'ping' }, { too: 'a' });
    // @ts-expect-error an unknown option beside a known one
    await events.broadcast({ event: 'ping' }, { to: 'a', kee: 'k' });
    // @ts-expect-error a channel is a string
    await events.broadcast({ event: 'ping' }, { to: 7 });
    // @ts-expect-error a string is a `message` event, which is not in the map
    await events.broadcast('text');
    // @ts-expect-error the ids of broadcasts are the log's
    await events.broadcast({ event: 'tick', data: 1, id: 7 });
  });
  compiled('messages', (texts: SseRouter<{ message: 'a' | 'b' }>, objects: SseRouter<WithMessage>, any: SseRouter) => {
    void texts.broadcast('a');
    void any.broadcast('text');
    // @ts-expect-error another text
    void texts.broadcast('c');
    // @ts-expect-error the payload of `message` is no string
    void objects.broadcast('text');
    // @ts-expect-error the ids of broadcasts are the log's, without a map as well
    void any.broadcast({ data: 'x', id: 7 });
  });
  compiled('own ids', () => {
    void sse<Events>({ history: false }).broadcast({ event: 'tick', data: 1, id: 7 }, { to: 'a' });
    void sse<Events>(() => {}, { history: false }).broadcast({ event: 'tick', data: 1, id: 7 });
    expectTypeOf(sse<Events>({ history: false })).toEqualTypeOf<SseRouterWithoutHistory<Events>>();
    expectTypeOf<SseRouterWithoutHistory<Events>>().toExtend<SseRouter<Events>>();
    // @ts-expect-error there is a history
    void sse<Events>({ history: { size: 1 } }).broadcast({ event: 'tick', data: 1, id: 7 });
    // @ts-expect-error a payload of another type
    void sse<Events>({ history: false }).broadcast({ event: 'tick', data: '1', id: 7 });
  });
});

test('the channels of a broadcast must not be undefined', () => {
  type Given = BroadcastOptions | undefined;
  compiled('channels', (events: SseRouter, options: Given, channel?: string, channels?: string[]) => {
    void events.broadcast('x', options);
    void events.broadcast('x', channel === undefined ? {} : { to: channel });
    void events.broadcast('x', { ...(channel !== undefined && { to: channel }), except: 'a' });
    void events.broadcast('x', { key: channel });
    // @ts-expect-error the channel may be undefined, and the event would reach every connection
    void events.broadcast('x', { to: channel });
    // @ts-expect-error the list may be undefined
    void events.broadcast('x', { to: channels, key: 'k', except: 'a' });
    // @ts-expect-error the exception may be undefined, and the event would reach its members
    void events.broadcast('x', { to: 'a', except: channel });
    const later = { to: channel };
    // @ts-expect-error the same, in a variable
    void events.broadcast('x', later);
    // @ts-expect-error undefined itself
    void events.broadcast('x', { to: undefined });
  });
});

test('an event map checks the snapshot of a router without a handler, whatever its parameters', () => {
  const routers = [
    () => sse<Events>({ snapshot: () => ({ event: 'tick', data: 1 }) }),
    () => sse<Events>({ snapshot: (conn) => ({ event: 'tick', data: conn.channels.size }) }),
    () => sse<Events>({ snapshot: () => [{ event: 'tick', data: 1 }], history: false }),
    // @ts-expect-error: the payload of a tick is a number
    () => sse<Events>({ snapshot: () => ({ event: 'tick', data: 'one' }) }),
  ];
  expect(routers).toHaveLength(4);
});

test('an event map checks snapshots', () => {
  const valid: SseOptions<Events>[] = [
    { snapshot: () => ({ event: 'tick', data: 1 }) },
    { snapshot: async () => [{ event: 'tick', data: 1 }, 'text'] },
    { snapshot: () => 'text' },
    { snapshot: () => undefined },
    { snapshot: () => {} },
    { snapshot: async () => {} },
    {
      *snapshot(conn, req) {
        expectTypeOf(conn).toEqualTypeOf<Connection<Events>>();
        expectTypeOf(req).toEqualTypeOf<Request>();
        yield { event: 'tick', data: 1 };
      },
    },
  ];
  // @ts-expect-error a name that is not in the map
  const name: SseOptions<Events> = { snapshot: () => ({ event: 'tock', data: 1 }) };
  // @ts-expect-error a payload of another type
  const payload: SseOptions<Events> = { snapshot: async () => [{ event: 'tick', data: '1' }] };
  expect([...valid, name, payload]).toHaveLength(9);
});

test('without a map, snapshots and generators do not define one', () => {
  compiled('routers', () => {
    const pushed = sse((conn) => void conn.push({ event: 'a', data: 1 }), {
      snapshot: () => ({ event: 'b', data: 2 }),
    });
    const asynchronous = sse(() => {}, { snapshot: () => Promise.resolve().then(() => 'text') });
    const yielded = sse(function* () {
      yield { event: 'b', data: 2 };
    });
    const optionsOnly = sse({ snapshot: () => ({ event: 'b', data: 2 }) });
    for (const events of [pushed, asynchronous, yielded, optionsOnly])
      void events.broadcast({ event: 'c', data: 'any' });
    expectTypeOf(pushed).toEqualTypeOf<SseRouter>();
    expectTypeOf(asynchronous).toEqualTypeOf<SseRouter>();
    expectTypeOf(yielded).toEqualTypeOf<SseRouter>();
    expectTypeOf(optionsOnly).toEqualTypeOf<SseRouter>();
  });
});

test('an event map checks what a generator yields', () => {
  compiled('handlers', () => {
    sse<Events>(function* () {
      yield { event: 'tick', data: 1 };
      yield 'text';
    });
    sse<Events>(async function* (conn, req, res) {
      expectTypeOf(conn).toEqualTypeOf<Connection<Events>>();
      expectTypeOf(req).toEqualTypeOf<Request>();
      expectTypeOf(res).toEqualTypeOf<Response>();
      yield { event: 'order', data: { id: 1, total: 2 } };
    });
    sse<Events>(() => [{ event: 'tick', data: 1 }, 'text']);
    // @ts-expect-error a name that is not in the map
    sse<Events>(function* () {
      yield { event: 'tock', data: 1 };
    });
    // @ts-expect-error a payload of another type
    sse<Events>(async function* () {
      yield { event: 'tick', data: '1' };
    });
    // @ts-expect-error a number is not a message
    sse<Events>(() => [1]);
    // @ts-expect-error a string would be ignored
    sse(() => 'hello');
    // @ts-expect-error a string would be ignored
    sse(async () => 'hello', {});
    // @ts-expect-error a timer is no result
    sse((conn) => setInterval(() => conn.push('x'), 1000));
  });
});

test('an error in a handler is reported for the handler, not for the options', () => {
  const programs = {
    'a wrong yield': "sse<{ tick: number }>(function* () { yield { event: 'tock', data: 1 }; });",
    'a wrong payload':
      "sse<{ tick: number }>(async function* (conn) { yield { event: 'tick' as const, data: conn.id }; });",
    'a timer': "sse((conn) => setInterval(() => conn.push('x'), 1000));",
    'a string': "sse(() => 'hello');",
    'a wrong yield beside options':
      "sse<{ tick: number }>(function* () { yield { event: 'tock', data: 1 }; }, { retry: 1 });",
    'a timer beside options': "sse((conn) => setInterval(() => conn.push('x'), 1000), { history: false });",
  };
  for (const [name, errors] of Object.entries(errorsOf(programs))) {
    expect([name, errors]).toEqual([name, expect.stringContaining('HandlerResult<')]);
    expect([name, errors]).not.toEqual([name, expect.stringMatching(/properties in common/)]);
  }
});

test('an error in options without a handler is reported for the options, not for a handler', () => {
  const programs = {
    'an unknown option': 'sse<{ tick: number }>({ heartBeat: 1 });',
    'an unknown option without a map': 'sse({ heartBeat: 1 });',
    'a value of another type': "sse<{ tick: number }>({ heartbeat: '1' });",
    'a wrong snapshot': "sse<{ tick: number }>({ snapshot: () => ({ event: 'tock', data: 1 }) });",
    'an unknown option beside a handler': 'sse<{ tick: number }>(() => {}, { heartBeat: 1 });',
  };
  const errors = errorsOf(programs);
  expect(errors['a value of another type']).toContain("Type 'string' is not assignable to type 'number | false");
  expect(errors['a wrong snapshot']).toContain(`Type '"tock"' is not assignable to type '"tick"'`);
  expect(errors['an unknown option beside a handler']).toContain("Did you mean to write 'heartbeat'?");
  for (const name of Object.keys(programs).filter((one) => one.startsWith('an unknown option')))
    expect([name, errors[name]]).toEqual([name, expect.stringContaining('SseOptions<')]);
});

test('options are passed once, and after a handler', () => {
  compiled('calls', (options: SseOptions, given?: SseOptions) => {
    expectTypeOf(sse(() => {}, given)).toEqualTypeOf<SseRouter>();
    expectTypeOf(sse(undefined, options)).toEqualTypeOf<SseRouter>();
    // @ts-expect-error options twice
    sse(options, options);
    // @ts-expect-error options before the handler
    sse(options, () => {});
  });
});

test('`sse<Events, State>()` types the state of connections', () => {
  interface State {
    user: string;
    since: number;
  }
  expectTypeOf<Connection<Events, State>['state']>().toEqualTypeOf<Partial<State>>();
  expectTypeOf<SseRouter<Events, State>>().toExtend<SseRouter<Events>>();
  expectTypeOf<SseRouter<Events, State>>().toExtend<SseRouter>();
  compiled('state', (options: SseOptions<Events, State>, given: SseHandler<Events, State>) => {
    const events = sse<Events, State>(
      (conn) => {
        expectTypeOf(conn).toEqualTypeOf<Connection<Events, State>>();
        conn.state.user = 'ada';
        // @ts-expect-error a property that is not in the state
        conn.state.name = 'ada';
        // @ts-expect-error a value of another type
        conn.state.since = 'today';
      },
      {
        snapshot: (conn) => ({ event: 'tick', data: conn.state.since ?? 0 }),
        recheck: { every: 1000, check: (conn) => conn.state.user !== undefined },
        onError: (_error, conn) => void conn?.state.user?.toUpperCase(),
      },
    );
    expectTypeOf(events).toEqualTypeOf<SseRouter<Events, State>>();
    for (const conn of events.connections) expectTypeOf(conn.state.user).toEqualTypeOf<string | undefined>();
    expectTypeOf(sse(given, options)).toEqualTypeOf<SseRouter>();
    expectTypeOf(sse<Events, State>(given, options)).toEqualTypeOf<SseRouter<Events, State>>();
    metrics(events);
    inspector(events);
  });
});

test('a map with `message` allows data without a name', () => {
  compiled('message', (conn: Connection<WithMessage>) => {
    conn.push({ data: { text: 'x' } }, { event: 'message', data: { text: 'x' } }, { event: 'tick', data: 1 });
    // @ts-expect-error another payload
    conn.push({ data: { txt: 'x' } });
    // @ts-expect-error another payload
    conn.push({ data: 1 });
  });
});

test('without a map every name and payload compiles', () => {
  compiled('any', async (conn: Connection, events: SseRouter) => {
    conn.push('x');
    conn.push('a', 1, 'b');
    conn.push({ data: { any: ['thing'] } }, { event: 'any', data: null }, { event: 'any' }, { retry: 1 });
    conn.push({ id: 1, data: 'foo' });
    await events.broadcast({ event: 'any', data: new Date() });
    await events.broadcast('x', { to: 'room' });
    // @ts-expect-error a field that no message has
    conn.push({ foo: 1 });
    // @ts-expect-error lines and messages in one call
    conn.push('x', { data: 1 });
  });
  compiled('calls', () => {
    sse();
    sse({});
    sse(() => {});
    sse(async () => {}, {});
    sse(undefined, { heartbeat: false });
    sse((conn) => conn.join('room'));
    sse((conn) => conn.push('hi'));
    sse(async (conn) => conn.push('hi'));
    sse(async (conn) => {
      await conn.pushAll(['a']);
    });
    sse((conn) => conn.pushAll(Readable.from(['a'])));
    sse((conn, req, res) => (req.query.name ? conn.push('hi') : res.sendStatus(403)));
    sse(async (conn, req, res) => {
      if (req.query.name === undefined) return res.status(403).json({ error: 'no name' });
      conn.join('room');
    });
    // @ts-expect-error a handler's result is not a message
    sse(() => ({ data: 1 }));
    // @ts-expect-error options come second
    sse({}, () => {});
    // @ts-expect-error an unknown option
    sse({ hartbeat: 1 });
    // @ts-expect-error an option of another type
    sse(() => {}, { retry: '5' });
    // @ts-expect-error a handler is a function
    sse('x');
  });
});

test('Express mounts the router, with and without a map', () => {
  expectTypeOf<SseRouter<Events>>().toExtend<Router>();
  expectTypeOf<SseRouter<Events>>().toExtend<SseRouter>();
  expectTypeOf<SseRouter<WithMessage>>().toExtend<SseRouter>();
  expectTypeOf<SseRouter>().toHaveProperty('broadcast');
  expectTypeOf<SseRouter['size']>().toEqualTypeOf<number>();
  expectTypeOf<SseRouter['position']>().toEqualTypeOf<string>();
  expectTypeOf<SseRouter<Events>['connections']>().toEqualTypeOf<ReadonlySet<Connection<Events>>>();
  expectTypeOf<ReturnType<SseRouter['stats']>>().toEqualTypeOf<SseStats>();
  expectTypeOf<SseRouter['close']>().toBeCallableWith({ over: 5 });
  expectTypeOf<ReturnType<SseRouter['close']>>().toEqualTypeOf<Promise<void>>();
  compiled('mounts', (events: SseRouter<Events>) => {
    express().use('/events', events);
    express().get('/events', events);
    // @ts-expect-error only the router changes the set
    events.connections.add(undefined as never);
    // @ts-expect-error the number of connections is read-only
    events.size = 0;
  });
});

test('the members of a connection', () => {
  expectTypeOf<Connection['readyState']>().toEqualTypeOf<'connecting' | 'open' | 'closed'>();
  expectTypeOf<Connection['signal']>().toEqualTypeOf<AbortSignal>();
  expectTypeOf<Connection['channels']>().toEqualTypeOf<ReadonlySet<string>>();
  expectTypeOf<Connection['state']>().toEqualTypeOf<Record<string, unknown>>();
  expectTypeOf<CloseReason>().toEqualTypeOf<
    'client' | 'handler' | 'end' | 'disconnect' | 'slow' | 'expired' | 'shutdown' | 'error'
  >();
  expectTypeOf<Connection['comment']>().toBeCallableWith('x');
  expectTypeOf<Connection['comment']>().toBeCallableWith();
  expectTypeOf<Connection['close']>().toBeCallableWith({ retry: 5 });
  expectTypeOf<Connection<Events>>().toExtend<Connection>();
  compiled('pushAll', async (conn: Connection<Events>) => {
    await conn.pushAll(['text', { event: 'tick', data: 1 }]);
    await conn.pushAll(new Set(['text']));
    await conn.pushAll(Readable.from(['a']));
    await conn.pushAll(new PassThrough());
    await conn.pushAll(new ReadableStream<string>());
    await conn.pushAll(new ReadableStream<Uint8Array>());
    await conn.pushAll((await fetch('http://x')).body!);
    // @ts-expect-error a name that is not in the map
    await conn.pushAll([{ event: 'tock', data: 1 }]);
    // @ts-expect-error a number cannot be iterated
    await conn.pushAll(7);
    // @ts-expect-error the id is read-only
    conn.id = 'x';
  });
});

test('the types for code around the router', () => {
  expectTypeOf(memoryJournal()).toExtend<Journal>();
  expectTypeOf<{ event: 'tick'; data: number }>().toExtend<Message<Events>>();
  expectTypeOf<{ event: 'tick'; data: string }>().not.toExtend<Message<Events>>();
  expectTypeOf<(conn: Connection<Events>) => void>().toExtend<SseHandler<Events>>();
  expectTypeOf<SseOptions['onError']>().toEqualTypeOf<((error: unknown, conn?: Connection) => void) | undefined>();
});

test('chunks of runs are checked against their type, as literals, too', () => {
  type Part = { type: 'text'; text: string } | { type: 'done' };
  compiled('runs', () => [
    runs<Part>(() => [{ type: 'done' }]),
    runs<Part>(async () => [{ type: 'text', text: 'x' }]),
    runs<Part>(async function* () {
      yield { type: 'done' };
    }),
    runs<'a' | 'b'>(() => ['a', 'b']),
    // @ts-expect-error not a type of Part
    runs<Part>(() => [{ type: 'image' }]),
  ]);
  compiled('routers', (): [RunsRouter<Part>, RunsRouter<string>] => [runs(() => [{ type: 'done' }]), runs(() => [])]);
});
