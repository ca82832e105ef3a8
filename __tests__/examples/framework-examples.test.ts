/*
 * The examples for frameworks of servers: Nest and graphql-sse.
 */
import { createClient } from 'graphql-sse';
import { clear, listen, post, read, start } from './example-process.ts';

afterEach(clear);

test('nest: the guard decides about the stream and about the controller, and a shutdown ends the streams', async () => {
  const example = await start('nest.ts');
  const ada = { Cookie: 'session=s-ada' };
  expect((await read(`${example.url}/events`)).response.status).toBe(403);
  expect((await post(`${example.url}/notes/ada`, { text: 'Lunch?' })).status).toBe(403);
  const { response, next } = await read(`${example.url}/events`, { headers: ada });
  expect(response.status).toBe(200);
  expect((await next())!.event).toBe('checkpoint');
  for (const user of ['bob', 'ada']) {
    const sent = await post(`${example.url}/notes/${user}`, { text: 'Lunch?' }, { Cookie: 'session=s-bob' });
    expect(sent.status).toBe(201);
  }
  const note = await next();
  expect([note!.event, note!.data]).toEqual(['note', '{"from":"bob","text":"Lunch?"}']); // the first is for bob
  const stopped = example.stop();
  expect(await next()).toBeUndefined();
  expect((await stopped).code).toBe(0);
});

test('graphql-sse: a subscription and a stream receive the same orders, and a subscription continues after an id', async () => {
  const example = await start('graphql-sse.ts');
  const { next, opening } = listen(`${example.url}/events`, ['order']);
  await opening;
  const client = createClient({ url: `${example.url}/graphql` });
  const subscribe = (variables: Record<string, unknown>) =>
    client.iterate<{ orders: unknown }>({
      query: 'subscription ($after: ID) { orders(after: $after) { id item reset } }',
      variables,
    });
  const query = client.iterate<{ position: string }>({ query: '{ position }' });
  const { position } = (await query.next()).value!.data!;
  const first = subscribe({ after: position });
  const received = first.next();
  await post(`${example.url}/orders`, { item: 'tea' });
  await post(`${example.url}/orders`, { item: 'cake' });
  const tea = await next();
  const cake = await next();
  expect([tea.data, cake.data]).toEqual(['{"item":"tea"}', '{"item":"cake"}']);
  expect((await received).value!.data!.orders).toEqual({ id: tea.id, item: 'tea', reset: null });
  const second = subscribe({ after: tea.id });
  expect((await second.next()).value!.data!.orders).toEqual({ id: cake.id, item: 'cake', reset: null });
  const lost = await subscribe({ after: 'x' }).next();
  expect(lost.value!.data!.orders).toEqual({ id: cake.id, item: null, reset: 'unknown' });
  await second.return!();
  await example.prints(/a subscription has ended/); // without another order
  client.dispose();
  expect((await example.stop()).code).toBe(0);
});
