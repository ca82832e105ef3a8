/*
 * Takes the pictures of the inspector for the documentation, from a real run: a shop's stream, its clients, and a browser.
 *
 *   npx tsx examples/inspector-pictures.ts            writes docs/inspector-light.png and docs/inspector-dark.png
 *   npx tsx examples/inspector-pictures.ts folder     writes them to this folder, with phone and single-connection versions
 */
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect as dial, type AddressInfo, type Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import express from 'express';
import helmet from 'helmet';
import type { Browser } from 'playwright-core';
import { sse } from '../lib/index.ts';
import { inspector } from '../lib/inspector/index.ts';
import { smaller } from './smaller-png.ts';

const SHOPS = ['oslo', 'bergen', 'lima', 'kyoto', 'porto', 'tartu', 'accra'];
const SKUS = ['teapot-2', 'kettle-9', 'cup-14', 'tray-3', 'sieve-1'];
const AGENTS = [
  'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148',
];
const CLIENTS = 1200;
const SECONDS = Number(process.env.SECONDS ?? 75); // of load before the pictures

const folder = process.argv[2] ?? 'docs';
const app = express();
app.set('trust proxy', 'loopback');
app.use(helmet());
const events = sse(
  (conn, req) => {
    conn.join('prices', ...(req.query.join as string).split(','));
    if (req.query.join === 'warehouse') conn.push('x'.repeat(9_000_000)); // more than the kernel buffers for a client that stops reading
  },
  { slowTimeout: 600_000 },
);
app.use('/events', events);
app.use('/_events', inspector(events, { publish: true }));
const server = app.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;

const sockets: Socket[] = [];
let last = '';
const random = seeded(7);
await Promise.all(Array.from({ length: CLIENTS / 2 }, () => openStream()));
(await openStream('', 'warehouse')).pause();
const arrivals = setInterval(() => {
  if (sockets.length < CLIENTS) for (let n = 0; n < 12; n++) void openStream();
  for (let n = Math.floor(random() * 7); n > 0; n--)
    sockets.splice(Math.floor(random() * sockets.length), 1)[0]?.destroy();
  if (random() < 0.7) void openStream(last);
}, 1000);
let step = 0;
const broadcasts = setInterval(() => {
  step++;
  const wave = 0.6 + 0.4 * Math.sin(step / 50);
  if (random() < wave * 0.5)
    void broadcast('price', 'prices', { sku: pick(SKUS), price: Math.round(random() * 9900) / 100 });
  if (random() < wave * 0.6)
    void broadcast('order', `shop:${pick(SHOPS)}`, { order: 48_210 + step, items: 1 + Math.floor(random() * 5) });
  if (random() < 0.05) void broadcast('stock', 'warehouse', { sku: pick(SKUS), left: Math.floor(random() * 40) });
  if (step % 300 === 0) void broadcast('notice', undefined, 'Deliveries to Bergen are late today.');
}, 100);

Object.assign(globalThis, { __dirname: resolve('__tests__/fixtures') }); // the module below is CommonJS and uses __dirname
const { launchChromium } = await import('../__tests__/fixtures/chromium.ts');
const browser = await launchChromium();
try {
  mkdirSync(folder, { recursive: true });
  const pages = await Promise.all((['light', 'dark'] as const).map((scheme) => open(browser, scheme, 1360, 900)));
  await Promise.all(pages.map((page) => page.selectOption('#order', 'queued')));
  await pause(SECONDS * 1000);
  await Promise.all(pages.map((page, index) => shoot(page, index === 0 ? 'inspector-light' : 'inspector-dark')));
  if (process.argv[2]) await takeFurtherPictures(browser);
} finally {
  await browser.close();
  clearInterval(arrivals);
  clearInterval(broadcasts);
  for (const socket of sockets) socket.destroy();
  await events.close();
  server.close();
  server.closeAllConnections();
}

async function open(from: Browser, colorScheme: 'light' | 'dark', width: number, height: number, scale = 1) {
  const context = await from.newContext({
    colorScheme,
    locale: 'en-GB',
    viewport: { width, height },
    deviceScaleFactor: scale,
  });
  const page = await context.newPage();
  page.on('console', (message) => console.log(message.text()));
  await page.goto(`http://127.0.0.1:${port}/_events`);
  await page.waitForSelector('#rows tr');
  return page;
}

async function shoot(page: Awaited<ReturnType<typeof open>>, name: string, fullPage = false): Promise<void> {
  const png = smaller(await page.screenshot({ fullPage }));
  writeFileSync(join(folder, `${name}.png`), png);
  console.log(`${join(folder, `${name}.png`)}: ${Math.round(png.length / 1000)} KB`);
}

/** Takes further pictures, for work on the page. */
async function takeFurtherPictures(from: Browser): Promise<void> {
  for (const scheme of ['light', 'dark'] as const) {
    const phone = await open(from, scheme, 390, 844, 2);
    await pause(2500);
    await shoot(phone, `phone-${scheme}`);
    await phone.evaluate("document.querySelector('#filter').scrollIntoView()");
    await shoot(phone, `phone-lists-${scheme}`);
    await phone.evaluate("document.querySelector('#events').scrollIntoView()");
    await shoot(phone, `phone-events-${scheme}`);
    const desk = await open(from, scheme, 1360, 900);
    await desk.click('#rows tr:nth-child(3)');
    await desk.waitForSelector('#one-headers dd');
    await shoot(desk, `one-${scheme}`);
    await desk.keyboard.press('Escape');
    await desk.click('#publish summary');
    await desk.fill('#channel', 'shop:*');
    await desk.click('#entries li:nth-child(2) summary', { timeout: 10_000 });
    await desk.selectOption('#order', 'queued');
    await pause(1500);
    await shoot(desk, `form-${scheme}`, true);
  }
}

/** Opens one stream on a bare socket, which costs this process next to nothing. */
async function openStream(lastEventId = '', join = `shop:${pick(SHOPS)}`): Promise<Socket> {
  const socket = dial(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  const host = Math.floor(random() * 65_536);
  socket.write(
    [
      `GET /events?join=${join}&token=${host}-secret HTTP/1.1`,
      'Host: shop.example',
      'Accept: text/event-stream',
      `User-Agent: ${pick(AGENTS)}`,
      `Cookie: session=${host}`,
      `X-Forwarded-For: 203.0.${host >> 8}.${host & 255}`,
      ...(lastEventId ? [`Last-Event-ID: ${lastEventId}`] : []),
      '',
      '',
    ].join('\r\n'),
  );
  socket.resume();
  return socket;
}

async function broadcast(event: string, to: string | undefined, data: unknown): Promise<void> {
  last = await events.broadcast({ event, data }, to === undefined ? {} : { to });
}

/** Returns the same random numbers in every run. */
function seeded(seed: number): () => number {
  return () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
}

function pick(list: readonly string[]): string {
  return list[Math.floor(random() * list.length)]!;
}
