/*
 * How an application tests its streams: supertest for answers that end, `connect` for those that do not. Any test runner will do.
 *
 *   npx tsx --test examples/shop.test.ts
 */
// #region readme
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../lib/testing/index.ts';
import request from 'supertest';
import { makeShop } from './shop.ts';

test('a branch gets its orders, and after a break those that it missed', async () => {
  const { app } = makeShop();
  const stream = await connect(app, '/events/oslo');
  assert.equal((await stream.next()).event, 'hello');

  await request(app).post('/orders/bergen').send({ item: 'coffee' }); // for others
  await request(app).post('/orders/oslo').send({ item: 'tea' });
  const order = await stream.next(); // within 2 s, or it fails with all that came instead
  assert.deepEqual([order.event, order.json], ['order', { item: 'tea' }]);

  await stream.cut(); // as a network does that has gone
  await request(app).post('/orders/oslo').send({ item: 'cake' });
  const back = await stream.reconnect(); // as a browser does, with the last id
  const [hello, missed] = await back.take(2);
  assert.deepEqual([hello!.event, missed!.json], ['hello', { item: 'cake' }]);
  await back.close();
});
// #endregion

test('there is no stream of a branch that there is not', async () => {
  const refused = await connect(makeShop().app, '/events/atlantis');
  assert.deepEqual([refused.status, await refused.body()], [404, 'Not Found']);
});

test('a branch that stalls keeps nobody waiting', async () => {
  const { app, events } = makeShop();
  const stalled = await connect(app, '/events/oslo');
  const well = await connect(app, '/events/oslo');
  stalled.pause(); // reads nothing more: what the kernel does not take stays in the log
  await well.next(); // hello
  const orders: string[] = [];
  do {
    orders.push(await events.broadcast('x'.repeat(1_000_000), { to: 'oslo' }));
    assert.equal((await well.next()).id, orders.at(-1));
  } while (events.stats().behind === 0);
  assert.ok(stalled.events.length < orders.length);

  stalled.resume();
  const [, ...taken] = await stalled.take(1 + orders.length);
  assert.deepEqual(
    taken.map(({ id }) => id),
    orders,
  );
  await Promise.all([stalled.close(), well.close()]);
});
