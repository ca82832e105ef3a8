/*
 * With `history: false` the ids belong to the application, and so does the resume: from a database, at the speed of the client.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import { open as openStore, type RootDatabase } from 'lmdb';
import { sse, type SseOptions, type SseRouterWithoutHistory } from '../../lib/index.ts';
import { connect, type TestStream } from '../../lib/testing/index.ts';

let folder: string;
let store: RootDatabase<string, number>;
const open: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'own-store-'));
  store = openStore<string, number>({ path: join(folder, 'rows'), noSync: true });
});

afterEach(async () => {
  for (const close of open.splice(0)) await close();
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

interface Site {
  events: SseRouterWithoutHistory;
  /** Returns how many rows all connections have read from the store. */
  read: () => number;
  /** Returns how many cursors into the store are open. */
  cursors: () => number;
  add: (data: string) => Promise<number>;
  visit: (lastEventId?: string, query?: string) => Promise<TestStream>;
}

/** Returns a site with a table of rows. The numbers of the rows are the ids. */
function site(options: SseOptions = {}): Site {
  let read = 0;
  let cursors = 0;
  let last = 0;
  function* rows(after: number): Generator<{ id: number; data: string }> {
    cursors++;
    try {
      for (const { key, value } of store.getRange({ start: after + 1 })) {
        read++;
        yield { id: key, data: value };
      }
    } finally {
      cursors--;
    }
  }
  const events = sse(async (conn) => conn.pushAll(rows(Number(conn.lastEventId) || 0)), { ...options, history: false });
  const app = express().use('/events', events);
  open.push(() => events.close());
  return {
    events,
    read: () => read,
    cursors: () => cursors,
    async add(data) {
      await store.put(++last, data);
      return last;
    },
    async visit(lastEventId = '', query = '') {
      const stream = await connect(app, `/events${query}`, { lastEventId });
      open.unshift(() => stream.close());
      return stream;
    },
  };
}

const numbers = (stream: TestStream): number[] => stream.events.map(({ id }) => Number(id));
const upTo = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, index) => from + index);

test('the ids of the application come back in conn.lastEventId', async () => {
  const { add, visit } = site();
  for (let n = 1; n <= 12; n++) await add(`row ${n}`);
  const stream = await visit();
  await stream.take(9);
  expect(stream.events[8]).toMatchObject({ id: '9', data: 'row 9' });
  expect(numbers(await visit('9').then(async (returning) => (await returning.take(3), returning)))).toEqual([
    10, 11, 12,
  ]);
  const byQuery = await visit('', '?lastEventId=10');
  await byQuery.take(2);
  expect(numbers(byQuery)).toEqual([11, 12]);
});

test('the router adds nothing: no id, no checkpoint, no reset, whatever the form of the id', async () => {
  const logged = sse();
  open.push(() => logged.close());
  const idOfAJournal = await logged.broadcast('x');
  const { events, visit } = site({ heartbeat: 30 });
  for (const id of ['', idOfAJournal, 'no number']) {
    const stream = await visit(id);
    await stream.until(() => stream.comments.length > 2);
    expect(stream.events).toEqual([]);
  }
  expect(events.position).toBe('');
});

test('a broadcast may have an id, and reaches every connected client', async () => {
  const { events, visit } = site();
  const streams = [await visit(), await visit()];
  for (const stream of streams) await stream.until(() => stream.comments.length > 0);
  expect(await events.broadcast({ id: 7, data: 'seven' })).toBe('7');
  expect(await events.broadcast('none')).toBe('');
  for (const stream of streams) {
    const [seven, none] = await stream.take(2);
    expect(seven).toMatchObject({ id: '7', data: 'seven' });
    expect(none).toMatchObject({ id: undefined, lastEventId: '7', data: 'none' });
  }
});

test('rows are read at the speed of the client: a stalled client does not load the table into memory', async () => {
  const { events, read, cursors, visit } = site();
  const count = 2000;
  for (let n = 1; n < count; n++) void store.put(n, '.'.repeat(20_000));
  await store.put(count, 'last');
  const stream = await visit();
  stream.pause();
  let before = -1;
  while (read() !== before) {
    before = read();
    await new Promise((resolve) => setTimeout(resolve, 50)); // until no row is read for 50 ms: there is no event for that
  }
  expect(before).toBeLessThan(count / 2);
  expect(cursors()).toBe(1);
  const [conn] = events.connections;
  expect(conn!.bufferedBytes).toBeLessThan(1_000_000);
  stream.resume();
  await stream.until(() => stream.events.at(-1)?.data === 'last', 10_000);
  expect(numbers(stream)).toEqual(upTo(1, count));
});

test('a client that disconnects releases its cursor, and continues at its position when it returns', async () => {
  const { add, cursors, visit } = site();
  const count = 1000;
  for (let n = 1; n < count; n++) await add('.'.repeat(20_000));
  await add('last');
  const seen: number[] = [];
  let id = '';
  for (let cut = 1; seen.at(-1) !== count; cut++) {
    const stream = await visit(id);
    await stream.until(() => stream.events.length >= cut * 50 || stream.events.at(-1)?.data === 'last');
    await stream.cut();
    seen.push(...numbers(stream));
    id = stream.lastEventId;
  }
  expect(seen).toEqual(upTo(1, count));
  while (cursors() > 0) await new Promise(setImmediate);
});
