/*
 * The page of examples/runs.ts in a real Chromium: it asks, is loaded again in the middle of an answer, and stops an answer.
 */
import type { Page } from 'playwright-core';
import { exampleBrowser } from './example-browser.ts';
import { type Running, start } from './example-process.ts';

jest.setTimeout(60_000);

const browser = exampleBrowser();
let server: Running;

beforeEach(async () => {
  server = await start('runs.ts');
});

async function ask(page: Page): Promise<void> {
  await page.fill('input', 'what is a reset');
  await page.press('input', 'Enter');
  await page.waitForFunction("document.querySelector('li:last-child p')?.textContent.length > 20");
}

const item = (page: Page) => page.locator('li').last();
const ended = (page: Page, status: string): Promise<void> =>
  item(page).locator('output', { hasText: status }).waitFor({ timeout: 30_000 });

test('an answer continues after a reload, and is kept after its end', async () => {
  const page = await browser.newPage();
  await page.goto(server.url);
  await ask(page);
  await page.reload();
  await ended(page, 'done');
  const text = (await item(page).locator('p').textContent())!;
  expect(text.length).toBeGreaterThan(60);
  await page.reload();
  expect(await page.locator('li').count()).toBe(1);
  expect(await item(page).textContent()).toBe(`what is a reset${text}done`);
  expect(browser.complaints).toEqual([]);
});

test('the Stop button ends an answer in every tab, and what was written stays', async () => {
  const page = await browser.newPage();
  await page.goto(server.url);
  await ask(page);
  const second = await browser.newPage();
  await second.goto(server.url);
  await item(second).locator('button').click();
  await Promise.all([ended(page, 'stopped'), ended(second, 'stopped')]);
  expect(await item(second).locator('p').textContent()).toBe(await item(page).locator('p').textContent());
  expect(await page.locator('li button').count()).toBe(0);
  await server.prints(/stopped after \d+ tokens/);
  expect(browser.complaints).toEqual([]);
});

test('an answer that the server no longer has is reported', async () => {
  const page = await browser.newPage();
  await page.goto(server.url);
  await page.evaluate(`localStorage.setItem('turns', '[{"id":"unknown","prompt":"old"}]')`);
  await page.reload();
  await ended(page, 'No longer kept');
});
