/*
 * The client in the Chromium of the distribution, which has the back/forward cache, hidden tabs and throttled timers.
 */
import type { Browser } from 'playwright-core';
import type { Follow } from '../client/fixtures/page-script.ts';
import { bareTabs, broadcast, dataOf, MODES, site } from '../client/fixtures/tabs.ts';
import { eventually, pause } from '../fixtures/http.ts';
import { launchWholeChromium } from './fixtures/whole-chromium.ts';

let browser: Browser;
beforeAll(async () => {
  browser = await launchWholeChromium();
}, 60_000);
afterAll(() => browser?.close());

const WAYS: [way: string, mode: (typeof MODES)[number], how: Follow][] = [
  ['a stream of its own', 'worker', {}],
  ['the worker', 'worker', { key: '' }],
  ['Web Locks', 'locks', { key: '' }],
];

test.each(WAYS)(
  'with %s, a page that returns from the back/forward cache has everything once',
  async (_way, mode, how) => {
    const here = await site(browser, mode);
    const { events, url } = here;
    const { open } = await bareTabs(browser, here);
    const tab = await open(how);
    await tab.until(({ status }) => status === 'open');
    await tab.run("globalThis.shows = []; addEventListener('pageshow', ({ persisted }) => shows.push(persisted))");
    const running = broadcast(events);
    await pause(200);
    await tab.send('Page.navigate', { url: `${url}elsewhere` });
    await eventually(() => events.size === 0);
    await pause(300);
    await tab.run('history.back()');
    await pause(700);
    const log = await running.stop();
    const seen = await tab.until(({ events: all }) => all.at(-1)?.[1] === log.at(-1)![0]);
    expect(await tab.run('shows')).toEqual([true]); // the page did come from the cache
    expect(dataOf(seen)).toEqual(log.map(([data]) => data));
  },
);

test.each(WAYS)('with %s, a hidden tab keeps its stream', async (_way, mode, how) => {
  const here = await site(browser, mode);
  const { events, requests } = here;
  const { open } = await bareTabs(browser, here);
  const tab = await open(how);
  await tab.until(({ status }) => status === 'open');
  await open({ url: '/nowhere' });
  expect(await tab.run('document.hidden')).toBe(true);
  const running = broadcast(events);
  await pause(500);
  const log = await running.stop();
  const seen = await tab.until(({ events: all }) => all.length >= log.length);
  expect(dataOf(seen)).toEqual(log.map(([data]) => data));
  expect(requests).toHaveLength(1);
});

test('a hidden leader retries in time, and hands over in time, because a visible tab pings it', async () => {
  const here = await site(browser, 'locks', { retry: 100 });
  const { events, conns } = here;
  const { open } = await bareTabs(browser, here);
  const [first, second, visible] = [await open(), await open(), await open()];
  for (const tab of [first, second, visible]) await tab.until(({ status }) => status === 'open');
  expect(await first.run('document.hidden')).toBe(true);
  expect(await second.run('document.hidden')).toBe(true);
  await pause(12_000); // after ten seconds in the background, timers are throttled
  let at = performance.now();
  for (let n = 1; n <= 4; n++) {
    conns[n - 1]!.close({ retry: 100 });
    await eventually(() => conns.length === n + 1, 5000);
  }
  expect(performance.now() - at).toBeLessThan(3500); // throttled timers alone would take at least 1 s each
  await visible.until(({ status }) => status === 'open');
  // The second tab is the next leader, and hidden as well.
  at = performance.now();
  await first.close();
  await eventually(() => conns.length === 6, 5000);
  expect(performance.now() - at).toBeLessThan(2000);
  await events.broadcast('x');
  for (const tab of [second, visible]) await tab.until(({ events: all }) => all.length === 1);
});
