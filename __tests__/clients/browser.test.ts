import type { Request } from 'express';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { launchChromium } from '../fixtures/chromium.ts';
import { wireTo } from '../fixtures/wire.ts';
import { later } from '../fixtures/support.ts';
import { eventually, pause, serve } from '../fixtures/http.ts';

let browser: Browser;
let context: BrowserContext;

beforeAll(async () => {
  browser = await launchChromium();
}, 60_000);
afterAll(() => browser?.close());
beforeEach(async () => {
  context = await browser.newContext();
});
afterEach(() => context.close());

/** What the page records of its stream. */
interface Log {
  readonly opens: number;
  readonly errors: number;
  readonly state: number;
  readonly lastEventId: string;
  readonly events: { readonly type: string; readonly data: string; readonly id: string }[];
}

/** Part of the page: opens a stream and records the events. */
const SCRIPT = `
  function follow(url, options) {
    const source = new EventSource(url, options);
    const log = (window.log = { opens: 0, errors: 0, lastEventId: '', events: [], get state() { return source.readyState; } });
    const note = (event) => {
      log.events.push({ type: event.type, data: event.data, id: event.lastEventId });
      log.lastEventId = event.lastEventId;
    };
    for (const type of ['message', 'order', 'checkpoint', 'reset', 'end', 'größe']) source.addEventListener(type, note);
    source.onopen = () => log.opens++;
    source.onerror = () => log.errors++;
    window.source = source;
  }`;

interface Site {
  readonly events: SseRouter;
  readonly requests: Request[];
  readonly conns: Connection[];
  readonly port: number;
  readonly url: string;
}

async function site(options: SseOptions = {}, handler: (conn: Connection) => unknown = () => {}): Promise<Site> {
  const requests: Request[] = [];
  const conns: Connection[] = [];
  const events = sse(
    (conn, req) => {
      requests.push(req);
      conns.push(conn);
      return handler(conn) as void;
    },
    { retry: 100, ...options },
  );
  later(() => events.close());
  const { port } = await serve((app) => {
    app.get('/', (_req, res) => void res.send(`<!DOCTYPE html><title>Feed</title><script>${SCRIPT}</script>`));
    app.get('/login', (_req, res) => void res.cookie('sid', 'secret', { httpOnly: true }).send('in'));
    app.use('/events', events);
  });
  return { events, requests, conns, port, url: `http://localhost:${port}` };
}

async function pageAt(url: string): Promise<Page> {
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

const logOf = (page: Page): Promise<Log> => page.evaluate(() => ({ ...(globalThis as unknown as { log: Log }).log }));

const follow = (page: Page, url: string, options: object = {}): Promise<void> =>
  page.evaluate(([to, how]) => (globalThis as any).follow(to, how), [url, options] as const);

/** Waits until a condition holds for the page's log. */
async function until(page: Page, wanted: (log: Log) => boolean, ms = 5000): Promise<Log> {
  const start = performance.now();
  for (;;) {
    const log = await logOf(page);
    if (wanted(log)) return log;
    if (performance.now() - start > ms)
      throw new Error(`Not within ${ms} ms: ${String(wanted)}\n${JSON.stringify(log).slice(-2000)}`);
    await pause(10);
  }
}

test('the stream opens at once; default, named, multi-line and UTF-8 events fire, heartbeats do not', async () => {
  const { events, conns, url } = await site({ heartbeat: 20 });
  const page = await pageAt(url);
  await follow(page, '/events');
  await until(page, ({ opens }) => opens === 1);
  await eventually(() => conns.length === 1);
  conns[0]!.push('one', 'two', '', ' three');
  await events.broadcast({ event: 'order', data: { total: 7 } });
  await events.broadcast({ event: 'größe', data: '€豆腐💥\u2028\u0085' });
  await eventually(() => events.stats().heartbeats > 2);
  const id = await events.broadcast('last');
  const { events: seen, errors } = await until(page, (log) => log.events.at(-1)?.data === 'last');
  expect(seen.map(({ type, data }) => [type, data])).toEqual([
    ['checkpoint', ''],
    ['message', 'one\ntwo\n\n three'],
    ['order', '{"total":7}'],
    ['größe', '€豆腐💥\u2028\u0085'],
    ['message', 'last'],
  ]);
  expect(seen.at(-1)!.id).toBe(id);
  expect(errors).toBe(0);
  await page.close();
  await eventually(() => events.size === 0); // the server notices that the page has closed
  expect(conns[0]!.signal.reason).toBe('client');
});

test('the page reconnects with its id after a cut connection, and receives what it missed', async () => {
  const { events, requests, port, url } = await site({ retry: 300 });
  const wire = await wireTo(port);
  later(() => wire.close());
  const page = await pageAt(url.replace(String(port), String(wire.port)));
  await follow(page, '/events');
  await until(page, ({ opens }) => opens === 1);
  const id = await events.broadcast('before');
  await until(page, (log) => log.events.at(-1)?.data === 'before');
  wire.cut();
  await eventually(() => events.size === 0);
  await events.broadcast('while away');
  await until(page, (log) => log.events.at(-1)?.data === 'while away');
  await events.broadcast('after');
  const log = await until(page, ({ events: all }) => all.at(-1)?.data === 'after');
  expect(requests[1]!.headers['last-event-id']).toBe(id);
  expect(log.events.map(({ data }) => data)).toEqual(['', 'before', 'while away', 'after']);
  expect(log).toMatchObject({ opens: 2, errors: 1 });
});

test('end() stops the page for good; close() does not', async () => {
  const { conns, requests, url } = await site({ retry: 20 });
  const page = await pageAt(url);
  await follow(page, '/events');
  await eventually(() => conns.length === 1);
  conns[0]!.close({ retry: 30 });
  await eventually(() => conns.length === 2);
  await until(page, ({ opens }) => opens === 2);
  conns[1]!.end();
  const log = await until(page, ({ state }) => state === 2);
  expect(log.events.at(-1)).toMatchObject({ type: 'end', data: '' });
  await pause(200); // the page must not reconnect in this time
  expect(requests).toHaveLength(2);
  expect((await logOf(page)).state).toBe(2);
});

test('a page that finds the router full reconnects by itself', async () => {
  const { events, conns, url } = await site({ limits: { connections: 1 }, retry: 50 });
  const [first, second] = [await pageAt(url), await pageAt(url)];
  await follow(first, '/events');
  await until(first, ({ opens }) => opens === 1);
  await follow(second, '/events');
  await until(second, ({ errors }) => errors > 1);
  expect(conns).toHaveLength(1);
  await first.close();
  await eventually(() => conns.length === 2);
  await events.broadcast('now');
  await until(second, (log) => log.events.at(-1)?.data === 'now');
});

describe('across origins', () => {
  /** Returns a page of one origin, and a feed of another origin with these CORS options. */
  async function crossOrigin(cors: (origin: string) => SseOptions['cors'], options: SseOptions = {}) {
    const home = await site();
    const feed = await site({ ...options, cors: cors(home.url) });
    const page = await pageAt(home.url);
    return { home, feed, page };
  }

  test('without cors the page receives nothing', async () => {
    const { feed, page } = await crossOrigin(() => false);
    await follow(page, `${feed.url}/events`);
    const log = await until(page, ({ state }) => state === 2);
    expect(log).toMatchObject({ opens: 0, errors: 1, events: [] });
  });

  test('the page sends its cookies, and again after a close', async () => {
    const { feed, page } = await crossOrigin((origin) => ({ origin, credentials: true }));
    const login = await pageAt(`${feed.url}/login`);
    await login.close();
    await follow(page, `${feed.url}/events`, { withCredentials: true });
    await until(page, ({ opens }) => opens === 1);
    const id = await feed.events.broadcast('one');
    await until(page, (log) => log.events.at(-1)?.data === 'one');
    feed.conns[0]!.close();
    await eventually(() => feed.requests.length === 2);
    await feed.events.broadcast('two');
    await until(page, (log) => log.events.at(-1)?.data === 'two');
    for (const { headers } of feed.requests) expect(headers.cookie).toBe('sid=secret');
    expect(feed.requests[1]!.headers['last-event-id']).toBe(id);
  });

  test('cors: true serves every origin, but none with credentials', async () => {
    const { feed, page } = await crossOrigin(() => true);
    await follow(page, `${feed.url}/events`);
    await until(page, ({ opens }) => opens === 1);
    await follow(page, `${feed.url}/events`, { withCredentials: true });
    expect(await until(page, ({ state }) => state === 2)).toMatchObject({ opens: 0, events: [] });
  });

  test('a page of a foreign origin is refused before the handler runs, even with credentials', async () => {
    const { feed, page } = await crossOrigin(() => ({ origin: 'https://a.example', credentials: true }));
    await follow(page, `${feed.url}/events`, { withCredentials: true });
    expect(await until(page, ({ state }) => state === 2)).toMatchObject({ opens: 0, events: [] });
    expect(feed.conns).toHaveLength(0);
    expect(feed.events.stats().opened).toBe(0);
  });

  test('a page of the feed’s own origin is always allowed', async () => {
    const { feed } = await crossOrigin(() => ({ origin: 'https://a.example', credentials: true }));
    const own = await pageAt(feed.url);
    await follow(own, '/events');
    await until(own, ({ opens }) => opens === 1);
  });

  test('a page reads the status of an answer of the authentication behind `events.cors`', async () => {
    const home = await site();
    const page = await pageAt(home.url);
    const events = sse((conn) => conn.close(), { cors: { origin: home.url, credentials: true } });
    later(() => events.close());
    const { port } = await serve((app) => {
      app.use('/events', events.cors, (req, res, next) => {
        if (req.headers.authorization === 'Bearer good') next();
        else res.sendStatus(401);
      });
      app.use('/events', events);
    });
    const statusOf = (token: string): Promise<number> =>
      page.evaluate(
        async ([to, authorization]) => {
          const { status, body } = await fetch(to, {
            credentials: 'include',
            headers: { Authorization: authorization },
          });
          await body!.cancel();
          return status;
        },
        [`http://localhost:${port}/events`, `Bearer ${token}`] as const,
      );
    expect(await statusOf('bad')).toBe(401);
    expect(await statusOf('good')).toBe(200);
  });

  test('the preflight allows a fetch with an Authorization header and a last event id', async () => {
    const { feed, page } = await crossOrigin((origin) => ({ origin, credentials: true }), { methods: ['GET', 'POST'] });
    const id = await feed.events.broadcast('seen');
    await feed.events.broadcast('missed');
    const text = await page.evaluate(
      async ([url, lastEventId]) => {
        const response = await fetch(url, {
          method: 'POST',
          credentials: 'include',
          headers: { Authorization: 'Bearer 7', 'Last-Event-ID': lastEventId, 'Content-Type': 'application/json' },
          body: '{}',
        });
        const reader = response.body!.getReader();
        for (let all = ''; ;) {
          const { value, done } = await reader.read();
          all += new TextDecoder().decode(value);
          if (!done && !all.includes('missed')) continue;
          await reader.cancel();
          return all;
        }
      },
      [`${feed.url}/events`, id] as const,
    );
    expect(text).toContain('data: missed\n\n');
    expect(feed.requests).toHaveLength(1);
    expect(feed.requests[0]!.headers).toMatchObject({ authorization: 'Bearer 7', 'last-event-id': id });
    await eventually(() => feed.events.size === 0);
  });
});

test('after 20 cuts during broadcasts, the page has the whole log, and each of its ids is of an event with data', async () => {
  const { events, requests, port, url } = await site({ retry: 5 });
  const wire = await wireTo(port);
  later(() => wire.close());
  const page = await pageAt(url.replace(String(port), String(wire.port)));
  await follow(page, '/events');
  await until(page, ({ opens }) => opens === 1);
  const log: { id: string; data: string }[] = [];
  let running = true;
  const publisher = (async () => {
    for (let n = 0; running; n++) {
      const data = `${n} ${'x'.repeat(n % 50 === 0 ? 100_000 : 100)}`;
      log.push({ id: await events.broadcast(data), data });
      if (n % 3 === 0) await pause(1);
    }
  })();
  for (let cuts = 0; cuts < 20;) {
    await eventually(() => events.size > 0);
    await pause(10 + (cuts % 5) * 7);
    if (wire.cut() > 0) cuts++;
  }
  running = false;
  await publisher;
  const last = log.at(-1)!;
  const seen = await until(page, ({ lastEventId }) => lastEventId === last.id, 10_000);
  expect(seen.events.filter(({ type }) => type === 'reset')).toEqual([]);
  const received = seen.events.filter(({ type }) => type === 'message').map(({ id, data }) => ({ id, data }));
  expect(received).toEqual(log);
  expect(seen.opens).toBeGreaterThan(10);
  // Every id of a reconnect is the id of a fired event: no block without data has changed it.
  const fired = new Set(seen.events.map(({ id }) => id));
  for (const { headers } of requests.slice(1)) expect(fired).toContain(headers['last-event-id'] ?? 'none');
  expect(events.stats().resumes).toMatchObject({ lost: 0, unknown: 0, diverged: 0 });
}, 40_000);
