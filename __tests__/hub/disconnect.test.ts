/*
 * `disconnect()`: permission ends in every process, in order with the broadcasts.
 */

import { type Connection, sse } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { journalWithFollower } from '../fixtures/journal-with-follower.ts';
import { another, appOf, choke, later, listening, opened, tick } from '../fixtures/support.ts';

const user = (conn: Connection) => conn.join('user:ada');

test('ends the connections of the channel after the earlier broadcasts, and sends them no later one', async () => {
  const { events, app, stream, conn } = await opened(user);
  const other = await another(app);
  await Promise.all([
    events.broadcast('before', { to: 'user:ada' }),
    events.disconnect({ to: 'user:ada' }),
    events.broadcast('after', { to: 'user:ada' }),
  ]);
  expect(conn.readyState).toBe('closed');
  expect(conn.signal.reason).toBe('disconnect');
  expect(await stream.body()).toMatch(/data: before\n\n$/);
  expect(await other.body()).toMatch(/data: before\n\n$/);
  expect(events.stats().closed.disconnect).toBe(2);
  expect(events.size).toBe(0);
});

test('leaves the connections of other channels open, and no client receives the entry', async () => {
  const { events, stream, conn } = await opened((one) => one.join('user:bob'));
  await stream.next();
  await events.disconnect({ to: 'user:ada' });
  await events.broadcast('on');
  expect(await stream.next()).toMatchObject({ event: 'message', data: 'on' });
  expect(conn.readyState).toBe('open');
});

test('with `end`, the client receives an end event and is answered 204 when it returns', async () => {
  const { events, app, stream } = await opened(user);
  await events.disconnect({ to: ['user:ada', 'user:eve'], end: true });
  const text = await stream.body();
  expect(text).toMatch(/id: sse-router:end\nevent: end\ndata: \n\n$/);
  const { url } = await listening(app);
  const back = await fetch(url, { headers: { 'Last-Event-ID': 'sse-router:end' } });
  expect(back.status).toBe(204);
});

test('a connection that is still connecting ends, whether it has joined the channel or joins it in its opening', async () => {
  let go!: () => void;
  const gate = new Promise<void>((resolve) => (go = resolve));
  const conns: Connection[] = [];
  const events = sse(async (conn, req) => {
    conns.push(conn);
    if (req.query['early']) conn.join('user:ada');
    await gate;
    conn.join('user:ada');
  });
  later(() => events.close());
  const app = appOf(events);
  const streams = [connect(app, '/events?early=1'), connect(app, '/events')];
  while (conns.length < 2) await tick();
  await events.disconnect({ to: 'user:ada' });
  go();
  for (const stream of await Promise.all(streams)) expect(await stream.body()).not.toContain('data: secret');
  await events.broadcast('data: secret', { to: 'user:ada' });
  expect(conns.map(({ signal }) => signal.reason)).toEqual(['disconnect', 'disconnect']);
  // A client that comes afterwards has been authorised anew.
  const again = await another(app);
  await again.next(); // the checkpoint
  await events.broadcast('fresh', { to: 'user:ada' });
  expect(await again.next()).toMatchObject({ data: 'fresh' });
});

test.each([
  ['10,000 channels: its own are open to it', 10_000, 'open'],
  [
    'more channels than are kept: the oldest are dropped, so it ends with the first that it joins',
    10_001,
    'disconnect',
  ],
])('a connection that is still connecting while disconnects end %s', async (_name, count, expected) => {
  let go!: () => void;
  const gate = new Promise<void>((resolve) => (go = resolve));
  const conns: Connection[] = [];
  const events = sse(
    async (conn) => {
      conns.push(conn);
      if (conns.length === 1) await gate;
      conn.join('other');
    },
    { heartbeat: false },
  );
  later(() => events.close());
  const app = appOf(events);
  const opening = connect(app, '/events');
  while (conns.length < 1) await tick();
  const names = Array.from({ length: count }, (_, n) => `user:${n}`);
  await events.disconnect({ to: names.slice(0, 5000), end: true });
  await events.disconnect({ to: names.slice(5000) });
  await another(app); // it was admitted after the disconnects
  go();
  const stream = await opening;
  later(() => stream.close());
  await events.broadcast('on', { to: 'other' });
  expect(conns.map(({ signal, readyState }) => signal.reason ?? readyState)).toEqual([expected, 'open']);
  if (expected === 'disconnect') expect(await stream.body()).not.toContain('event: end');
});

test('a channel that is joined after the opening is live, so an earlier disconnect does not apply', async () => {
  const { events, stream, conn } = await opened();
  await stream.next();
  await events.disconnect({ to: 'late' });
  conn.join('late');
  await events.broadcast('on', { to: 'late' });
  expect(await stream.next()).toMatchObject({ data: 'on' });
});

test('a client that returns with an older id receives what it missed, and the replayed disconnect does not end it', async () => {
  const { events, app, stream } = await opened(user);
  const { id = '' } = await stream.next();
  await events.broadcast('one', { to: 'user:ada' });
  await events.disconnect({ to: 'user:ada' });
  await stream.body();
  await events.broadcast('two', { to: 'user:ada' });
  const back = await another(app, '/events', { lastEventId: id });
  expect((await back.take(2)).map(({ data }) => data)).toEqual(['one', 'two']);
  await events.broadcast('three', { to: 'user:ada' });
  expect(await back.next()).toMatchObject({ data: 'three' });
});

test('a connection that is behind first receives the entries before the disconnect', async () => {
  const { events, stream, conn } = await opened(user, { heartbeat: false });
  await stream.next();
  stream.pause();
  await choke(conn);
  await events.broadcast('before', { to: 'user:ada' });
  await events.disconnect({ to: 'user:ada' });
  await events.broadcast('after', { to: 'user:ada' });
  expect(conn.signal.reason).toBe('disconnect');
  stream.resume();
  expect(await stream.body()).toMatch(/x\n\nid: \S+\ndata: before\n\n$/);
});

test('after a restart of the journal, every connection closes, because it may have missed a disconnect', async () => {
  const { journal, follower } = journalWithFollower();
  const { events, stream, conn } = await opened(user, { history: journal });
  const { id } = await stream.next();
  follower().restart({ floor: id!, entries: [] }, 'unknown');
  expect(await stream.body()).toContain('event: reset');
  expect(conn.signal.reason).toBe('disconnect');
  await events.close();
});

test('bad options reject, and nothing is ended', async () => {
  const { events, conn } = await opened(user);
  const cases: [unknown, string][] = [
    [{ to: undefined }, 'ERR_SSE_CHANNEL'],
    [{ to: '' }, 'ERR_SSE_CHANNEL'],
    [{ too: 'a' }, 'ERR_SSE_OPTION'],
    [{ to: 'user:ada', end: 'yes' }, 'ERR_SSE_OPTION'],
    [undefined, 'ERR_SSE_OPTION'],
  ];
  for (const [options, code] of cases)
    await expect(events.disconnect(options as never)).rejects.toMatchObject({ code });
  await events.disconnect({ to: [] });
  expect(conn.readyState).toBe('open');
});
