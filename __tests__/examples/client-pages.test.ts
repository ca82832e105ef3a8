/*
 * The pages of the client examples in a real Chromium: the typed page, the account with its tabs, the answer, and React.
 */
import type { Page } from 'playwright-core';
import { exampleBrowser } from './example-browser.ts';
import { post, type Running, start } from './example-process.ts';

jest.setTimeout(60_000);

const browser = exampleBrowser();

async function open(url: string): Promise<Page> {
  const page = await browser.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !message.text().includes('404'))
      browser.complaints.push(message.text());
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
  expect(browser.complaints).toEqual([]);
});

/** The answer to a client that connects between the change of the state and the broadcast: the first order is in both. */
const TWICE = [
  ['orders', [{ id: 'a', item: 'tea', count: 2 }]],
  ['order', { id: 'a', item: 'tea', count: 2 }],
  ['order', { id: 'b', item: 'cake', count: 1 }],
].map(([event, data]) => `event: ${event as string}\ndata: ${JSON.stringify(data)}\n\n`);

test.each(['client/server.ts', 'react-feed/server.ts'])(
  '%s: an order that is in the snapshot and follows as an event is shown once',
  async (example) => {
    const { url }: Running = await start(example);
    const page = await browser.newPage();
    const answer = { contentType: 'text/event-stream', body: TWICE.join('') };
    await browser.context.route(`${url}/events`, (route) => route.fulfill(answer));
    await page.addInitScript('delete globalThis.SharedWorker'); // the requests of a worker do not pass the route
    await page.goto(url);
    await has(page, 'li', '1 × cake');
    expect(await page.locator('li').allTextContents()).toEqual(['2 × tea', '1 × cake']);
  },
);

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
  expect(browser.complaints).toEqual([]);
});
