/*
 * A POST that the router does not serve gets a status, never an empty stream: its client would take that for an empty answer.
 */

import type { Request } from 'express';
import { memoryJournal, sse, type Journal, type SseOptions } from '../../lib/index.ts';
import { ask, eventually, Raw, serve } from '../fixtures/http.ts';
import { type AnyHandler, EXPRESSES, gate, later } from '../fixtures/support.ts';

const POST = { method: 'POST' };

async function site(handler: AnyHandler, options: SseOptions, make = EXPRESSES[1]![1]) {
  const calls: Request[] = [];
  const events = sse(
    (conn, req, res) => {
      calls.push(req);
      return handler(conn, req, res) as void;
    },
    { methods: ['GET', 'POST'], ...options },
  );
  later(() => events.close());
  const { port, url } = await serve((app) => app.use('/events', events), make);
  return { events, calls, port, url: `${url}/events` };
}

const refusal = (status: number) => ({ status, text: expect.stringMatching(/^[a-z ;,']+\n$/i) as string });

function expectRetryAfter(answer: { headers: Headers }): void {
  expect(answer.headers.get('retry-after')).toMatch(/^[2-5]$/);
  expect(answer.headers.get('content-type')).toBe('text/plain; charset=utf-8');
}

describe.each(EXPRESSES)('%s', (_name, make) => {
  test.each(['application/json', 'text/html', 'text/event-stream;q=0', '*/*'])(
    'Accept: %s is served: the clients of language models do not ask for event streams',
    async (accept) => {
      const { url } = await site((conn) => conn.pushAll(['a']).then(() => conn.end()), { methods: ['POST'] }, make);
      const answer = await ask(url, { ...POST, headers: { accept } });
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
      expect(answer.text).toContain('data: a\n\n');
    },
  );

  test('a GET at the same router is refused as before', async () => {
    const { url, calls } = await site((conn) => conn.end(), {}, make);
    expect((await ask(url, { headers: { accept: 'application/json' } })).status).toBe(406);
    expect((await ask(url, { method: 'HEAD', headers: { accept: 'application/json' } })).status).toBe(406);
    expect(calls).toHaveLength(0);
  });

  test.each([
    ['connections', { connections: 1 }, 503],
    ['perClient', { perClient: 1 }, 429],
  ] as const)('over limits.%s: a POST gets a status, a GET an empty stream', async (limit, limits, status) => {
    const { events, url, calls, port } = await site(() => {}, { limits: { ...limits, whenFull: 'retry' } }, make);
    new Raw(port).get('/events');
    await eventually(() => events.size === 1);
    const answer = await ask(url, POST);
    expect(answer).toMatchObject(refusal(status));
    expectRetryAfter(answer);
    expect((await ask(url)).status).toBe(200);
    expect(calls).toHaveLength(1);
    expect(events.stats().refused[limit]).toBe(2);
  });

  test('during and after a shutdown', async () => {
    const { events, url, calls, port } = await site(() => {}, {}, make);
    new Raw(port).get('/events');
    new Raw(port).get('/events');
    await eventually(() => events.size === 2);
    const closing = events.close({ over: 300 });
    const answer = await ask(url, POST);
    expect(answer).toMatchObject(refusal(503));
    expectRetryAfter(answer);
    expect((await ask(url)).status).toBe(200);
    await closing;
    expect(await ask(url, POST)).toMatchObject(refusal(503));
    expect(calls).toHaveLength(2);
    expect(events.stats().refused.shutdown).toBe(3);
  });

  test('whose stream has not opened at a shutdown', async () => {
    const { pass, open } = gate();
    const aborted: unknown[] = [];
    const { events, url } = await site(
      async (conn) => {
        conn.signal.addEventListener('abort', () => aborted.push(conn.signal.reason));
        await pass;
        conn.push('too late');
      },
      {},
      make,
    );
    const answers = [ask(url, POST), ask(url)];
    await eventually(() => events.stats().connecting === 2);
    await events.close();
    const [post, get] = await Promise.all(answers);
    expect(post).toMatchObject(refusal(503));
    expectRetryAfter(post!);
    expect(get!.status).toBe(200);
    expect(get!.text).toMatch(/^:\nretry: \d+\n[^]*\nretry: \d+\n$/);
    expect(aborted).toEqual(['shutdown', 'shutdown']);
    expect(events.stats()).toMatchObject({ connecting: 0, connections: 0, refused: { shutdown: 1 } });
    open();
  });
});

test('before the journal is open, after ten seconds', async () => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
  const journal: Journal = memoryJournal();
  journal.open = () => new Promise(() => {});
  const { events, port, calls } = await site(() => {}, { history: journal });
  const raw = new Raw(port).send('POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  const received = new Promise((resolve) => raw.socket.once('data', resolve));
  for (let n = 0; n < 30 && raw.text === ''; n++) await jest.advanceTimersByTimeAsync(500);
  await received;
  expect(raw.text).toMatch(/^HTTP\/1\.1 503 [^]*\r\nRetry-After: \d\r\n[^]*not ready\n$/i);
  expect(calls).toHaveLength(0);
  expect(events.size).toBe(0);
});

test('behind an open stream on the same socket', async () => {
  const { port, events, calls } = await site((conn) => void conn.push('open'), {});
  const raw = new Raw(port).get('/events');
  await raw.until('data: open');
  raw.send('POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  await new Promise((resolve) => setTimeout(resolve, 50)); // the time in which it would be admitted
  for (const conn of events.connections) conn.close();
  await raw.until('HTTP/1.1 503 ');
  expect(calls).toHaveLength(1);
});
