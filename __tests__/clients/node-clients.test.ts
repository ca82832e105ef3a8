import { fetchEventSource } from '@microsoft/fetch-event-source';
import { EventSource } from 'eventsource';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { runInNewContext } from 'node:vm';
import { readFileSync } from 'node:fs';
import { sse, type Connection, type Message, type SseOptions } from '../../lib/index.ts';
import { wireTo } from '../fixtures/wire.ts';
import { appOf, later, listening } from '../fixtures/support.ts';
import { eventually, pause } from '../fixtures/http.ts';

/** What a client has done. */
interface Seen {
  events: { type: string; data: string; id: string }[];
  opens: number;
  /** Whether the client has stopped for good. */
  done: boolean;
}

/** Opens a stream that records its events and reconnects by itself. Returns a function that closes it. */
type Client = (url: string, seen: Seen) => () => void;

const TYPES = ['message', 'order', 'größe', 'checkpoint', 'reset', 'end'];

/** Returns a client for a class with the interface of a browser's EventSource. */
const asEventSource =
  (make: new (url: string) => EventSource): Client =>
  (url, seen) => {
    const source = new make(url);
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        seen.events.push({ type: event.type, data: event.data as string, id: event.lastEventId });
      });
    }
    source.addEventListener('open', () => seen.opens++);
    source.addEventListener('error', () => (seen.done = source.readyState === 2));
    return () => source.close();
  };

/** Loads Yaffle's polyfill, which reads the globals of a browser when it is loaded. */
function yaffle(): new (url: string) => EventSource {
  const module = { exports: {} as { EventSourcePolyfill: new (url: string) => EventSource } };
  const source = readFileSync(require.resolve('event-source-polyfill'), 'utf8');
  const console = { error() {} }; // the polyfill prints every broken connection
  const globals = { fetch, Response, TextDecoder, TextEncoder, AbortController, Promise, setTimeout, clearTimeout };
  runInNewContext(source, { ...globals, console, module, exports: module.exports });
  return module.exports.EventSourcePolyfill;
}

/** A client on fetch, as a page uses it that needs headers of its own. */
const byFetch: Client = (url, seen) => {
  const abort = new AbortController();
  void (async () => {
    let id = '';
    let retry = 1000;
    while (!abort.signal.aborted) {
      try {
        const headers = { accept: 'text/event-stream', ...(id !== '' && { 'last-event-id': id }) };
        const response = await fetch(url, { headers, signal: abort.signal });
        if (response.status !== 200) return;
        seen.opens++;
        const parser = new EventSourceParserStream({ onRetry: (ms) => (retry = ms) });
        const events = response.body!.pipeThrough(new TextDecoderStream()).pipeThrough(parser);
        for await (const event of events) {
          id = event.id ?? id;
          seen.events.push({ type: event.event ?? 'message', data: event.data, id });
        }
      } catch {
        // the connection broke, or the test has closed it
      }
      await pause(retry);
    }
  })().finally(() => (seen.done = true));
  return () => abort.abort();
};

const byMicrosoft: Client = (url, seen) => {
  const abort = new AbortController();
  void fetchEventSource(url, {
    signal: abort.signal,
    openWhenHidden: true,
    async onopen(response) {
      if (response.status !== 200) throw Object.assign(new Error(), { fatal: true });
      seen.opens++;
    },
    onmessage({ event, data, id }) {
      seen.events.push({ type: event || 'message', data, id });
    },
    onclose() {
      throw new Error('reconnect'); // without an exception, a normal end stops this client
    },
    onerror(error: { fatal?: boolean }) {
      if (error.fatal) throw error;
    },
  })
    .catch(() => {})
    .finally(() => (seen.done = true));
  return () => abort.abort();
};

beforeAll(() => {
  // fetch-event-source needs these globals of a browser.
  Object.assign(globalThis, {
    window: globalThis,
    document: Object.assign(new EventTarget(), { hidden: false }),
  });
});
afterAll(() => {
  for (const name of ['window', 'document']) Reflect.deleteProperty(globalThis, name);
});

describe.each<[name: string, client: () => Client, stops: boolean]>([
  ['eventsource', () => asEventSource(EventSource), true],
  ['fetch', () => byFetch, true],
  // This client fails on the missing body of a 204, and retries for ever: its page must close it at the `end` event.
  ['event-source-polyfill', () => asEventSource(yaffle()), false],
  ['fetch-event-source', () => byMicrosoft, true],
])('%s', (_, client, stops) => {
  async function site(options: SseOptions = {}, handler: (conn: Connection) => unknown = () => {}) {
    const conns: Connection[] = [];
    const events = sse(
      (conn) => {
        conns.push(conn);
        return handler(conn) as void;
      },
      { retry: 20, ...options },
    );
    later(() => events.close());
    const { port, server } = await listening(appOf(events));
    let requests = 0;
    server.on('request', () => requests++);
    const wire = await wireTo(port);
    later(() => wire.close());
    const seen: Seen = { events: [], opens: 0, done: false };
    const close = client()(`http://127.0.0.1:${wire.port}/events`, seen);
    later(close);
    await eventually(() => seen.opens === 1 && conns.length === 1);
    return { events, conns, wire, seen, close, requests: () => requests };
  }
  const last = ({ events }: Seen): string | undefined => events.at(-1)?.data;

  test('opens; default, named, multi-line and UTF-8 events; heartbeats and comments fire nothing', async () => {
    const { events, conns, seen } = await site({ heartbeat: 20 });
    conns[0]!.comment('a comment\nof two lines');
    conns[0]!.push('one', 'two', '', ' three');
    conns[0]!.push({ retry: 20 });
    await events.broadcast({ event: 'order', data: { total: 7 } });
    await events.broadcast({ event: 'größe', data: '€豆腐💥\u2028\u0085' });
    await events.broadcast('');
    await eventually(() => events.stats().heartbeats > 2);
    const id = await events.broadcast('x'.repeat(300_000));
    await eventually(() => last(seen)?.length === 300_000);
    expect(seen.events.slice(0, -1).map(({ type, data }) => [type, data])).toEqual([
      ['checkpoint', ''],
      ['message', 'one\ntwo\n\n three'],
      ['order', '{"total":7}'],
      ['größe', '€豆腐💥\u2028\u0085'],
      ['message', ''],
    ]);
    expect(seen.events.at(-1)!.id).toBe(id);
    expect(seen.opens).toBe(1);
  });

  test.each<[how: string, lose: (all: Awaited<ReturnType<typeof site>>) => unknown]>([
    ['a cut connection', ({ wire }) => wire.cut()],
    ['close()', ({ conns }) => conns[0]!.close({ retry: 10 })],
  ])('reconnects with its id after %s, and receives what it missed, once and in order', async (_how, lose) => {
    const all = await site();
    const { events, conns, seen } = all;
    const id = await events.broadcast('before');
    await eventually(() => last(seen) === 'before');
    lose(all);
    await eventually(() => events.size === 0);
    await events.broadcast({ event: 'order', data: 'while away' });
    await events.broadcast('while away');
    await eventually(() => conns.length === 2, 5000);
    await events.broadcast('after');
    await eventually(() => last(seen) === 'after');
    expect(conns[1]!.lastEventId).toBe(id);
    expect(seen.events.slice(1).map(({ type, data }) => [type, data])).toEqual([
      ['message', 'before'],
      ['order', 'while away'],
      ['message', 'while away'],
      ['message', 'after'],
    ]);
    expect(events.stats().resumes).toMatchObject({ resumed: 1, lost: 0, unknown: 0 });
  });

  test('reconnects with the last id that it received, and without an id after an empty one', async () => {
    const { conns, seen } = await site({ history: false });
    const idAfter = async (...messages: Message[]): Promise<string> => {
      const count = conns.length;
      conns[count - 1]!.push(...messages);
      await eventually(() => last(seen) === `last ${count}`);
      conns[count - 1]!.close({ retry: 10 });
      await eventually(() => conns.length === count + 1);
      return conns[count]!.lastEventId;
    };
    expect(await idAfter({ id: 'a', data: 'first' }, { id: 'b', data: 'last 1' })).toBe('b');
    expect(await idAfter({ id: 'c', data: 'first' }, { data: 'last 2' })).toBe('c');
    expect(await idAfter({ data: 'last 3' })).toBe('c');
    expect(await idAfter({ id: '', data: 'last 4' })).toBe('');
  });

  test('receives a reset if the log has lost its position, and then the snapshot', async () => {
    const { events, seen, wire, conns } = await site({ history: { size: 2 }, snapshot: () => 'state' });
    await events.broadcast('before');
    await eventually(() => last(seen) === 'before');
    wire.cut();
    await eventually(() => events.size === 0);
    for (const n of [1, 2, 3, 4, 5]) await events.broadcast(`gone ${n}`);
    await eventually(() => conns.length === 2, 5000);
    await events.broadcast('after');
    await eventually(() => last(seen) === 'after');
    expect(seen.events.map(({ type, data }) => (type === 'reset' ? 'reset' : data))).toEqual([
      'state',
      'before',
      'reset',
      'state',
      'after',
    ]);
  });

  test('closes, and the server notices it', async () => {
    const { events, conns, seen, close } = await site();
    await events.broadcast('one');
    await eventually(() => last(seen) === 'one');
    close();
    await eventually(() => events.size === 0);
    expect(conns[0]!.signal.reason).toBe('client');
    await pause(50); // the client must not reconnect in this time
    expect(conns).toHaveLength(1);
  });

  test(`end() ${stops ? 'stops it for good' : 'fires an end event, and no handler runs again'}`, async () => {
    const { conns, seen, requests, close } = await site();
    conns[0]!.push('one');
    conns[0]!.end();
    await eventually(() => seen.events.at(-1)?.type === 'end');
    if (stops) await eventually(() => seen.done);
    else await eventually(() => requests() === 2);
    close();
    expect(seen.events.map(({ type, data }) => [type, data])).toEqual([
      ['checkpoint', ''],
      ['message', 'one'],
      ['end', ''],
    ]);
    expect(conns).toHaveLength(1);
    expect(seen.opens).toBe(1);
  });
});
