/*
 * A resumed client receives the entries of its current channels, and no other information, not even by ids, counts or sizes.
 */

import express from 'express';
import { sse, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type TestStream } from '../../lib/testing/index.ts';

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((close) => close()));
});

interface Site {
  events: SseRouter;
  /** The channels of each user, read at each connect. */
  rights: Map<string, string[]>;
  visit: (user: string, lastEventId?: string) => Promise<TestStream>;
}

function site(options: SseOptions = {}): Site {
  const rights = new Map<string, string[]>();
  const events = sse((conn, req) => {
    conn.join(...(rights.get((req.query as { user: string }).user) ?? []));
  }, options);
  open.push(() => events.close());
  const app = express().use('/events', events);
  return {
    events,
    rights,
    async visit(user, lastEventId = '') {
      const stream = await connect(app, `/events?user=${user}`, { lastEventId });
      open.unshift(() => stream.close());
      return stream;
    },
  };
}

const dataOf = (events: readonly { data: string }[]): string[] => events.map(({ data }) => data);

test('with the id of another tenant, a client receives the entries of its own channels only', async () => {
  const { events, rights, visit } = site();
  rights.set('ann', ['tenant:a']).set('bob', ['tenant:b']);
  const idOfAnn = await events.broadcast('for a: 1', { to: 'tenant:a' });
  const others = [await events.broadcast('for a: 2', { to: 'tenant:a' })];
  await events.broadcast('for b: 1', { to: 'tenant:b' });
  others.push(await events.broadcast('for a: 3', { to: 'tenant:a' }));
  const stream = await visit('bob', idOfAnn);
  expect(dataOf(await stream.take(1))).toEqual(['for b: 1']);
  await events.broadcast('for b: 2', { to: 'tenant:b' });
  expect(dataOf(await stream.take(1))).toEqual(['for b: 2']);
  expect(stream.text).not.toContain('for a');
  for (const id of others) expect(stream.text).not.toContain(id);
});

test('an id is a position and no permission: a channel that a user has lost is not replayed either', async () => {
  const { events, rights, visit } = site();
  rights.set('ann', ['room', 'news']);
  const stream = await visit('ann');
  await stream.next();
  await events.broadcast('in the room', { to: 'room' });
  await stream.next();
  await stream.close();
  rights.set('ann', ['news']);
  await events.broadcast('closed to ann', { to: 'room' });
  await events.broadcast('headline', { to: 'news' });
  const returning = await visit('ann', stream.lastEventId);
  expect(dataOf(await returning.take(1))).toEqual(['headline']);
  await events.broadcast('still closed', { to: 'room' });
  await events.broadcast('another', { to: 'news' });
  expect(dataOf(await returning.take(1))).toEqual(['another']);
  expect(returning.text).not.toMatch(/closed/);
});

test('an excepted client does not receive the entry on return either', async () => {
  const { events, rights, visit } = site();
  rights.set('ann', ['room', 'ann']).set('bob', ['room', 'bob']);
  const from = await events.broadcast('start');
  await events.broadcast('sent by ann', { to: 'room', except: 'ann' });
  await events.broadcast('to no channel', { to: [] });
  await events.broadcast('end');
  expect(dataOf(await (await visit('ann', from)).take(1))).toEqual(['end']);
  expect(dataOf(await (await visit('bob', from)).take(2))).toEqual(['sent by ann', 'end']);
});

test('a client receives the same bytes, however many entries other channels have', async () => {
  const received = async (secrets: number): Promise<string> => {
    const { events, rights, visit } = site({ retry: 1000 });
    rights.set('bob', ['bob']);
    const from = await events.broadcast('start');
    for (let n = 0; n < secrets; n++) await events.broadcast('x'.repeat(n * 1000), { to: 'ann' });
    await events.broadcast('end', { to: 'bob' });
    const stream = await visit('bob', from);
    await stream.next();
    return stream.text.replace(/^id: \S+$/gm, 'id');
  };
  expect(await received(20)).toBe(await received(0));
});

test("a reset contains only the reason, the client's own id and the head", async () => {
  const { events, rights, visit } = site({ history: { size: 2 } });
  rights.set('bob', ['bob']);
  const old = await events.broadcast('old', { to: 'bob' });
  let head = '';
  for (let n = 0; n < 5; n++) head = await events.broadcast(`secret ${n}`, { to: 'ann' });
  const stream = await visit('bob', old);
  const reset = await stream.next();
  expect(reset.json).toEqual({ reason: 'lost', lastEventId: old });
  expect(reset.id).toBe(head);
  expect(stream.text).not.toContain('secret');
});

test('a busy channel evicts the entries of a quiet one, and the client then receives a reset', async () => {
  const { events, rights, visit } = site({ history: { size: 10 } });
  rights.set('bob', ['quiet']);
  const seen = await events.broadcast('1', { to: 'quiet' });
  await events.broadcast('2', { to: 'quiet' });
  for (let n = 0; n < 8; n++) await events.broadcast('noise', { to: 'loud' });
  expect(dataOf(await (await visit('bob', seen)).take(1))).toEqual(['2']);
  await events.broadcast('noise', { to: 'loud' });
  expect((await (await visit('bob', seen)).next()).json).toEqual({ reason: 'lost', lastEventId: seen });
});

test('a client without an id receives no past entries, whatever it has joined', async () => {
  const { events, rights, visit } = site();
  rights.set('ann', ['room']);
  await events.broadcast('before', { to: 'room' });
  const stream = await visit('ann');
  expect(await stream.next()).toMatchObject({ event: 'checkpoint', data: '' });
  await events.broadcast('after', { to: 'room' });
  expect(dataOf(await stream.take(1))).toEqual(['after']);
  expect(stream.text).not.toContain('before');
});
