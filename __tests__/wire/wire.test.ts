/*
 * Streams over real sockets, read by parsers that share no code: eventsource-parser (in `sse-router/testing` and in `eventsource`),
 * the oracle, and @microsoft/fetch-event-source, which loses empty first lines and byte order marks, but reports what it takes for
 * a message. The number of lines of an event is not limited: `maxBuffered` is the limit. (131,072 lines is undici's own limit.)
 */
import { once } from 'node:events';
import { getLines, getMessages, type EventSourceMessage } from '@microsoft/fetch-event-source/lib/cjs/parse.js';
import { EventSource } from 'eventsource';
import { createParser } from 'eventsource-parser';
import { sse } from '../../lib/index.ts';
import { lint, oracle } from './oracle.ts';
import { another, appOf, BARE, dialled, HEAD, later, listening, opened, tick } from '../fixtures/support.ts';

/** Parses a body with @microsoft/fetch-event-source, in pieces of `size` bytes. */
function readByMicrosoft(body: Uint8Array, size = body.byteLength): EventSourceMessage[] {
  const messages: EventSourceMessage[] = [];
  const feed = getLines(
    getMessages(
      () => {},
      () => {},
      (message) => messages.push(message),
    ),
  );
  for (let at = 0; at < body.byteLength; at += size) feed(body.subarray(at, at + size));
  return messages;
}

/** Parses a body that arrives byte by byte with eventsource-parser. */
function readBytewise(body: Uint8Array): { event: string | undefined; data: string; id: string | undefined }[] {
  const events: { event: string | undefined; data: string; id: string | undefined }[] = [];
  const parser = createParser({ onEvent: ({ event, data, id }) => events.push({ event, data, id }) });
  const decoder = new TextDecoder();
  for (const byte of body) parser.feed(decoder.decode(Uint8Array.of(byte), { stream: true }));
  return events;
}

const TEXTS: [name: string, data: string, received?: string][] = [
  ['every kind of line break', 'a\nb\rc\r\nd', 'a\nb\nc\nd'],
  ['line breaks at the start, at the end and in a row', '\r\n\n\ra\r\r\n', '\n\n\na\n\n'],
  ['an empty string', ''],
  ['a line end', '\n'],
  ['trailing line breaks', 'a\n\n'],
  ['leading spaces', '  x'],
  ['a colon', ':x'],
  ['lines that look like fields', 'data: x\nid: 9\nretry: 1\nevent: y\n: z'],
  ['other line breaks of Unicode', 'a\u2028b\u0085c\vd\fe\u2029f'],
  ['characters of two, three and four bytes', 'é€豆腐💥'],
  ['half of a surrogate pair', 'a\ud83db\ude00', 'a\ufffdb\ufffd'],
  ['a NUL', 'a\0b'],
  ['a byte order mark', '\ufeffx\ufeff'],
];

test.each(TEXTS)('%s: one event with exactly this data, for every parser', async (_name, data, received = data) => {
  const { stream } = await opened((conn) => void conn.push({ data }, { event: 'last', data: '.' }), BARE);
  expect((await stream.take(2)).map((event) => event.data as string)).toEqual([received, '.']);
  const body = Buffer.from(stream.text);
  expect(lint(stream.text)).toEqual([]);
  expect(readBytewise(body).map((event) => event.data)).toEqual([received, '.']);
  expect(oracle(stream.text).events.map((event) => event.data)).toEqual([received, '.']);
  for (const size of [1, 2, 7, body.byteLength]) expect(readByMicrosoft(body, size)).toHaveLength(2);
});

test('the same data through the client `eventsource`', async () => {
  const events = sse((conn) => {
    conn.push(...TEXTS.map(([, data]) => ({ data })));
    conn.push({ event: ' größe: ✓ ', id: 'an id', data: 'named' });
  }, BARE);
  later(() => events.close());
  const { url } = await listening(appOf(events));
  const source = new EventSource(url);
  later(() => source.close());
  const got: unknown[] = [];
  source.addEventListener('message', (event) => got.push(event.data));
  const [named] = (await once(source as never, ' größe: ✓ ')) as [MessageEvent];
  expect(got).toEqual(TEXTS.map(([, data, received = data]) => received));
  expect([named.data, named.lastEventId]).toEqual(['named', 'an id']);
});

test('names and ids arrive unchanged; an empty id clears the last event id', async () => {
  const { stream } = await opened(
    (conn) =>
      void conn.push({ event: 'a:b', id: 'x y', data: '1' }, { data: '2' }, { event: ' e ', id: '', data: '3' }),
    BARE,
  );
  expect(await stream.take(3)).toEqual([
    { event: 'a:b', data: '1', id: 'x y', lastEventId: 'x y' },
    { event: 'message', data: '2', id: undefined, lastEventId: 'x y' },
    { event: ' e ', data: '3', id: '', lastEventId: '' },
  ]);
  expect(oracle(stream.text).events).toEqual([
    { type: 'a:b', data: '1', lastEventId: 'x y' },
    { type: 'message', data: '2', lastEventId: 'x y' },
    { type: ' e ', data: '3', lastEventId: '' },
  ]);
});

test('neither the opening nor a comment, a heartbeat or a lone retry is a message for any parser', async () => {
  const { stream, conn } = await opened((connection) => void connection.comment('hello'), { ...BARE, heartbeat: 5 });
  conn.push({ retry: 5000 });
  conn.comment('more\n\nlines\n');
  await stream.until(() => stream.comments.filter((text) => text === '').length >= 3);
  conn.push({ event: 'x' });
  await stream.next();
  expect(stream.events).toEqual([{ event: 'x', data: '', id: undefined, lastEventId: '' }]);
  expect(stream.retry).toBe(5000);
  expect(readByMicrosoft(Buffer.from(stream.text))).toEqual([{ event: 'x', data: '', id: '', retry: 5000 }]);
  expect(lint(stream.text)).toEqual([]);
});

test('two writers, a heartbeat each millisecond and events of 1 MiB: no event is written inside another', async () => {
  const big = `${'x'.repeat(1 << 19)}\n${'y'.repeat(1 << 19)}`;
  const { stream, conn, events } = await opened(() => {}, { ...BARE, heartbeat: 1, maxBuffered: 2 ** 28 });
  await Promise.all([
    (async () => {
      for (let n = 0; n < 8; n++) {
        conn.push({ event: 'own', data: big });
        await conn.drained();
      }
    })(),
    (async () => {
      for (let n = 0; n < 8; n++) {
        await events.broadcast({ event: 'all', data: big });
        await tick();
      }
    })(),
  ]);
  const got = await stream.take(16, 10_000);
  expect(got.filter(({ event }) => event === 'own')).toHaveLength(8);
  expect(new Set(got.map(({ data }) => data as string))).toEqual(new Set([big]));
  await stream.until(() => stream.comments.length > 1);
  expect(lint(stream.text)).toEqual([]);
});

test('all events of one tick are one chunk of the body', async () => {
  const events = sse(() => {}, BARE);
  later(() => events.close());
  const { port } = await listening(appOf(events));
  const socket = await dialled(port);
  await once(socket, 'data');
  const [conn] = events.connections;
  conn!.push({ data: 'a' }, { data: 'b' });
  conn!.push('c', 'd');
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  const body = 'data: a\n\ndata: b\n\ndata: c\ndata: d\n\n';
  expect(chunk.toString()).toBe(`${body.length.toString(16)}\r\n${body}\r\n`);
});

test('10,000 pushes in one tick arrive complete and in order', async () => {
  const { stream } = await opened((conn) => {
    for (let n = 0; n < 10_000; n++) conn.push(n);
  }, BARE);
  const got = await stream.take(10_000, 10_000);
  expect(got.map(({ data }) => Number(data))).toEqual(Array.from({ length: 10_000 }, (_, n) => n));
});

describe('large events', () => {
  test.each<[name: string, make: () => string]>([
    ['5 MiB on one line', () => 'x'.repeat(5 << 20)],
    ['10 MiB on two lines', () => `${'x'.repeat(5 << 20)}\n${'é'.repeat(5 << 19)}`],
    ['100,000 lines', () => 'line\n'.repeat(100_000)],
  ])('%s arrive whole, pushed and broadcast, and later events follow in order', async (_name, make) => {
    const data = make();
    const { stream, conn, events } = await opened(() => {}, BARE);
    conn.push(data);
    conn.push('after');
    await events.broadcast(data);
    await events.broadcast('last');
    const got = await stream.take(4, 15_000);
    expect(got.map((event) => event.data === data || (event.data as string))).toEqual([true, 'after', true, 'last']);
    expect(oracle(stream.text).events.map((event) => event.data === got[0]!.data || event.data)).toEqual([
      true,
      'after',
      true,
      'last',
    ]);
    expect(lint(stream.text)).toEqual([]);
  });
});

test('the linter finds no fault in streams with every kind of frame', async () => {
  const { stream, conn, events, app } = await opened(
    (connection) => {
      connection.join('room');
      connection.push('a\r\nb', 3);
    },
    { snapshot: () => [{ event: 'state', data: { a: '\r\n' } }, 's\rt'] },
  );
  conn.comment('c\r\nd');
  conn.push({ retry: 9 }, { event: 'e', data: 'f\rg', retry: 8 });
  const id = await events.broadcast({ event: 'all', data: 'h\r\ni' }, { to: 'room' });
  await stream.until(() => stream.text.includes('data: i\n'));
  conn.close({ retry: 77 });
  await stream.closed;
  const lost = await another(app, '/events', { lastEventId: 'aaaaaaaaaaaa-5' });
  await lost.take(4);
  for (const last of events.connections) last.end();
  await lost.closed;
  const returning = await another(app, '/events', { lastEventId: id });
  await returning.next();
  for (const { text } of [stream, lost, returning]) expect(lint(text)).toEqual([]);
  expect(lost.text).toContain('event: reset\n');
  expect(lost.text).toContain('event: end\n');
  expect(lint(`${HEAD}id: 1\r\n\r\n`)).not.toEqual([]); // the linter finds these faults
  expect(lint('x: 1\n\n')).not.toEqual([]);
  expect(lint('data: a\nid: 1\n\n')).not.toEqual([]);
  expect(lint(':\n\n')).not.toEqual([]);
  expect(lint('id: 1\n:\ndata: a\n\n')).not.toEqual([]);
});
