/*
 * Shared tabs in a real Chromium: one stream, whatever becomes of the tabs.
 */
import type { Response } from 'express';
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
      expect(seen.workers).toBe(mode === 'worker' ? 1 : 0);
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
    await pause(recover ? 1000 : 400);
    if (recover) {
      await recover(first);
      await pause(200);
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

  test('when the first tab is frozen, the others go on, and it has everything when it is back', async () => {
    const here = await site(browser, mode);
    const { events, requests } = here;
    const { open } = await bareTabs(browser, here);
    const first = await open();
    await first.until(({ status }) => status === 'open');
    const other = await open();
    await other.until(({ status }) => status === 'open');
    await first.run(`{
      globalThis.life = [];
      for (const type of ['freeze', 'resume']) document.addEventListener(type, () => life.push(type));
    }`);
    const running = broadcast(events);
    await first.send('Page.setWebLifecycleState', { state: 'frozen' });
    await pause(500);
    const { statuses } = await first.look();
    expect(statuses.at(-1)).toBe('waiting');
    await first.send('Page.setWebLifecycleState', { state: 'active' });
    await pause(100);
    expect(await first.run('life')).toEqual(['freeze', 'resume']);
    const log = await running.stop();
    for (const one of [first, other]) {
      const seen = await one.until(({ events: all }) => all.at(-1)?.[1] === log.at(-1)![0]);
      expect(dataOf(seen)).toEqual(log.map(([data]) => data));
    }
    // The browser closes the request of a frozen leader only when its page runs again.
    await eventually(() => events.size === 1);
    expect(requests).toHaveLength(mode === 'worker' ? 1 : 2);
  });

  test('a late tab gets what came since the opening; with `from` what came after it', async () => {
    const { events, tab } = await site(browser, mode, {
      snapshot: () => ({ event: 'snapshot', data: 'state' }),
    });
    const names = ['snapshot', 'message'];
    const first = await tab({ key: '', names });
    await first.until(({ status }) => status === 'open');
    await events.broadcast('1');
    const { position } = events;
    await events.broadcast('2');
    const late = await tab({ key: '', names });
    const last = await tab({ key: '', names, from: position });
    await last.until(({ status }) => status === 'open');
    await events.broadcast('3');
    for (const [one, expected] of [
      [first, ['snapshot', '1', '2', '3']],
      [late, ['snapshot', '1', '2', '3']],
      [last, ['2', '3']],
    ] as const) {
      const seen = await one.until(({ events: all }) => all.at(-1)?.[1] === '3');
      expect(dataOf(seen)).toEqual(expected);
      expect(seen.statuses).toEqual(['connecting', 'open']);
    }
    expect(events.size).toBe(1);
  });

  test('a late tab of a stream without ids gets live events only', async () => {
    const answers: Response[] = [];
    const { tab } = await site(browser, mode, {
      before(_req, res) {
        answers.push(res);
        res.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders();
      },
    });
    const first = await tab();
    await first.until(({ status }) => status === 'open');
    answers[0]!.write('data: snapshot\n\ndata: one\n\n');
    await first.until(({ events: all }) => all.length === 2);
    const late = await tab();
    await late.until(({ status }) => status === 'open');
    answers[0]!.write('data: two\n\n');
    expect(dataOf(await late.until(({ events: all }) => all.length > 0))).toEqual(['two']);
    expect(dataOf(await first.until(({ events: all }) => all.length > 2))).toEqual(['snapshot', 'one', 'two']);
    expect(answers).toHaveLength(1);
  });

  test('a late tab that the log does not reach gets a second stream with a snapshot; then there is one again', async () => {
    const { events, tab, requests } = await site(browser, mode, {
      snapshot: () => ({ event: 'snapshot', data: 'state' }),
    });
    const names = ['snapshot', 'message'];
    const first = await tab({ key: '', names });
    await first.until(({ status }) => status === 'open');
    for (let n = 0; n < 1001; n++) void events.broadcast(`${n}`);
    await first.until(({ events: all }) => all.length === 1002);
    const late = await tab({ key: '', names });
    await late.until(({ status, events: all }) => status === 'open' && all.length === 1);
    expect(events.size).toBe(2);
    await events.broadcast('a');
    await eventually(() => events.size === 1);
    await events.broadcast('b');
    expect(dataOf(await late.until(({ events: all }) => all.at(-1)?.[1] === 'b'))).toEqual(['snapshot', 'a', 'b']);
    const seen = await first.until(({ events: all }) => all.at(-1)?.[1] === 'b');
    expect(dataOf(seen).slice(-3)).toEqual(['1000', 'a', 'b']);
    expect(seen.events).toHaveLength(1004);
    expect(requests).toHaveLength(2);
  });

  test('a reset, a refusal and an end are shown once in every tab', async () => {
    let status = 200;
    const { events, tab, conns, requests } = await site(browser, mode, {
      history: { size: 2 },
      retry: 300,
      before: (_req, res, next) => (status === 200 ? next() : res.sendStatus(status)),
    });
    const tabs = [await tab(), await tab()];
    for (const one of tabs) await one.until((look) => look.status === 'open');
    await events.broadcast('1');
    await tabs[1]!.until(({ events: all }) => all.length === 1);
    conns[0]!.close({ retry: 50 });
    await eventually(() => events.size === 0);
    for (let n = 2; n < 6; n++) await events.broadcast(`${n}`);
    for (const one of tabs) {
      expect(dataOf(await one.until(({ status: now, events: all }) => now === 'open' && all.length > 1))).toEqual([
        '1',
        'reset',
      ]);
    }
    status = 403;
    conns[1]!.close({ retry: 20 });
    for (const one of tabs) {
      const seen = await one.until(({ status: now }) => now === 'refused');
      expect(seen.errors).toEqual(['refused 403']);
    }
    const before = requests.length;
    const third = await tab(); // triggers one attempt
    await third.until(({ status: now }) => now === 'refused');
    expect(requests).toHaveLength(before + 1);
    status = 200;
    await third.run('act("reconnect")');
    for (const one of tabs) await one.until(({ status: now }) => now === 'open');
    conns[2]!.end();
    for (const one of [...tabs, third]) await one.until(({ status: now }) => now === 'ended');
    const late = await tab();
    const seen = await late.until(({ status: now }) => now === 'ended');
    expect(dataOf(seen)).toEqual(['1', 'reset', 'end']);
    // The tab that hosts is closed: nobody opens the stream again.
    await tabs[0]!.close();
    await pause(200);
    expect(dataOf(await tabs[1]!.look())).toEqual(['1', 'reset', 'end']);
    expect(events.size).toBe(0);
  });

  test('a loop in a late tab of a refused stream receives events, if its attempt succeeds, else a StreamError', async () => {
    let isAllowed = false;
    const { tab, events } = await site(browser, mode, {
      before: (_req, res, next) => (isAllowed ? next() : res.sendStatus(403)),
    });
    const first = await tab();
    await first.until(({ status }) => status === 'refused');
    const loop = `globalThis.looped = (async () => {
      try {
        for await (const { data } of stream) return data;
      } catch (error) {
        return [error instanceof Error, error.code, error.status];
      }
    })()`;
    const second = await tab();
    await second.run(`${loop}, undefined`);
    expect(await second.run('looped')).toEqual([true, 'refused', 403]);
    expect((await second.look()).statuses).toEqual(['connecting', 'refused']);
    isAllowed = true;
    const third = await tab();
    await third.run(`${loop}, undefined`);
    await third.until(({ status }) => status === 'open');
    await events.broadcast('x');
    expect(await third.run('looped')).toBe('x');
    expect(await third.look()).toMatchObject({ statuses: ['connecting', 'open'], errors: [] });
  });

  test('headers come from the newest tab, at every connect; a blocked one costs a second', async () => {
    const { tab, requests, conns, events } = await site(browser, mode, { retry: 20 });
    const first = await tab({ key: '', token: '/token' });
    await first.until(({ status }) => status === 'open');
    const second = await tab({ key: '', token: '/token' });
    await second.until(({ status }) => status === 'open');
    conns[0]!.close({ retry: 20 });
    await eventually(() => conns.length === 2);
    expect(requests.map(({ headers }) => headers.authorization)).toEqual(['token', 'token']);
    expect([(await first.look()).asked, (await second.look()).asked]).toEqual([1, 1]);
    void second.run('setTimeout(() => alert(1))');
    await pause(50);
    conns[1]!.close({ retry: 20 });
    await eventually(() => conns.length === 3);
    expect((await first.look()).asked).toBe(2);
    await eventually(() => events.size === 1);
  });

  test('tabs of other keys and URLs have their own streams', async () => {
    const { events, tab, conns } = await site(browser, mode, {
      onConnection: (conn, req) => conn.join(`at:${req.originalUrl}`),
    });
    const tabs = [await tab({ key: 'a' }), await tab({ key: 'b' }), await tab({ key: 'a', url: '/events?x' })];
    for (const one of tabs) await one.until(({ status }) => status === 'open');
    expect(conns).toHaveLength(3);
    await events.broadcast('x', { to: 'at:/events?x' });
    await events.broadcast('y');
    expect(dataOf(await tabs[2]!.until(({ events: all }) => all.length === 2))).toEqual(['x', 'y']);
    expect(dataOf(await tabs[0]!.until(({ events: all }) => all.length === 1))).toEqual(['y']);
  });

  test('offline, then online: every tab comes back and has everything', async () => {
    const { events, tab, setOffline } = await site(browser, mode);
    const tabs = [await tab(), await tab()];
    for (const one of tabs) await one.until(({ status }) => status === 'open');
    await setOffline(true);
    events.connections.forEach(({ request }) => request.socket.destroy());
    for (const one of tabs) await one.until(({ status }) => status === 'offline');
    await events.broadcast('meanwhile');
    await setOffline(false);
    for (const one of tabs) {
      expect(dataOf(await one.until(({ events: all }) => all.length > 0))).toEqual(['meanwhile']);
    }
  });
});

describe('a worker that does not start', () => {
  test.each([
    ['is not found', { key: '', worker: '/nowhere.js' }, ''],
    ['is no script', { key: '', worker: '/elsewhere' }, ''],
    [
      'is forbidden by the policy',
      { key: '' },
      "?csp=default-src 'none'; script-src 'self'; connect-src 'self'; worker-src 'none'",
    ],
  ])('%s: tabs share by Web Locks, with one warning each', async (_what, how, query) => {
    const here = await site(browser, 'worker');
    const { events, complaints } = here;
    const tabs = [await here.tab(how, query), await here.tab(how, query)];
    for (const one of tabs) await one.until(({ status }) => status === 'open');
    await events.broadcast('x');
    for (const one of tabs) await one.until(({ events: all }) => all.length === 1);
    expect(events.size).toBe(1);
    expect(complaints.filter((text) => text.startsWith('sse-router'))).toHaveLength(2);
  });
});

describe('a browser that denies', () => {
  const REJECTED = "() => Promise.reject(new DOMException('denied', 'SecurityError'))";
  const THROWN = "() => { throw new DOMException('denied', 'SecurityError') }";
  const SILENT = '() => new Promise(() => {})';
  const request = (how: string): string => `LockManager.prototype.request = ${how};`;
  const query = (how: string): string => `LockManager.prototype.query = ${how};`;
  const channel = (how: string): string => `window.BroadcastChannel = ${how};`;
  const worker = (how: string): string => `window.SharedWorker = ${how};`;
  const NO_LOCKS = "Object.defineProperty(navigator, 'locks', { value: undefined });";
  /** Denies only the lock of the stream, not that of the tab. */
  const NO_LEADER = `{
    const { request } = LockManager.prototype;
    LockManager.prototype.request = function (name, ...rest) {
      return / 0\\.\\d+$/.test(name) ? request.call(this, name, ...rest) : Promise.reject(new DOMException('denied', 'SecurityError'));
    };
  }`;
  const FUNCTION_THROWN = "function () { throw new DOMException('denied', 'SecurityError') }";

  test.each([
    ['locks, by a rejection', 1, request(REJECTED)],
    ['locks, by an exception', 1, request(THROWN)],
    ['locks, without an answer', 1, request(SILENT)],
    ['locks, which are missing', 1, NO_LOCKS],
    ['the list of locks, by a rejection', 1, query(REJECTED)],
    ['the list of locks, by an exception', 1, query(THROWN)],
    ['the list of locks, without an answer', 1, query(SILENT)],
    ['workers, by an exception', 1, worker(FUNCTION_THROWN)],
    ['workers, without an answer', 1, worker('function () { return { port: new MessageChannel().port1 } }')],
    ['locks and workers, by exceptions', 2, request(THROWN) + worker(FUNCTION_THROWN)],
    ['locks without an answer, and workers, which are missing', 2, `${request(SILENT)} delete window.SharedWorker;`],
    ['workers and channels, which are missing', 2, 'delete window.SharedWorker; delete window.BroadcastChannel;'],
    ['workers and channels, by exceptions', 2, worker(FUNCTION_THROWN) + channel(FUNCTION_THROWN)],
    ['workers and the lock of a leader', 2, `delete window.SharedWorker; ${NO_LEADER}`],
  ])('%s: two tabs receive every event over %d streams', async (_what, streams, script) => {
    const { events, tab, complaints } = await site(browser, 'worker', { script });
    const tabs = [await tab(), await tab()];
    for (const one of tabs) await one.until(({ status }) => status === 'open', 8000);
    await pause(50); // a host that takes a tab for crashed would drop it now
    expect(events.size).toBe(streams);
    await events.broadcast('x');
    for (const one of tabs) {
      const seen = await one.until(({ events: all }) => all.length > 0);
      expect([dataOf(seen), seen.errors, seen.statuses]).toEqual([['x'], [], ['connecting', 'open']]);
    }
    for (const one of tabs) await one.run('act("close")');
    await eventually(() => events.size === 0);
    expect(complaints.filter((text) => !text.includes('the shared worker failed'))).toEqual([]);
  });

  test('everything, in a sandbox without an origin: each tab has its own stream', async () => {
    const { events, tab } = await site(browser, 'worker', { cors: true });
    const tabs = [
      await tab(undefined, '?csp=sandbox allow-scripts'),
      await tab(undefined, '?csp=sandbox allow-scripts'),
    ];
    expect(await tabs[0]!.run('origin')).toBe('null');
    for (const one of tabs) await one.until(({ status }) => status === 'open');
    expect(events.size).toBe(2);
    await tabs[0]!.run('act("close")');
    await eventually(() => events.size === 1);
  });

  test('locks without an answer: a stream that is closed meanwhile stays closed', async () => {
    const { events, tab, requests } = await site(browser, 'worker', { script: request(SILENT) });
    const one = await tab();
    await pause(20);
    await one.run('act("close")');
    await pause(3200);
    expect([(await one.look()).statuses, requests.length, events.size]).toEqual([['connecting', 'closed'], 0, 0]);
  });
});

test('without a secure context, tabs share by the worker, and a tab that is closed is gone', async () => {
  const here = await site(browser, 'worker', { isSecure: false });
  const { events } = here;
  const tabs = [await here.tab(), await here.tab()];
  expect(await tabs[0]!.run('isSecureContext')).toBe(false);
  for (const one of tabs) await one.until(({ status }) => status === 'open');
  await events.broadcast('x');
  for (const one of tabs) await one.until(({ events: all }) => all.length === 1);
  expect(events.size).toBe(1);
  await tabs[0]!.close();
  await events.broadcast('y');
  await tabs[1]!.until(({ events: all }) => all.length === 2);
  await tabs[1]!.send('Page.navigate', { url: `${here.url}elsewhere` });
  await eventually(() => events.size === 0);
});

test('without workers and a secure context, each tab has its own stream', async () => {
  const here = await site(browser, 'locks', { isSecure: false });
  const tabs = [await here.tab(), await here.tab()];
  for (const one of tabs) await one.until(({ status }) => status === 'open');
  expect(here.events.size).toBe(2);
  await tabs[0]!.run('act("close")');
  await eventually(() => here.events.size === 1);
});

test('the options of the first tab apply as long as the stream has a tab', async () => {
  const { tab, requests, conns } = await site(browser, 'worker');
  const other = await tab({ key: 'other' }); // keeps the worker
  await other.until(({ status }) => status === 'open');
  await other.run("document.cookie = 'a=1'");
  const first = await tab({ key: '', options: { credentials: 'omit' } });
  await first.until(({ status }) => status === 'open');
  const second = await tab();
  await second.until(({ status }) => status === 'open');
  conns[1]!.close({ retry: 20 });
  await eventually(() => requests.length === 3);
  for (const one of [first, second]) await one.run('act("close")');
  await eventually(() => conns[2]!.readyState === 'closed');
  await second.follow();
  await second.until(({ status }) => status === 'open');
  expect(requests.map(({ headers }) => headers.cookie)).toEqual([undefined, undefined, undefined, 'a=1']);
});

test('two streams of one page share as well, and `fetch` selects Web Locks', async () => {
  const { events, tab } = await site(browser, 'worker');
  const one = await tab();
  await one.run(`{
    globalThis.more = connect('/events', { tabs: shared({ key: '' }) });
    globalThis.own = connect('/events', { tabs: shared({ key: '' }), fetch: (...all) => (globalThis.used = true, fetch(...all)) });
    globalThis.got = [];
    more.on('message', (data) => got.push(data));
    own.on('message', (data) => got.push(data));
  }`);
  await one.until(({ status }) => status === 'open');
  await eventually(() => events.size === 2); // the worker's, and the leader's
  await pause(50);
  await events.broadcast('x');
  await one.until(({ events: all }) => all.length === 1);
  await pause(50);
  expect(await one.run('got')).toEqual(['x', 'x']);
  expect(await one.run('used')).toBe(true);
  const { held } = await one.run<{ held: { name: string }[] }>('navigator.locks.query()');
  expect(held.filter(({ name }) => /^sse-router\/1 {2}http\S+$/.test(name))).toHaveLength(1);
});

test('a leader that closes while it waits for headers, or while a late tab joins, causes no exception', async () => {
  const { tab, complaints, requests } = await site(browser, 'locks', { before: (_req, res) => res.sendStatus(403) });
  const slow = await tab({ key: 'slow' });
  await slow.run(`{
    globalThis.slow = connect('/events', { tabs: shared({ key: '' }), headers: () => new Promise(() => {}) });
    slow.onStatus(() => {});
  }`);
  await pause(100);
  await slow.run('slow.close()');
  const first = await tab({ key: 'first' });
  await first.until(({ status }) => status === 'refused');
  await first.run(`stream.onStatus((status) => status === 'connecting' && stream.close()), undefined`);
  const second = await tab({ key: 'first' });
  await second.until(({ status }) => status === 'refused');
  expect((await first.look()).status).toBe('closed');
  await pause(1000); // then the question for the headers would be repeated
  expect(requests).toHaveLength(3);
  expect(complaints.filter((text) => !text.includes('403'))).toEqual([]);
});

test('a fifth stream of the origin is warned of, once', async () => {
  const { tab, complaints } = await site(browser, 'worker');
  const one = await tab({ key: '1' });
  await tab({ key: '1' });
  const open = (key: number): Promise<void> =>
    one.run(
      `connect('/events', { tabs: globalThis.tabs${key} ??= shared({ key: '${key}' }) }).on('message', () => {})`,
    );
  for (const key of [2, 3, 4]) await open(key);
  await pause(100);
  expect(complaints).toEqual([]);
  await open(5);
  await open(5);
  await eventually(() => complaints.length > 0);
  await pause(100);
  expect(complaints).toEqual([expect.stringMatching(/^sse-router: more than 4 streams;/)]);
});

test('a stream that is closed before the worker fails stays closed', async () => {
  const { tab, events, complaints } = await site(browser, 'worker');
  const one = await tab({ key: '', worker: '/slow-nowhere.js' });
  await pause(50);
  await one.run('act("close")');
  await pause(400);
  expect((await one.look()).status).toBe('closed');
  expect(events.size).toBe(0);
  expect(complaints.filter((text) => text.startsWith('sse-router'))).toEqual([]);
});

test('key must be a string, and a POST cannot be shared', async () => {
  const { tab } = await site(browser, 'worker');
  const one = await tab();
  const thrown = (code: string): Promise<string> =>
    one.run(`(() => { try { ${code} } catch (error) { return error.name + ': ' + error.message; } })()`);
  expect(await thrown('shared({})')).toMatch(/^TypeError: key must be a string; received undefined\./);
  expect(await thrown('connect("/x", { method: "POST", tabs: shared({ key: "" }) })')).toMatch(/^TypeError: .*POST/);
});
