import { run } from '../../lib/cli/command.ts';
import { clock } from '../fixtures/http.ts';
import { startOrigin, type Origin } from './fixtures/origin.ts';
import { startProxy, type Edits, type Proxy } from './fixtures/proxy.ts';
import { read, until, type Headers, type Reading } from './fixtures/reading.ts';
import type { ProxyName } from './fixtures/recipes.ts';

const WITHIN = 150;
const GZIP = { 'accept-encoding': 'gzip' };

let origin: Origin;
const left: (() => Promise<void>)[] = [];

beforeAll(async () => {
  origin = await startOrigin();
});
afterAll(() => origin?.stop());
afterEach(async () => {
  for (const close of left.splice(0).toReversed()) await close();
});

async function proxyWith(name: ProxyName, edits: Edits = []): Promise<Proxy> {
  const proxy = await startProxy(name, origin.port, edits);
  left.push(() => {
    origin.server.closeAllConnections(); // Apache would wait for them
    return proxy.stop();
  });
  return proxy;
}

async function open(proxy: Proxy, path: string, user: string, headers: Headers = {}): Promise<Reading> {
  const reading = await read(proxy.url, path, { 'x-user': user, ...headers }, 1500);
  left.push(() => reading.close());
  return reading;
}

/** Two users, each with a stream and a first event of their own, and a broadcast that is there at once. */
async function live(proxy: Proxy, path = '/events', headers: Headers = {}): Promise<Reading> {
  const readings = new Map<string, Reading>();
  for (const user of ['Ann', 'Bob']) {
    const reading = await open(proxy, path, user, headers);
    await until(reading, 'hello', user, 1500);
    readings.set(user, reading);
  }
  const late: number[] = [];
  for (const data of ['1', '2', '3']) {
    const sent = clock();
    await origin.at(path.split('?')[0]!).broadcast({ event: 'tick', data });
    for (const reading of readings.values()) late.push((await until(reading, 'tick', data, 1500)) - sent);
  }
  for (const [user, { events }] of readings) {
    expect(events.filter(({ event }) => event === 'hello').map(({ data }) => data)).toEqual([user]);
  }
  expect(Math.min(...late)).toBeLessThan(WITHIN);
  expect(late.toSorted((a, b) => a - b)[3]).toBeLessThan(WITHIN);
  return readings.get('Ann')!;
}

const PASS = 'proxy_pass http://127.0.0.1:3000;';
const CADDY = 'reverse_proxy 127.0.0.1:3000';
const NGINX_GZIP: Edits = [[PASS, `${PASS} gzip on; gzip_types text/event-stream; gzip_proxied any;`]];
const NGINX_CACHE: Edits = [
  ['server {', 'proxy_cache_path cache keys_zone=c:1m;\nserver {'],
  [PASS, `${PASS} proxy_cache c; proxy_cache_valid any 60s;`],
];
const CADDY_GZIP: Edits = [[CADDY, `encode gzip\n\t${CADDY}`]];
const VARNISH_GZIP: Edits = [
  ['backend default', 'sub vcl_backend_response { set beresp.do_gzip = true; }\nbackend default'],
];
const UNPIPED: Edits = [['return (pipe);', '']];
// What docs/proxies.md says to write instead.
const CADDY_REST: Edits = [[CADDY, `@rest not path /events*\n\tencode @rest gzip\n\t${CADDY}`]];
const VARNISH_REST: Edits = [
  ...UNPIPED,
  [
    'backend default',
    'sub vcl_backend_response { if (beresp.http.Content-Type !~ "^text/event-stream") { set beresp.do_gzip = true; } }\nbackend default',
  ],
];
const HAPROXY_GZIP: Edits = [
  ['option http-no-delay', 'option http-no-delay\n\tcompression algo gzip\n\tcompression type text/event-stream\n\t'],
];
const HAPROXY_CACHE: Edits = [
  ['frontend web', 'cache c\n\ttotal-max-size 4\nfrontend web'],
  ['option http-no-delay', 'http-request cache-use c\n\thttp-response cache-store c\n\toption http-no-delay'],
];
const CADDY_FLUSH: Edits = [[CADDY, `encode gzip\n\t${CADDY} {\n\t\tflush_interval -1\n\t}`]];
const APACHE_BUFFER: Edits = [['ServerName example.com', 'SetOutputFilter BUFFER']];
const APACHE_GZIP: Edits = [['ServerName example.com', 'AddOutputFilterByType DEFLATE text/event-stream']];

test.each<[what: string, name: ProxyName, edits: Edits, encoding: string | undefined]>([
  ['gzip_types text/event-stream', 'nginx', NGINX_GZIP, 'gzip'],
  ['proxy_cache', 'nginx', NGINX_CACHE, undefined],
  ['compression type text/event-stream', 'HAProxy', HAPROXY_GZIP, undefined],
  ['cache', 'HAProxy', HAPROXY_CACHE, undefined],
  ['encode gzip', 'Caddy', CADDY_GZIP, undefined],
  ['encode of everything else', 'Caddy', CADDY_REST, undefined],
  ['do_gzip', 'Varnish', VARNISH_GZIP, undefined],
  ['do_gzip of everything else, and no pipe', 'Varnish', VARNISH_REST, undefined],
  ['DEFLATE text/event-stream', 'Apache', APACHE_GZIP, 'gzip'],
  ['SetOutputFilter BUFFER', 'Apache', APACHE_BUFFER, undefined],
])('PX with %s, %s stays live and separate', async (_, name, edits, encoding) => {
  const proxy = await proxyWith(name, edits);
  const { headers } = await live(proxy, '/events', GZIP);
  expect(headers['content-encoding']).toBe(encoding);
  if (edits === CADDY_GZIP) return; // which holds it back, see below
  const large = await open(proxy, '/events?large', 'Ann', GZIP);
  await until(large, 'hello', 'Ann'.padEnd(4096, '.'), 1500);
});

test.each<[name: ProxyName]>([['nginx'], ['HAProxy'], ['Varnish'], ['Caddy'], ['Apache']])(
  'PX what the package has compressed comes through %s live',
  async (name) => {
    const { headers } = await live(await proxyWith(name), '/zipped', GZIP);
    expect(headers['content-encoding']).toBe('gzip');
  },
);

describe('what is known not to work, and what helps', () => {
  test('PF-03 Caddy with `encode gzip` holds a stream back whose first write is large; `compress` rescues it, or a header', async () => {
    const proxy = await proxyWith('Caddy', CADDY_GZIP);
    const held = await open(proxy, '/events?large', 'Ann', GZIP);
    await expect(until(held, 'hello', 'Ann'.padEnd(4096, '.'), 500)).rejects.toThrow('what came');
    for (const path of ['/identity', '/zipped']) {
      const rescued = await open(proxy, `${path}?large`, 'Ann', GZIP);
      await until(rescued, 'hello', 'Ann'.padEnd(4096, '.'), 500);
    }
  });

  test('to flush at once does not help behind `encode gzip` in Caddy', async () => {
    const proxy = await proxyWith('Caddy', CADDY_FLUSH);
    const held = await open(proxy, '/events?large', 'Ann', GZIP);
    await expect(until(held, 'hello', 'Ann'.padEnd(4096, '.'), 500)).rejects.toThrow('what came');
  });

  test('Varnish that does not pipe and is told to compress all holds everything back; either rescues it', async () => {
    const proxy = await proxyWith('Varnish', [...UNPIPED, ...VARNISH_GZIP]);
    const held = await open(proxy, '/events', 'Ann', GZIP);
    await expect(until(held, 'hello', 'Ann', 500)).rejects.toThrow('what came');
    await live(proxy, '/identity', GZIP);
    await live(proxy, '/zipped', GZIP);
  });

  // The two that an ordinary configuration breaks, unless the headers say what they do: this suite can tell.
  test('nginx keeps back all of a stream that does not say X-Accel-Buffering: no', async () => {
    const proxy = await proxyWith('nginx');
    await expect(open(proxy, '/bare', 'Ann')).rejects.toThrow('no answer');
  });

  test.each<[name: ProxyName, edits: Edits, path: string, code: number, says: RegExp]>([
    ['nginx', [], '/bare', 5, /wrong: no answer within [^]*nginx with its default settings/],
    ['Varnish', [...UNPIPED, ...VARNISH_GZIP], '/bare', 5, /wrong: compressed \(gzip\) without a flush[^]*/],
    ['Varnish', [], '/bare', 5, /on the way: Varnish \(via: [^]*wrong: cacheable/],
    ['nginx', [], '/events', 0, /on the way: nginx \(server: /],
  ])('`tail --doctor` tells what %s does', async (name, edits, path, code, says) => {
    const { url } = await proxyWith(name, edits);
    let said = '';
    const [stdout, stderr] = [{ write: () => true }, { write: (text: string) => (said += text) }];
    const args = ['tail', `${url}${path}`, '--doctor', '--timeout', '2', '--header', 'x-user: Ann'];
    expect(await run(args, { stdout, stderr, env: {}, signal: new AbortController().signal })).toBe(code);
    expect(said).toMatch(says);
  });

  test('Varnish hands one stream to everybody when it does not say Cache-Control', async () => {
    const proxy = await proxyWith('Varnish');
    await until(await open(proxy, '/bare', 'Ann'), 'hello', 'Ann');
    await until(await open(proxy, '/bare', 'Bob'), 'hello', 'Ann');
  });
});
