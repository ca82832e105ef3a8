/*
 * Both paths of a transport, through the response and directly to the socket, must put the same bytes on the wire. The direct path is
 * used unless `res.write` is wrapped, even by a wrapper that changes nothing.
 */

import { OutgoingMessage, type IncomingMessage } from 'node:http';
import { createServer as createTlsServer, request as tlsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { certificate } from '../fixtures/certificate.ts';
import { Random, seedFrom } from '../fixtures/random.ts';
import { sse, type SseOptions, type SseRouter, type Connection } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';

/** Every write of a response calls it, and the direct path only once, for the head. A spy on `write` would disable the direct path. */
const send = jest.spyOn(OutgoingMessage.prototype as unknown as { _send: () => boolean }, '_send');

const SEED = seedFrom('TRANSPORT_SEED');

interface Setup {
  readonly app: express.Express;
  readonly events: SseRouter;
  readonly connections: Connection[];
  /** Called by the wrapper of `write`. */
  readonly onWrite: jest.Mock;
}

function setUp(wrapped: boolean, options: SseOptions = {}): Setup {
  const app = express();
  const connections: Connection[] = [];
  const onWrite = jest.fn();
  if (wrapped) {
    app.use((_req, res, next) => {
      const plain = res.write.bind(res) as (...args: unknown[]) => boolean;
      res.write = (...args: unknown[]) => {
        onWrite();
        return plain(...args);
      };
      next();
    });
  }
  const events = sse(
    (conn) => {
      connections.push(conn);
      conn.join('a');
      conn.push({ event: 'welcome', data: 'é€💥' });
    },
    { retry: 3000, ...options },
  );
  app.use('/events', events);
  return { app, events, connections, onWrite };
}

const tick = (): Promise<void> => new Promise(setImmediate);

/** Runs a random program and returns the body, without the random part of the ids. */
async function play({ app, events, connections }: Setup, seed: number): Promise<string> {
  const random = new Random(seed);
  const stream = await connect(app, '/events');
  await stream.next();
  const conn = connections[0]!;
  const text = (): string => random.of(['x', 'a\nb', '€'.repeat(1 + random.below(4000)), ''])!;
  for (let step = 0; step < 60; step++) {
    const dice = random.next();
    if (dice < 0.3) conn.push(text());
    else if (dice < 0.6) await events.broadcast({ event: 'n', data: { step, text: text() } });
    else if (dice < 0.7) await events.broadcast(text(), { to: random.next() < 0.5 ? 'a' : 'b' });
    else if (dice < 0.78) conn.comment(text());
    else if (dice < 0.84) stream.pause();
    else if (dice < 0.9) stream.resume();
    else await tick();
  }
  stream.resume();
  if (random.next() < 0.5) conn.end();
  else conn.close({ retry: 1234 });
  const body = await stream.body();
  await stream.close();
  await events.close();
  return body.replaceAll(/[0-9a-z]{12}-(\d+)/g, 'epoch-$1');
}

test('a plain Express response uses the direct path: its own write is never called', async () => {
  const { app, events } = setUp(false);
  const stream = await connect(app, '/events');
  await stream.next();
  const before = send.mock.calls.length;
  for (let n = 0; n < 10; n++) await events.broadcast({ data: n });
  expect((await stream.take(10)).map(({ data }) => data)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
  expect(send.mock.calls.length).toBe(before);
  await stream.close();
  await events.close();
});

test('a wrapped response uses the other path: every write goes through the wrapper', async () => {
  const { app, events, onWrite } = setUp(true);
  const stream = await connect(app, '/events');
  await stream.next();
  const before = onWrite.mock.calls.length;
  await events.broadcast('once');
  await stream.next();
  expect(onWrite.mock.calls.length).toBe(before + 1);
  await stream.close();
  await events.close();
});

test.each(Array.from({ length: 12 }, (_, index) => SEED + index))(
  'the same bytes on both paths, program %i',
  async (seed) => {
    const direct = await play(setUp(false), seed);
    const wrapped = await play(setUp(true), seed);
    expect(direct.length).toBeGreaterThan(200);
    expect(direct).toBe(wrapped);
  },
);

test('the same bytes over TLS, where the direct path is used as well', async () => {
  const { app, events, connections } = setUp(false);
  const server = createTlsServer(certificate, app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    tlsRequest({ port, path: '/events', rejectUnauthorized: false, agent: false }, resolve).on('error', reject).end();
  });
  const before = send.mock.calls.length;
  await events.broadcast({ event: 'big', data: '€'.repeat(100_000) });
  connections[0]!.push('own');
  await tick();
  expect(send.mock.calls.length).toBe(before);
  connections[0]!.close();
  let body = '';
  response.setEncoding('utf8');
  for await (const chunk of response) body += chunk;
  expect(body.replaceAll(/[0-9a-z]{12}-(\d+)/g, 'epoch-$1')).toBe(
    `:\nretry: 3000\nid: epoch-0\nevent: welcome\ndata: é€💥\n\nid: epoch-1\nevent: big\ndata: ${'€'.repeat(100_000)}\n\ndata: own\n\n`,
  );
  await events.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

test('a router with further layers, and one below route parameters, get the parameters and URLs of Express', async () => {
  const app = express();
  const seen: unknown[] = [];
  const events = sse((conn, req) => {
    seen.push(req.params, req.baseUrl, req.url);
    conn.open();
  });
  app.use('/rooms/:room/events', events);
  const one = await connect(app, '/rooms/7/events');
  events.get('/more', (_req, res) => void res.send('more'));
  const two = await connect(app, '/rooms/8/events');
  const more = await connect(app, '/rooms/8/events/more');
  expect(await more.body()).toBe('more');
  expect(seen).toEqual([{ room: '7' }, '/rooms/7/events', '/', { room: '8' }, '/rooms/8/events', '/']);
  await Promise.all([one.close(), two.close(), more.close()]);
  await events.close();
});
