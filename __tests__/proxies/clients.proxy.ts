import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createEventSource } from 'eventsource-client';
import { sse, type Connection, type SseOptions } from '../../lib/index.ts';
import { wireTo } from '../fixtures/wire.ts';
import { appOf, later, listening } from '../fixtures/support.ts';
import { eventually, pause } from '../fixtures/http.ts';
import { curlPath } from '../fixtures/programs.ts';

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
  const requests: (string | undefined)[] = [];
  server.on('request', (req) => requests.push(req.headers['last-event-id'] as string | undefined));
  const wire = await wireTo(port);
  later(() => wire.close());
  return { events, conns, wire, requests, url: `http://127.0.0.1:${wire.port}/events` };
}

describe('curl', () => {
  interface Curl {
    readonly child: ChildProcess;
    /** Everything that curl has printed. */
    readonly text: string;
    /** Settles with the exit code. */
    readonly code: Promise<number | null>;
  }

  function curl(...args: string[]): Curl {
    const child = spawn(curlPath(), ['-s', '-S', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    later(() => child.kill('SIGKILL'));
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    }
    const code = once(child, 'close').then(([code]) => code as number | null);
    return {
      child,
      code,
      get text() {
        return text;
      },
    };
  }

  test.each<[what: string, args: string[]]>([
    ['-N', ['-N']],
    ['-N -0', ['-N', '-0']],
    ['-N --compressed', ['-N', '--compressed']],
  ])('%s prints events as they arrive, and ends with the stream', async (_, args) => {
    const { events, conns, url } = await site({ heartbeat: 20, compress: true });
    const shown = curl(...args, url);
    await eventually(() => conns.length === 1 && shown.text.includes('event: checkpoint'));
    conns[0]!.push('one', 'two');
    await eventually(() => shown.text.includes('data: one\ndata: two\n\n'));
    const id = await events.broadcast({ event: 'größe', data: '€豆腐💥' });
    await eventually(() => shown.text.includes('event: größe\n') && shown.text.includes('data: €豆腐💥\n\n'));
    expect(shown.text).toContain(`id: ${id}\n`);
    await eventually(() => /\n:\n+:\n/.test(shown.text)); // heartbeats
    conns[0]!.end();
    expect(await shown.code).toBe(0); // the answer was complete, over HTTP/1.0 as well
    expect(shown.text).toMatch(/event: end\n(.*\n)*\n$/);
    await eventually(() => events.size === 0);
  });

  test('with a Last-Event-ID header prints what was missed', async () => {
    const { events, url } = await site();
    const id = await events.broadcast('seen');
    await events.broadcast('missed');
    const shown = curl('-N', '-H', `Last-Event-ID: ${id}`, url);
    await eventually(() => shown.text.includes('data: missed\n\n'));
    expect(shown.text).not.toContain('data: seen');
    shown.child.kill('SIGINT');
    await eventually(() => events.size === 0);
  });

  test('-I prints the head and ends at once; no handler runs', async () => {
    const { events, conns, url } = await site();
    const shown = curl('-I', url);
    expect(await shown.code).toBe(0);
    expect(shown.text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(shown.text).toMatch(/^content-type: text\/event-stream; charset=utf-8\r$/im);
    expect(conns).toHaveLength(0);
    expect(events.size).toBe(0);
  });

  test('ends normally at close(), and can be started again, for example in a loop of the shell', async () => {
    const { conns, url } = await site();
    const one = curl('-N', url);
    await eventually(() => conns.length === 1);
    conns[0]!.close();
    expect(await one.code).toBe(0);
    const two = curl('-N', url);
    await eventually(() => conns.length === 2 && two.text.includes('event: checkpoint'));
  });
});

describe('eventsource-client', () => {
  function follow(url: string) {
    const seen = { events: [] as { type: string; data: string; id: string | undefined }[], opens: 0, disconnects: 0 };
    const client = createEventSource({
      url,
      onConnect: () => void seen.opens++,
      onDisconnect: () => void seen.disconnects++,
      onMessage: ({ event = 'message', data, id }) => void seen.events.push({ type: event, data, id }),
    });
    later(() => client.close());
    return { client, seen };
  }
  type Seen = ReturnType<typeof follow>['seen'];
  const last = ({ events }: Seen): string | undefined => events.at(-1)?.data;

  test('opens; default, named, multi-line and UTF-8 events; heartbeats fire nothing; the server notices its close', async () => {
    const { events, conns, url } = await site({ heartbeat: 20 });
    const { client, seen } = follow(url);
    await eventually(() => seen.opens === 1 && conns.length === 1);
    conns[0]!.push('one', 'two', '', ' three');
    await events.broadcast({ event: 'order', data: { total: 7 } });
    await events.broadcast({ event: 'größe', data: '€豆腐💥\u2028\u0085' });
    await eventually(() => events.stats().heartbeats > 2);
    const id = await events.broadcast('x'.repeat(300_000));
    await eventually(() => last(seen)?.length === 300_000);
    expect(seen.events.slice(0, -1).map(({ type, data }) => [type, data])).toEqual([
      ['checkpoint', ''],
      ['message', 'one\ntwo\n\n three'],
      ['order', '{"total":7}'],
      ['größe', '€豆腐💥\u2028\u0085'],
    ]);
    expect(client.lastEventId).toBe(id);
    client.close();
    await eventually(() => events.size === 0);
    expect(conns[0]!.signal.reason).toBe('client');
  });

  test.each<[how: string, lose: (all: Awaited<ReturnType<typeof site>>) => unknown]>([
    ['a cut connection', ({ wire }) => wire.cut()],
    ['close()', ({ conns }) => conns[0]!.close({ retry: 10 })],
  ])('reconnects with its id after %s, and receives what it missed, once and in order', async (_how, lose) => {
    const all = await site();
    const { events, conns, url, requests } = all;
    const { seen } = follow(url);
    const id = await eventually(() => conns.length === 1).then(() => events.broadcast('before'));
    await eventually(() => last(seen) === 'before');
    lose(all);
    await eventually(() => events.size === 0);
    await events.broadcast({ event: 'order', data: 'while away' });
    await events.broadcast('while away');
    await eventually(() => conns.length === 2, 5000);
    await events.broadcast('after');
    await eventually(() => last(seen) === 'after');
    expect(requests.at(-1)).toBe(id);
    expect(seen.events.slice(1).map(({ type, data }) => [type, data])).toEqual([
      ['message', 'before'],
      ['order', 'while away'],
      ['message', 'while away'],
      ['message', 'after'],
    ]);
    expect(events.stats().resumes).toMatchObject({ resumed: 1, lost: 0, unknown: 0 });
  });

  test('end() fires an end event, and no handler runs again', async () => {
    const { conns, requests, url } = await site();
    const { client, seen } = follow(url);
    await eventually(() => conns.length === 1);
    conns[0]!.push('one');
    conns[0]!.end();
    await eventually(() => seen.events.at(-1)?.type === 'end');
    await eventually(() => requests.length > 1, 5000);
    await pause(100); // no handler may run in this time
    client.close();
    expect(seen.events.map(({ type }) => type)).toEqual(['checkpoint', 'message', 'end']);
    expect(conns).toHaveLength(1);
  });
});
