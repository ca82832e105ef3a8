/*
 * The pages of the client examples in a real Chromium: the typed page, the account with its tabs, the answer, and React.
 */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { launchChromium } from '../fixtures/chromium.ts';
import { clear, post, type Running, start } from './example-process.ts';

jest.setTimeout(60_000);

let browser: Browser;
let context: BrowserContext;
let complaints: string[];

beforeAll(async () => {
  browser = await launchChromium();
}, 300_000); // Chromium may have to be unpacked, or installed
afterAll(() => browser?.close());
beforeEach(async () => {
  complaints = [];
  context = await browser.newContext();
});
afterEach(async () => {
  await context.close();
  clear();
});

async function open(url: string): Promise<Page> {
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !message.text().includes('404'))
      complaints.push(message.text());
  });
  await page.goto(url);
  return page;
}

const has = (page: Page, selector: string, text: string): Promise<void> =>
  page.locator(selector, { hasText: text }).first().waitFor();

test('client: a typed page, an account in two tabs with a token for each connection, and an answer', async () => {
  const { url }: Running = await start('client/server.ts');
  await post(`${url}/orders`, { item: 'tea', count: 2 });
  const page = await open(url);
  await has(page, '#status', 'open');
  await has(page, 'li', '2 × tea');
  const tabs = [await open(`${url}/account`), await open(`${url}/account`)];
  await Promise.all(tabs.map((tab) => has(tab, '#status', 'open')));
  await post(`${url}/orders`, { item: 'cake', count: 1 });
  for (const one of [page, ...tabs]) await has(one, 'li', '1 × cake');
  expect(await tabs[0]!.locator('li').count()).toBe(1); // from the position of the page on
  const answer = await open(`${url}/answer`);
  await has(answer, '#answer', 'You asked: What is a reset? 12 (ended)');
  expect(complaints).toEqual([]);
});

test('react-feed: a snapshot, the newest order and the list, in two tabs', async () => {
  const { url }: Running = await start('react-feed/server.ts');
  await post(`${url}/orders`, { item: 'tea', count: 2 });
  const tabs = [await open(url), await open(url)];
  for (const tab of tabs) {
    await has(tab, '#status', 'open');
    await has(tab, 'li', '2 × tea');
    await has(tab, '#newest', 'No order yet');
  }
  await post(`${url}/orders`, { item: 'cake', count: 1 });
  for (const tab of tabs) {
    await has(tab, '#newest', 'cake');
    expect(await tab.locator('li').allTextContents()).toEqual(['2 × tea', '1 × cake']);
  }
  expect(complaints).toEqual([]);
});
