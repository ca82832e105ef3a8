/*
 * sse-router/inspector without a browser: the page, its event stream, its secrets, its protection and its actions.
 */
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import cors from 'cors';
import express, { type Express } from 'express';
import helmet from 'helmet';
import { sse, type Connection, type SseRouter } from '../../lib/index.ts';
import { ASSETS } from '../../lib/inspector/assets/index.ts';
import { inspector, type InspectorOptions } from '../../lib/inspector/index.ts';
import { channelCounts, listing, matchingConnections } from '../../lib/inspector/listing.ts';
import { redactHeaders, redactId, redactUrl } from '../../lib/inspector/redaction.ts';
import { SlicedQueue } from '../../lib/inspector/sliced-queue.ts';
import { Throttle } from '../../lib/inspector/throttle.ts';
import { viewOf } from '../../lib/inspector/view-query.ts';
import { channels, type Introspection } from '../../lib/diagnostics/channels.ts';
import type { TestStream } from '../../lib/testing/index.ts';
import { clear, start } from '../examples/example-process.ts';
import { ask, eventually, serve, type Init } from '../fixtures/http.ts';
import { another, codeOf, EXPRESSES, later, opened, overOf } from '../fixtures/support.ts';

afterEach(clear);

interface Inspected {
  readonly events: SseRouter;
  readonly app: Express;
  readonly url: string;
  /** Opens the page's event stream. */
  readonly view: (query?: string) => Promise<TestStream>;
  readonly post: (path: string, body: unknown, init?: Init) => ReturnType<typeof ask>;
}

async function inspected(
  events: SseRouter = sse((conn, req) => conn.join(...[req.query.join ?? []].flat().map(String))),
  options: InspectorOptions = {},
  make = express,
): Promise<Inspected> {
  later(() => events.close());
  let app!: Express;
  const { url } = await serve((made) => {
    app = made;
    app.use('/events', events);
    app.use('/admin/_events', inspector(events, options));
  }, make);
  return {
    events,
    app,
    url,
    view: (query = '') => another(app, `/admin/_events/feed${query}`),
    post: (path, body, init = {}) =>
      ask(`${url}/admin/_events/${path}`, {
        method: 'POST',
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...init,
        headers: { 'content-type': 'application/json', origin: url, ...init.headers },
      }),
  };
}

/** Runs work without interruptions. */
function resultOf<T>(work: Generator<void, T, void>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}

/** Returns the data of the next event with this name. */
async function nextData(stream: TestStream, name: string): Promise<any> {
  for (;;) {
    const { event, data } = await stream.next();
    if (event === name) return JSON.parse(data as string);
  }
}

describe('the page', () => {
  test.each(EXPRESSES)('works under helmet with a Content-Security-Policy of its own on %s', async (_, make) => {
    const events = sse();
    later(() => events.close());
    const { url } = await serve((app) => {
      app.use(helmet());
      app.use('/_events', inspector(events));
      app.get('/', (_req, res) => res.send('the application'));
    }, make);
    const page = await ask(`${url}/_events/`);
    expect(page.status).toBe(200);
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(page.headers.get('content-security-policy')).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    expect(page.headers.get('strict-transport-security')).not.toBeNull(); // helmet's other headers stay
    const linked = [...page.text.matchAll(/(?:href|src)="([^"#]+)"/g)].map(([, link]) => link!);
    expect(linked).toEqual(['data:,', 'plot.css', 'style.css', 'plot.js', 'page.js']);
    for (const link of linked.slice(1)) {
      const asset = await ask(`${url}/_events/${link}`);
      expect(asset.status).toBe(200);
      expect(asset.headers.get('content-type')).toMatch(
        link.endsWith('.css') ? 'text/css' : /(text|application)\/javascript/,
      );
      expect(asset.headers.get('x-content-type-options')).toBe('nosniff');
    }
    expect((await ask(url)).headers.get('content-security-policy')).toContain("default-src 'self'");
    expect((await ask(`${url}/_events/nothing`)).status).toBe(404);
  });

  test('loads nothing from other origins, and contains no inline scripts or styles', () => {
    const text = ASSETS['/']!.text + ASSETS['/page.js']!.text + ASSETS['/style.css']!.text;
    expect(text).not.toMatch(/https?:\/\/|innerHTML|insertAdjacentHTML|document\.write|eval\(| style="| on[a-z]+="/);
    expect(ASSETS['/']!.text).not.toMatch(/<script>|<style>/);
  });

  test('equals its sources and the plotting library', () => {
    const page = join(__dirname, '../../lib/inspector/page');
    const plot = join(__dirname, '../../node_modules/uplot');
    const read = (...path: string[]): string => readFileSync(join(...path), 'utf8');
    expect(Object.fromEntries(Object.entries(ASSETS).map(([path, { text }]) => [path, text]))).toEqual({
      '/': read(page, 'index.html'),
      '/style.css': read(page, 'style.css'),
      '/page.js': read(page, 'page.js'),
      '/plot.css': read(plot, 'dist/uPlot.min.css'),
      '/plot.js': expect.stringContaining(`\n/*\n${read(plot, 'LICENSE')}*/\n${read(plot, 'dist/uPlot.iife.min.js')}`),
    });
  });

  test('redirects to its address with the slash that relative addresses need', async () => {
    const { url } = await inspected();
    for (const [path, location] of [
      ['/admin/_events', './_events/'],
      ['/admin/_events?a=b', './_events/?a=b'],
    ]) {
      const { status, headers } = await ask(url + path, { redirect: 'manual' });
      expect([status, headers.get('location')]).toEqual([308, location]);
    }
  });
});

describe('the feed', () => {
  test('sends figures, connections and events, and does not count its viewers', async () => {
    const { events, app, view } = await inspected();
    await another(app, '/events?join=a&join=b');
    await events.broadcast({ event: 'first', data: { n: 1 } }, { to: 'a' });
    const stream = await view();
    expect(await nextData(stream, 'hello')).toEqual({ publish: false, process: process.pid, points: [] });
    const figures = await nextData(stream, 'figures');
    expect(figures).toMatchObject({
      stats: { connections: 1, channels: 2, broadcasts: 1 },
      log: { head: events.position, oldest: events.position, entries: 1 },
      channels: { none: 0, top: [['a', 1], ['b', 1]] }, // prettier-ignore
    });
    const [conn] = events.connections;
    expect(await nextData(stream, 'connections')).toEqual({
      total: 1,
      offset: 0,
      rows: [
        {
          id: conn!.id,
          address: '127.0.0.1',
          age: expect.any(Number),
          channels: ['a', 'b'],
          more: 0,
          queued: 0,
          lastId: events.position,
          source: 'live',
          behind: false,
        },
      ],
    });
    const entry = { id: events.position, event: 'first', data: '{"n":1}', size: 28, to: ['a'] };
    expect(await nextData(stream, 'entries')).toEqual({ skipped: 0, entries: [entry] });

    await events.broadcast('two\nlines');
    const next = await nextData(stream, 'figures');
    expect(next.point).toEqual([expect.any(Number), 1, expect.any(Number), expect.any(Number)]);
    expect(next.point[2]).toBeGreaterThan(0);
    expect(next.handOut).toBeGreaterThan(0);
    expect(await nextData(stream, 'entries')).toMatchObject({ entries: [{ event: 'message', data: 'two\nlines' }] });
    expect(events.size).toBe(1);
  });

  test('runs a timer only while there are viewers, and that does not keep the process alive', async () => {
    const timers: NodeJS.Timeout[] = [];
    const { setInterval } = globalThis;
    jest.spyOn(globalThis, 'setInterval').mockImplementation((...args: Parameters<typeof setInterval>) => {
      const timer = setInterval(...args);
      timers.push(timer);
      return timer;
    });
    const cleared = jest.spyOn(globalThis, 'clearInterval');
    const { view } = await inspected();
    expect(timers).toHaveLength(0);
    const [one, two] = [await view(), await view()];
    expect(timers.map((timer) => timer.hasRef())).toEqual([false]);
    expect(channels.handOut.hasSubscribers && channels.broadcast.hasSubscribers).toBe(true);
    await one.close();
    await nextData(two, 'figures');
    expect(cleared).not.toHaveBeenCalled();
    await two.close();
    await eventually(() => !channels.handOut.hasSubscribers && !channels.broadcast.hasSubscribers);
    expect(cleared).toHaveBeenCalledWith(timers[0]);
  });

  test('filters by channel and by name, whole or by prefix', async () => {
    const { events, app, view } = await inspected();
    await Promise.all(['a1', 'a2', 'b'].map((name) => another(app, `/events?join=${name}`)));
    await events.broadcast({ event: 'x', data: '1' }, { to: 'a1' });
    await events.broadcast({ event: 'xy', data: '2' }, { to: ['a2', 'b'] });
    await events.broadcast('3');
    const seen = async (query: string): Promise<{ total: number; events: string[] }> => {
      const stream = await view(`?${query}`);
      const { total } = await nextData(stream, 'connections');
      const { entries } = await nextData(stream, 'entries');
      return { total, events: entries.map(({ data }: { data: string }) => data) };
    };
    expect(await seen('channel=a1')).toEqual({ total: 1, events: ['1'] });
    expect(await seen('channel=a*')).toEqual({ total: 2, events: ['2', '1'] });
    expect(await seen('name=x')).toEqual({ total: 3, events: ['1'] });
    expect(await seen('name=x*&channel=b')).toEqual({ total: 1, events: ['2'] });
    expect(await seen('name=message')).toEqual({ total: 3, events: ['3'] });
  });

  test('sends the last events without a log, too', async () => {
    const events = sse({ history: false });
    const { view } = await inspected(events);
    const stream = await view();
    await nextData(stream, 'figures');
    await events.broadcast({ id: 'mine', event: 'own', data: 'x' });
    expect(await nextData(stream, 'entries')).toMatchObject({ entries: [{ event: 'own', data: 'x' }] });
  });

  test('sends the newest of many events, and the number of the others', async () => {
    const { events, view } = await inspected();
    await events.broadcast('before');
    const stream = await view();
    await nextData(stream, 'entries');
    await Promise.all(Array.from({ length: 500 }, (_, n) => events.broadcast(String(n))));
    const { entries, skipped } = await nextData(stream, 'entries');
    expect([entries.length, entries[0].data, skipped]).toEqual([60, '499', 440]);
  });

  test('sends only the start of a large event', async () => {
    const { events, view } = await inspected();
    await events.broadcast({ event: 'large', data: 'ü'.repeat(100_000) });
    const { entries } = await nextData(await view(), 'entries');
    expect(entries[0].size).toBeGreaterThan(200_000);
    expect(entries[0].data).toMatch(/^ü{200,400}…$/);
  });

  test('pages through many, in three orders', async () => {
    const { events, app, view } = await inspected();
    for (let n = 0; n < 30; n++) await another(app); // one by one: their order counts
    const ids = [...events.connections].map(({ id }) => id);
    const rows = async (query: string): Promise<string[]> =>
      (await nextData(await view(query), 'connections')).rows.map(({ id }: { id: string }) => id);
    expect(await rows('')).toEqual(ids.slice(0, 25));
    expect(await rows('?page=1')).toEqual(ids.slice(25));
    expect(await rows('?page=99')).toEqual(ids.slice(25));
    expect(await rows('?order=newest')).toEqual(ids.toReversed().slice(0, 25));
    expect(await rows('?order=nonsense&page=-1')).toEqual(ids.slice(0, 25));
  });

  test('describes only the connections of one page, however many there are', () => {
    const describe = jest.fn(() => ({ age: 0, lastId: '', source: 'live', behind: false }));
    const channels = new Set(['all']);
    const connections = new Set(
      Array.from({ length: 10_000 }, (_, n) => {
        const request = { ip: '::1', socket: {} };
        return { id: `c-${n}`, channels, bufferedBytes: n === 7777 ? 1 : 0, request } as unknown as Connection;
      }),
    );
    const view = viewOf({ url: '/?channel=all&order=queued' } as IncomingMessage);
    const page = listing(
      resultOf(matchingConnections(connections, view)),
      { describe } as unknown as Introspection,
      view,
    );
    expect([page.total, page.rows.length, page.rows[0]!.id]).toEqual([10_000, 25, 'c-7777']);
    expect(describe).toHaveBeenCalledTimes(25);
  });

  test('is refused to pages of another origin, whatever the application allows', async () => {
    const { url, app } = await inspected();
    app.use('/cors', cors({ origin: true, credentials: true }), inspector(sse()));
    const foreign = await ask(`${url}/cors/feed`, { headers: { origin: 'https://elsewhere.example' } });
    expect(foreign.status).toBe(403);
    expect(foreign.headers.get('access-control-allow-origin')).toBeNull();
    expect((await ask(`${url}/admin/_events/feed`, { headers: { 'sec-fetch-site': 'cross-site' } })).status).toBe(403);
  });

  test('ends when the router has closed', async () => {
    const { events, app, view } = await inspected();
    await another(app, '/events');
    const stream = await view();
    await nextData(stream, 'hello');
    await events.close();
    expect(await stream.closed).toBe('end');
    expect(stream.retry).toBeGreaterThan(0);
  });
});

describe('the throttle', () => {
  test('limits work to a hundredth of the time', () => {
    let now = 5000;
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    const throttle = new Throttle();
    expect(throttle.isDue).toBe(true);
    now += 30;
    throttle.record(30);
    now += 2999;
    expect(throttle.isDue).toBe(false);
    now += 1;
    expect(throttle.isDue).toBe(true);
  });
});

describe('work on all connections', () => {
  test('runs in slices, between which the event loop runs, and one after the other', async () => {
    let now = 0;
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    const queue = new SlicedQueue();
    const order: string[] = [];
    const work = function* (name: string, steps: number): Generator<void, void, void> {
      for (let n = 0; n < steps; n++) {
        order.push(name);
        now += 2;
        yield;
      }
    };
    const times: number[] = [];
    queue.add(work('a', 1), (ms) => times.push(ms)); // fits into the first slice
    expect(times).toEqual([2]);
    queue.add(work('b', 3), (ms) => times.push(ms));
    queue.add(work('c', 1), (ms) => times.push(ms));
    expect(order.join('')).toBe('abb');
    setImmediate(() => order.push('|'));
    await eventually(() => times.length === 3);
    expect(order.join('')).toMatch(/^abb\|?bc/);
    expect(times).toEqual([2, 6, 2]);
    queue.add(work('d', 9), () => order.push('done'));
    queue.clear();
    await new Promise((resolve) => void setImmediate(resolve));
    expect(order.filter((name) => name === 'd' || name === 'done')).toEqual(['d', 'd']);
  });

  test('lists and counts can be interrupted after a few connections', () => {
    const connections = new Set(
      Array.from({ length: 5000 }, (_, n) => {
        const channels = new Set(Array.from({ length: 20 }, (_each, m) => `user:${n}:${m}`));
        return { channels, bufferedBytes: n === 4000 ? 5 : 0 } as unknown as Connection;
      }),
    );
    const all = viewOf({ url: '/?channel=user:*&order=queued' } as IncomingMessage);
    const works = [matchingConnections(connections, all), channelCounts(connections)];
    for (const work of works) expect([...work].length).toBeGreaterThan(70);
    expect(resultOf(matchingConnections(connections, all))[0]).toBe([...connections][4000]);
    const { none, top } = resultOf(
      channelCounts(
        new Set([
          ...connections,
          { channels: new Set(['user:7:7', 'b', 'a']) },
          { channels: new Set() },
        ] as Connection[]),
      ),
    );
    expect(none).toBe(1);
    expect(top.length).toBe(16);
    expect(top.slice(0, 4)).toEqual([
      ['user:7:7', 2],
      ['a', 1],
      ['b', 1],
      ['user:0:0', 1],
    ]);
  });

  test('is done once for all viewers of one list, and each receives its page', async () => {
    const { app, view } = await inspected();
    for (let n = 0; n < 30; n++) await another(app, '/events?join=a');
    const first = await view('?channel=a&order=queued');
    await nextData(first, 'connections');
    const second = await view('?channel=a&order=queued&page=1');
    expect(await nextData(second, 'connections')).toMatchObject({ total: 30, offset: 25, rows: { length: 5 } });
    expect(await nextData(first, 'connections')).toMatchObject({ total: 30, offset: 0, rows: { length: 25 } });
    expect(await nextData(second, 'connections')).toMatchObject({ total: 30, offset: 25, rows: { length: 5 } });
  });
});

describe('one connection', () => {
  const secrets = {
    authorization: 'Bearer hunter2',
    cookie: 'session=hunter2',
    'proxy-authorization': 'Basic hunter2',
    'x-api-key': 'hunter2',
    'x-csrf-token': 'hunter2',
    'x-amz-security-token': 'hunter2',
    'x-request-id': 'hunter2-0b7e9a4c',
    'x-forwarded-user': 'Bearer hunter2',
    referer: 'https://hunter2:hunter2@app.example/a/hunter2hunter2hunter2?code=hunter2#hunter2',
  };

  test('is shown with its headers and without its secrets', async () => {
    const { events, app, view } = await inspected();
    const headers = { ...secrets, 'user-agent': 'Reader/1.2 (a test)', 'last-event-id': 'mine-7' };
    await another(app, '/events?join=a&token=hunter2', { headers });
    const [conn] = events.connections;
    const stream = await view(`?selected=${conn!.id}`);
    const one = await nextData(stream, 'selected');
    expect(one).toMatchObject({
      id: conn!.id,
      address: '127.0.0.1',
      peer: expect.stringMatching(/^127\.0\.0\.1 port \d+$/),
      channels: ['a'],
      lastEventId: 'mine-7',
      requestLine: 'GET /events?join=…&token=… HTTP/1.1',
    });
    const shown = Object.fromEntries(one.headers);
    expect(shown).toMatchObject({ 'user-agent': 'Reader/1.2 (a test)', accept: 'text/event-stream' });
    for (const name of Object.keys(secrets).filter((key) => key !== 'referer')) expect(shown[name]).toBeNull();
    expect(shown.referer).toBe('https://app.example/a/…?code=…');
    expect(stream.text).not.toContain('hunter2');
  });

  test('is shown as closed, with the reason', async () => {
    const { events, app, view, post } = await inspected();
    const reader = await another(app, '/events');
    const [conn] = events.connections;
    const stream = await view(`?selected=${conn!.id}`);
    await nextData(stream, 'selected');
    expect((await post(`connections/${conn!.id}/end`, {})).status).toBe(204);
    expect(await overOf(conn!)).toBe('end');
    expect(await nextData(stream, 'selected')).toEqual({ id: conn!.id, closed: 'end' });
    await reader.closed;
    expect(reader.events.at(-1)).toMatchObject({ event: 'end' });
    expect(await nextData(await view(`?selected=${conn!.id}`), 'selected')).toEqual({
      id: conn!.id,
      closed: 'unknown',
    });
  });

  test.each(EXPRESSES)('can be closed once on %s', async (_, make) => {
    const { events, app, view, post } = await inspected(sse(), {}, make);
    await another(app, '/events');
    const [conn] = events.connections;
    expect(await nextData(await view(), 'connections')).toMatchObject({
      rows: [{ id: conn!.id, address: '127.0.0.1' }],
    });
    expect((await post(`connections/${conn!.id}/close`, {})).status).toBe(204);
    expect(await overOf(conn!)).toBe('handler');
    expect((await post(`connections/${conn!.id}/close`, {})).status).toBe(404);
    expect((await post('connections/unknown/end', {})).status).toBe(404);
    expect((await post(`connections/${conn!.id}/embrace`, {})).status).toBe(404);
  });

  test('cannot be closed by a page of another origin', async () => {
    const { events, app, url, post } = await inspected();
    await another(app, '/events');
    const [conn] = events.connections;
    const path = `connections/${conn!.id}/end`;
    const statuses = await Promise.all([
      post(path, {}, { headers: { origin: 'https://elsewhere.example' } }),
      post(path, {}, { headers: { origin: 'null' } }),
      post(path, {}, { headers: { 'sec-fetch-site': 'same-site' } }),
      post(path, {}, { headers: { 'sec-fetch-site': 'cross-site' } }),
      ask(`${url}/admin/_events/${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{}',
      }),
      post(path, 'a=b', { headers: { 'content-type': 'application/x-www-form-urlencoded' } }),
      post(path, '{}', { headers: { 'content-type': 'text/plain' } }),
      post(path, '{', {}),
    ]);
    expect(statuses.map(({ status }) => status)).toEqual([403, 403, 403, 403, 403, 415, 415, 400]);
    expect(conn!.readyState).toBe('open');
  });

  test('can be closed from the origin of a trusted proxy', async () => {
    const { events, app, post } = await inspected();
    await another(app, '/events');
    const [conn] = events.connections;
    const headers = { origin: 'https://shop.example', 'x-forwarded-host': 'shop.example' };
    expect((await post(`connections/${conn!.id}/end`, {}, { headers })).status).toBe(403);
    app.set('trust proxy', true);
    expect((await post(`connections/${conn!.id}/end`, {}, { headers })).status).toBe(204);
  });
});

test('redaction shows all names, and values that are known to be harmless', () => {
  const shown = redactHeaders({
    'x-pin': '4711',
    'x-trace': 'a1b2c3d4e5f6a7b8c9',
    'accept-language': 'en',
    'x-sid': 'a',
  });
  expect(shown).toEqual([
    ['x-pin', null],
    ['x-trace', null],
    ['accept-language', 'en'],
    ['x-sid', null],
  ]);
  expect(redactUrl('/a/b')).toBe('/a/b');
  expect(redactHeaders({ 'last-event-id': 'session-token-9f8e7d6c5b4a39281' })).toEqual([['last-event-id', '…']]);
  expect(redactUrl('/t/eyJhbGciOiJIUzI1NiJ9.e30.x?q=1&r&a1b2c3d4e5f6a7b8c9=')).toBe('/t/…?q=…&r=…&…');
});

test.each([
  ['/x;jsessionid=1A2B3C4D5E6F', '/x;…'],
  ['/x;v=1;sid=2/y', '/x;…;…/y'],
  ['/k:ab12cd34ef56.gh78ij90kl12', '/…'],
  ['/reset/QWERTYUIOPASDFGHJKLZXCVBNM', '/reset/…'],
  ['/t/s3cr3t-pass', '/t/…'],
  ['/t/dQwVgXcQ', '/t/…'],
  ['/%74%6f%6b%65%6e%31%32%33%34%35%36', '/…'],
  ['/%zz/a', '/…/a'],
  ['/a=b', '/…'],
  ['/\u202Ea', '/…'],
  ['/a?justtoken12345', '/a?…'],
  ['/a?b=1;token=secret', '/a?b=…'],
  ['/a?b=1?token', '/a?b=…'],
  [`/${'a-'.repeat(40)}`, '/…'],
  ['https://user:pass@app7.example:8080/a', 'https://app7.example:8080/a'],
  ['https://a@b@c/t0k3n', 'https://c/…'],
])('redaction shows of %j only %j', (url, shown) => expect(redactUrl(url)).toBe(shown));

test.each([
  '/',
  '/api/v2/orders/1234',
  '/events/order:17,order:18',
  '/users/@ada/userSettings',
  '/order-items/item_12.json',
  '/AAPL/2026-11-27',
  '/m%C3%BCnchen/%E6%9D%B1%E4%BA%AC',
  '/a//b/',
  '//evil.example/a',
])('redaction shows %j unchanged', (url) => expect(redactUrl(url)).toBe(url));

test.each([
  ['', ''],
  ['1700000000000-12', '1700000000000-12'],
  ['mine-7', 'mine-7'],
  ['k3x9f2a1-42', '…-42'],
  ['chat-9f8e~g1a2b3c4~17', '…~17'],
  ['f47ac10b-58cc-4372-a567-123456789012', '…'],
  ['a'.repeat(100), '…'],
])('of the id %j the page shows %j', (id, shown) => expect(redactId(id)).toBe(shown));

describe('publishing', () => {
  test('is off by default', async () => {
    const { post } = await inspected();
    expect((await post('publish', { event: '', data: 'x', to: [] })).status).toBe(404);
  });

  test('sends a test event to real clients', async () => {
    const { events, app, view, post } = await inspected(undefined, { publish: true });
    const reader = await another(app, '/events?join=a');
    await reader.next(); // the checkpoint
    expect(await nextData(await view(), 'hello')).toMatchObject({ publish: true });
    const answer = await post('publish', { event: 'drill', data: 'one\ntwo', to: ['a'] });
    expect([answer.status, JSON.parse(answer.text)]).toEqual([201, { id: events.position }]);
    expect(await reader.next()).toMatchObject({ event: 'drill', data: 'one\ntwo', id: events.position });
    await post('publish', { event: '', data: 'all', to: [] });
    expect(await reader.next()).toMatchObject({ event: 'message', data: 'all' });
  });

  test('reports what cannot be sent, and is refused to pages of another origin', async () => {
    const { events, post } = await inspected(undefined, { publish: true });
    const refused = await post('publish', { event: 'error', data: '', to: [] });
    expect([refused.status, JSON.parse(refused.text)]).toMatchObject([400, { code: 'ERR_SSE_EVENT' }]);
    for (const body of [[], null, { data: 'x' }, { event: '', data: 'x', to: [''] }, { event: '', data: {}, to: [] }]) {
      expect((await post('publish', body)).status).toBe(400);
    }
    const foreign = { headers: { origin: 'https://elsewhere.example' } };
    expect((await post('publish', { event: '', data: 'x', to: [] }, foreign)).status).toBe(403);
    expect(events.stats().broadcasts).toBe(0);
    await events.close();
    expect((await post('publish', { event: '', data: 'x', to: [] })).status).toBe(503);
  });
});

test('arguments are checked at once', async () => {
  const { events } = await opened();
  expect(codeOf(() => inspector(undefined as never))).toBe('ERR_SSE_OPTION');
  expect(codeOf(() => inspector(express.Router() as never))).toBe('ERR_SSE_OPTION');
  expect(() => inspector(sse as never)).toThrow(
    /^inspector\(events\): events .* a router that sse\(\) or runs\(\) has returned\b/,
  );
  expect(codeOf(() => inspector(events, { publish: 'yes' } as never))).toBe('ERR_SSE_OPTION');
  expect(codeOf(() => inspector(events, null as never))).toBe('ERR_SSE_OPTION');
  expect(() => inspector(events, { publsh: true } as never)).toThrow('Did you mean publish?');
});

test('the example asks for a password, and serves the page', async () => {
  const example = await start('inspector.ts');
  expect((await fetch(`${example.url}/_events/`)).status).toBe(401);
  const headers = { Authorization: `Basic ${Buffer.from('admin:night').toString('base64')}` };
  const page = await fetch(`${example.url}/_events`, { headers });
  expect(page.url).toBe(`${example.url}/_events/`);
  expect(await page.text()).toContain('<title>Event streams</title>');
  expect((await example.stop()).code).toBe(0);
});
