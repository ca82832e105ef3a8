/*
 * Takes the pictures of the chat, of the orders and of the documentation site, from a real run of each.
 *
 *   npm run docs:build && npx tsx examples/page-pictures.ts     writes docs/chat.png, docs/orders.png and docs/site.png
 *   npx tsx examples/page-pictures.ts folder                    writes them to this folder, with dark and phone versions
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import express from 'express';
import type { Browser, Page } from 'playwright-core';
import { smaller } from './smaller-png.ts';

const SIZES = { desktop: { width: 1100, height: 860 }, phone: { width: 390, height: 844 } };

const folder = process.argv[2] ?? 'docs';
const looks = process.argv[2]
  ? ([
      ['', 'desktop', 'light'],
      ['-dark', 'desktop', 'dark'],
      ['-phone', 'phone', 'light'],
    ] as const)
  : ([['', 'desktop', 'light']] as const);
const data = mkdtempSync(join(tmpdir(), 'pictures-'));
const servers: ChildProcess[] = [];

Object.assign(globalThis, { __dirname: resolve('__tests__/fixtures') }); // the module below is CommonJS and uses __dirname
const { launchChromium } = await import('../__tests__/fixtures/chromium.ts');
const browser = await launchChromium();
try {
  mkdirSync(folder, { recursive: true });
  await takeChat(browser);
  await takeOrders(browser);
  await takeSite(browser);
} finally {
  await browser.close();
  await Promise.all(servers.map(end));
  rmSync(data, { recursive: true });
}

/** Takes the chat with one complete answer, and one that is being written. */
async function takeChat(from: Browser): Promise<void> {
  const url = await start('chat/server.ts', { DATA: data });
  for (const [suffix, size, colorScheme] of looks) {
    /* oxlint-disable no-await-in-loop -- one picture after the other */
    const page = await open(from, url, { ...SIZES[size], height: 1080 }, colorScheme);
    await ask(page, 'Which page starts a run with a POST?');
    await page.locator('.state[data-status=done]').waitFor({ timeout: 60_000 });
    await ask(page, 'What does the router itself send?');
    await page
      .locator('.answer')
      .nth(1)
      .filter({ hasText: /[^]{300}/ })
      .waitFor({ timeout: 60_000 });
    await shoot(page, `chat${suffix}`);
    /* oxlint-enable no-await-in-loop */
  }
}

async function ask(page: Page, prompt: string): Promise<void> {
  await page.fill('#prompt', prompt);
  await page.click('#ask button');
}

/** Takes the page of one of the two servers, with orders of both and two refused ones. */
async function takeOrders(from: Browser): Promise<void> {
  const url = await start('orders/start.ts', { DATABASE_URL: '' });
  for (const [suffix, size, colorScheme] of looks) {
    /* oxlint-disable no-await-in-loop -- one picture after the other */
    const page = await open(from, url, SIZES[size], colorScheme);
    await page.fill('input[name=item]', 'A kettle');
    await page.click('button:not([name])');
    await page.waitForFunction("document.querySelector('input[name=item]').value === ''");
    await page.fill('input[name=item]', 'A teapot');
    for (let n = 0; n < 2; n++) await page.click('button[name=refused]');
    await page.waitForFunction("document.querySelectorAll('#list li').length >= 12", undefined, { timeout: 60_000 });
    await page.waitForFunction(
      "document.querySelector('#events').textContent === document.querySelector('#rows').textContent",
    );
    await shoot(page, `orders${suffix}`);
    /* oxlint-enable no-await-in-loop */
  }
}

/** Takes a page of the built site. */
async function takeSite(from: Browser): Promise<void> {
  const app = express().use(express.static('docs/site/dist', { extensions: ['html'] }));
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/resume`;
  for (const [suffix, size, colorScheme] of looks) {
    // oxlint-disable-next-line no-await-in-loop -- one picture after the other
    await shoot(
      await open(from, url, { ...SIZES[size], width: size === 'phone' ? 390 : 1360 }, colorScheme),
      `site${suffix}`,
    );
  }
  server.close();
  server.closeAllConnections();
}

/** Starts an example on a free port. Resolves with its first address. */
async function start(file: string, env: Record<string, string>): Promise<string> {
  const child = spawn(process.execPath, ['--import', 'tsx', join('examples', file)], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  servers.push(child);
  let output = '';
  return new Promise((done, fail) => {
    child.once('exit', () => fail(new Error(`${file} does not start: ${output}`)));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      const [, url] = /listening on (\S+)\n/.exec(output) ?? [];
      if (url !== undefined) done(url);
    });
  });
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null) return;
  server.kill();
  await once(server, 'exit');
}

async function open(
  from: Browser,
  url: string,
  viewport: { width: number; height: number },
  colorScheme: 'light' | 'dark',
): Promise<Page> {
  const context = await from.newContext({ colorScheme, locale: 'en-GB', reducedMotion: 'reduce', viewport });
  const page = await context.newPage();
  page.on('console', (message) => console.log(message.text()));
  await page.goto(url, { waitUntil: 'load' });
  return page;
}

async function shoot(page: Page, name: string): Promise<void> {
  await page.evaluate('scrollTo(0, 0)');
  const png = smaller(await page.screenshot());
  writeFileSync(join(folder, `${name}.png`), png);
  console.log(`${join(folder, `${name}.png`)}: ${Math.round(png.length / 1000)} KB`);
  await page.context().close();
}
