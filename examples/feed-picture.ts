/*
 * Takes the picture of the notification feed for the documentation, from a real run of `npm start`. Files change in a watched
 * folder, two users write notices, and a browser reads at both origins. One page disconnects once and is resumed.
 *
 *   npx tsx examples/feed-picture.ts            writes docs/feed.png
 *   npx tsx examples/feed-picture.ts folder     writes it to this folder, with a dark and a phone version
 */
import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import { smaller } from './smaller-png.ts';

const NOTICES = [
  'The kettle is on.',
  'Deliveries to Bergen are late today.',
  'Lunch at twelve, by the window.',
  'The second build is green.',
  'Who has the key to the store room?',
  'Back in ten minutes.',
];
const FILES = ['notes/today.md', 'notes/orders.csv', 'src/till.ts', 'src/stock.ts', 'menu.txt'];
const SECONDS = Number(process.env.SECONDS ?? 115); // before the disconnection; the plot shows two minutes

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
const activity = setInterval(() => {
  const wave = 0.55 - 0.45 * Math.sin(step++ / 28);
  if (random() < wave * 0.08) void postNotice(pick(NOTICES));
  if (random() < wave * 0.14) touch(pick(FILES));
  if (step % 130 === 0) for (const name of FILES) touch(name); // a user saves every file
}, 250);

Object.assign(globalThis, { __dirname: resolve('__tests__/fixtures') }); // the module below is CommonJS and uses __dirname
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
    await page.evaluate('scrollTo(0, 0)'); // the click scrolled the page
    const png = smaller(await page.screenshot());
    writeFileSync(join(folder, `${name}.png`), png);
    console.log(`${join(folder, `${name}.png`)}: ${Math.round(png.length / 1000)} KB`);
  }
} finally {
  clearInterval(activity);
  await browser.close();
  server.kill();
  rmSync(watched, { recursive: true });
}

async function addresses(): Promise<[url: string, elsewhere: string]> {
  let output = '';
  for await (const text of server.stdout.setEncoding('utf8')) {
    output += text as string;
    const [, near, far] = /listening on (\S+)\n.*origin: (\S+)\n/.exec(output) ?? [];
    if (near !== undefined && far !== undefined) return [near, far];
  }
  throw new Error(`The feed does not start: ${output}`);
}

async function open(from: Browser, name: string, colorScheme: 'light' | 'dark', width: number, height: number) {
  const context = await from.newContext({
    colorScheme,
    locale: 'en-GB', // uPlot cannot use every default locale
    reducedMotion: 'reduce',
    viewport: { width, height },
  });
  const page = await context.newPage();
  page.on('console', (message) => console.log(message.text()));
  await page.goto(url);
  await page.waitForSelector('#connection[data-state=open]');
  return { name, page };
}

async function postNotice(text: string): Promise<void> {
  const headers = { 'Content-Type': 'application/json', Cookie: `reader=${pick(['0c1f', 'a7e4'])}` };
  await fetch(`${url}/notices`, { method: 'POST', headers, body: JSON.stringify({ text }) });
}

function touch(name: string): void {
  appendFileSync(join(watched, name), 'x'.repeat(Math.floor(random() * 400)));
}

/** Returns the same random numbers in every run. */
function seeded(seed: number): () => number {
  return () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
}

function pick(list: readonly string[]): string {
  return list[Math.floor(random() * list.length)]!;
}
