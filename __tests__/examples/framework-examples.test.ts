/*
 * The examples for frameworks of servers: Nest.
 */
import { clear, post, read, start } from './example-process.ts';

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
