/*
 * Three tabs that open, close, crash, freeze, hang and lose the network at random, during a running broadcast.
 * Each tab's list of events is the log of its time: nothing is lost, and nothing is there twice.
 *
 *   TABS_ROUNDS=200 npm run test:tabs        TABS_SEED repeats a run's choices
 */
import type { Browser } from 'playwright-core';
import { Random, seedFrom } from '../fixtures/random.ts';
import { launchChromium } from '../fixtures/chromium.ts';
import { pause } from '../fixtures/http.ts';
import { bareTabs, MODES, site, type Tab } from './fixtures/tabs.ts';

const ROUNDS = Number(process.env.TABS_ROUNDS ?? 10);
const SEED = seedFrom('TABS_SEED');
/** Rounds between two times at which all is well again and the lists are compared. */
const CHECK_EVERY = 10;

jest.setTimeout(120_000 + ROUNDS * 4000);

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium();
}, 300_000); // it may have to be unpacked, or installed
afterAll(() => browser?.close());

type State = 'runs' | 'frozen' | 'blocked';

interface Slot {
  readonly name: string;
  readonly tab: Tab;
  /** The first event that it must have; with `from`, it must begin with this one. */
  readonly first: number;
  readonly isExact: boolean;
  state: State;
}

/** The gaps and repetitions in what a tab has been shown, and its ends. */
interface Summary {
  readonly first: number;
  readonly last: number;
  readonly faults: string[];
  readonly status: string;
}

const SUMMARY = `(() => {
  const { events, status } = look();
  const faults = [];
  events.forEach(([name, data], index) => {
    if (name !== 'message') faults.push(name + ' ' + data);
    else if (index > 0 && Number(data) !== Number(events[index - 1][1]) + 1) faults.push(events[index - 1][1] + ' → ' + data);
  });
  return { first: Number(events[0]?.[1] ?? -1), last: Number(events.at(-1)?.[1] ?? -1), faults, status };
})()`;

test.each(MODES)(`by %s, ${ROUNDS} rounds (TABS_SEED=${SEED})`, async (mode) => {
  const random = new Random(SEED);
  const here = await site(browser, mode, { history: { size: 100_000, maxAge: 600_000 } });
  const tabs = await bareTabs(browser, here);
  const slots: (Slot | undefined)[] = [undefined, undefined, undefined];
  const diary: string[] = [];
  let sent = 0;
  let isOffline = false;
  let isRunning = true;
  let opened = 0;
  const running = (async () => {
    while (isRunning) {
      await here.events.broadcast(`${sent++}`);
      await pause(5);
    }
  })();

  async function open(index: number): Promise<void> {
    const isExact = random.next() < 0.5;
    const name = `tab ${++opened}`;
    const last = sent++; // `position` would not show whether the broadcast in flight is in the log yet
    const from = await here.events.broadcast(`${last}`);
    const tab = await tabs.open({ key: 'random', ...(isExact && { from }) });
    await tab.until(({ status }) => status === 'open', 10_000);
    slots[index] = { name, tab, first: isExact ? last + 1 : sent, isExact, state: 'runs' };
    diary.push(`${name} opened${isExact ? ` after ${last}` : ''}`);
  }

  async function act(index: number): Promise<void> {
    const slot = slots[index];
    if (!slot) return isOffline ? undefined : open(index);
    const { tab, name } = slot;
    if (slot.state === 'frozen') return thaw(slot);
    if (slot.state === 'blocked') return unblock(slot);
    const what = random.of(['close', 'crash', 'crash', 'freeze', 'freeze', 'block', 'navigate', 'nothing'])!;
    diary.push(`${name} ${what} at ${sent}`);
    if (what === 'freeze') {
      await tab.send('Page.setWebLifecycleState', { state: 'frozen' });
      slot.state = 'frozen';
    } else if (what === 'block') {
      void tab.run('setTimeout(() => alert(1))').catch(() => {});
      slot.state = 'blocked';
    } else if (what !== 'nothing') {
      expectSound(slot, await tab.run<Summary>(SUMMARY));
      slots[index] = undefined;
      if (what === 'crash') void tab.send('Page.crash').catch(() => {});
      if (what === 'navigate') await tab.send('Page.navigate', { url: `${here.url}elsewhere` });
      if (what === 'close') await tab.close();
    }
  }

  async function thaw(slot: Slot): Promise<void> {
    diary.push(`${slot.name} thaws at ${sent}`);
    await slot.tab.send('Page.setWebLifecycleState', { state: 'active' });
    slot.state = 'runs';
  }

  async function unblock(slot: Slot): Promise<void> {
    diary.push(`${slot.name} goes on at ${sent}`);
    await slot.tab.send('Page.handleJavaScriptDialog', { accept: true });
    slot.state = 'runs';
  }

  async function setOffline(next: boolean): Promise<void> {
    diary.push(`${next ? 'offline' : 'online'} at ${sent}`);
    isOffline = next;
    await tabs.setOffline(next);
  }

  function expectSound({ name, first, isExact }: Slot, seen: Summary): void {
    const isEarly = seen.first < 0 || (isExact ? seen.first === first : seen.first <= first);
    if (seen.faults.length === 0 && isEarly) return;
    throw new Error(`${name}: ${JSON.stringify(seen)}, must begin with ${first}\n${diary.join('\n')}`);
  }

  /** What is known of the tabs and of the server when something has gone wrong. */
  async function describeAll(): Promise<string> {
    const lines = [`${here.events.size} streams, ${here.requests.length} requests, ${sent} sent`];
    for (const slot of slots) {
      if (!slot) continue;
      const { statuses, errors } = await slot.tab.look();
      const more = await Promise.race([
        slot.tab.run<object>(`(async () => ({
          summary: ${SUMMARY},
          onLine: navigator.onLine,
          locks: await navigator.locks.query(),
          fetched: await Promise.race([
            fetch('/elsewhere').then(({ status }) => status, String),
            new Promise((resolve) => setTimeout(resolve, 2000, 'nothing'))
          ]),
        }))()`),
        pause(5000),
      ]);
      lines.push(
        `${slot.name}: ${JSON.stringify({ statuses: statuses.slice(-12), errors: errors.slice(-6), more }, null, 1)}`,
      );
    }
    return lines.join('\n');
  }

  /** All is well again: every tab gets the newest event, and has a list without a fault. */
  async function compare(): Promise<void> {
    if (isOffline) await setOffline(false);
    for (const slot of slots) {
      if (slot?.state === 'frozen') await thaw(slot);
      if (slot?.state === 'blocked') await unblock(slot);
    }
    const newest = sent - 1;
    for (const slot of slots) {
      if (!slot) continue;
      const start = performance.now();
      for (;;) {
        const seen = await slot.tab.run<Summary>(SUMMARY);
        expectSound(slot, seen);
        if (seen.last >= newest) break;
        if (performance.now() - start > 15_000) {
          throw new Error(
            `${slot.name} does not get ${newest}: ${JSON.stringify(seen)}\n${diary.join('\n')}\n${await describeAll()}`,
          );
        }
        await pause(20);
      }
    }
    diary.push(`all well at ${sent}`);
  }

  for (let round = 1; round <= ROUNDS; round++) {
    const chance = random.next();
    if (chance < 0.1) await setOffline(!isOffline);
    else if (chance < 0.2) {
      diary.push(`cut at ${sent}`);
      for (const { request } of here.events.connections) request.socket.resetAndDestroy();
    } else await act(Math.floor(random.next() * 3));
    await pause(random.next() < 0.3 ? 0 : random.between(0, 700));
    if (round % CHECK_EVERY === 0) await compare();
  }
  isRunning = false;
  await running;
  await compare();
  expect(here.events.size).toBeLessThanOrEqual(1);
});
