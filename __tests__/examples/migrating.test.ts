/*
 * The programs of docs/migrating.md: the one before a move and the one after it send the same events to the same pages.
 * An open page that returns to the new program receives a `reset`, and resumes from there.
 */
import { io } from 'socket.io-client';
import { clear, keptPort, listen, post, read, type Seen, start } from './example-process.ts';

afterEach(clear);

const named = ({ event, data }: Seen): [string, unknown] => [event, JSON.parse(data)];
const text = (response: Response): Promise<string> => response.text();

describe.each(['before', 'after'])('better-sse, %s', (when) => {
  test('each branch has its orders, and all have the news', async () => {
    const { url } = await start(`migrating/better-sse-${when}.ts`);
    const names = ['hello', 'order', 'news'];
    const [oslo, bergen] = ['oslo', 'bergen'].map((branch) => listen(`${url}/events/${branch}`, names));
    expect(named(await oslo!.next())).toEqual(['hello', { branch: 'oslo' }]);
    expect(named(await bergen!.next())).toEqual(['hello', { branch: 'bergen' }]);
    expect((await post(`${url}/orders/bergen`, { item: 'coffee' })).status).toBe(204);
    await post(`${url}/orders/oslo`, { item: 'tea' });
    await post(`${url}/news`, 'We are open.');
    expect([named(await oslo!.next()), (await oslo!.next()).data]).toEqual([
      ['order', { item: 'tea' }],
      '"We are open."',
    ]);
    expect(named(await bergen!.next())).toEqual(['order', { item: 'coffee' }]);
    expect((await fetch(`${url}/events/paris`)).status).toBe(404);
    expect((await post(`${url}/orders/paris`, {})).status).toBe(404);
  });
});

describe.each(['before', 'after'])('express-sse, %s', (when) => {
  test('a client that connects has the scores so far, and then each new one', async () => {
    const { url } = await start(`migrating/express-sse-${when}.ts`);
    await post(`${url}/scores`, { team: 'reds', points: 2 });
    const page = listen(`${url}/scores`, ['scores', 'score']);
    expect(named(await page.next())).toEqual(['scores', [{ reds: 2, blues: 0 }]]);
    await post(`${url}/scores`, { team: 'blues', points: 1 });
    expect(named(await page.next())).toEqual(['score', { team: 'blues', points: 1 }]);
    const late = listen(`${url}/scores`, ['scores', 'score']);
    expect(named(await late.next())).toEqual(['scores', [{ reds: 2, blues: 1 }]]);
    await post(`${url}/scores`, { team: 'reds', points: 1 });
    const next = named(await page.next());
    // express-sse sends the state of a new client to every client.
    if (when === 'before') expect(next).toEqual(['scores', [{ reds: 2, blues: 1 }]]);
    else expect(next).toEqual(['score', { team: 'reds', points: 3 }]);
  });
});

describe.each(['before', 'after'])('res.write, %s', (when) => {
  test('every client has each build, and a client that returns has what it missed', async () => {
    const { url } = await start(`migrating/res-write-${when}.ts`);
    const { response, next, disconnect } = await read(`${url}/events`);
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    const nextBuild = async (from: typeof next): Promise<Seen> => {
      for (;;) {
        const one = await from();
        if (one!.event === 'build') return one!;
      }
    };
    await post(`${url}/builds/one`, {});
    const { data, id } = await nextBuild(next);
    expect(JSON.parse(data)).toMatchObject({ branch: 'one', at: expect.any(String) });
    disconnect();
    await post(`${url}/builds/two`, {});
    await post(`${url}/builds/three`, {});
    const back = await read(`${url}/events`, { headers: { 'Last-Event-ID': id } });
    const branches = [await nextBuild(back.next), await nextBuild(back.next)].map((one) => JSON.parse(one.data).branch);
    expect(branches).toEqual(['two', 'three']);
  });
});

test('Plack, after: a client has the departures as one event, their number with its id, and the end of the stream', async () => {
  const { url } = await start('migrating/plack-after.ts');
  const { response, next } = await read(`${url}/departures`, { headers: { Origin: 'https://app.example' } });
  expect(response.headers.get('Access-Control-Allow-Origin')).toBe('https://app.example');
  expect((await next())!.data).toBe('10:05 Oslo\n10:20 Bergen');
  expect(await next()).toMatchObject({ event: 'count', id: '2', data: '2' });
  expect(await next()).toBeUndefined();
});

describe('socket.io', () => {
  test('before: a user has the notes for all sockets of the user, until the logout', async () => {
    const { url } = await start('migrating/socket-io-before.ts');
    const connect = (session: string) => {
      const options = { extraHeaders: { Cookie: `session=${session}` }, reconnection: false, forceNew: true };
      const socket = io(url, options);
      const seen: [string, unknown][] = [];
      for (const name of ['hello', 'note']) socket.on(name, (data) => seen.push([name, data]));
      const has = (count: number) => until(() => seen.length >= count);
      return { socket, seen, has };
    };
    const ada = connect('s-ada');
    const bob = connect('s-bob');
    try {
      await Promise.all([ada.has(1), bob.has(1)]);
      await post(`${url}/notes/ada`, { text: 'Lunch?' });
      await ada.has(2);
      expect(ada.seen).toEqual([
        ['hello', { user: 'ada' }],
        ['note', { text: 'Lunch?' }],
      ]);
      await post(`${url}/logout/ada`, {});
      await until(() => ada.socket.disconnected);
      expect([bob.socket.connected, bob.seen]).toEqual([true, [['hello', { user: 'bob' }]]]);
      const guessed = connect('guessed');
      const refused = new Promise<Error>((resolve) => guessed.socket.on('connect_error', resolve));
      expect((await refused).message).toBe('unauthorized');
    } finally {
      ada.socket.close();
      bob.socket.close();
    }
  });

  test('after: the same, and a guessed session gets 401', async () => {
    const { url } = await start('migrating/socket-io-after.ts');
    const connect = (session: string) => read(`${url}/events`, { headers: { Cookie: `session=${session}` } });
    const ada = await connect('s-ada');
    const bob = await connect('s-bob');
    const nextOf = async ({ next }: typeof ada): Promise<[string, unknown] | undefined> => {
      for (;;) {
        const one = await next();
        if (one === undefined) return undefined;
        if (one.event !== 'checkpoint') return named(one);
      }
    };
    expect(await nextOf(ada)).toEqual(['hello', { user: 'ada' }]);
    expect(await nextOf(bob)).toEqual(['hello', { user: 'bob' }]);
    await post(`${url}/notes/ada`, { text: 'Lunch?' });
    expect(await nextOf(ada)).toEqual(['note', { text: 'Lunch?' }]);
    await post(`${url}/logout/ada`, {});
    expect(await nextOf(ada)).toBeUndefined();
    await post(`${url}/notes/bob`, { text: 'to myself' });
    expect(await nextOf(bob)).toEqual(['note', { text: 'to myself' }]);
    expect((await connect('guessed')).response.status).toBe(401);
  });
});

/** A page that stays open while the program before a move is replaced by the one after it, at the same address. */
test.each([
  ['better-sse', '/events/oslo', 'order', '/orders/oslo'],
  ['express-sse', '/scores', 'score', '/scores'],
  ['res-write', '/events', 'build', '/builds/main'],
])(
  'a page that is open during the move from %s has a reset, and is resumed from there',
  async (name, path, event, to) => {
    const PORT = await keptPort();
    const old = await start(`migrating/${name}-before.ts`, { PORT });
    const order = { item: 'tea', team: 'reds', points: 1 };
    const page = listen(`http://localhost:${PORT}${path}`, [event, 'reset']);
    await page.opening;
    await post(`${old.url}${to}`, order);
    const { id } = await page.next();
    expect(id).not.toBe('');
    await old.stop();
    const moved = await start(`migrating/${name}-after.ts`, { PORT });
    expect(named(await page.next())).toEqual(['reset', { reason: 'unknown', lastEventId: id }]);
    await post(`${moved.url}${to}`, order);
    const live = await page.next();
    expect(live.event).toBe(event);
    expect(live.id).not.toBe(id);

    // From here on it is resumed as any other page.
    const { next, disconnect } = await read(`${moved.url}${path}`, { headers: { 'Last-Event-ID': live.id } });
    await post(`${moved.url}${to}`, order);
    expect((await page.next()).event).toBe(event);
    const seen: string[] = [];
    while (!seen.includes(event)) seen.push((await next())!.event);
    expect(seen).not.toContain('reset');
    disconnect();
    expect((await moved.stop()).code).toBe(0);
  },
);

test('an old page of socket.io fails at the new program, so its script must load the page again', async () => {
  const { url } = await start('migrating/socket-io-after.ts');
  expect(await text(await fetch(`${url}/socket.io/?EIO=4&transport=polling`))).toContain('Cannot GET');
  const socket = io(url, { reconnection: false, forceNew: true });
  try {
    const failed = new Promise<Error>((resolve) => socket.on('connect_error', resolve));
    expect((await failed).message).toContain('poll');
  } finally {
    socket.close();
  }
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}
