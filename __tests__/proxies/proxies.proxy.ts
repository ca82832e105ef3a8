import { clock, eventually } from '../fixtures/http.ts';
import { QUICK, startOrigin, type Origin } from './fixtures/origin.ts';
import { startProxy, type Edits, type Proxy } from './fixtures/proxy.ts';
import { read, until, type Reading } from './fixtures/reading.ts';
import type { ProxyName } from './fixtures/recipes.ts';

const IDLE = 65_000;

/** The recipes as they are, and some of them without their lines for streams. */
const PROXIES: [name: string, proxy: ProxyName, edits: Edits, within: number][] = [
  ['nginx', 'nginx', [], 100],
  ['HAProxy', 'HAProxy', [], 100],
  ['HAProxy by default', 'HAProxy', [['\toption ', '\t# ']], 300],
  ['Varnish', 'Varnish', [], 100],
  ['Varnish by default', 'Varnish', [['return (pipe);', '']], 100],
  ['Caddy', 'Caddy', [], 100],
  ['Apache', 'Apache', [], 100],
];
const SECURE = PROXIES.filter(([, proxy]) => proxy !== 'Varnish');
const EDGES = [
  ...PROXIES.map(([name, , , within]) => [name, 'HTTP/1.1', within] as const),
  ...SECURE.map(([name]) => [name, 'HTTP/2', 100] as const),
];

let origin: Origin;
let idleSince: number;
const proxies = new Map<string, Proxy>();
const idle = new Map<string, Record<'kept' | 'silent', Reading>>();
const measured: string[] = [];
const readings: Reading[] = [];

async function reading(name: string, edge: string, path: string, user = name): Promise<Reading> {
  const proxy = proxies.get(name)!;
  const one = await read(edge === 'HTTP/2' ? proxy.secure! : proxy.url, path, { 'x-user': user }, 3000);
  readings.push(one);
  return one;
}

beforeAll(async () => {
  origin = await startOrigin();
  for (const [name, proxy, edits] of PROXIES) proxies.set(name, await startProxy(proxy, origin.port, edits));
  // All proxies share the idle minute, and the other tests run during it.
  idleSince = clock();
  for (const [name, edge] of EDGES) {
    const [kept, silent] = [await reading(name, edge, '/idle'), await reading(name, edge, '/silent')];
    idle.set(`${name}, ${edge}`, { kept, silent });
  }
}, 120_000);
afterAll(async () => {
  for (const one of readings) await one.close();
  await origin?.stop(); // before the proxies: Apache would wait for its streams
  for (const proxy of proxies.values()) await proxy.stop();
  process.stderr.write(`${measured.join('\n')}\n`);
});

describe.each(EDGES)('%s, %s', (name, edge, within) => {
  test(`the first event and later events arrive within ${within} ms`, async () => {
    const firsts: number[] = [];
    const delays: number[] = [];
    // Three rounds, because a busy machine delays one round. A proxy that buffers delays every round.
    for (let round = 1; round <= 3; round++) {
      const start = clock();
      const stream = await reading(name, edge, '/events', `round ${round}`);
      firsts.push((await until(stream, 'hello', `round ${round}`)) - start);
      expect(stream.status).toBe(200);
      expect(stream.headers).toMatchObject({
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'private, no-cache, no-store, no-transform',
      });
      for (const header of ['content-encoding', 'content-length']) expect(stream.headers).not.toHaveProperty(header);
      for (let n = 1; n <= 3; n++) {
        const sent = clock();
        await origin.at('/events').broadcast({ event: 'tick', data: `${round} ${n}` });
        delays.push((await until(stream, 'tick', `${round} ${n}`)) - sent);
      }
      await stream.close();
    }
    const [first, next] = [firsts, delays].map((all) => all.toSorted((a, b) => a - b)) as [number[], number[]];
    measured.push(
      `${name}, ${edge}: first event after ${firsts.map(Math.round).join(', ')} ms, later events after ${Math.round(next[4]!)} ms`,
    );
    expect(first[0]).toBeLessThan(within);
    expect(next[4]).toBeLessThan(within); // the median
  });

  test('two users never share a stream', async () => {
    const { opened } = origin.at('/events').stats();
    const [one, two] = [await reading(name, edge, '/events', 'Ann'), await reading(name, edge, '/events', 'Bob')];
    await until(one, 'hello', 'Ann');
    await until(two, 'hello', 'Bob');
    origin.users('/events').get('Ann')!.push({ event: 'secret', data: 'of Ann' });
    origin.users('/events').get('Bob')!.push({ event: 'secret', data: 'of Bob' });
    await until(one, 'secret', 'of Ann');
    await until(two, 'secret', 'of Bob');
    const three = await reading(name, edge, '/events', 'Eve'); // a cached stream would be played to this user
    await until(three, 'hello', 'Eve');
    await origin.at('/events').broadcast({ event: 'tick', data: `to all of ${name} ${edge}` });
    for (const [stream, user] of [[one, 'Ann'] as const, [two, 'Bob'] as const, [three, 'Eve'] as const]) {
      await until(stream, 'tick', `to all of ${name} ${edge}`);
      expect(stream.events.filter(({ event }) => event === 'hello').map(({ data }) => data)).toEqual([user]);
      expect(stream.events.filter(({ event }) => event === 'secret').every(({ data }) => data === `of ${user}`)).toBe(
        true,
      );
      await stream.close();
    }
    expect(origin.at('/events').stats().opened - opened).toBe(3);
  });

  // nginx, Caddy, Varnish with pipe, and HAProxy over TLS with `abortonclose` notice a disconnect at once. The others notice it
  // when they write: the first write gets a reset, the next fails. By default HAProxy over TLS and Varnish need a third write:
  // their writing side has failed by then, but their reading side already waits, and checks only after its next read.
  const beats = name.endsWith('by default') ? 3 : 2;
  const ways: [what: string, go: 'close' | 'leave', beats: number][] = [
    ['a client that has disconnected', 'close', beats],
  ];
  // A page may close its EventSource and stay open: the connection stays, and reports the closed stream.
  if (edge === 'HTTP/2') ways.push(['a client that has closed only the stream', 'leave', 1]);
  test.each(ways)('%s is noticed in time', async (what, go, beats) => {
    const stream = await reading(name, edge, '/quick');
    await until(stream, 'hello', name);
    const { signal } = origin.users('/quick').get(name)!;
    const start = clock();
    await stream[go]();
    await eventually(() => signal.aborted, 9 * QUICK);
    const took = clock() - start;
    measured.push(`${name}, ${edge}: ${what} is noticed after ${(took / QUICK).toFixed(1)} heartbeats`);
    expect(took).toBeLessThan(beats * QUICK + 400);
    expect(signal.reason).toBe('client');
    await stream.close();
  });
});

describe('after an idle minute', () => {
  beforeAll(async () => {
    // The tests below need an idle minute, in which no event is sent.
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, IDLE - (clock() - idleSince))));
    await origin.at('/idle').broadcast('still there');
    await origin.at('/silent').broadcast('still there');
  }, IDLE + 10_000);

  test.each(EDGES)('%s, %s: the stream is open, because of its heartbeats', async (name, edge) => {
    const { kept } = idle.get(`${name}, ${edge}`)!;
    await until(kept, 'message', 'still there');
    expect(kept.over).toBe(false);
  });

  test.each(EDGES)('%s, %s: without heartbeats only Caddy keeps the stream open', async (name, edge) => {
    const { silent } = idle.get(`${name}, ${edge}`)!;
    if (name === 'Caddy') await until(silent, 'message', 'still there');
    expect(silent.over).toBe(name !== 'Caddy');
  });
});
