/*
 * The page of `npm start` in a real Chromium: several tabs, the second origin, the form, the plot, and the end.
 * It runs the example as a process of its own, and does not import the package.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { exampleBrowser } from './example-browser.ts';
import { type Running, start } from './example-process.ts';

jest.setTimeout(60_000);

const browser = exampleBrowser();
let folder: string;
let server: Running;
let elsewhere: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'feed-'));
  server = await start('notification-feed/server.ts', { WATCH: folder, ABSENCE: '1500' });
  elsewhere = (await server.prints(/another origin: (\S+)/))[1]!;
});

afterEach(() => rmSync(folder, { recursive: true }));

async function tab(url: string): Promise<Page> {
  const page = await browser.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) browser.complaints.push(message.text());
  });
  await page.goto(url);
  await page.waitForSelector('body[data-state=open]');
  return page;
}

const has = (page: Page, text: string): Promise<void> =>
  page.locator('#feed > li', { hasText: text }).first().waitFor();

test('a notice from one tab appears in every tab and at the other origin; the tabs of one origin are one reader', async () => {
  const tabs = [await tab(server.url), await tab(server.url), await tab(elsewhere)] as const;
  await tabs[0].fill('#text', 'from <b>here</b> & "there"');
  await tabs[0].press('#text', 'Enter');
  await Promise.all(tabs.map((page) => has(page, 'from <b>here</b> & "there"')));
  await tabs[2].fill('#text', 'across origins');
  await tabs[2].click('#send');
  await Promise.all(tabs.map((page) => has(page, 'across origins')));
  await Promise.all(tabs.map((page) => page.locator('#readers', { hasText: /^2$/ }).waitFor()));
  expect(browser.complaints).toEqual([]);
});

test('the plot is drawn, even in a Chromium without a locale, whose language is not a language tag', async () => {
  await browser.context.addInitScript(
    "Object.defineProperty(Navigator.prototype, 'language', { get: () => 'en-US@posix' })",
  );
  const page = await tab(server.url);
  await page.locator('#plot canvas').waitFor();
  expect(await page.locator('#rate').isVisible()).toBe(true);
  expect(browser.complaints).toEqual([]);
});

test.each(['light', 'dark'] as const)('it fits a phone without horizontal scrolling, in %s', async (colorScheme) => {
  const page = await tab(server.url);
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize({ width: 320, height: 640 });
  await page.locator('#plot canvas').waitFor();
  // Waits until the plot has adapted. (waitForFunction uses eval, which the page's policy forbids.)
  await page.evaluate(`new Promise((resolve) => {
    const check = () => document.documentElement.scrollWidth === 320 ? resolve() : requestAnimationFrame(check);
    check();
  })`);
});

test('a tab that is opened later shows what the others show, and all are resumed together', async () => {
  const first = await tab(server.url);
  await first.fill('#text', 'before');
  await first.press('#text', 'Enter');
  await has(first, 'before');
  const late = await tab(server.url);
  await has(late, 'before');
  await late.locator('#readers', { hasText: /^1$/ }).waitFor();
  const other = await tab(elsewhere);
  await other.fill('#text', 'meanwhile');
  await late.click('#hang-up');
  await Promise.all([first, late].map((page) => page.waitForSelector('body[data-state=reconnecting]')));
  await other.press('#text', 'Enter');
  await Promise.all(
    [first, late].map((page) => page.locator('#feed li[data-missed]', { hasText: 'meanwhile' }).waitFor()),
  );
  for (const page of [first, late]) expect(await page.locator('#feed li[data-break=resumed]').count()).toBe(1);
  expect(browser.complaints).toEqual([]);
});

test('the End button ends the stream of its origin for good, in every tab, and no other', async () => {
  const [page, second, other] = [await tab(server.url), await tab(server.url), await tab(elsewhere)];
  await page.click('#end');
  await Promise.all([page, second].map((one) => one.waitForSelector('body[data-state=ended]')));
  await second.locator('#again').waitFor();
  await other.locator('#readers', { hasText: /^1$/ }).waitFor();
  await second.click('#again');
  await Promise.all([page, second].map((one) => one.waitForSelector('body[data-state=open]')));
  expect(browser.complaints).toEqual([]);
});
