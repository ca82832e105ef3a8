/*
 * How an application tests its streams: supertest for responses that end, `connect` for streams. It works in any test runner.
 *
 *   npx tsx --test examples/shop.test.ts
 */
// #region docs
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../lib/testing/index.ts';
import request from 'supertest';
import { makeShop } from './shop.ts';

// #region readme
test('a branch receives its orders', async () => {
  const { app } = makeShop();
  const stream = await connect(app, '/events/oslo');
  assert.equal((await stream.next()).event, 'hello');

  await request(app).post('/orders/bergen').send({ item: 'coffee' }); // for another branch
  await request(app).post('/orders/oslo').send({ item: 'tea' });
  const { json } = await stream.next(); // within 2 s; otherwise it fails and lists everything that arrived
  assert.deepEqual(json, { item: 'tea' });
  await stream.close();
});
// #endregion readme

test('after a lost connection, a branch receives the orders that it missed', async () => {
  const { app } = makeShop();
  const stream = await connect(app, '/events/oslo');
  await stream.next(); // hello
  await stream.cut(); // breaks the TCP connection, as a failing network does
  await request(app).post('/orders/oslo').send({ item: 'cake' });
  const back = await stream.reconnect(); // sends the last event id, as a browser does
  const [hello, missed] = await back.take(2);
  assert.deepEqual([hello!.event, missed!.json], ['hello', { item: 'cake' }]);
  await back.close();
});
// #endregion docs

test('a branch that does not exist has no stream', async () => {
  const refused = await connect(makeShop().app, '/events/atlantis');
  assert.deepEqual([refused.status, await refused.body()], [404, 'Not Found']);
});

test('a branch that stops reading does not delay the others', async () => {
  const { app, events } = makeShop();
  const stalled = await connect(app, '/events/oslo');
  const reading = await connect(app, '/events/oslo');
  stalled.pause(); // reads no more bytes: what the kernel does not buffer stays in the log
  await reading.next(); // hello
  const orders: string[] = [];
  do {
    orders.push(await events.broadcast('x'.repeat(1_000_000), { to: 'oslo' }));
    assert.equal((await reading.next()).id, orders.at(-1));
  } while (events.stats().behind === 0);
  assert.ok(stalled.events.length < orders.length);

  stalled.resume();
  const [, ...received] = await stalled.take(1 + orders.length);
  assert.deepEqual(
    received.map(({ id }) => id),
    orders,
  );
  await Promise.all([stalled.close(), reading.close()]);
});
