/*
 * What the application sees of a client behind each proxy: its address, the host of its request, and the protocol.
 */

import { request } from 'node:http';
import { connect as dial } from 'node:http2';
import { connect as dialTcp } from 'node:net';
import { connect as dialTls } from 'node:tls';
import express from 'express';
import { sse } from '../../lib/index.ts';
import { eventually } from '../fixtures/http.ts';
import { later, listening } from '../fixtures/support.ts';
import { startProxy, type Edits } from './fixtures/proxy.ts';
import type { ProxyName } from './fixtures/recipes.ts';

/** The proxies have 127.0.0.1, so the client has another address of the machine. */
const CLIENT = '127.0.0.2';

interface Seen {
  readonly status: number;
  readonly text: string;
}

/** Starts a proxy in front of an app that trusts one proxy. Only pages of the app's own origin may read the stream. */
async function behind(name: ProxyName, edits: Edits = []) {
  const events = sse((conn, req) => void conn.push({ event: 'you', data: `${req.ip} over ${req.protocol}` }), {
    cors: { origin: false },
    limits: { perClient: 2 },
  });
  later(() => events.close());
  const app = express().set('trust proxy', 1).use('/events', events);
  const { port } = await listening(app);
  const proxy = await startProxy(name, port, edits);
  later(() => proxy.stop());
  return { ...proxy, events };
}

/** Opens a stream over HTTP/1.1, and reads it until its first event or its end. */
function overHttp1(url: string, origin: string, localAddress = CLIENT): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const asking = request(`${url}/events`, { localAddress, headers: { origin }, agent: false }, (response) => {
      let text = '';
      const seen = (): void => resolve({ status: response.statusCode!, text });
      response.on('error', () => {}).on('end', seen);
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk).includes('event: you') && seen());
    });
    later(() => asking.destroy());
    asking.on('error', reject).end();
  });
}

/** The same over HTTP/2. */
async function overHttp2(url: string, origin: string): Promise<Seen> {
  const { port } = new URL(url);
  const socket = dialTls({
    socket: dialTcp({ host: '127.0.0.1', port: Number(port), localAddress: CLIENT }),
    rejectUnauthorized: false,
    servername: 'localhost',
    ALPNProtocols: ['h2'],
  });
  const session = dial(url, { createConnection: () => socket });
  later(() => session.destroy());
  session.on('error', () => {});
  const asking = session.request({ ':path': '/events', origin });
  let [status, text, over] = [0, '', false];
  asking.on('response', (head) => (status = head[':status']!)).on('error', () => {});
  asking.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  asking.on('close', () => (over = true));
  await eventually(() => over || text.includes('event: you'), 10_000);
  return { status, text };
}

const seenAs = (what: string): Seen => ({ status: 200, text: expect.stringContaining(`data: ${what}\n`) as string });

test.each<[name: ProxyName, secure: string]>([
  ['nginx', 'https'],
  ['HAProxy', 'https'],
  ['Varnish', ''],
  ['Caddy', 'https'],
  ['Apache', 'http'], // it does not send the protocol
])('%s sends the address of the client, and a page of the own origin passes', async (name, protocol) => {
  const { url, secure } = await behind(name);
  expect(await overHttp1(url, url)).toEqual(seenAs(`${CLIENT} over http`));
  expect(await overHttp1(url, 'https://elsewhere.example')).toMatchObject({ status: 403 });
  if (secure === undefined) return;
  expect(await overHttp2(secure, secure)).toEqual(seenAs(`${CLIENT} over ${protocol}`));
});

test.each<[name: ProxyName]>([['nginx'], ['HAProxy']])(
  'with %s, the streams of one client do not count for another client',
  async (name) => {
    const { url, events } = await behind(name);
    for (let n = 0; n < 2; n++) expect(await overHttp1(url, url)).toEqual(seenAs(`${CLIENT} over http`));
    expect((await overHttp1(url, url)).text).not.toContain('event: you');
    expect(await overHttp1(url, url, '127.0.0.3')).toEqual(seenAs('127.0.0.3 over http'));
    expect(events.size).toBe(3);
  },
);

test.each<[line: string, name: ProxyName, edits: Edits, status: number, text: string]>([
  ['X-Forwarded-For', 'nginx', [['proxy_set_header X-Forwarded-For', '# ']], 200, 'data: 127.0.0.1 over http\n'],
  ['Host', 'nginx', [['proxy_set_header Host', '# ']], 403, ''],
  ['option forwardfor', 'HAProxy', [['option forwardfor', '# ']], 200, 'data: 127.0.0.1 over http\n'],
])('without %s, %s gives the app its own address or host', async (_line, name, edits, status, text) => {
  const { url } = await behind(name, edits);
  expect(await overHttp1(url, url)).toEqual({ status, text: expect.stringContaining(text) as string });
});
