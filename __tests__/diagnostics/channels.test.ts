/*
 * The diagnostics channels: what is told, in which order, and that nobody pays who does not listen.
 */
import { subscribe, unsubscribe, type ChannelListener } from 'node:diagnostics_channel';
import { sse } from '../../lib/index.ts';
import { channels } from '../../lib/diagnostics/channels.ts';
import { eventually } from '../fixtures/http.ts';
import { another, appOf, choke, later, opened, overOf, turn } from '../fixtures/support.ts';

interface Told {
  readonly router: object;
  readonly [more: string]: unknown;
}

/** Everything told on a channel while the test lasts. */
function listen(name: string): Told[] {
  const told: Told[] = [];
  const hear: ChannelListener = (message) => told.push(message as Told);
  subscribe(name, hear);
  later(() => unsubscribe(name, hear));
  return told;
}

test('open: once for each stream, when it opens', async () => {
  const told = listen('sse-router:open');
  const { events, app, conn } = await opened();
  expect(told).toEqual([{ router: events, connection: conn }]);
  expect(told[0]!.connection).toBe(conn);
  await another(app);
  expect(told).toHaveLength(2);
});

test('close: with its reason, once, whoever ends it', async () => {
  const told = listen('sse-router:close');
  const { events, app, conn, stream } = await opened();
  conn.end();
  conn.close();
  expect(told).toEqual([{ router: events, connection: conn, reason: 'end' }]);
  await stream.closed;
  const second = await another(app);
  await second.close();
  await eventually(() => told.length === 2);
  expect(told[1]!.reason).toBe('client');
  await another(app);
  await events.close();
  expect(told.map(({ reason }) => reason)).toEqual(['end', 'client', 'shutdown']);
});

test('a request that never becomes a stream is neither opened nor closed', async () => {
  const [open, close] = [listen('sse-router:open'), listen('sse-router:close')];
  const { stream } = await opened((_conn, _req, res) => {
    res.sendStatus(403);
  });
  expect(stream.status).toBe(403);
  await stream.closed;
  await turn();
  expect([...open, ...close]).toEqual([]);
});

test('reset: why, and from where', async () => {
  const told = listen('sse-router:reset');
  const events = sse();
  later(() => events.close());
  const id = await events.broadcast('x');
  const elsewhere = id.replace(/^./, (first) => (first === 'a' ? 'b' : 'a')); // another process's
  const stream = await another(appOf(events), '/events', { lastEventId: elsewhere });
  expect(await stream.next()).toMatchObject({ event: 'reset' });
  const [connection] = events.connections;
  expect(told).toEqual([{ router: events, connection, reason: 'unknown', lastEventId: elsewhere }]);
  expect(told[0]!.connection).toBe(connection);
});

test('broadcast: what went into the log, for whom, how large, how long it took', async () => {
  const told = listen('sse-router:broadcast');
  const { events } = await opened();
  const ids = [
    await events.broadcast({ event: 'e', data: 'höhe' }, { to: ['a', 'b'], except: 'c' }),
    await events.broadcast('x'),
  ];
  const body = Buffer.byteLength('event: e\ndata: höhe\n\n');
  expect(told).toEqual([
    { router: events, id: ids[0], to: ['a', 'b'], except: ['c'], bytes: body, ms: expect.any(Number) },
    { router: events, id: ids[1], to: undefined, except: undefined, bytes: 9, ms: expect.any(Number) },
  ]);
  for (const { ms } of told) expect(ms).toBeGreaterThanOrEqual(0);
});

test('broadcast: nothing of what is refused', async () => {
  const told = listen('sse-router:broadcast');
  const { events } = await opened();
  await expect(events.broadcast({ event: 'error' })).rejects.toMatchObject({ code: 'ERR_SSE_EVENT' });
  expect(told).toEqual([]);
});

test('hand-out: a turn at a time, when the last has been written to', async () => {
  const { events, stream } = await opened();
  await stream.next(); // the checkpoint: it is live
  const told = listen('sse-router:hand-out');
  const before = events.stats().events;
  void events.broadcast('a');
  void events.broadcast('b');
  await events.broadcast('c');
  await eventually(() => told.length === 1);
  expect(told).toEqual([{ router: events, entries: 3, ms: expect.any(Number) }]);
  expect(events.stats().events - before).toBe(3);
  expect(await stream.take(3)).toMatchObject([{ data: 'a' }, { data: 'b' }, { data: 'c' }]);
});

test('hand-out: who is behind is not waited for', async () => {
  const { events, conn, stream } = await opened((one) => one.open(), { maxBuffered: 64 * 1024 * 1024 });
  stream.pause();
  await choke(conn);
  const told = listen('sse-router:hand-out');
  await events.broadcast('x');
  await eventually(() => told.length === 1);
  expect(conn.bufferedBytes).toBeGreaterThan(0);
  conn.end();
  await overOf(conn);
});

test('two routers are told apart', async () => {
  const told = listen('sse-router:broadcast');
  const [one, two] = [await opened(), await opened()];
  await two.events.broadcast('x');
  await one.events.broadcast('x');
  expect(told.map(({ router }) => [one.events, two.events].indexOf(router as never))).toEqual([1, 0]);
});

test('without subscribers nothing is published', async () => {
  const published = Object.values(channels).map((channel) => jest.spyOn(channel, 'publish'));
  const { events, conn, stream, app } = await opened();
  await stream.next();
  await events.broadcast('x');
  expect(await stream.next()).toMatchObject({ data: 'x' });
  await another(app, '/events', { lastEventId: 'aaaaaaaaaaaa-1' });
  conn.end();
  await overOf(conn);
  for (const publish of published) expect(publish).not.toHaveBeenCalled();
});
