/*
 * Proxies that store answers: Varnish without any rule of the application, and nginx with a cache for every status. An answer that a
 * router gives to one client reaches no other client. The answers of the router are otherwise those that both proxies store.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { sse } from '../../lib/index.ts';
import { runs } from '../../lib/runs/index.ts';
import { later } from '../fixtures/support.ts';
import { startProxy, type Edits } from './fixtures/proxy.ts';
import { read, until, type Headers, type Reading } from './fixtures/reading.ts';
import type { ProxyName } from './fixtures/recipes.ts';

const PASS = 'proxy_pass http://127.0.0.1:3000;';
const NGINX_CACHE: Edits = [
  ['server {', 'proxy_cache_path cache keys_zone=c:1m;\nserver {'],
  [PASS, `${PASS} proxy_cache c; proxy_cache_valid any 60s;`],
];
const UNPIPED: Edits = [['return (pipe);', '']];

const PROXIES: [what: string, name: ProxyName, edits: Edits][] = [
  ['Varnish with its default rules', 'Varnish', UNPIPED],
  ['nginx with proxy_cache_valid any', 'nginx', NGINX_CACHE],
];

interface Site {
  readonly url: string;
  /** Opens a stream, or reads another answer. */
  readonly open: (path: string, headers?: Headers) => Promise<Reading>;
}

async function cached(name: ProxyName, edits: Edits): Promise<Site> {
  const app = express();
  app.set('env', 'test');
  const events = sse((conn) => void conn.push({ event: 'hello', data: 'events' }));
  const limited = sse((conn) => void conn.push({ event: 'hello', data: 'limited' }), {
    limits: { perClient: 1, clientKey: (req) => req.get('x-user')!, whenFull: 'reject' },
  });
  const chat = runs(
    async function* ({ signal }) {
      yield { event: 'hello', data: 'chat' };
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
    { id: () => 'r' },
  );
  app.use('/events', events);
  app.use('/limited', limited);
  app.use('/chat', chat);
  // The control: it proves that the proxy stores the 204 of an application without the header.
  let asked = 0;
  app.get('/control', (_req, res) => {
    if (asked++ === 0) res.status(204).end();
    else res.send('asked again');
  });
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  later(async () => {
    server.closeAllConnections();
    server.close();
    for (const router of [events, limited, chat]) await router.close();
  });
  const proxy = await startProxy(name, (server.address() as AddressInfo).port, edits);
  later(() => {
    server.closeAllConnections();
    return proxy.stop();
  });
  const open = async (path: string, headers: Headers = {}): Promise<Reading> => {
    const reading = await read(proxy.url, path, headers, 3000);
    later(() => reading.close());
    return reading;
  };
  return { url: proxy.url, open };
}

describe.each(PROXIES)('%s', (_what, name, edits) => {
  test('stores a 204 of an application that sends no Cache-Control', async () => {
    const { url } = await cached(name, edits);
    for (const _ of [1, 2]) expect((await fetch(`${url}/control`)).status).toBe(204);
  });

  test('does not send the 204 of a client that has ended to the next client', async () => {
    const { open } = await cached(name, edits);
    expect((await open('/events', { 'last-event-id': 'sse-router:end' })).status).toBe(204);
    await until(await open('/events'), 'hello', 'events');
  });

  test('does not send the 429 of one client to another client', async () => {
    const { open } = await cached(name, edits);
    await until(await open('/limited', { 'x-user': 'Ann' }), 'hello', 'limited');
    expect((await open('/limited', { 'x-user': 'Ann' })).status).toBe(429);
    await until(await open('/limited', { 'x-user': 'Bob' }), 'hello', 'limited');
  });

  test('does not send the 406 of one client to another client', async () => {
    const { open } = await cached(name, edits);
    expect((await open('/events', { accept: 'application/json' })).status).toBe(406);
    await until(await open('/events'), 'hello', 'events');
  });

  test('does not send the 204 of an unknown run to a client that asks for it after the POST', async () => {
    const { url, open } = await cached(name, edits);
    expect((await open('/chat/r')).status).toBe(204);
    const controller = new AbortController();
    const post = await fetch(`${url}/chat`, { method: 'POST', signal: controller.signal });
    expect(post.status).toBe(200);
    await until(await open('/chat/r'), 'hello', 'chat');
    controller.abort();
  });
});
