/*
 * history: false. Ids are the application's, and so is resume: out of a database, at the reader's speed.
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
  /** How many rows have been read out of the store, by all connections. */
  read: () => number;
  /** How many cursors into the store are open. */
  cursors: () => number;
  add: (data: string) => Promise<number>;
  visit: (lastEventId?: string, query?: string) => Promise<TestStream>;
}

/** A site with a table of rows, whose numbers are the ids. */
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

test("ids are the application's, and come back to it", async () => {
  const { add, visit } = site();
  for (let n = 1; n <= 12; n++) await add(`row ${n}`);
  const stream = await visit();
  await stream.take(9);
  expect(stream.events[8]).toMatchObject({ id: '9', data: 'row 9' });
  expect(numbers(await visit('9').then(async (back) => (await back.take(3), back)))).toEqual([10, 11, 12]);
  const byQuery = await visit('', '?lastEventId=10');
  await byQuery.take(2);
  expect(numbers(byQuery)).toEqual([11, 12]);
});

test('nothing is added: no cursor, no checkpoint, no reset, whatever the id looks like', async () => {
  const logged = sse();
  open.push(() => logged.close());
  const ofALog = await logged.broadcast('x');
  const { events, visit } = site({ heartbeat: 30 });
  for (const id of ['', ofALog, 'no number']) {
    const stream = await visit(id);
    await stream.until(() => stream.comments.length > 2);
    expect(stream.events).toEqual([]);
  }
  expect(events.position).toBe('');
});

test('a broadcast may bring its id, and reaches who is connected', async () => {
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

test("rows are read at the reader's speed: a stalled one does not fetch the table into memory", async () => {
  const { events, read, cursors, visit } = site();
  const count = 2000;
  for (let n = 1; n < count; n++) void store.put(n, '.'.repeat(20_000));
  await store.put(count, 'last');
  const stream = await visit();
  stream.pause();
  let before = -1;
  while (read() !== before) {
    before = read();
    await new Promise((resolve) => setTimeout(resolve, 50)); // until it reads no more: there is no event for that
  }
  expect(before).toBeLessThan(count / 2);
  expect(cursors()).toBe(1);
  const [conn] = events.connections;
  expect(conn!.bufferedBytes).toBeLessThan(1_000_000);
  stream.resume();
  await stream.until(() => stream.events.at(-1)?.data === 'last');
  expect(numbers(stream)).toEqual(upTo(1, count));
});

test('a client that leaves in the middle lets go of the cursor, and goes on where it was', async () => {
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
