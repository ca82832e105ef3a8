/*
 * The client in Firefox: a stream of its own, shared by the worker, and shared by Web Locks.
 */
import { sse, type SseRouter } from '../../lib/index.ts';
import { serveClient } from '../client/fixtures/browser-files.ts';
import { eventually, pause, serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';
import { launchFirefox, type Firefox, type Tab } from './fixtures/firefox.ts';

let firefox: Firefox;
beforeAll(async () => {
  firefox = await launchFirefox();
}, 60_000);
afterAll(() => firefox?.stop());

interface Site {
  readonly events: SseRouter;
  readonly requests: () => number;
  readonly cut: () => void;
  readonly tab: (options: string) => Promise<Tab>;
}

/** A site with a router; its tabs follow it with these options, written as code. */
async function site(): Promise<Site> {
  let requests = 0;
  const events = sse(() => void requests++, { retry: 20 });
  later(() => events.close());
  const { url, server } = await serve((app) => {
    app.use('/events', events);
    void serveClient(app);
  });
  return {
    events,
    requests: () => requests,
    cut: () => server.closeAllConnections(),
    async tab(options) {
      const tab = await firefox.open(`${url}/`);
      later(() => tab.close().catch(() => {}));
      await until(tab, 'typeof connect === "function"');
      await tab.run(`(() => {
        globalThis.got = [];
        globalThis.own = connect('/events', ${options});
        own.on('message', (data) => got.push(data));
      })()`);
      await until(tab, 'own.status === "open"');
      return tab;
    },
  };
}

async function until(tab: Tab, expression: string): Promise<void> {
  for (const end = performance.now() + 8000; ;) {
    if (await tab.run<boolean>(expression)) return;
    if (performance.now() > end) throw new Error(`${expression} does not hold: ${await tab.run<string>('own.status')}`);
    await pause(20);
  }
}

test('a stream of its own is resumed after a cut', async () => {
  const { events, cut, tab } = await site();
  const one = await tab('{}');
  await events.broadcast('a');
  cut();
  await events.broadcast('b');
  await until(one, 'got.length === 2');
  expect(await one.run('got')).toEqual(['a', 'b']);
});

test.each([
  ['the worker', '{ tabs: shared({ key: "" }) }', 1],
  ['Web Locks', '{ tabs: shared({ key: "" }), fetch: (...all) => fetch(...all) }', 2],
])('tabs share by %s; the first one closes, and the other has everything once', async (_how, options, streams) => {
  const { events, requests, tab } = await site();
  const first = await tab(options);
  const other = await tab(options);
  expect(events.size).toBe(1);
  let sent = 0;
  let isRunning = true;
  const running = (async () => {
    while (isRunning) {
      await events.broadcast(`${sent++}`);
      await pause(5);
    }
  })();
  await pause(100);
  await first.close();
  await pause(500);
  isRunning = false;
  await running;
  await until(other, `got.length >= ${sent}`);
  expect(await other.run('got')).toEqual(Array.from({ length: sent }, (_, n) => `${n}`));
  expect(requests()).toBe(streams);
  await other.run('own.close()');
  await eventually(() => events.size === 0);
});
