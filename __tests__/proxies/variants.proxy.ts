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
    origin.server.closeAllConnections(); // otherwise Apache waits for them
    return proxy.stop();
  });
  return proxy;
}

async function open(proxy: Proxy, path: string, user: string, headers: Headers = {}): Promise<Reading> {
  const reading = await read(proxy.url, path, { 'x-user': user, ...headers }, 1500);
  left.push(() => reading.close());
  return reading;
}

/** Expects that two users have streams of their own, and that a broadcast arrives at once. */
async function expectLive(proxy: Proxy, path = '/events', headers: Headers = {}): Promise<Reading> {
  const readings = new Map<string, Reading>();
  for (const user of ['Ann', 'Bob']) {
    const reading = await open(proxy, path, user, headers);
    await until(reading, 'hello', user, 1500);
    readings.set(user, reading);
  }
  const delays: number[] = [];
  for (const data of ['1', '2', '3']) {
    const sent = clock();
    await origin.at(path.split('?')[0]!).broadcast({ event: 'tick', data });
    for (const reading of readings.values()) delays.push((await until(reading, 'tick', data, 1500)) - sent);
  }
  for (const [user, { events }] of readings) {
    expect(events.filter(({ event }) => event === 'hello').map(({ data }) => data)).toEqual([user]);
  }
  expect(Math.min(...delays)).toBeLessThan(WITHIN);
  expect(delays.toSorted((a, b) => a - b)[3]).toBeLessThan(WITHIN);
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
// The alternatives that docs/proxies.md recommends.
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
])('with %s, %s passes events on at once, and keeps users apart', async (_, name, edits, encoding) => {
  const proxy = await proxyWith(name, edits);
  const { headers } = await expectLive(proxy, '/events', GZIP);
  expect(headers['content-encoding']).toBe(encoding);
  if (edits === CADDY_GZIP) return; // it holds a large first write back, see below
  const large = await open(proxy, '/events?large', 'Ann', GZIP);
  await until(large, 'hello', 'Ann'.padEnd(4096, '.'), 1500);
});

test.each<[name: ProxyName]>([['nginx'], ['HAProxy'], ['Varnish'], ['Caddy'], ['Apache']])(
  'a stream that the package has compressed passes %s at once',
  async (name) => {
    const { headers } = await expectLive(await proxyWith(name), '/zipped', GZIP);
    expect(headers['content-encoding']).toBe('gzip');
  },
);

describe('a configuration that breaks streams', () => {
  test('Caddy with `encode gzip` holds back a stream with a large first write; `compress` or a header prevents it', async () => {
    const proxy = await proxyWith('Caddy', CADDY_GZIP);
    const held = await open(proxy, '/events?large', 'Ann', GZIP);
    await expect(until(held, 'hello', 'Ann'.padEnd(4096, '.'), 500)).rejects.toThrow('received');
    for (const path of ['/identity', '/zipped']) {
      const passing = await open(proxy, `${path}?large`, 'Ann', GZIP);
      await until(passing, 'hello', 'Ann'.padEnd(4096, '.'), 500);
    }
  });

  test('`flush_interval -1` does not help behind `encode gzip` in Caddy', async () => {
    const proxy = await proxyWith('Caddy', CADDY_FLUSH);
    const held = await open(proxy, '/events?large', 'Ann', GZIP);
    await expect(until(held, 'hello', 'Ann'.padEnd(4096, '.'), 500)).rejects.toThrow('received');
  });

  test('Varnish without pipe and with do_gzip holds everything back; `compress` or a header prevents it', async () => {
    const proxy = await proxyWith('Varnish', [...UNPIPED, ...VARNISH_GZIP]);
    const held = await open(proxy, '/events', 'Ann', GZIP);
    await expect(until(held, 'hello', 'Ann', 500)).rejects.toThrow('received');
    await expectLive(proxy, '/identity', GZIP);
    await expectLive(proxy, '/zipped', GZIP);
  });

  // The next streams lack a header of the package. So this suite would notice if the package did not send it.
  test('nginx holds back a stream without X-Accel-Buffering: no', async () => {
    const proxy = await proxyWith('nginx');
    await expect(open(proxy, '/bare', 'Ann')).rejects.toThrow('no answer');
  });

  test.each<[name: ProxyName, edits: Edits, path: string, code: number, report: RegExp]>([
    ['nginx', [], '/bare', 5, /wrong: no answer within [^]*nginx with its default settings/],
    ['Varnish', [...UNPIPED, ...VARNISH_GZIP], '/bare', 5, /wrong: compressed \(gzip\) without a flush[^]*/],
    ['Varnish', [], '/bare', 5, /on the way: Varnish \(via: [^]*wrong: cacheable/],
    ['nginx', [], '/events', 0, /on the way: nginx \(server: /],
  ])('`tail --doctor` reports what %s does', async (name, edits, path, code, report) => {
    const { url } = await proxyWith(name, edits);
    let output = '';
    const [stdout, stderr] = [{ write: () => true }, { write: (text: string) => (output += text) }];
    const args = ['tail', `${url}${path}`, '--doctor', '--timeout', '2', '--header', 'x-user: Ann'];
    expect(await run(args, { stdout, stderr, env: {}, signal: new AbortController().signal })).toBe(code);
    expect(output).toMatch(report);
  });

  test('Varnish sends one stream to every user if it has no Cache-Control', async () => {
    const proxy = await proxyWith('Varnish');
    await until(await open(proxy, '/bare', 'Ann'), 'hello', 'Ann');
    await until(await open(proxy, '/bare', 'Bob'), 'hello', 'Ann');
  });
});
