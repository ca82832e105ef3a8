/*
 * A router of runs whose store does not answer: what requests and callers receive, when, and what is kept for them.
 */
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { SseError } from '../../lib/errors.ts';
import { BoundedRuns } from '../../lib/runs/bounded-runs.ts';
import { GivenSources } from '../../lib/runs/given-source.ts';
import { openai, type RunsOptions } from '../../lib/runs/index.ts';
import type { RunStore } from '../../lib/runs/run-store.ts';
import { MemoryRunLogs } from '../../lib/runs/stores/memory-runs.ts';
import { eventually, pause, Raw } from '../fixtures/http.ts';
import { gate } from '../fixtures/support.ts';
import { fakeTime, hubOn, LinkedStore, pass, settle } from './fixtures.ts';
import { site, type RunsSite, until } from './sites.ts';

const json = { 'content-type': 'application/json' };
const ANSWER_TIMEOUT_MS = 10_000;
/** A comment, and the delay after which a browser reconnects. */
const RETRY_LATER = /^: (?:closing|not ready|full)\nretry: \d+\n$/;

interface UnavailableSite extends RunsSite {
  readonly store: LinkedStore;
  readonly errors: unknown[];
  /** Sends a request on a socket of its own. */
  readonly send: (method: string, path: string, body?: string, ...headers: string[]) => Raw;
}

/** @param change - what the store does differently */
async function linkedSite(
  options: RunsOptions<any> = {},
  change?: (store: RunStore) => RunStore,
): Promise<UnavailableSite> {
  const store = new LinkedStore(new MemoryRunLogs(), change);
  const errors: unknown[] = [];
  const made = await site({ store, onError: (error) => void errors.push(error), ...options });
  const { port } = made.server.address() as AddressInfo;
  const send = (method: string, path: string, body = '', ...headers: string[]): Raw =>
    new Raw(port).send(
      [
        `${method} /chat${path} HTTP/1.1`,
        'Host: localhost',
        'Connection: close',
        'Content-Type: application/json',
        `Content-Length: ${body.length}`,
        ...headers,
        '',
        body,
      ].join('\r\n'),
    );
  return { ...made, store, errors, send };
}

/** The state of the store when the request arrives: it was never open, or it was open and answers no more. */
type Outage = 'never open' | 'open before';

async function outage(kind: Outage, options: RunsOptions<any> = {}): Promise<UnavailableSite> {
  const store = new LinkedStore(new MemoryRunLogs());
  if (kind === 'never open') store.cut();
  const made = await linkedSite({ store, ...options });
  if (kind === 'open before') {
    await made.chat.status('r');
    store.cut();
  }
  return { ...made, store };
}

const statusOf = (raw: Raw): number => Number(/^HTTP\/1\.1 (\d+)/.exec(raw.text)?.[1]);
const bodyOf = (raw: Raw): string => raw.text.slice(raw.text.indexOf('\r\n\r\n') + 4);
const retryAfterOf = (raw: Raw): number => Number(/^retry-after: (\d+)/im.exec(raw.text)?.[1]);

describe.each<Outage>(['never open', 'open before'])('close() while the store does not answer (%s)', (kind) => {
  test('settles, and answers a POST that waits with 503 and Retry-After', async () => {
    const { chat, send, models } = await outage(kind);
    const posted = send('POST', '', '{"id":"r"}');
    await pause(50);
    const start = performance.now();
    await chat.close();
    await posted.closed;
    expect(performance.now() - start).toBeLessThan(5000); // the end of a run has 2 s to reach the store
    expect(statusOf(posted)).toBe(503);
    expect(retryAfterOf(posted)).toBeGreaterThan(0);
    expect(models.calls).toEqual([]);
  });

  test('settles, and answers a POST that resumes and waits', async () => {
    const { chat, send } = await outage(kind);
    const posted = send('POST', '', '{"id":"r"}', 'Last-Event-ID: r~generation~1');
    await pause(50);
    const start = performance.now();
    await chat.close();
    await posted.closed;
    expect(performance.now() - start).toBeLessThan(5000);
    expect([statusOf(posted), retryAfterOf(posted) > 0]).toEqual([503, true]);
    expect(posted.text).not.toMatch(/^location:/im);
  });

  test('answers a GET that waits with an empty stream and a retry; status and stop with 503', async () => {
    const { chat, send } = await outage(kind);
    const get = send('GET', '/r');
    const others = [send('GET', '/r/status'), send('DELETE', '/r'), send('POST', '/r/stop')];
    await pause(50);
    await chat.close();
    await get.closed;
    expect([statusOf(get), bodyOf(get)]).toEqual([200, expect.stringMatching(RETRY_LATER)]);
    for (const other of others) {
      await other.closed;
      expect([statusOf(other), retryAfterOf(other) > 0]).toEqual([503, true]);
    }
  });

  test('rejects the calls of the application that wait, with an error that names the call', async () => {
    const { chat } = await outage(kind);
    const calls = { start: chat.start('r', []), status: chat.status('r'), stop: chat.stop('r') };
    for (const call of Object.values(calls)) call.catch(() => {});
    await chat.close();
    for (const [name, call] of Object.entries(calls)) {
      await expect(call).rejects.toMatchObject({
        code: 'ERR_SSE_CLOSED',
        message: expect.stringMatching(new RegExp(`^${name}\\(\\) must .* close\\(\\)`)),
      });
    }
  });
});

test('close() waits only once for the end of runs that the store does not answer', async () => {
  fakeTime();
  const { chat, store } = await outage('open before');
  store.restore();
  await chat.start('r', async function* () {
    await new Promise(() => {});
    yield 'never';
  });
  store.cut();
  let isClosed = false;
  void chat.close({ wait: 1000 }).then(() => (isClosed = true));
  await pass(2900);
  expect(isClosed).toBe(false);
  await pass(300);
  expect(isClosed).toBe(true);
});

test.each([
  ['rejects', () => Promise.reject(new Error('broken')), 'broken'],
  [
    'does not settle',
    () => new Promise<void>(() => {}),
    expect.stringMatching(/^The store of runs did not close within/),
  ],
])('close() settles although that of the store %s', async (_, close, message) => {
  fakeTime();
  const { hub, errors } = hubOn(undefined, {}, (store) => {
    const closeInner = store.close.bind(store);
    let calls = 0;
    store.close = () => (calls++ === 0 ? close() : closeInner()); // the test closes it once more
    return store;
  });
  await settle();
  const closing = hub.close();
  await pass(15_000, 1000);
  await closing;
  expect(errors).toEqual([expect.objectContaining({ message })]);
});

describe('after close()', () => {
  test('a GET receives an empty stream with a retry, so that its EventSource reconnects', async () => {
    const { chat, ask } = await linkedSite();
    await chat.close();
    for (const path of ['/r', '/r/stream']) {
      const { status, headers, text } = await ask(path);
      expect([status, headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
      expect(text).toMatch(RETRY_LATER);
    }
  });

  test('every other request receives 503 with Retry-After, and a GET of a wire whose clients do not reconnect, too', async () => {
    const [control, other] = [await linkedSite(), await linkedSite({ wire: openai() })];
    for (const { chat } of [control, other]) await chat.close();
    const post = { method: 'POST', body: '{"id":"r"}', headers: json };
    const answers = [
      await control.ask('', post),
      await control.ask('/r/status'),
      await control.ask('/r', { method: 'DELETE' }),
      await other.ask('', post),
      await other.ask('/r'),
    ];
    for (const { status, headers } of answers) {
      expect([status, Number(headers.get('retry-after')) > 0]).toEqual([503, true]);
    }
  });

  test('a call of the application rejects with an error that names the call and close()', async () => {
    const { chat } = await linkedSite();
    await chat.close();
    const calls = {
      start: () => chat.start('r', []),
      status: () => chat.status('r'),
      stop: () => chat.stop('r'),
      follow: () => chat.follow('r').next(),
    };
    for (const [name, call] of Object.entries(calls)) {
      await expect(call()).rejects.toMatchObject({
        code: 'ERR_SSE_CLOSED',
        message: expect.stringMatching(new RegExp(`^${name}\\(\\) must .* close\\(\\)`)),
      });
    }
  });
});

describe.each<Outage>(['never open', 'open before'])('an iteration that waits for the store (%s)', (kind) => {
  test.each(['close()', 'return()', 'its signal'])('ends by %s, although the store does not answer', async (how) => {
    const { chat } = await outage(kind);
    const controller = new AbortController();
    const iterator = chat.follow('r', { signal: controller.signal });
    const step = iterator.next();
    await pause(20);
    if (how === 'close()') await chat.close();
    else if (how === 'return()') await iterator.return!();
    else controller.abort();
    expect(await step).toEqual({ done: true, value: undefined });
  });
});

test('an iteration that waits for older chunks ends by return(), although the store does not answer', async () => {
  const { chat, store } = await linkedSite();
  await chat.start('r', ['a', 'b', 'c']);
  await until(async () => (await chat.status('r'))?.status === 'done');
  const read = store.read.bind(store);
  let isAsked = false;
  store.read = (...args) => {
    store.cut();
    isAsked = true;
    return read(...args);
  };
  const iterator = chat.follow('r');
  const step = iterator.next();
  await eventually(() => isAsked);
  await iterator.return!();
  expect(await step).toEqual({ done: true, value: undefined });
});

describe('the last event id of an end is always answered 204', () => {
  const END = 'Last-Event-ID: r~AAAAAAAAAAAA~end';

  async function expect204({ send }: UnavailableSite): Promise<void> {
    for (const raw of [send('GET', '/r', '', END), send('POST', '', '{"id":"r"}', END)]) {
      await raw.closed;
      expect(statusOf(raw)).toBe(204);
    }
  }

  test('if the router is full', async () => {
    const made = await linkedSite({ limits: { connections: 1 } });
    await made.post('other');
    await expect204(made);
  });

  test('while the router closes, and after that', async () => {
    const made = await linkedSite();
    await made.post('other');
    const closed = made.chat.close({ wait: 60_000 });
    await expect204(made);
    made.models.last.finish();
    await closed;
    await expect204(made);
  });

  test.each<Outage>(['never open', 'open before'])('while the store does not answer (%s)', async (kind) => {
    await expect204(await outage(kind));
  });
});

describe.each<Outage>(['never open', 'open before'])('a request while the store does not answer (%s)', (kind) => {
  test('waits for at most ten seconds; then its client is asked to try again', async () => {
    fakeTime();
    const { send, store, models, errors } = await outage(kind);
    const get = send('GET', '/r');
    const resumed = send('GET', '/r', '', 'Last-Event-ID: r~generation~1');
    const others = [
      send('POST', '', '{"id":"r"}'),
      send('GET', '/r/status'),
      send('DELETE', '/r'),
      send('POST', '/r/stop'),
    ];
    await pause(100);
    await pass(ANSWER_TIMEOUT_MS - 500, 500);
    expect([get, resumed, ...others].map(({ text }) => text)).toEqual(['', '', '', '', '', '']);
    await pass(1000, 500);
    for (const stream of [get, resumed]) {
      await stream.closed;
      expect([statusOf(stream), bodyOf(stream)]).toEqual([200, expect.stringMatching(RETRY_LATER)]);
    }
    for (const other of others) {
      await other.closed;
      expect([statusOf(other), retryAfterOf(other) > 0]).toEqual([503, true]);
    }
    store.restore();
    await pass(100);
    expect(models.calls).toEqual([]); // the POST was answered: no run begins
    expect(errors.map(String)).toEqual(kind === 'never open' ? [] : ['Error: the engine does not answer']);
  });

  test('is answered as soon as the store answers', async () => {
    const { send, store, post } = await outage(kind);
    const [status, stop] = [send('GET', '/r/status'), send('DELETE', '/r')];
    const posted = post('r');
    await pause(50);
    store.restore();
    expect((await posted).status).toBe(200);
    for (const raw of [status, stop]) await raw.closed;
    expect([statusOf(status), statusOf(stop)]).toEqual([expect.any(Number), expect.any(Number)]);
  });

  test('counts within the limits, and its place is free as soon as its client disconnects', async () => {
    const { send, chat } = await outage(kind, { limits: { connections: 2 } });
    const waiting = [send('GET', '/a'), send('POST', '', '{"id":"b"}')];
    await pause(50);
    const [get, post] = [send('GET', '/c'), send('POST', '', '{"id":"d"}')];
    await Promise.all([get.closed, post.closed]);
    expect([statusOf(get), bodyOf(get)]).toEqual([200, expect.stringMatching(RETRY_LATER)]);
    expect([statusOf(post), retryAfterOf(post) > 0]).toEqual([503, true]);
    expect(chat.stats().refused.connections).toBe(2);
    send('HEAD', '/c'); // it waits as a GET does, but has no place
    await pause(50);
    expect(chat.stats().refused.connections).toBe(2);
    for (const raw of waiting) raw.socket.destroy();
    await pause(50);
    const next = [send('GET', '/a'), send('POST', '', '{"id":"b"}')];
    await pause(50);
    expect(next.map(({ text }) => text)).toEqual(['', '']);
    expect(chat.stats().refused.connections).toBe(2);
  });

  test('costs no call of the model if its client disconnects before the store is asked', async () => {
    const { send, store, models, chat } = await outage(kind);
    const posted = send('POST', '', '{"id":"r"}');
    await pause(50);
    posted.socket.destroy();
    await pause(50);
    store.restore();
    expect(await chat.status('r')).toBeUndefined();
    expect(models.calls).toEqual([]);
    // A store may ignore the signal, so it is not asked at all if it was not open.
    expect(store.calls['begin']).toBe(kind === 'never open' ? undefined : 1);
  });
});

describe('an error of the store', () => {
  const refusal = (): Error =>
    new SseError('ERR_SSE_JOURNAL', 'the engine refused', { cause: new Error('secret: wrong password') });

  test.each(['open', 'state, begin and stop'])('in %s is no final answer, and is reported once', async (where) => {
    const broken = async (): Promise<never> => Promise.reject(refusal());
    const { send, errors, chat } = await linkedSite({}, (store) =>
      Object.assign(store, where === 'open' ? { open: broken } : { state: broken, begin: broken, stop: broken }),
    );
    for (const get of [send('GET', '/r'), send('GET', '/r', '', 'Last-Event-ID: r~generation~1')]) {
      await get.closed;
      expect([statusOf(get), bodyOf(get)]).toEqual([200, expect.stringMatching(RETRY_LATER)]);
    }
    for (const other of [
      send('POST', '', '{"id":"r"}'),
      send('GET', '/r/status'),
      send('DELETE', '/r'),
      send('POST', '/r/stop'),
    ]) {
      await other.closed;
      expect([statusOf(other), retryAfterOf(other) > 0, other.text.includes('secret')]).toEqual([503, true, false]);
    }
    expect(errors.map(String)).toEqual(['SseError: the engine refused']);
    await expect(chat.status('r')).rejects.toThrow('the engine refused'); // it has a caller
    expect(errors).toHaveLength(1);
  });

  test('while a run is produced is reported once: its lease, its chunk and its end have one cause', async () => {
    const broken = async (): Promise<never> => Promise.reject(refusal());
    const { post, models, errors, chat } = await linkedSite({ lease: 500 }, (store) =>
      Object.assign(store, { append: broken, renew: broken, end: broken }),
    );
    await post('r');
    await eventually(() => errors.length > 0);
    models.last.emit('a');
    await eventually(() => chat.stats().runs.running === 0);
    expect(errors.map(String)).toEqual([
      'SseError: the engine refused',
      expect.stringContaining('The run "r" is lost'),
    ]);
  });
});

describe('the source of a start() that the store does not answer', () => {
  /** A call that has timed out, with its source, which has one chunk. */
  const timedOut = async (isBegun: boolean) => {
    fakeTime();
    const log: string[] = [];
    const source = {
      next: async () => (log.push('next'), { done: log.length > 1, value: 'x' }),
      return: async () => (log.push('return'), { done: true as const, value: undefined }),
      [Symbol.asyncIterator]: () => source,
    };
    const { hub, store } = hubOn();
    const service = new BoundedRuns(hub);
    const make = new GivenSources<unknown>().makerOf(source);
    await hub.state('r');
    const answer = gate();
    if (isBegun) {
      const begin = store.begin.bind(store);
      // The run begins in the engine, and only the answer is late.
      store.begin = async (run) => begin(run).finally(async () => answer.pass);
    } else store.cut();
    const outcome = service.start('r', make, 'join').catch((error: unknown) => (error as SseError).code);
    await pass(ANSWER_TIMEOUT_MS + 100);
    expect(await outcome).toBe('ERR_SSE_TIMEOUT');
    expect(log).toEqual([]);
    return { hub, store, log, answer };
  };

  test('is iterated over if the store begins the run after the caller has stopped to wait', async () => {
    const { hub, log, answer } = await timedOut(true);
    answer.open();
    await pass(100);
    expect(log).toEqual(['next', 'next']);
    expect(await hub.state('r')).toMatchObject({ status: 'done', chunks: 1 });
  });

  test('is released if the store refuses the run after the caller has stopped to wait', async () => {
    const { hub, store, log } = await timedOut(false);
    await store.close();
    await pass(100);
    expect(log).toEqual(['return']);
    await hub.close();
  });

  test('is released at once if the call is refused before the store is asked', async () => {
    const service = new BoundedRuns(hubOn().hub);
    service.close();
    const source = new Readable({ read() {} });
    const make = new GivenSources<unknown>().makerOf(source);
    await expect(service.start('r', make, 'join')).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
    expect(source.destroyed).toBe(true);
  });
});

test('stop() and DELETE of a run of this process do not wait for the store; the record follows', async () => {
  const { chat, models, store, post, send } = await linkedSite();
  await Promise.all([post('a'), post('b')]);
  await eventually(() => models.calls.length === 2);
  store.cut();
  expect(await chat.stop('a')).toBe(true);
  const stopped = send('DELETE', '/b');
  await stopped.closed;
  expect(statusOf(stopped)).toBe(202);
  expect(models.calls.map(({ signal }) => signal.aborted)).toEqual([true, true]);
  store.restore();
  for (const id of ['a', 'b']) await until(async () => (await chat.status(id))?.status === 'stopped');
});

test('calls that nothing waits for are bounded; then a request is answered at once', async () => {
  const { chat, send, store } = await outage('open before', { limits: { connections: 200 } });
  for (let n = 0; n < 10; n++) {
    const raws = Array.from({ length: 100 }, () => send('GET', '/r'));
    const before = store.calls['state']!;
    await eventually(() => store.calls['state']! >= before + 100, 10_000);
    for (const raw of raws) raw.socket.destroy();
    await pause(20);
  }
  const get = send('GET', '/r');
  await get.closed;
  expect([statusOf(get), bodyOf(get)]).toEqual([200, expect.stringMatching(RETRY_LATER)]);
  await expect(chat.status('r')).rejects.toMatchObject({ code: 'ERR_SSE_QUEUE_FULL' });
  store.restore();
  await until(async () => (await chat.status('r').catch(() => true)) === undefined);
});

test('a stop takes effect although its client disconnects before the store is asked, or before it answers', async () => {
  const passes = gate();
  let isAsked = false;
  const logs = new MemoryRunLogs();
  const other = await site({ store: new LinkedStore(logs) });
  const store = new LinkedStore(logs);
  const { send } = await linkedSite({
    store,
    allow: async (_req, id) => {
      isAsked = true;
      if (id === 'a') await passes.pass;
      return true;
    },
  });
  await Promise.all([other.post('a'), other.post('b')]);
  const early = send('DELETE', '/a');
  await eventually(() => isAsked);
  early.socket.destroy();
  await pause(50);
  passes.open();
  await until(async () => (await other.chat.status('a'))?.status === 'stopped');
  store.cut();
  const late = send('DELETE', '/b');
  await eventually(() => store.calls['stop'] === 2);
  late.socket.destroy();
  await pause(50);
  store.restore();
  await until(async () => (await other.chat.status('b'))?.status === 'stopped');
});

test.each<[kind: Outage]>([['never open'], ['open before']])(
  'no cache stores the answers at a shutdown while the store does not answer, and HEAD agrees with GET: %s',
  async (kind) => {
    const { send, chat, server } = await outage(kind, { headers: { 'Cache-Control': undefined } });
    let requests = 0;
    server.on('request', () => void requests++);
    const raws = [send('GET', '/r'), send('HEAD', '/r'), send('POST', '', '{"id":"r"}'), send('GET', '/r/status')];
    await eventually(() => requests === raws.length);
    await chat.close();
    await Promise.all(raws.map((raw) => raw.closed));
    expect(raws.map(statusOf)).toEqual([200, 200, 503, 503]);
    for (const { text } of raws) expect(text).toMatch(/^cache-control: no-store\r$/im);
    expect(bodyOf(raws[0]!)).toContain('closing');
    expect(bodyOf(raws[1]!)).toBe('');
  },
);
