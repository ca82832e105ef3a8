import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clear, listen, post, read, run, start } from './example-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'examples-'));

afterEach(clear);
afterAll(() => rmSync(folder, { recursive: true }));

test('quick-start: sends hello, and exits on SIGTERM', async () => {
  const example = await start('quick-start.ts');
  const { response, next } = await read(`${example.url}/events`);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  expect(await next()).toMatchObject({ event: 'message', data: 'hello' });
  expect((await example.stop()).code).toBe(0);
  expect(await next()).toBeUndefined();
});

test('broadcast-from-a-route: every client receives a posted order, with the id of the answer', async () => {
  const example = await start('broadcast-from-a-route.ts');
  const readers = [listen(`${example.url}/events`, ['order']), listen(`${example.url}/events`, ['order'])];
  await Promise.all(readers.map(({ opening }) => opening));
  const answer = await post(`${example.url}/orders`, { item: 'tea' });
  expect(answer.status).toBe(201);
  const { id } = (await answer.json()) as { id: string };
  for (const { next } of readers) expect(await next()).toEqual({ event: 'order', data: '{"item":"tea"}', id });
  expect((await example.stop()).code).toBe(0);
});

test('broadcast-from-a-route: an order without a JSON body is answered with 400', async () => {
  const example = await start('broadcast-from-a-route.ts');
  for (const init of [{}, { body: 'tea' }, { body: '{}', headers: { 'Content-Type': 'application/json' } }])
    expect((await fetch(`${example.url}/orders`, { method: 'POST', ...init })).status).toBe(400);
  expect((await example.stop()).code).toBe(0);
});

test('an example whose port is in use prints the cure, and no stack', async () => {
  const server = createServer().listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { code, output } = await run('broadcast-from-a-route.ts', { PORT: String(port) });
  server.close();
  const command = `PORT=${port + 1000} npx tsx examples/broadcast-from-a-route.ts`;
  expect([code, output]).toEqual([1, `Port ${port} is in use. Choose another: ${command}\n`]);
});

describe('private-channels', () => {
  test('a request without a session gets 401', async () => {
    const example = await start('private-channels.ts');
    expect((await fetch(`${example.url}/events`)).status).toBe(401);
    expect((await fetch(`${example.url}/events`, { headers: { Cookie: 'session=guessed' } })).status).toBe(401);
    expect((await example.stop()).code).toBe(0);
  });

  test('a page of the listed origin can read the 401, and its preflight is answered', async () => {
    const example = await start('private-channels.ts');
    const headers = { Origin: 'https://app.example' };
    const refused = await fetch(`${example.url}/events`, { headers });
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, headers.Origin]);
    const preflight = { ...headers, 'Access-Control-Request-Method': 'GET' };
    expect((await fetch(`${example.url}/events`, { method: 'OPTIONS', headers: preflight })).status).toBe(204);
    expect((await fetch(`${example.url}/events`, { headers: { Origin: 'https://b.example' } })).status).toBe(403);
    expect((await example.stop()).code).toBe(0);
  });

  test('a note reaches all devices of its user, and no other user', async () => {
    const example = await start('private-channels.ts');
    const as = (session: string) => listen(`${example.url}/events`, ['note'], { Cookie: `session=${session}` });
    const [phone, laptop, bob] = [as('s-ada'), as('s-ada'), as('s-bob')];
    await Promise.all([phone.opening, laptop.opening, bob.opening]);
    const note = (user: string, text: string) =>
      post(`${example.url}/notes/${user}`, text, { Cookie: 'session=s-bob' });
    expect((await note('ada', 'Lunch?')).status).toBe(204);
    await note('bob', 'to myself');
    for (const { next } of [phone, laptop]) {
      expect(JSON.parse((await next()).data)).toEqual({ from: 'bob', text: 'Lunch?' });
    }
    expect(JSON.parse((await bob.next()).data)).toEqual({ from: 'bob', text: 'to myself' });
    expect([...phone.waiting, ...laptop.waiting, ...bob.waiting]).toEqual([]);
    expect((await example.stop()).code).toBe(0);
  });
});

describe('token-stream', () => {
  const text = join(folder, 'text.md');
  const first = `A reset means that missed events are lost, so the client fetches its state again: ${'word '.repeat(200)}end.`;
  const second =
    'Heartbeats are comments that the router writes into silent streams, so that proxies keep the connection open longer.';
  writeFileSync(text, `# Title\n\n${first}\n\n${second}\n`);

  const ask = (url: string, prompt: string) =>
    read(`${url}/answers`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ prompt }),
    });

  test('streams the answer token by token, and ends', async () => {
    const example = await start('token-stream.ts', { TEXT: text });
    const { next } = await ask(example.url, 'why are there heartbeats for proxies');
    const tokens: string[] = [];
    for (let one = await next(); one?.event === 'token'; one = await next()) tokens.push(one.data);
    expect(tokens.length).toBeGreaterThan(10);
    expect(tokens.join('')).toBe(second);
    await example.prints(/finished after 18 tokens/);
    expect((await fetch(`${example.url}/answers`)).status).toBe(405);
    expect((await example.stop()).code).toBe(0);
  });

  test('a request without a JSON body receives an answer, not a failure', async () => {
    const example = await start('token-stream.ts', { TEXT: text });
    const answer = await fetch(`${example.url}/answers`, { method: 'POST' });
    expect(answer.status).toBe(200);
    await answer.body?.cancel();
    expect((await example.stop()).code).toBe(0);
  });

  test('the generator stops when the client disconnects', async () => {
    const example = await start('token-stream.ts', { TEXT: text });
    const { next, disconnect } = await ask(example.url, 'what is a reset');
    expect((await next())?.data).toBe('A');
    expect((await next())?.data).toBe(' reset');
    disconnect();
    const [, sent] = await example.prints(/stopped after (\d+) tokens: client/);
    expect(Number(sent)).toBeLessThan(50);
    expect((await example.stop()).code).toBe(0);
  });
});

test('cors-feed: pages of the listed origins may read with credentials, others may not', async () => {
  const example = await start('cors-feed.ts');
  const url = `${example.url}/events`;
  for (const origin of ['https://app.example', 'https://beta.app.example']) {
    const { response, next, disconnect } = await read(url, { headers: { Origin: origin, Cookie: 'user=ada' } });
    expect(response.headers.get('access-control-allow-origin')).toBe(origin);
    expect(response.headers.get('access-control-allow-credentials')).toBe('true');
    expect(response.headers.get('vary')).toMatch(/\bOrigin\b/);
    expect(await next()).toMatchObject({ event: 'you', data: 'user=ada' });
    disconnect();
  }
  const foreign = await fetch(url, { headers: { Origin: 'https://evil.example' } });
  expect(foreign.status).toBe(403);
  expect(foreign.headers.get('access-control-allow-origin')).toBeNull();

  const preflight = await fetch(url, {
    method: 'OPTIONS',
    headers: {
      Origin: 'https://app.example',
      'Access-Control-Request-Method': 'GET',
      'Access-Control-Request-Headers': 'authorization,last-event-id',
    },
  });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get('access-control-allow-headers')).toBe('authorization,last-event-id');
  const bearer = await read(url, { headers: { Origin: 'https://app.example', Authorization: 'Bearer t' } });
  expect(await bearer.next()).toMatchObject({ data: 'Bearer t' });
  expect((await example.stop()).code).toBe(0);
});

test('graceful-shutdown: the streams end one by one, each with its own retry', async () => {
  const example = await start('graceful-shutdown.ts');
  const responses = await Promise.all(Array.from({ length: 6 }, () => fetch(`${example.url}/events`)));
  const endings = responses.map(async (response) => ({ text: await response.text(), at: Date.now() }));
  await example.prints(/listening/);
  const { code, ms } = await example.stop();
  expect(code).toBe(0);
  expect(ms).toBeLessThan(6000);
  const ended = await Promise.all(endings);
  for (const { text } of ended) {
    expect(text).toContain('data: served by process ');
    expect(text.match(/^retry: \d+$/gm)!.length).toBeGreaterThan(1);
  }
  const times = ended.map(({ at }) => at);
  expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(300);
});

/** Returns a log name of the same form, as another process would have it. */
const other = (epoch: string): string => epoch.slice(1) + epoch[0];

test('large-file: a client receives the whole file, then the end', async () => {
  const file = join(folder, 'large.txt');
  writeFileSync(file, 'one line of a large file\n'.repeat(100_000));
  const example = await start('large-file.ts', { FILE: file });
  const { next } = await read(`${example.url}/file`);
  const parts: string[] = [];
  for (let one = await next(); one?.event === 'message'; one = await next()) parts.push(one.data);
  expect(parts.length).toBeGreaterThan(10);
  expect(parts.join('') === readFileSync(file, 'utf8')).toBe(true);
  expect((await example.stop()).code).toBe(0);
});

test('snapshot: the whole state comes first, then the changes', async () => {
  const example = await start('snapshot.ts');
  const put = (name: string, on: boolean) => post(`${example.url}/lamps/${name}`, { on }, {}, 'PUT');
  await put('hall', true);
  const { next } = await read(`${example.url}/events`);
  expect(await next()).toMatchObject({ event: 'lamps', data: '{"hall":true}' });
  expect((await put('porch', false)).status).toBe(204);
  const change = await next();
  expect(change).toMatchObject({ event: 'lamp', data: '{"name":"porch","on":false}' });

  const known = await read(`${example.url}/events`, { headers: { 'Last-Event-ID': change!.id } });
  await put('hall', false);
  expect(await known.next()).toMatchObject({ event: 'lamp', data: '{"name":"hall","on":false}' });

  const [epoch] = change!.id.split('-');
  const lost = await read(`${example.url}/events`, {
    headers: { 'Last-Event-ID': change!.id.replace(epoch!, other(epoch!)) },
  });
  expect(await lost.next()).toMatchObject({ event: 'reset' });
  expect(await lost.next()).toMatchObject({ event: 'lamps', data: '{"hall":false,"porch":false}' });
  expect((await example.stop()).code).toBe(0);
});

test('snapshot-of-a-user: a new client receives the notes of its user, then the new ones', async () => {
  const example = await start('snapshot-of-a-user.ts');
  const as = (user: string) => ({ Cookie: `session=s-${user}` });
  for (const user of ['ada', 'bob']) await post(`${example.url}/notes`, `for ${user}`, as(user));
  const { next } = await read(`${example.url}/events`, { headers: as('ada') });
  const textsOf = (data = ''): unknown => [JSON.parse(data)].flat().map(({ text }) => text);
  const state = await next();
  expect([state?.event, textsOf(state?.data)]).toEqual(['notes', ['for ada']]);
  for (const user of ['bob', 'ada']) await post(`${example.url}/notes`, `later for ${user}`, as(user));
  const note = await next();
  expect([note?.event, textsOf(note?.data)]).toEqual(['note', ['later for ada']]);
  expect((await example.stop()).code).toBe(0);
});

test('one-machine: the journal creates its directory, and a client resumes after a restart', async () => {
  const cwd = mkdtempSync(join(folder, 'machine-'));
  let example = await start('one-machine.ts', {}, cwd);
  const note = async (text: string) => ((await (await post(`${example.url}/notes`, text)).json()) as { id: string }).id;
  const last = await note('received');
  await note('missed');
  expect(readdirSync(join(cwd, 'data'))).toEqual(['events']);
  expect((await example.stop()).code).toBe(0);
  example = await start('one-machine.ts', {}, cwd);
  const { next } = await read(`${example.url}/events`, { headers: { 'Last-Event-ID': last } });
  expect(await next()).toMatchObject({ event: 'note', data: 'missed' });
  expect((await example.stop()).code).toBe(0);
});

describe('own-store', () => {
  test('a returning client gets exactly the rows that it missed, then new rows; a restart changes nothing', async () => {
    const store = join(folder, 'store');
    let example = await start('own-store.ts', { STORE: store });
    const note = async (text: string) =>
      ((await (await post(`${example.url}/notes`, text)).json()) as { id: number }).id;
    for (let n = 1; n <= 150; n++) expect(await note(`note ${n}`)).toBe(n);

    const back = await read(`${example.url}/events`, { headers: { 'Last-Event-ID': '90' } });
    for (let n = 91; n <= 150; n++) expect(await back.next()).toMatchObject({ id: String(n), data: `note ${n}` });
    const live = listen(`${example.url}/events?lastEventId=150`, ['message']);
    await live.opening;
    await note('note 151');
    for (const { next } of [back, live]) expect(await next()).toMatchObject({ id: '151', data: 'note 151' });
    expect((await example.stop()).code).toBe(0);

    example = await start('own-store.ts', { STORE: store });
    const again = await read(`${example.url}/events`, { headers: { 'Last-Event-ID': '149' } });
    expect(await again.next()).toMatchObject({ id: '150' });
    expect(await again.next()).toMatchObject({ id: '151' });
    expect((await example.stop()).code).toBe(0);
  });

  test('rows that come while others are being read arrive once and in order', async () => {
    const example = await start('own-store.ts', { STORE: join(folder, 'busy') });
    const readers = await Promise.all(Array.from({ length: 5 }, () => read(`${example.url}/events`)));
    const writing = Promise.all(Array.from({ length: 300 }, (_, n) => post(`${example.url}/notes`, `n${n}`)));
    const fresh = await read(`${example.url}/events`);
    for (const { next } of [...readers, fresh]) {
      for (let n = 1; n <= 300; n++) expect((await next())?.id).toBe(String(n));
    }
    await writing;
    expect((await example.stop()).code).toBe(0);
  });
});

test('typed-events: a sale broadcasts the stock and the order', async () => {
  const example = await start('typed-events.ts');
  const { next } = await read(`${example.url}/events`);
  expect(await next()).toMatchObject({ event: 'stock', data: '12' });
  expect((await post(`${example.url}/orders`, { item: 'tea', count: '2' })).status).toBe(400);
  expect((await post(`${example.url}/orders`, { item: 'tea', count: 2 })).status).toBe(201);
  expect(await next()).toMatchObject({ event: 'stock', data: '10' });
  expect(await next()).toMatchObject({ event: 'order', data: '{"item":"tea","count":2}' });
  expect((await example.stop()).code).toBe(0);
});

test('compression-and-helmet: gzip for clients that accept it, plain for others, without delay for both', async () => {
  const example = await start('compression-and-helmet.ts');
  const url = `${example.url}/events`;
  const zipped = await read(url, { headers: { 'Accept-Encoding': 'gzip' } });
  const plain = await read(url, { headers: { 'Accept-Encoding': 'identity' } });
  expect(zipped.response.headers.get('content-encoding')).toBe('gzip');
  expect(plain.response.headers.get('content-encoding')).toBeNull();
  for (const { response, next } of [zipped, plain]) {
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('vary')).toMatch(/accept-encoding/i);
    expect(await next()).toMatchObject({ event: 'checkpoint' });
  }
  for (const text of ['first', 'second']) {
    await fetch(`${example.url}/messages`, { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: text });
    for (const { next } of [zipped, plain]) expect(await next()).toMatchObject({ event: 'message', data: text });
  }
  expect((await example.stop()).code).toBe(0);
});

describe('logout', () => {
  const sessions = join(folder, 'sessions');
  const store = (id: string, user: string, expires = Date.now() + 60_000) =>
    writeFileSync(join(sessions, id), JSON.stringify({ user, expires }));
  const as = (url: string, session: string) => read(`${url}/events`, { headers: { Cookie: `session=${session}` } });
  const env = { EVENTS: join(folder, 'logout-log'), SESSIONS: sessions };
  mkdirSync(sessions);

  test('a logout in one process ends the streams of the user in both, and of no other user', async () => {
    const [here, there] = await Promise.all([start('logout.ts', env), start('logout.ts', env)]);
    for (const id of ['phone', 'laptop']) store(id, 'ada');
    store('other', 'bob');
    const ada = await Promise.all([as(here.url, 'phone'), as(there.url, 'phone'), as(there.url, 'laptop')]);
    const bob = await as(there.url, 'other');
    for (const { next } of [...ada, bob]) expect(await next()).toMatchObject({ event: 'checkpoint' });
    expect((await post(`${here.url}/logout`, {}, { Cookie: 'session=phone' })).status).toBe(204);
    for (const { next } of ada) {
      expect(await next()).toMatchObject({ event: 'end' });
      expect(await next()).toBeUndefined();
    }
    expect((await as(there.url, 'laptop')).response.status).toBe(401);
    expect((await post(`${here.url}/notes`, 'on', { Cookie: 'session=other' })).status).toBe(204);
    expect(await bob.next()).toMatchObject({ event: 'note', data: 'on' });
    for (const example of [here, there]) expect((await example.stop()).code).toBe(0);
  });

  test('a stream ends when its session expires', async () => {
    const example = await start('logout.ts', env);
    store('short', 'eve', Date.now() + 1500);
    const { next } = await as(example.url, 'short');
    expect(await next()).toMatchObject({ event: 'checkpoint' });
    expect(await next()).toBeUndefined();
    expect((await as(example.url, 'short')).response.status).toBe(401);
    expect((await example.stop()).code).toBe(0);
  });
});

test('current-values: a change in one process is the current value in every process', async () => {
  const env = { EVENTS: join(folder, 'prices-log'), PRICES: join(folder, 'prices') };
  const [here, there] = await Promise.all([start('current-values.ts', env), start('current-values.ts', env)]);
  const put = (url: string, item: string, price: number) => post(`${url}/prices/${item}`, { price }, {}, 'PUT');
  /** Asks until the process has this price of tea: it receives the change shortly after the request that made it. */
  const pricesWith = async (url: string, tea: number): Promise<unknown> => {
    for (let tries = 1; ; tries++) {
      const prices = (await (await fetch(`${url}/prices`)).json()) as { tea?: number };
      if (prices.tea === tea || tries === 100) return prices;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await put(here.url, 'tea', 3);
  await put(there.url, 'milk', 1);
  await put(here.url, 'tea', 4);
  const late = await start('current-values.ts', env);
  for (const { url } of [here, there, late]) expect(await pricesWith(url, 4)).toEqual({ tea: 4, milk: 1 });
  for (const example of [here, there, late]) expect((await example.stop()).code).toBe(0);
}, 40_000); // it starts three processes

test('trpc-subscription: a client that returns with an id continues after this event', async () => {
  const example = await start('trpc-subscription.ts');
  const order = async (item: string) =>
    ((await (await post(`${example.url}/orders`, { item })).json()) as { id: string }).id;
  const subscribe = (lastEventId?: string) =>
    read(`${example.url}/trpc/orders`, {
      headers: { Accept: 'text/event-stream', ...(lastEventId && { 'Last-Event-ID': lastEventId }) },
    });
  const live = await subscribe();
  expect(await live.next()).toMatchObject({ event: 'connected' });
  const tea = await order('tea');
  expect(await live.next()).toEqual({ event: 'message', data: '{"order":{"item":"tea"}}', id: tea });
  live.disconnect();
  const milk = await order('milk');
  const back = await subscribe(tea);
  expect(await back.next()).toMatchObject({ event: 'connected' });
  expect(await back.next()).toEqual({ event: 'message', data: '{"order":{"item":"milk"}}', id: milk });

  const lost = await subscribe('0-0');
  expect(await lost.next()).toMatchObject({ event: 'connected' });
  expect(await lost.next()).toMatchObject({ data: '{"reset":"unknown"}' });
  expect((await example.stop()).code).toBe(0);
});

test('shop.test: the test of an application passes by itself, and leaves nothing open', async () => {
  const { code, output } = await run('shop.test.ts', {});
  expect(output).toMatch(/^\W*pass 4$/m);
  expect(output).toMatch(/^\W*fail 0$/m);
  expect(code).toBe(0);
});
