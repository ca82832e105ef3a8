/*
 * The examples whose events contain HTML, in a real Chromium: htmx 4, htmx 2 and Turbo.
 */
import type { Page, Route } from 'playwright-core';
import { exampleBrowser } from './example-browser.ts';
import { post, type Running, start } from './example-process.ts';

jest.setTimeout(60_000);

const browser = exampleBrowser();

/**
 * Opens a page while an order is accepted: after the server has made the page, before the page connects. With `position`, the stream
 * begins at this position instead of the page's. Resolves once the page shows the order.
 */
async function open(url: string, path: string, item: string, position?: string): Promise<Page> {
  const page = await browser.newPage();
  let isLoaded = false;
  const between = async (route: Route): Promise<void> => {
    if (isLoaded) return route.continue();
    isLoaded = true;
    const body = await (await route.fetch()).text();
    await post(`${url}/orders`, { item });
    const from = position === undefined ? '$&' : `lastEventId=${position}`;
    await route.fulfill({ body: body.replace(/lastEventId=[^"]*/, from), contentType: 'text/html' });
  };
  await page.route(url + path, between); // without `times`: once, a page waited for 30 s after its route was removed while it loaded
  await page.goto(url + path);
  await has(page, item);
  return page;
}

const has = (page: Page, text: string): Promise<void> => page.locator('li', { hasText: text }).first().waitFor();
const items = (page: Page): Promise<string[]> => page.locator('#list > li').allTextContents();

const SCRIPT = '<script>alert(1)</script>';

test.each(['/htmx4', '/htmx2'])(
  '%s: orders arrive as HTML, a reset loads the list, and `end` is final',
  async (path) => {
    const { url }: Running = await start('htmx.ts');
    const page = await open(url, path, 'tea');
    const behind = await open(url, path, 'cake', 'unknown');
    await post(`${url}/orders`, { item: SCRIPT });
    for (const one of [page, behind]) {
      await has(one, SCRIPT);
      expect(await items(one)).toEqual(['tea', 'cake', SCRIPT]);
    }
    await page.evaluate(`
    globalThis.closing = new Promise((resolve) => {
      document.addEventListener('htmx:sse:close', ({ detail }) => resolve(detail.reason));
      document.addEventListener('htmx:sseClose', ({ detail }) => resolve(detail.type));
    });
    0`);
    await post(`${url}/closing-time`, {});
    expect(await page.evaluate('closing')).toBe('message');
    expect(browser.complaints).toEqual([]);
  },
);

test('turbo-streams: orders arrive as Turbo streams, and a reset loads the page', async () => {
  const { url }: Running = await start('turbo-streams.ts');
  const page = await open(url, '/', 'tea');
  const behind = await open(url, '/', 'cake', 'unknown');
  await post(`${url}/orders`, { item: SCRIPT });
  for (const one of [page, behind]) {
    await has(one, SCRIPT);
    expect(await items(one)).toEqual(['tea', 'cake', SCRIPT]);
  }
  expect(browser.complaints).toEqual([]);
});
