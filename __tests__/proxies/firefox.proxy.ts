import type { Request } from 'express';
import { createServer, type ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { wireTo, type Wire } from '../fixtures/wire.ts';
import { later } from '../fixtures/support.ts';
import { eventually, listen, pause, serve } from '../fixtures/http.ts';
import { launchFirefox, type Firefox, type Tab } from './fixtures/firefox.ts';

// The files of the polyfills that a page loads.
const AMVTEK = join(dirname(require.resolve('eventsource-polyfill')), 'eventsource.js');
const RECONNECTING = join(
  dirname(require.resolve('reconnecting-eventsource')),
  '../../dist/ReconnectingEventSource.min.js',
);

let firefox: Firefox;

beforeAll(async () => {
  firefox = await launchFirefox();
}, 60_000);
afterAll(() => firefox?.stop());

/** What the page records of its stream. */
interface Log {
  readonly opens: number;
  readonly errors: number;
  readonly state: number;
  readonly events: { readonly type: string; readonly data: string | null; readonly id: string }[];
}

/** Opens a stream and records the events. */
const PAGE = `<!DOCTYPE html><meta charset="utf-8"><title>Feed</title>
<script>window._eventSourceImportPrefix = 'Amvtek';</script>
<script src="/amvtek.js"></script><script src="/reconnecting.js"></script>
<script>
  function follow(kind, url) {
    const source = (window.source = new window[kind](url));
    const log = (window.log = { opens: 0, errors: 0, events: [], get state() { return source.readyState; } });
    const note = (event) => void log.events.push({ type: event.type, data: event.data, id: event.lastEventId });
    for (const type of ['message', 'order', 'checkpoint', 'reset', 'end', 'größe']) source.addEventListener(type, note);
    source.onopen = () => void log.opens++;
    source.onerror = () => void log.errors++;
  }
</script>`;

interface Site {
  readonly events: SseRouter;
  readonly requests: Request[];
  readonly conns: Connection[];
  readonly wire: Wire;
  readonly tab: Tab;
}

/** Opens a page in Firefox with a stream of a router, over a proxy that the test can cut. */
async function site(kind: string, options: SseOptions = {}): Promise<Site> {
  const requests: Request[] = [];
  const conns: Connection[] = [];
  const events = sse(
    (conn, req) => {
      requests.push(req);
      conns.push(conn);
    },
    { retry: 600, ...options }, // Firefox waits at least 500 ms
  );
  later(() => events.close());
  const { port } = await serve((app) => {
    app.get('/', (_req, res) => void res.send(PAGE));
    app.get('/amvtek.js', (_req, res) => res.sendFile(AMVTEK));
    app.get('/reconnecting.js', (_req, res) => res.sendFile(RECONNECTING));
    app.use('/events', events);
  });
  const wire = await wireTo(port);
  later(() => wire.close());
  const tab = await firefox.open(`http://127.0.0.1:${wire.port}/`);
  later(() => tab.close());
  await tab.run(`follow(${JSON.stringify(kind)}, '/events')`);
  await until(tab, ({ opens }) => opens === 1);
  await eventually(() => conns.length === 1);
  return { events, requests, conns, wire, tab };
}

async function until(tab: Tab, wanted: (log: Log) => boolean, ms = 8000): Promise<Log> {
  const start = performance.now();
  for (;;) {
    const log = await tab.run<Log>('({ ...log })');
    if (wanted(log)) return log;
    if (performance.now() - start > ms)
      throw new Error(`Not within ${ms} ms: ${String(wanted)}\n${JSON.stringify(log).slice(-2000)}`);
    await pause(10);
  }
}

const last = ({ events }: Log): string | null | undefined => events.at(-1)?.data;

type Loss = readonly [how: string, lose: (all: Site) => unknown];
const CLOSED: Loss = ['close()', ({ conns }) => conns.at(-1)!.close({ retry: 550 })];
const CUT: Loss = ['a cut connection', ({ wire }) => wire.cut()];

describe.each<[name: string, kind: string, losses: readonly Loss[]]>([
  ['Firefox', 'EventSource', [CUT, CLOSED]],
  ['reconnecting-eventsource in Firefox', 'ReconnectingEventSource', [CUT, CLOSED]],
  // It stops when a connection breaks (see below), and reconnects only after a complete answer.
  ['amvtek’s polyfill in Firefox', 'AmvtekEventSource', [CLOSED]],
])('%s', (_, kind, losses) => {
  const lose = losses[0]![1];

  test('opens; default, named, multi-line and UTF-8 events; heartbeats and comments fire nothing', async () => {
    const { events, conns, tab } = await site(kind, { heartbeat: 20 });
    conns[0]!.comment('a comment\nof two lines');
    conns[0]!.push('one', 'two', '', 'three');
    await events.broadcast({ event: 'order', data: { total: 7 } });
    await events.broadcast({ event: 'größe', data: '€豆腐💥\u0085' });
    await eventually(() => events.stats().heartbeats > 2);
    const id = await events.broadcast('last');
    const log = await until(tab, (log) => last(log) === 'last');
    expect(log.events.map(({ type, data }) => [type, data ?? ''])).toEqual([
      ['checkpoint', ''],
      ['message', 'one\ntwo\n\nthree'],
      ['order', '{"total":7}'],
      ['größe', '€豆腐💥\u0085'],
      ['message', 'last'],
    ]);
    expect(log.events.at(-1)!.id).toBe(id);
    expect(log).toMatchObject({ opens: 1, errors: 0 });
    await tab.run('void source.close()');
    await eventually(() => events.size === 0);
    expect(conns[0]!.signal.reason).toBe('client');
  });

  test.each(losses)(
    'reconnects with its id after %s, and receives what it missed, once and in order',
    async (_how, lose) => {
      const all = await site(kind);
      const { events, conns, tab } = all;
      const id = await events.broadcast('before');
      await until(tab, (log) => last(log) === 'before');
      lose(all);
      await eventually(() => events.size === 0);
      await events.broadcast({ event: 'order', data: 'while away' });
      await events.broadcast('while away');
      await eventually(() => conns.length === 2, 8000);
      await events.broadcast('after');
      const log = await until(tab, (log) => last(log) === 'after');
      expect(conns[1]!.lastEventId).toBe(id);
      expect(log.events.slice(1).map(({ type, data }) => [type, data])).toEqual([
        ['message', 'before'],
        ['order', 'while away'],
        ['message', 'while away'],
        ['message', 'after'],
      ]);
      expect(events.stats().resumes).toMatchObject({ resumed: 1, lost: 0, unknown: 0 });
    },
  );

  test('reconnects with the id of a checkpoint, if there was no other event', async () => {
    const all = await site(kind);
    const { events, conns, tab } = all;
    await until(tab, (log) => log.events.length === 1);
    lose(all);
    await eventually(() => events.size === 0);
    await events.broadcast('while away');
    await until(tab, (log) => last(log) === 'while away');
    expect(conns[1]!.lastEventId).not.toBe('');
    expect(events.stats().resumes).toMatchObject({ resumed: 1 });
  });

  test('receives a reset if the log has lost its position', async () => {
    const all = await site(kind, { history: { size: 2 }, snapshot: () => 'state' });
    const { events, tab } = all;
    await events.broadcast('before');
    await until(tab, (log) => last(log) === 'before');
    lose(all);
    await eventually(() => events.size === 0);
    for (const n of [1, 2, 3, 4, 5]) await events.broadcast(`gone ${n}`);
    await until(tab, (log) => last(log) === 'state' && log.events.length > 2);
    await events.broadcast('after');
    const log = await until(tab, (log) => last(log) === 'after');
    expect(log.events.map(({ type, data }) => (type === 'reset' ? type : data))).toEqual([
      'state',
      'before',
      'reset',
      'state',
      'after',
    ]);
  });

  test('end() fires an end event, and no handler runs again', async () => {
    const { conns, tab } = await site(kind);
    conns[0]!.push('one');
    conns[0]!.end();
    const log = await until(tab, ({ events }) => events.at(-1)?.type === 'end');
    expect(log.events.map(({ type, data }) => [type, data ?? ''])).toEqual([
      ['checkpoint', ''],
      ['message', 'one'],
      ['end', ''],
    ]);
    if (kind === 'EventSource') await until(tab, ({ state }) => state === 2);
    await pause(1500); // no handler may run in this time
    expect(conns).toHaveLength(1);
  });
});

test('amvtek’s polyfill stops with an error when a connection breaks', async () => {
  const { conns, wire, tab } = await site('AmvtekEventSource');
  wire.cut();
  await until(tab, ({ state, errors }) => state === 2 && errors === 1);
  await pause(1000); // it must not reconnect in this time
  expect(conns).toHaveLength(1);
});

test('Firefox fires open at the first byte of the body, not at the head, and ignores an id without data', async () => {
  const answers: ServerResponse[] = [];
  const ids: unknown[] = [];
  const { url } = await listen(
    createServer((req, res) => {
      if (req.url !== '/events') return void res.end(PAGE.replaceAll(/<script src.*\n/g, ''));
      answers.push(res);
      ids.push(req.headers['last-event-id']);
      res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    }),
  );
  const tab = await firefox.open(url);
  later(() => tab.close());
  await tab.run("follow('EventSource', '/events')");
  await eventually(() => answers.length === 1);
  await pause(500); // it must not open in this time
  expect((await tab.run<Log>('({ ...log })')).opens).toBe(0);
  answers[0]!.write(':\n');
  await until(tab, ({ opens }) => opens === 1);
  answers[0]!.write('retry: 500\nid: 1\ndata: one\n\nid: 2\n\n');
  await until(tab, (log) => last(log) === 'one');
  answers[0]!.destroy();
  await eventually(() => answers.length === 2, 8000);
  expect(ids).toEqual([undefined, '1']);
  await tab.run('void source.close()');
});
