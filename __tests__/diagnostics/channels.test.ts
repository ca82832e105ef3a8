/*
 * The diagnostics channels: their messages, the order of them, and that nothing is published without a subscriber.
 */
import { subscribe, unsubscribe, type ChannelListener } from 'node:diagnostics_channel';
import { sse } from '../../lib/index.ts';
import { channels } from '../../lib/diagnostics/channels.ts';
import { eventually } from '../fixtures/http.ts';
import { another, appOf, choke, later, opened, overOf, tick } from '../fixtures/support.ts';

interface Published {
  readonly router: object;
  readonly [field: string]: unknown;
}

/** Subscribes to a channel until the test ends, and returns the list of its messages. */
function messagesOf(name: string): Published[] {
  const messages: Published[] = [];
  const listener: ChannelListener = (message) => messages.push(message as Published);
  subscribe(name, listener);
  later(() => unsubscribe(name, listener));
  return messages;
}

test('open is published once for each stream, when it opens', async () => {
  const messages = messagesOf('sse-router:open');
  const { events, app, conn } = await opened();
  expect(messages).toEqual([{ router: events, connection: conn }]);
  expect(messages[0]!.connection).toBe(conn);
  await another(app);
  expect(messages).toHaveLength(2);
});

test('close is published once for each stream, with its reason, however it is closed', async () => {
  const messages = messagesOf('sse-router:close');
  const { events, app, conn, stream } = await opened();
  conn.end();
  conn.close();
  expect(messages).toEqual([{ router: events, connection: conn, reason: 'end' }]);
  await stream.closed;
  const second = await another(app);
  await second.close();
  await eventually(() => messages.length === 2);
  expect(messages[1]!.reason).toBe('client');
  await another(app);
  await events.close();
  expect(messages.map(({ reason }) => reason)).toEqual(['end', 'client', 'shutdown']);
});

test('a request that never becomes a stream publishes neither open nor close', async () => {
  const [open, close] = [messagesOf('sse-router:open'), messagesOf('sse-router:close')];
  const { stream } = await opened((_conn, _req, res) => {
    res.sendStatus(403);
  });
  expect(stream.status).toBe(403);
  await stream.closed;
  await tick();
  expect([...open, ...close]).toEqual([]);
});

test('reset is published with its reason and the last event id', async () => {
  const messages = messagesOf('sse-router:reset');
  const events = sse();
  later(() => events.close());
  const id = await events.broadcast('x');
  const elsewhere = id.replace(/^./, (first) => (first === 'a' ? 'b' : 'a')); // the id of another process
  const stream = await another(appOf(events), '/events', { lastEventId: elsewhere });
  expect(await stream.next()).toMatchObject({ event: 'reset' });
  const [connection] = events.connections;
  expect(messages).toEqual([{ router: events, connection, reason: 'unknown', lastEventId: elsewhere }]);
  expect(messages[0]!.connection).toBe(connection);
});

test('broadcast is published with id, channels, size and duration', async () => {
  const messages = messagesOf('sse-router:broadcast');
  const { events } = await opened();
  const ids = [
    await events.broadcast({ event: 'e', data: 'höhe' }, { to: ['a', 'b'], except: 'c' }),
    await events.broadcast('x'),
  ];
  const body = Buffer.byteLength('event: e\ndata: höhe\n\n');
  expect(messages).toEqual([
    { router: events, id: ids[0], to: ['a', 'b'], except: ['c'], bytes: body, ms: expect.any(Number) },
    { router: events, id: ids[1], to: undefined, except: undefined, bytes: 9, ms: expect.any(Number) },
  ]);
  for (const { ms } of messages) expect(ms).toBeGreaterThanOrEqual(0);
});

test('broadcast is not published for a message that is refused', async () => {
  const messages = messagesOf('sse-router:broadcast');
  const { events } = await opened();
  await expect(events.broadcast({ event: 'error' })).rejects.toMatchObject({ code: 'ERR_SSE_EVENT' });
  expect(messages).toEqual([]);
});

test('hand-out is published once per tick, after the last write', async () => {
  const { events, stream } = await opened();
  await stream.next(); // the checkpoint: the connection is live
  const messages = messagesOf('sse-router:hand-out');
  const before = events.stats().events;
  void events.broadcast('a');
  void events.broadcast('b');
  await events.broadcast('c');
  await eventually(() => messages.length === 1);
  expect(messages).toEqual([{ router: events, entries: 3, ms: expect.any(Number) }]);
  expect(events.stats().events - before).toBe(3);
  expect(await stream.take(3)).toMatchObject([{ data: 'a' }, { data: 'b' }, { data: 'c' }]);
});

test('hand-out does not wait for a connection that is behind', async () => {
  const { events, conn, stream } = await opened((one) => one.open(), { maxBuffered: 64 * 1024 * 1024 });
  stream.pause();
  await choke(conn);
  const messages = messagesOf('sse-router:hand-out');
  await events.broadcast('x');
  await eventually(() => messages.length === 1);
  expect(conn.bufferedBytes).toBeGreaterThan(0);
  conn.end();
  await overOf(conn);
});

test('messages name the router that published them', async () => {
  const messages = messagesOf('sse-router:broadcast');
  const [one, two] = [await opened(), await opened()];
  await two.events.broadcast('x');
  await one.events.broadcast('x');
  expect(messages.map(({ router }) => [one.events, two.events].indexOf(router as never))).toEqual([1, 0]);
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
