/*
 * The option controlEvents. With control events their names are the router's. Without them, the router itself writes `:` and `retry:`
 * and nothing else, and a connection that lost entries is broken off, because no event may report the loss.
 */

import type { Connection, SseOptions } from '../../lib/index.ts';
import { Hub } from '../../lib/hub/hub.ts';
import { checkOptions } from '../../lib/options/options.ts';
import { another, choke, codeOf, opened, overOf, tick, type AnyHandler } from '../fixtures/support.ts';

const RESERVED = ['error', 'open', 'end', 'reset', 'checkpoint'];
const HEAD = ':\nretry: 1000\n';
const OFF: SseOptions = { controlEvents: false, retry: 1000, heartbeat: false };
const POST: SseOptions = { methods: ['POST'], retry: 1000, heartbeat: false };

/** Whether a set of options allows control events. */
const allows = (options: SseOptions): boolean => checkOptions(options).controlEvents;

test('they are allowed if an EventSource can open the stream, unless the option says otherwise', () => {
  expect(allows({})).toBe(true);
  expect(allows({ methods: ['GET', 'POST'] })).toBe(true);
  expect(allows({ methods: ['POST'] })).toBe(false);
  expect(allows({ methods: ['POST'], controlEvents: true })).toBe(true);
  expect(allows({ controlEvents: false })).toBe(false);
  expect(allows({ methods: ['POST'], controlEvents: undefined })).toBe(false);
});

describe('with control events', () => {
  test.each(RESERVED)(
    'push, pushAll, broadcast and a snapshot refuse the name %s, and nothing is sent',
    async (event) => {
      const { conn, events, stream } = await opened(() => {}, { retry: 1000, heartbeat: false, history: false });
      expect(codeOf(() => conn.push({ data: 'first' }, { event, data: 'x' }))).toBe('ERR_SSE_EVENT');
      await expect(events.broadcast({ event, data: 'x' })).rejects.toMatchObject({ code: 'ERR_SSE_EVENT' });
      await expect(conn.pushAll([{ event, data: 'x' }])).rejects.toMatchObject({ code: 'ERR_SSE_EVENT' });
      conn.push('after');
      await stream.next();
      expect(stream.text).toBe(`${HEAD}data: after\n\n`);
      const onError = jest.fn();
      const failing = await opened(() => {}, { snapshot: () => ({ event, data: 'x' }), onError });
      await failing.stream.closed;
      expect(onError).toHaveBeenCalledWith(expect.objectContaining({ code: 'ERR_SSE_EVENT' }), expect.anything());
    },
  );

  test('names that only resemble them are the application’s', async () => {
    const { conn, stream } = await opened(() => {}, { history: false });
    conn.push(...['End', 'ended', 'reset ', 'check-point', 'errors'].map((event) => ({ event, data: 'x' })));
    expect((await stream.take(5)).map(({ event }) => event)).toEqual([
      'End',
      'ended',
      'reset ',
      'check-point',
      'errors',
    ]);
  });
});

describe.each([
  ['controlEvents: false', OFF, 'GET'],
  ['a router for POST alone', POST, 'POST'],
] as const)('%s', (_what, options, method) => {
  const how = { method };

  test('a generator: its events, with any name, and nothing else', async () => {
    const { stream, conn } = await opened(
      function* () {
        for (const event of RESERVED) yield { event, data: 1 };
      } as AnyHandler,
      options,
      how,
    );
    expect(await stream.body()).toBe(HEAD + RESERVED.map((event) => `event: ${event}\ndata: 1\n\n`).join(''));
    expect(await stream.closed).toBe('end');
    expect(conn.signal.reason).toBe('end');
  });

  test('broadcasts have any name, and no id', async () => {
    const { stream, events, conn } = await opened(() => {}, options, how);
    const id = await events.broadcast({ event: 'end', data: 'b' });
    expect(id).not.toBe('');
    conn.push('own');
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}event: end\ndata: b\n\ndata: own\n\n`);
    await expect(events.broadcast({ id: 7, data: 'x' } as never)).rejects.toMatchObject({ code: 'ERR_SSE_ID' });
  });

  test('a snapshot has no position, and a heartbeat is no checkpoint', async () => {
    const snapshot = (): string => 'state';
    const { stream, events } = await opened(() => {}, { ...options, heartbeat: 30, snapshot }, how);
    await stream.next();
    await events.broadcast('elsewhere', { to: 'nowhere' });
    await stream.until(() => stream.comments.length > 3);
    expect(stream.text).toMatch(/^:\nretry: 1000\ndata: state\n\n(?::\n)+$/);
  });

  test.each([
    ['end()', (conn: Connection) => conn.end()],
    ['close()', (conn: Connection) => conn.close({ retry: 7 })],
  ])('%s ends the body normally', async (name, end) => {
    const { stream, conn } = await opened((one) => void one.push('a'), options, how);
    await stream.next();
    end(conn);
    expect(await stream.body()).toBe(`${HEAD}data: a\n\n${name === 'end()' ? '' : 'retry: 7\n'}`);
    expect(await stream.closed).toBe('end');
  });

  test('the id that a client brings is the application’s: no reset, no replay', async () => {
    const seen: string[] = [];
    const { app, events } = await opened((conn) => void seen.push(conn.lastEventId), options, how);
    const id = await events.broadcast('missed');
    for (const lastEventId of ['42', id]) {
      const stream = await another(app, '/events', { method, headers: { 'last-event-id': lastEventId } });
      await events.broadcast('live');
      await stream.next();
      expect(stream.text).toBe(`${HEAD}data: live\n\n`);
    }
    expect(seen).toEqual(['', '42', id]);
    expect(events.stats().resumes).toEqual({ resumed: 0, lost: 0, unknown: 0, diverged: 0 });
  });

  test('a client that is behind gets everything from the log, and one whose entries are lost is broken off', async () => {
    const size = 20;
    const { stream, events, conn } = await opened(
      () => {},
      { ...options, history: { size }, maxBuffered: 2 ** 28 },
      how,
    );
    stream.pause();
    await choke(conn);
    for (let n = 0; n < size; n++) await events.broadcast(`kept ${n}`);
    stream.resume();
    await stream.until(() => stream.events.at(-1)?.data === `kept ${size - 1}`);
    const { length } = stream.events;
    stream.pause();
    await choke(conn);
    for (let n = 0; n < 2 * size; n++) await events.broadcast(`lost ${n}`);
    stream.resume();
    expect(await overOf(conn)).toBe('slow');
    expect(await stream.closed).toBe('cut');
    expect(stream.events.slice(length).filter(({ event }) => event !== 'message')).toEqual([]);
    expect(stream.events.some(({ data }) => data?.startsWith('lost'))).toBe(false);
  });
});

test('a client that is behind and whose stream ends is broken off, if what it misses is lost', async () => {
  const { stream, events, conn } = await opened(() => {}, { ...OFF, history: { size: 5 }, maxBuffered: 2 ** 28 });
  stream.pause();
  await choke(conn);
  for (let n = 0; n < 10; n++) await events.broadcast(`lost ${n}`);
  conn.end();
  await tick();
  stream.resume();
  expect(await stream.closed).toBe('cut');
});

test('a log that loses writes breaks off the connections that may have received them', async () => {
  const open = jest.spyOn(Hub.prototype, 'open');
  const { stream, conn } = await opened(() => {}, OFF);
  const [hub] = open.mock.contexts as Hub[];
  const over = overOf(conn);
  hub!.restart({ floor: 'abcdefghijkl-0', entries: [] }, 'diverged');
  expect(await over).toBe('error');
  expect(await stream.closed).toBe('cut');
  expect(stream.text).toBe(HEAD);
});
