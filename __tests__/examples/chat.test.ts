/*
 * The chat example in a real Chromium: an answer continues after a reload, in a second tab, and during a deploy; stop works from
 * either tab; a killed server's answer ends as lost. `useChat` is the unmodified one of the AI SDK.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { exampleBrowser } from './example-browser.ts';
import { keptPort, type Running, start } from './example-process.ts';

jest.setTimeout(60_000);

const QUESTION = 'How much memory does a slow client cost?';

const browser = exampleBrowser();
let data: string;
let port: string;
let server: Running;

beforeEach(async () => {
  data = mkdtempSync(join(tmpdir(), 'chat-'));
  port = await keptPort();
  server = await startServer();
});

afterEach(() => rmSync(data, { recursive: true }));

const startServer = (): Promise<Running> => start('chat/server.ts', { PORT: port, DATA: data, LEASE: '1000' });

async function tab(path = '/'): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(`${server.url}${path}`);
  return page;
}

async function ask(page: Page): Promise<void> {
  await page.fill('input', QUESTION);
  await page.press('input', 'Enter');
}

const answer = (page: Page) => page.locator('.answer').last();
const state = (page: Page, text: string | RegExp): Promise<void> =>
  page.locator('.state').last().filter({ hasText: text }).waitFor({ timeout: 30_000 });
/** Waits until an answer has this many characters, and returns it. */
async function textOf(page: Page, length: number): Promise<string> {
  for (;;) {
    const text = (await answer(page).textContent()) ?? '';
    if (text.length >= length) return text;
    await page.waitForTimeout(20);
  }
}

test('an answer continues after a reload in the middle, and a second tab follows; both have the same text', async () => {
  const first = await tab();
  await ask(first);
  const before = await textOf(first, 100);
  await first.reload();
  const second = await tab();
  await Promise.all([state(first, 'Complete'), state(second, 'Complete')]);
  const text = (await answer(first).textContent())!;
  expect(text.startsWith(before)).toBe(true);
  expect(text.length).toBeGreaterThan(800);
  expect(await answer(second).textContent()).toBe(text);
  expect(browser.complaints).toEqual([]);
});

test('stop works from the other tab, and what was written stays', async () => {
  const first = await tab();
  const second = await tab();
  await ask(first);
  await textOf(second, 60);
  await second.locator('.state button').last().click();
  await Promise.all([state(first, 'Stopped'), state(second, 'Stopped')]);
  expect(await answer(first).textContent()).toBe(await answer(second).textContent());
  await server.prints(/stopped after \d+ tokens/);
});

test('a deploy lets the answer finish', async () => {
  const page = await tab();
  await ask(page);
  await textOf(page, 60);
  const stopped = server.stop();
  await state(page, 'Complete');
  expect((await stopped).code).toBe(0);
  expect(server.output()).toMatch(/finished after \d+ tokens/);
});

test('the answer of a server that is killed and started again ends as lost', async () => {
  const page = await tab();
  await ask(page);
  const before = await textOf(page, 60);
  await server.kill();
  server = await startServer();
  await state(page, 'Lost');
  expect((await answer(page).textContent())!.startsWith(before)).toBe(true);
});

test('useChat shows an answer once, after a reload in the middle and after one at the end', async () => {
  const page = await tab('/use-chat');
  await ask(page);
  const shown = page.locator('li.assistant');
  await shown.filter({ hasText: /.{60}/s }).waitFor();
  await page.reload();
  await shown.filter({ hasText: /.{800}/s }).waitFor({ timeout: 30_000 }); // the page is also ready before it resumes
  await page.locator('p', { hasText: 'ready' }).waitFor({ timeout: 30_000 });
  const text = await shown.textContent(); // it throws if there are two
  await page.reload();
  await page.locator('p', { hasText: 'ready' }).waitFor();
  await shown.filter({ hasText: text!.slice(-40) }).waitFor();
  expect(await page.locator('li').count()).toBe(2);
  expect(browser.complaints).toEqual([]);
});
