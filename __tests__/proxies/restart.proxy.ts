/*
 * What an EventSource receives while no process answers behind a proxy, and whether it is connected again afterwards.
 */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { EventSource } from 'eventsource';
import express from 'express';
import type { Browser } from 'playwright-core';
import { sse } from '../../lib/index.ts';
import { launchChromium } from '../fixtures/chromium.ts';
import { ask, clock, eventually, pause, serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';
import { type Firefox, launchFirefox } from './fixtures/firefox.ts';
import { startProxy, type Edits } from './fixtures/proxy.ts';
import type { ProxyName } from './fixtures/recipes.ts';

const DOWN = 1500; // longer than the `retry` of the router, so that a client asks while no process answers

const NO_LINES: Edits = [['error_page 502 504', '# ']];
const HAPROXY_RETRIES: Edits = [['option http-no-delay', 'retries 30\n\toption http-no-delay']];
const CADDY_TRIES: Edits = [['127.0.0.1:3000', '127.0.0.1:3000 {\n\t\tlb_try_duration 30s\n\t}']];
const NO_CORS: Edits = [['add_header Access-Control-Allow', '# ']];

/** An app behind a proxy. The log outlives its server, as a journal in LMDB, Redis or PostgreSQL outlives a process. */
async function behind(name: ProxyName, edits: Edits = []) {
  const page = await serve((app) => app.get('/', (_req, res) => void res.send('<!doctype html>')));
  const events = sse({ retry: 500, cors: { origin: page.url, credentials: true } });
  later(() => events.close());
  const app = express().use('/events', events);
  app.get('/events/broken', (_req, res) => void res.status(502).send('of the app'));
  let server: Server | undefined;
  const start = async (port = 0): Promise<number> => {
    server = createServer(app).listen(port, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as { port: number }).port;
  };
  const stop = async (): Promise<void> => {
    server!.closeAllConnections();
    const closed = once(server!, 'close');
    server!.close();
    await closed;
  };
  const port = await start();
  later(stop);
  const proxy = await startProxy(name, port, edits);
  later(() => proxy.stop());
  return { url: `${proxy.url}/events`, site: proxy.url, page: page.url, events, stop, start: () => start(port) };
}

type Behind = Awaited<ReturnType<typeof behind>>;

/** What a client has received, and whether it has stopped for good. */
interface Seen {
  readonly received: readonly string[];
  readonly stopped: boolean;
}

/** Ends the server for a time, in which one event is broadcast. Resolves when the client has received everything, or has stopped. */
async function restart({ events, stop, start }: Behind, see: () => Seen | Promise<Seen>, ms = DOWN): Promise<Seen> {
  const wait = async (enough: (seen: Seen) => boolean): Promise<Seen> => {
    const late = clock() + 15_000;
    for (;;) {
      const seen = await see();
      if (enough(seen) || clock() > late) return seen;
      await pause(20);
    }
  };
  await eventually(() => events.size === 1);
  await events.broadcast('before');
  await wait(({ received }) => received.length === 1);
  await stop();
  await events.broadcast('meanwhile');
  await pause(ms); // the outage
  await start();
  await events.broadcast('after');
  return wait(({ received, stopped }) => stopped || received.at(-1) === 'after');
}

const ALL: Seen = { received: ['before', 'meanwhile', 'after'], stopped: false };
const STOPPED: Seen = { received: ['before'], stopped: true };

test.each<[what: string, name: ProxyName, edits: Edits, ms: number, seen: Seen]>([
  ['nginx', 'nginx', [], DOWN, ALL],
  ['nginx without the lines', 'nginx', NO_LINES, DOWN, STOPPED],
  ['HAProxy', 'HAProxy', [], DOWN, ALL], // it tries to connect for 3 s
  ['HAProxy, for a longer time', 'HAProxy', [], 6000, STOPPED],
  ['HAProxy with `retries 30`, for a longer time', 'HAProxy', HAPROXY_RETRIES, 6000, ALL],
  ['Varnish', 'Varnish', [], DOWN, ALL], // it closes the connection without an answer
  ['Varnish without the pipe', 'Varnish', [['return (pipe);', '']], DOWN, STOPPED],
  ['Caddy', 'Caddy', [], DOWN, STOPPED],
  ['Caddy with `lb_try_duration`', 'Caddy', CADDY_TRIES, DOWN, ALL],
  ['Apache', 'Apache', [], DOWN, STOPPED],
])('behind %s, an EventSource and a restart of the only process', async (what, name, edits, ms, seen) => {
  const site = await behind(name, edits);
  const source = new EventSource(site.url);
  later(() => source.close());
  const received: string[] = [];
  const codes: (number | undefined)[] = [];
  source.addEventListener('message', ({ data }) => received.push(data as string));
  source.addEventListener('error', ({ code }) => codes.push(code));
  expect(await restart(site, () => ({ received, stopped: source.readyState === 2 }), ms)).toEqual(seen);
  process.stderr.write(`${what}: ${codes.join(', ')}\n`);
});

test('nginx: while no process answers, a POST gets a 503; an error that the app sends arrives unchanged', async () => {
  const { url, stop } = await behind('nginx');
  expect(await ask(`${url}/broken`)).toMatchObject({ status: 502, text: 'of the app' });
  await stop();
  expect(await ask(url)).toMatchObject({ status: 200, text: 'retry: 2000\n\n' });
  expect((await ask(url, { method: 'POST' })).status).toBe(503);
});

const FOLLOW = `function follow(url) {
  globalThis.source = new EventSource(url, { withCredentials: true });
  globalThis.received = [];
  source.onmessage = ({ data }) => received.push(data);
}`;
const SEE = '({ received, stopped: source.readyState === 2 })';

describe('nginx and a page of another origin', () => {
  let chromium: Browser;
  let firefox: Firefox;
  beforeAll(async () => {
    [chromium, firefox] = await Promise.all([launchChromium(), launchFirefox()]);
  }, 120_000);
  afterAll(() => Promise.all([chromium?.close(), firefox?.stop()]));

  /** Opens a page. Returns a function that evaluates an expression in it. */
  const PAGES: Record<string, (url: string) => Promise<(expression: string) => Promise<unknown>>> = {
    async Chromium(url) {
      const page = await chromium.newPage();
      later(() => page.close());
      await page.goto(url);
      return (expression) => page.evaluate(expression);
    },
    async Firefox(url) {
      const tab = await firefox.open(url);
      later(() => tab.close());
      return (expression) => tab.run(expression);
    },
  };

  test.each<[browser: string, cors: string, edits: Edits, seen: Seen]>([
    ['Chromium', 'with', [], ALL],
    ['Chromium', 'without', NO_CORS, STOPPED],
    ['Firefox', 'with', [], ALL],
    ['Firefox', 'without', NO_CORS, STOPPED],
  ])('%s, %s the CORS headers', async (browser, _cors, edits, seen) => {
    const site = await behind('nginx', edits);
    const run = await PAGES[browser]!(site.page);
    await run(`(${FOLLOW})(${JSON.stringify(site.url)})`);
    expect(await restart(site, () => run(SEE) as Promise<Seen>)).toEqual(seen);
  });
});
