/*
 * The notification feed of docs/recipes.md: with real sockets, and its page in a real Chromium.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { exampleBrowser } from './example-browser.ts';
import { keptPort, listen, post, read, type Running, start } from './example-process.ts';

jest.setTimeout(60_000);

const browser = exampleBrowser();
let data: string;
let port: string;
let server: Running;

const startServer = (): Promise<Running> => start('inbox/server.ts', { DATA: data, PORT: port });

beforeEach(async () => {
  data = mkdtempSync(join(tmpdir(), 'inbox-'));
  port = await keptPort();
  server = await startServer();
});

afterEach(() => rmSync(data, { recursive: true }));

async function login(user: string): Promise<{ cookie: string }> {
  const response = await post(`${server.url}/login`, { user, password: user });
  expect(response.status).toBe(204);
  return { cookie: response.headers.get('set-cookie')!.split(';')[0]! };
}

async function notify(cookie: { cookie: string }, user: string, text: string): Promise<void> {
  expect((await post(`${server.url}/notifications/${user}`, { text }, cookie)).status).toBe(204);
}

const textOf = (json: string): string => (JSON.parse(json) as { text: string }).text;
const NAMES = ['items', 'item', 'end'];

test('a stream needs a session, and a wrong password gives none', async () => {
  expect((await read(`${server.url}/events`)).response.status).toBe(401);
  expect((await post(`${server.url}/login`, { user: 'ada', password: 'bob' })).status).toBe(401);
  expect((await post(`${server.url}/notifications/ada`, { text: 'x' })).status).toBe(401);
});

test('a notification reaches all streams of its user and no other; a new stream begins with the notifications so far', async () => {
  const [ada, bob] = [await login('ada'), await login('bob')];
  const streams = [ada, await login('ada'), bob].map((headers) => listen(`${server.url}/events`, NAMES, headers));
  for (const stream of streams) expect(await stream.next()).toMatchObject({ event: 'items', data: '[]' });
  await notify(bob, 'ada', 'Lunch?');
  await notify(ada, 'bob', 'Yes');
  for (const stream of streams.slice(0, 2)) expect(textOf((await stream.next()).data)).toBe('bob: Lunch?');
  expect(textOf((await streams[2]!.next()).data)).toBe('ada: Yes');
  const late = listen(`${server.url}/events`, NAMES, ada);
  const { data: items } = await late.next();
  expect((JSON.parse(items) as { text: string }[]).map(({ text }) => text)).toEqual(['bob: Lunch?']);
  expect(streams.flatMap(({ waiting }) => waiting)).toEqual([]);
});

test('a logout ends the streams of its session and no other, and refuses the session', async () => {
  const [here, there] = [await login('ada'), await login('ada')];
  const [first, second, other] = [here, here, there].map((headers) => listen(`${server.url}/events`, NAMES, headers));
  for (const stream of [first!, second!, other!]) await stream.next();
  expect((await post(`${server.url}/logout`, {}, here)).status).toBe(204);
  for (const stream of [first!, second!]) expect((await stream.next()).event).toBe('end');
  await notify(there, 'ada', 'still here');
  expect(textOf((await other!.next()).data)).toBe('ada: still here');
  expect((await read(`${server.url}/events`, { headers: here })).response.status).toBe(401);
});

test('after a restart, a client receives what was sent while it was away, with the same session', async () => {
  const ada = await login('ada');
  const stream = await read(`${server.url}/events`, { headers: ada });
  await stream.next();
  await notify(ada, 'ada', 'first');
  const { id } = (await stream.next())!;
  stream.disconnect();
  await notify(ada, 'ada', 'missed');
  expect((await server.stop()).code).toBe(0);
  server = await startServer();
  const back = await read(`${server.url}/events`, { headers: { ...ada, 'last-event-id': id } });
  const missed = (await back.next())!;
  expect([missed.event, textOf(missed.data)]).toEqual(['item', 'ada: missed']);
});

test('the page signs in, shows each notification once, survives a restart, and signs out in every tab', async () => {
  const page = await browser.newPage();
  await page.goto(server.url);
  const has = (one: Page, text: string): Promise<void> => one.locator('li', { hasText: text }).waitFor();
  await page.fill('[name=user]', 'ada');
  await page.fill('[name=password]', 'wrong');
  await page.click('form button');
  await page.locator('output', { hasText: 'wrong' }).waitFor();
  await page.fill('[name=password]', 'ada');
  await page.click('form button');
  await page.locator('#logout').waitFor();
  const bob = await login('bob');
  await notify(bob, 'ada', '<b>one</b>');
  await has(page, 'bob: <b>one</b>');
  const second = await browser.newPage();
  await second.goto(server.url);
  await has(second, 'bob: <b>one</b>');
  await server.stop();
  server = await startServer();
  await notify(bob, 'ada', 'two');
  for (const one of [page, second]) {
    await has(one, 'bob: two');
    expect(await one.locator('li').allTextContents()).toEqual(['bob: <b>one</b>', 'bob: two']);
  }
  await second.click('#logout');
  for (const one of [page, second]) {
    await one.locator('output', { hasText: 'Signed out.' }).waitFor();
    expect([await one.locator('form').isVisible(), await one.locator('li').count()]).toEqual([true, 0]);
  }
  await page.reload();
  await page.locator('form').waitFor();
  expect(browser.complaints).toEqual([]);
});
