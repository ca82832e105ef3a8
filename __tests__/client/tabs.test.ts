/*
 * Shared tabs in a real Chromium: one stream, whatever becomes of the tabs.
 */
import type { Browser } from 'playwright-core';
import { launchChromium } from '../fixtures/chromium.ts';
import { eventually, pause } from '../fixtures/http.ts';
import { bareTabs, broadcast, dataOf, MODES, site, type Tab } from './fixtures/tabs.ts';

jest.setTimeout(60_000);

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium();
}, 300_000); // it may have to be unpacked, or installed
afterAll(() => browser?.close());

describe.each(MODES)('by %s', (mode) => {
  test('seven tabs have one stream, and each gets every event', async () => {
    const { events, tab, requests, complaints } = await site(browser, mode);
    const tabs: Tab[] = [];
    for (let n = 0; n < 7; n++) tabs.push(await tab());
    for (const one of tabs) await one.until(({ status }) => status === 'open');
    const running = broadcast(events, 1);
    await pause(100);
    const log = await running.stop();
    for (const one of tabs) {
      const seen = await one.until(({ events: all }) => all.length >= log.length);
      expect(seen.events.map(([, data, id]) => [data, id])).toEqual(log);
      expect(seen.statuses).toEqual(['connecting', 'open']);
    }
    expect(events.size).toBe(1);
    expect(requests).toHaveLength(1);
    expect(complaints).toEqual([]);
    // The mode is the one that is meant: only a leader holds the lock of the stream itself.
    const { held } = await tabs[0]!.run<{ held: { name: string }[] }>('navigator.locks.query()');
    expect(held.filter(({ name }) => /^sse-router\/1 {2}http\S+$/.test(name))).toHaveLength(mode === 'locks' ? 1 : 0);
  });

  /** How the first tab goes; whether the worker goes on by it; how it comes back, if it does. */
  const LOSSES: [
    how: string,
    goesOn: boolean,
    lose: (tab: Tab, url: string) => unknown,
    recover?: (tab: Tab) => unknown,
  ][] = [
    ['is closed', true, (tab) => tab.close()],
    ['crashes', false, (tab) => void tab.send('Page.crash').catch(() => {})],
    ['navigates away', true, (tab, url) => tab.send('Page.navigate', { url: `${url}elsewhere` })],
    [
      'is blocked by an alert',
      true,
      (tab) => void tab.run('setTimeout(() => alert(1))'),
      (tab) => tab.send('Page.handleJavaScriptDialog', { accept: true }),
    ],
    ['leaves', true, (tab) => tab.run('act("close")')],
  ];

  test.each(LOSSES)('when the first tab %s, the others get every event once, within a second', async (...how) => {
    const [, goesOn, lose, recover] = how;
    const { events, tab, url, requests } = await site(browser, mode);
    const first = await tab();
    await first.until(({ status }) => status === 'open');
    const others = [await tab(), await tab()];
    for (const one of others) await one.until(({ status }) => status === 'open');
    const running = broadcast(events);
    await pause(100);
    await others[0]!.run(`{
      let at = performance.now();
      globalThis.longest = 0;
      stream.on('message', () => {
        longest = Math.max(longest, performance.now() - at);
        at = performance.now();
      });
    }`);
    await lose(first, url);
    await pause(1200);
    if (recover) {
      await recover(first);
      await pause(300);
      others.push(first);
    }
    const log = await running.stop();
    for (const one of others) {
      const seen = await one.until(({ events: all }) => all.at(-1)?.[1] === log.at(-1)![0]);
      expect(dataOf(seen)).toEqual(log.map(([data]) => data));
      expect(seen.errors).toEqual([]);
    }
    expect(await others[0]!.run('longest')).toBeLessThan(1000);
    await eventually(() => events.size === 1);
    expect(requests).toHaveLength(mode === 'worker' && goesOn ? 1 : 2);
  });
});
