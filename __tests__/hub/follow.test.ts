/*
 * `follow()`: server code receives what any process broadcasts.
 */

import { type FollowedEvent, type Journal, memoryJournal, sse } from '../../lib/index.ts';
import { journalWithFollower } from '../fixtures/journal-with-follower.ts';
import { codeOf, later, tick } from '../fixtures/support.ts';

function router(options = {}) {
  const events = sse(options);
  later(() => events.close());
  return events;
}

async function take(iterator: AsyncIterator<FollowedEvent>, count: number): Promise<FollowedEvent[]> {
  const taken: FollowedEvent[] = [];
  while (taken.length < count) {
    const step = await iterator.next();
    if (step.done) break;
    taken.push(step.value);
  }
  return taken;
}

test('yields every event after the call, in order, with its id, name, text and channels', async () => {
  const events = router();
  await events.broadcast('earlier');
  const iterator = events.follow();
  const ids = [
    await events.broadcast('text\nof two lines'),
    await events.broadcast({ event: 'order', data: { n: 1 } }, { to: ['a', 'b'] }),
  ];
  await events.broadcast({ retry: 5 } as never); // no event
  ids.push(await events.broadcast({ event: 'empty' } as never));
  expect(await take(iterator, 3)).toEqual([
    { type: 'event', id: ids[0], data: 'text\nof two lines' },
    { type: 'event', id: ids[1], event: 'order', data: '{"n":1}', to: ['a', 'b'] },
    { type: 'event', id: ids[2], event: 'empty', data: '' },
  ]);
});

test('with channels, it behaves as a connection in them', async () => {
  const events = router();
  const iterator = events.follow({ to: ['a', 'b'] });
  await events.broadcast('all');
  await events.broadcast('c', { to: 'c' });
  await events.broadcast('a', { to: 'a' });
  await events.broadcast('but b', { except: 'b' });
  await events.broadcast('for no channel', { to: [] });
  await events.disconnect({ to: 'a' });
  await events.broadcast('last', { to: 'b' });
  expect((await take(iterator, 3)).map((event) => event.type === 'event' && event.data)).toEqual(['all', 'a', 'last']);
});

test('continues after a position, waits for new events, and ends by abort, by return() and by close()', async () => {
  const events = router();
  const first = await events.broadcast('one');
  await events.broadcast('two');
  const controller = new AbortController();
  const iterator = events.follow({ after: first, signal: controller.signal });
  expect(await take(iterator, 1)).toMatchObject([{ data: 'two' }]);
  const pending = iterator.next();
  await tick();
  await events.broadcast('three');
  expect(await pending).toMatchObject({ value: { data: 'three' } });
  const last = iterator.next();
  await tick();
  controller.abort();
  expect(await last).toEqual({ done: true, value: undefined });

  const broken = events.follow();
  for await (const event of (void events.broadcast('x'), broken)) if (event) break;
  expect(await broken.next()).toMatchObject({ done: true });

  const closing = events.follow().next();
  await tick();
  await events.close();
  expect(await closing).toEqual({ done: true, value: undefined });
});

test('return() ends it at once although a next() waits, and leaves no listener on the signal of the application', async () => {
  const events = router();
  const { signal } = new AbortController();
  const removed = jest.spyOn(signal, 'removeEventListener');
  const iterator = events.follow({ signal });
  const waiting = iterator.next();
  await tick();
  expect(await iterator.return!()).toEqual({ done: true, value: undefined });
  expect(await waiting).toEqual({ done: true, value: undefined });
  expect(removed).toHaveBeenCalledWith('abort', expect.any(Function));
  await events.broadcast('later');
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
});

test('yields a reset if its position is not in the log, and continues at the head', async () => {
  const events = router({ history: { size: 3 } });
  const old = await events.broadcast('0');
  const slow = events.follow({ after: old });
  for (let n = 1; n <= 20_000; n++) await events.broadcast(String(n)); // more than the ring holds
  expect(await take(slow, 1)).toEqual([{ type: 'reset', reason: 'lost', id: events.position }]);
  const foreign = events.follow({ after: '1795352641531-0' });
  expect(await take(foreign, 1)).toEqual([{ type: 'reset', reason: 'unknown', id: events.position }]);
  await events.broadcast('on');
  for (const iterator of [slow, foreign]) expect(await take(iterator, 1)).toMatchObject([{ data: 'on' }]);
});

test('reads the log for a position older than the ring, while new events arrive, without a gap or a duplicate', async () => {
  const events = router({ history: { size: 100_000, maxBytes: 1e9 } });
  const start = await events.broadcast('start');
  for (let n = 0; n < 20_000; n++) await events.broadcast(String(n));
  const iterator = events.follow({ after: start });
  const seen: string[] = [];
  let published = 20_000;
  for await (const event of iterator) {
    if (event.type === 'event') seen.push(event.data);
    if (seen.length % 1000 === 0 && published < 20_010) await events.broadcast(String(published++));
    if (seen.length === 20_010) break;
  }
  expect(seen).toEqual(Array.from({ length: 20_010 }, (_, n) => String(n)));
});

test('a log that lost writes yields a reset', async () => {
  let lost = '';
  const inner = memoryJournal();
  const read: Journal['read'] = async (after, limit) =>
    after === lost ? { ok: false, reason: 'unknown' } : inner.read(after, limit);
  const { journal, follower } = journalWithFollower(read);
  const events = router({ history: journal });
  const kept = await events.broadcast('kept');
  const iterator = events.follow();
  lost = await events.broadcast('lost');
  expect(await take(iterator, 1)).toMatchObject([{ data: 'lost' }]);
  follower().rewind(kept);
  expect(await take(iterator, 1)).toEqual([{ type: 'reset', reason: 'unknown', id: kept }]);
});

test.each([{ after: 'an-id' }, {}])(
  'follow(%j) of a router that closes before its journal is open ends without an event',
  async (options) => {
    const journal: Journal = { ...journalWithFollower().journal, open: () => new Promise(() => {}) };
    const events = sse({ history: journal });
    const next = events.follow(options).next();
    await tick();
    await events.close();
    expect(await next).toEqual({ done: true, value: undefined });
  },
);

test('works before the journal is open, and with history: false', async () => {
  const early = sse();
  later(() => early.close());
  const first = early.follow().next();
  await early.broadcast('one');
  expect(await first).toMatchObject({ value: { data: 'one' } });
  const events = router({ history: false });
  const iterator = events.follow();
  await events.broadcast({ id: 7, data: 'own' } as never);
  await events.broadcast('none');
  expect(await take(iterator, 2)).toEqual([
    { type: 'event', id: '7', data: 'own' },
    { type: 'event', id: '', data: 'none' },
  ]);
});

test.each<[object, string, string?]>([
  [{ to: '' }, 'ERR_SSE_CHANNEL'],
  [{ to: undefined }, 'ERR_SSE_CHANNEL'],
  [{ after: 7 }, 'ERR_SSE_ID'],
  [{ after: '' }, 'ERR_SSE_ID'],
  [{ signal: {} }, 'ERR_SSE_OPTION'],
  [{ form: 'x' }, 'ERR_SSE_OPTION'],
])('%p throws at the call', (options, code) => {
  const events = router();
  expect(codeOf(() => events.follow(options as never))).toBe(code);
});
