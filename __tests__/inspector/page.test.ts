/*
 * The inspector's page in a real Chromium, under helmet: plots, filters, pausing, publishing, closing, and secrets.
 */
import type { Server } from 'node:http';
import express from 'express';
import helmet from 'helmet';
import type { Browser, Page } from 'playwright-core';
import { sse, type SseRouter } from '../../lib/index.ts';
import { inspector } from '../../lib/inspector/index.ts';
import { runs } from '../../lib/runs/index.ts';
import { connect, type TestStream } from '../../lib/testing/index.ts';
import { launchChromium } from '../fixtures/chromium.ts';
import { serve } from '../fixtures/http.ts';
import { another, later } from '../fixtures/support.ts';

jest.setTimeout(60_000);

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium();
}, 120_000);
afterAll(() => browser?.close());

interface InspectedPage {
  readonly events: SseRouter;
  readonly page: Page;
  readonly server: Server;
  /** Warnings and errors of the browser, and requests to other origins. */
  readonly problems: string[];
  readonly read: (join: string, headers?: Record<string, string>) => Promise<TestStream>;
  readonly text: (selector: string) => Promise<string>;
  /** Waits until an element's text is like this. */
  readonly until: (selector: string, like: RegExp) => Promise<void>;
}

async function openPage(options: Parameters<Browser['newContext']>[0] = {}, script = ''): Promise<InspectedPage> {
  const events = sse((conn, req) => conn.join(req.query.join as string));
  later(() => events.close());
  const app = express();
  app.use(helmet());
  app.use('/events', events);
  app.use('/ops/_events', inspector(events, { publish: true }));
  const { url, server } = await serve((root) => root.use(app));
  const context = await browser.newContext({ locale: 'en-GB', ...options });
  later(() => context.close());
  await context.addInitScript(script);
  const page = await context.newPage();
  const problems: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) problems.push(request.url());
  });
  await page.goto(`${url}/ops/_events`);
  await page.waitForSelector('body[data-state=open]');
  return {
    events,
    page,
    server,
    problems,
    read: (join, headers = {}) => another(app, `/events?join=${join}&token=hunter2`, { headers }),
    text: async (selector) => (await page.locator(selector).first().textContent()) ?? '',
    until: (selector, like) => page.locator(selector).first().filter({ hasText: like }).waitFor(),
  };
}

const figure = (name: string): string => `[data-figure="${name}"] dd`;

test('the plots work in a Chromium without a locale, whose language is not a language tag', async () => {
  const { page, problems } = await openPage(
    {},
    "Object.defineProperty(Navigator.prototype, 'language', { get: () => 'en-US@posix' })",
  );
  await page.locator('canvas').nth(2).waitFor();
  expect(problems).toEqual([]);
});

test('figures and plots are updated', async () => {
  const { events, page, problems, read, until } = await openPage();
  await until('#now-connections', /^0/);
  await until('#no-connections', /^No open connections\.$/);
  const broadcasts = setInterval(() => void events.broadcast({ event: 'tick', data: 'x' }), 20);
  later(() => clearInterval(broadcasts));
  await Promise.all([read('a'), read('a'), read('b')]);
  await until('#now-connections', /^3 /);
  await until('#now-events', /^[1-9]\d\d? /);
  await until('#now-bytes', /\d (B|kB) /);
  await until(figure('Opened'), /^3$/);
  await until(figure('Slowest hand-out'), / ms$/);
  await until(figure('Head'), /^[0-9a-z]{12}-\d+$/);
  await until('#channels li:first-child', /^a2$/);
  await page.waitForSelector('#entries li:nth-child(20) time:not(:empty)');
  // Some pixels of the plot have the colour of the line.
  const painted = await page.evaluate(`(() => {
    const canvas = document.querySelector('#plot-events canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at] < 60 && data[at + 1] > 80 && data[at + 3] > 200) count++;
    return count;
  })()`);
  expect(painted).toBeGreaterThan(20);
  expect(problems).toEqual([]);
});

test('filters by channel and name are kept over a reload and can be cleared', async () => {
  const { events, page, problems, read, text, until } = await openPage();
  await Promise.all([read('a'), read('b'), read('b')]);
  await events.broadcast({ event: 'one', data: '1' }, { to: 'a' });
  await events.broadcast({ event: 'two', data: '2' }, { to: 'b' });
  await until('#range', /^1–3 of 3$/);
  await page.fill('#channel', 'b');
  await until('#range', /^1–2 of 2$/);
  await until('#entries li:only-child .name', /^two$/);
  await page.fill('#name', 'o*');
  await until('#no-entries', /^No broadcast event matches the filter\.$/);
  await page.reload();
  await until('#range', /^1–2 of 2$/);
  expect(await page.inputValue('#channel')).toBe('b');
  await page.click('#clear');
  await until('#range', /^1–3 of 3$/);
  expect(await page.locator('#entries li').count()).toBe(2);
  await page.click('#channels button[data-channel="a"]');
  await until('#range', /^1–1 of 1$/);
  expect(await page.getAttribute('#channels button[data-channel="a"]', 'aria-pressed')).toBe('true');
  expect(await text('#entries .data')).toBe('a1');
  expect(problems).toEqual([]);
});

test('the events can be paused, and resume with those that came meanwhile', async () => {
  const { events, page, problems, until } = await openPage();
  await events.broadcast('before');
  await until('#entries .data', /^before$/);
  await page.click('#pause');
  await events.broadcast('<b>meanwhile</b>');
  await until('#pause', /^Resume \(1 new\)$/);
  expect(await page.locator('#entries li').count()).toBe(1);
  await page.click('#pause');
  await until('#entries li:first-child .data', /^<b>meanwhile<\/b>$/); // text, never markup
  await until('#pause', /^Pause$/);
  expect(problems).toEqual([]);
});

test('a test event can be published; the page shows why one cannot be sent', async () => {
  const { page, problems, read, until } = await openPage();
  const reader = await read('a');
  await reader.next(); // the checkpoint
  await page.click('#publish summary');
  await page.fill('[name=event]', 'drill');
  await page.fill('[name=to]', 'a, b');
  await page.fill('[name=data]', 'a drill');
  await page.click('#publish-form button');
  expect(await reader.next()).toMatchObject({ event: 'drill', data: 'a drill' });
  await until('#published', /^Published as [0-9a-z]{12}-\d+$/);
  await until('#entries .name', /^drill$/);
  expect(problems).toEqual([]);
  await page.fill('[name=event]', 'error');
  await page.click('#publish-form button');
  await until('#published.wrong', /error/);
});

test('a connection can be selected by keyboard and ended, and its secrets are not shown', async () => {
  const { events, page, problems, read, text, until } = await openPage();
  const secrets = { cookie: 'session=hunter2', authorization: 'Bearer hunter2', 'x-api-key': 'hunter2' };
  const reader = await read('a', { ...secrets, 'user-agent': 'Reader/7' });
  const [conn] = events.connections;
  await until('#rows button', /^127\.0\.0\.1$/);
  await page.focus('#rows button');
  await page.keyboard.press('Enter');
  await until('#one-title', new RegExp(`^${conn!.id}$`));
  await until('#one-headers', /user-agentReader\/7/);
  await until('#one-headers', /cookienot shown/);
  await until('#one-headers', /authorizationnot shown/);
  await until('#one-figures', /GET \/events\?join=…&token=… HTTP\/1\.1/);
  expect(await page.content()).not.toContain('hunter2');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#one', { state: 'hidden' });
  expect(await page.evaluate('document.activeElement.closest("tr").dataset.id')).toBe(conn!.id);

  await page.keyboard.press('Enter');
  await until('#one-headers', /user-agent/);
  await page.click('#end');
  await until('#one-closed', /^Closed: ended for good\.$/);
  expect(await page.isDisabled('#close')).toBe(true);
  await reader.closed;
  expect(reader.events.at(-1)).toMatchObject({ event: 'end' });
  await page.click('#one-close');
  await until('#no-connections', /^No open connections\.$/);
  expect(await text(figure('Ended'))).toBe('1');
  expect(problems).toEqual([]);
});

test('characters that change the direction of text are shown as escapes, also in tooltips', async () => {
  const { events, page, problems, read, until } = await openPage();
  const [evil, shown] = ['\u202Egpj.exe\u2066', String.raw`\u202egpj.exe\u2066`];
  await read(encodeURIComponent(evil), { 'user-agent': 'x', 'last-event-id': Buffer.from(evil).toString('latin1') });
  await until('#channels li:first-child', /gpj/);
  await events.broadcast({ event: evil, data: `a\u0007\n${evil}\u2028` }, { to: evil });
  await until('#entries .name', /gpj/);
  await page.locator('#rows tr').first().click();
  await until('#one-figures', /gpj/);
  expect(await page.locator('#entries .name').first().textContent()).toBe(shown);
  expect(await page.locator('#entries pre').first().textContent()).toBe(String.raw`a\u0007` + `\n${shown}\\u2028`);
  const everything = (await page.evaluate(
    `[document.body.textContent, ...[...document.querySelectorAll('[title]')].map((one) => one.title)].join('')`,
  )) as string;
  expect(everything).toContain(shown);
  expect(everything).not.toMatch(/[\u2028-\u202e\u2066-\u2069]/);
  expect(problems).toEqual([]);
});

test('connections are shown in pages', async () => {
  const { events, page, problems, read, until } = await openPage();
  for (let n = 0; n < 27; n++) await read('a'); // one by one: their order counts
  await until('#range', /^1–25 of 27$/);
  await page.click('#next');
  await until('#range', /^26–27 of 27$/);
  expect(await page.isDisabled('#next')).toBe(true);
  await page.selectOption('#order', 'newest');
  await until('#range', /^1–25 of 27$/);
  const newest = [...events.connections].at(-1)!.id;
  await page.waitForSelector(`#rows tr:first-child[data-id="${newest}"]`);
  expect(problems).toEqual([]);
});

test('on a phone in dark mode nothing is wider than the screen', async () => {
  const { events, page, problems, read, until } = await openPage({
    viewport: { width: 360, height: 740 },
    colorScheme: 'dark',
    isMobile: true,
    hasTouch: true,
  });
  await read('a-channel-with-quite-a-long-name:that-goes-on-and-on:0123456789');
  await events.broadcast({ event: 'an-event-with-quite-a-long-name-too', data: 'x'.repeat(500) });
  await until('#rows button', /^127/);
  await until('#entries .name', /^an-event/);
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360);
  await page.tap('#rows button');
  await until('#one-headers', /user-agent|host/);
  expect(await page.evaluate('document.querySelector("#one").scrollWidth')).toBeLessThanOrEqual(360);
  expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(15, 18, 19)');
  expect(problems).toEqual([]);
});

test('the page shows that the stream broke, and reconnects', async () => {
  const { server, events, page, until } = await openPage();
  await events.broadcast('before');
  await until('#entries .data', /^before$/);
  server.closeAllConnections();
  await until('#state', /^Disconnected: reconnecting$/);
  await events.broadcast('meanwhile');
  await until('#state', /^Live$/);
  await until('#entries li:first-child .data', /^meanwhile$/);
  expect(await page.locator('#entries li').count()).toBe(2);
});

test('of a router of runs, the page shows the runs with readers in place of events', async () => {
  const chat = runs(
    async function* () {
      yield 'one';
      yield '<b>two</b>';
      await new Promise(() => {});
    },
    { id: (req) => String(req.headers['x-run']) },
  );
  later(() => chat.close());
  const { url, server } = await serve((app) => app.use('/chat', chat).use('/ops', inspector(chat)));
  const context = await browser.newContext({ locale: 'en-GB' });
  later(() => context.close());
  const page = await context.newPage();
  await page.goto(`${url}/ops/`);
  await page.locator('#no-runs', { hasText: 'No run has readers in this process.' }).waitFor();
  expect(await page.isVisible('#events')).toBe(false);
  const stream = await connect(server, '/chat', { method: 'POST', headers: { 'x-run': 'a <i>run</i>' } });
  later(() => stream.close());
  const row = page.locator('#run-rows tr');
  await row.filter({ hasText: /^a <i>run<\/i>running21$/ }).waitFor();
  await page.locator('#run-counts', { hasText: '1 running here' }).waitFor();
  expect(await page.isVisible('#no-runs')).toBe(false);
  await page.click('#rows button');
  await page.locator('#one-figures', { hasText: 'POST /chat' }).waitFor();
});
