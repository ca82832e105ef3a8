/*
 * The React hooks in a real Chromium, in StrictMode, which runs every effect twice.
 */
import { join } from 'node:path';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { connect } from '../../lib/client/index.ts';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { useEvent, useEvents, useStatus, useStream } from '../../lib/react/index.ts';
import { launchChromium } from '../fixtures/chromium.ts';
import { eventually, pause, serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';

jest.setTimeout(60_000);

let browser: Browser;
let script: string;
beforeAll(async () => {
  const options = { bundle: true, format: 'esm', jsx: 'automatic', write: false, platform: 'browser' } as const;
  const define = { 'process.env.NODE_ENV': '"development"' };
  const entryPoints = [join(__dirname, 'hooks-page.tsx')];
  const [launched, { outputFiles }] = await Promise.all([launchChromium(), build({ ...options, define, entryPoints })]);
  browser = launched;
  script = outputFiles[0]!.text;
}, 300_000); // it may have to be unpacked, or installed
afterAll(() => browser?.close());

interface Scene {
  readonly events: SseRouter;
  readonly conns: Connection[];
  readonly page: Page;
  readonly complaints: string[];
  /** Waits until an element has this text. */
  readonly until: (selector: string, text: string) => Promise<void>;
}

async function scene(options: SseOptions = {}): Promise<Scene> {
  const conns: Connection[] = [];
  const events = sse((conn) => void conns.push(conn), { retry: 20, ...options });
  later(() => events.close());
  const { url } = await serve((app) => {
    app.get(
      '/',
      (_req, res) =>
        void res.send('<!DOCTYPE html><div id="root"></div><script type="module" src="/page.js"></script>'),
    );
    app.get('/page.js', (_req, res) => void res.type('js').send(script));
    app.use('/events', events);
    app.use('/other', events);
  });
  const page = await browser.newPage();
  later(() => page.close());
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(url);
  return {
    events,
    conns,
    page,
    complaints,
    until: (selector, text) => page.locator(selector, { hasText: new RegExp(`^${text}$`) }).waitFor(),
  };
}

test('every hook shows what arrives, and the snapshot reaches components of the same commit', async () => {
  const { events, conns, page, complaints, until } = await scene({
    snapshot: () => ({ event: 'list', data: ['a', 'b'] }),
  });
  await until('#status', 'open');
  await until('#list', 'a b');
  expect(await page.textContent('#newest')).toBe('none');
  expect(await page.textContent('#without')).toBe('none');
  await events.broadcast({ event: 'item', data: 'c' });
  await until('#list', 'a b c');
  await until('#newest', 'c');
  await eventually(() => events.size === 1);
  expect(conns.filter(({ readyState }) => readyState === 'open')).toHaveLength(1);
  expect(complaints.filter((text) => !text.includes('404'))).toEqual([]);
});

test('a component that is mounted later has the newest event, and reduces what comes after its mount', async () => {
  const { events, page, until } = await scene();
  await until('#status', 'open');
  await events.broadcast({ event: 'item', data: 'a' });
  await until('#newest', 'a');
  await page.evaluate('setMore(true)');
  await until('#late', 'a · ');
  await events.broadcast({ event: 'item', data: 'b' });
  await until('#late', 'b · b');
  expect(await page.textContent('#list')).toBe('a b');
});

test('an event that a component does not use does not render it', async () => {
  const { events, page, until } = await scene();
  await until('#status', 'open');
  const before = await page.evaluate('renders.newest');
  for (let n = 0; n < 10; n++) await events.broadcast({ event: 'list', data: [`${n}`] });
  await until('#list', '9');
  expect(await page.evaluate('renders.newest')).toBeLessThanOrEqual((before as number) + 2); // with its parent
});

test('new dependencies close the stream and open another; unmounting closes it', async () => {
  const { events, conns, page, until } = await scene();
  await until('#status', 'open');
  expect(await page.evaluate('made.map(({ status }) => status)')).toEqual(['closed', 'open']);
  await page.evaluate("setUrl('/other')");
  await eventually(() => conns.at(-1)!.request.originalUrl === '/other');
  await until('#status', 'open');
  await eventually(() => events.size === 1);
  await page.evaluate('setThere(false)');
  await eventually(() => events.size === 0);
  await pause(50);
  expect(events.size).toBe(0);
  expect(await page.evaluate('made.every(({ status }) => status === "closed")')).toBe(true);
});

test.each([
  ['new dependencies', "setUrl('/other')"],
  ['new dependencies in a transition', "startTransition(() => setUrl('/other'))"],
])('with %s, no frame shows the events of the previous stream', async (_what, change) => {
  const { events, page, complaints, until } = await scene();
  await until('#status', 'open');
  await events.broadcast({ event: 'item', data: 'secret' });
  await until('#list', 'secret');
  await page.evaluate(change);
  await page.waitForFunction("made[2]?.status === 'open'");
  await events.broadcast({ event: 'item', data: 'b' });
  await until('#list', 'b');
  await until('#newest', 'b');
  const frames = (await page.evaluate('frames')) as string[];
  expect(frames).toContain('/events list secret');
  expect(frames.filter((frame) => frame.startsWith('/other'))).toEqual(
    expect.arrayContaining(['/other list ', '/other list b', '/other newest none', '/other newest b']),
  );
  expect(frames.filter((frame) => /^\/other.*secret/.test(frame))).toEqual([]);
  expect(complaints.filter((text) => !text.includes('404'))).toEqual([]);
});

test('useEvents begins afresh with every other stream, also with one that it has had before', async () => {
  const { events, page, until } = await scene();
  await page.evaluate("setThere(false); setPicked('/events?a')");
  await until('#picked', 'open: ');
  await events.broadcast({ event: 'item', data: 'a' });
  await until('#picked', 'open: a');
  await page.evaluate("setPicked('/events?b')");
  await until('#picked', 'open: ');
  await page.evaluate("setPicked('/events?a')");
  await until('#picked', 'open: ');
  await events.broadcast({ event: 'item', data: 'b' });
  await until('#picked', 'open: b');
});

test('a reset reaches the reducer', async () => {
  const { events, conns, until } = await scene({ history: { size: 1 } });
  await until('#status', 'open');
  await events.broadcast({ event: 'item', data: 'a' });
  await until('#newest', 'a');
  conns.at(-1)!.close({ retry: 100 });
  await eventually(() => events.size === 0);
  for (const data of ['b', 'c', 'd']) await events.broadcast({ event: 'item', data });
  await until('#list', 'reset:lost');
});

test('on a server, the hooks render without a stream', () => {
  const App = (): string => {
    const stream = useStream(() => connect('/events'), []);
    return [useStatus(stream), useEvent(stream, 'item') ?? 'none', useEvents(stream, (sum) => sum + 1, 0)].join(' ');
  };
  expect(renderToString(createElement(App))).toBe('idle none 0');
});
