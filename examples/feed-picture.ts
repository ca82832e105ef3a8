/*
 * The README's picture of the notification feed and its plot, from a real run of `npm start`: a folder in which files change,
 * two who write, and a browser that reads, at both origins; one of its pages hangs up once, and catches up.
 *
 *   npx tsx examples/feed-picture.ts            docs/feed.png
 *   npx tsx examples/feed-picture.ts folder     there, and more: dark, and a phone's
 */
import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import { smaller } from './smaller-png.ts';

const SAYINGS = [
  'The kettle is on.',
  'Deliveries to Bergen are late today.',
  'Lunch at twelve, by the window.',
  'The second build is green.',
  'Who has the key to the store room?',
  'Back in ten minutes.',
];
const FILES = ['notes/today.md', 'notes/orders.csv', 'src/till.ts', 'src/stock.ts', 'menu.txt'];
const SECONDS = Number(process.env.SECONDS ?? 115); // until it hangs up; the plot shows two minutes

const folder = process.argv[2] ?? 'docs';
const watched = mkdtempSync(join(tmpdir(), 'feed-'));
for (const name of ['notes', 'src']) mkdirSync(join(watched, name));
const server = spawn(process.execPath, ['--import', 'tsx', 'examples/notification-feed/server.ts'], {
  env: { ...process.env, PORT: process.env.PORT ?? '3000', WATCH: watched },
  stdio: ['ignore', 'pipe', 'inherit'],
});
const [url, elsewhere] = await addresses();

const random = seeded(11);
let step = 0;
const happening = setInterval(() => {
  const wave = 0.55 - 0.45 * Math.sin(step++ / 28);
  if (random() < wave * 0.08) void say(pick(SAYINGS));
  if (random() < wave * 0.14) touch(pick(FILES));
  if (step % 130 === 0) for (const name of FILES) touch(name); // somebody saves everything
}, 250);

Object.assign(globalThis, { __dirname: resolve('__tests__/fixtures') }); // it is a CommonJS module of the tests
const { launchChromium } = await import('../__tests__/fixtures/chromium.ts');
const browser = await launchChromium();
try {
  mkdirSync(folder, { recursive: true });
  const looks = [await open(browser, 'feed', 'light', 1180, 960)];
  if (process.argv[2]) looks.push(await open(browser, 'feed-dark', 'dark', 1180, 960));
  if (process.argv[2]) looks.push(await open(browser, 'feed-phone', 'light', 390, 844));
  const other = await browser.newPage();
  await other.goto(elsewhere);
  await pause(SECONDS * 1000);
  await Promise.all(looks.map(({ page }) => page.click('#hang-up')));
  await Promise.all(looks.map(({ page }) => page.waitForSelector('#feed li[data-break]')));
  await pause(1500);
  for (const { page, name } of looks) {
    await page.evaluate('scrollTo(0, 0)'); // the click has scrolled
    const png = smaller(await page.screenshot());
    writeFileSync(join(folder, `${name}.png`), png);
    console.log(`${join(folder, `${name}.png`)}: ${Math.round(png.length / 1000)} KB`);
  }
} finally {
  clearInterval(happening);
  await browser.close();
  server.kill();
  rmSync(watched, { recursive: true });
}

async function addresses(): Promise<[url: string, elsewhere: string]> {
  let said = '';
  for await (const text of server.stdout.setEncoding('utf8')) {
    said += text as string;
    const [, near, far] = /listening on (\S+)\n.*origin: (\S+)\n/.exec(said) ?? [];
    if (near !== undefined && far !== undefined) return [near, far];
  }
  throw new Error(`The feed does not start: ${said}`);
}

async function open(from: Browser, name: string, colorScheme: 'light' | 'dark', width: number, height: number) {
  const context = await from.newContext({
    colorScheme,
    locale: 'en-GB', // its own may be one that uPlot cannot use
    reducedMotion: 'reduce',
    viewport: { width, height },
  });
  const page = await context.newPage();
  page.on('console', (message) => console.log(message.text()));
  await page.goto(url);
  await page.waitForSelector('#connection[data-state=open]');
  return { name, page };
}

async function say(text: string): Promise<void> {
  const headers = { 'Content-Type': 'application/json', Cookie: `reader=${pick(['0c1f', 'a7e4'])}` };
  await fetch(`${url}/notices`, { method: 'POST', headers, body: JSON.stringify({ text }) });
}

function touch(name: string): void {
  appendFileSync(join(watched, name), 'x'.repeat(Math.floor(random() * 400)));
}

/** Always the same run. */
function seeded(seed: number): () => number {
  return () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
}

function pick(list: readonly string[]): string {
  return list[Math.floor(random() * list.length)]!;
}
