import { clock, eventually } from '../fixtures/http.ts';
import { QUICK, startOrigin, type Origin } from './fixtures/origin.ts';
import { startProxy, type Edits, type Proxy } from './fixtures/proxy.ts';
import { read, until, type Reading } from './fixtures/reading.ts';
import type { ProxyName } from './fixtures/recipes.ts';

const IDLE = 65_000;

/** The recipes as they are, and those that have lines for a stream without them. */
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
  // The minute in which nothing happens is shared by all, and by the tests before the last.
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
  test(`PX a first event and those that follow come within ${within} ms`, async () => {
    const firsts: number[] = [];
    const late: number[] = [];
    // A machine that does something else for a moment is not a proxy that buffers: that one would be late each time.
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
        late.push((await until(stream, 'tick', `${round} ${n}`)) - sent);
      }
      await stream.close();
    }
    const [first, next] = [firsts, late].map((all) => all.toSorted((a, b) => a - b)) as [number[], number[]];
    measured.push(
      `${name}, ${edge}: first event after ${firsts.map(Math.round).join(', ')} ms, the next ${Math.round(next[4]!)} ms late`,
    );
    expect(first[0]).toBeLessThan(within);
    expect(next[4]).toBeLessThan(within); // the median
  });

  test('PX two users never share a stream', async () => {
    const { opened } = origin.at('/events').stats();
    const [one, two] = [await reading(name, edge, '/events', 'Ann'), await reading(name, edge, '/events', 'Bob')];
    await until(one, 'hello', 'Ann');
    await until(two, 'hello', 'Bob');
    origin.users('/events').get('Ann')!.push({ event: 'secret', data: 'of Ann' });
    origin.users('/events').get('Bob')!.push({ event: 'secret', data: 'of Bob' });
    await until(one, 'secret', 'of Ann');
    await until(two, 'secret', 'of Bob');
    const three = await reading(name, edge, '/events', 'Eve'); // and what was kept is not played to her
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

  // nginx and Caddy see a client go, and so do Varnish that pipes, and HAProxy over TLS with `abortonclose`. The others learn
  // it when they write: the first write is answered by a reset, the next fails. By default it takes HAProxy over TLS a third
  // write, and Varnish too: whoever writes has failed by then, but whoever reads waits already, and looks after the next read.
  const beats = name.endsWith('by default') ? 3 : 2;
  const ways: [what: string, go: 'close' | 'leave', beats: number][] = [['who has left', 'close', beats]];
  // As a page does that closes its EventSource and stays: the connection is there, and tells.
  if (edge === 'HTTP/2') ways.push(['who has closed the stream alone', 'leave', 1]);
  test.each(ways)('HB-03 %s is noticed in time', async (what, go, beats) => {
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
    // What is waited for is that nothing happens.
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, IDLE - (clock() - idleSince))));
    await origin.at('/idle').broadcast('still there');
    await origin.at('/silent').broadcast('still there');
  }, IDLE + 10_000);

  test.each(EDGES)('PX %s, %s: the stream is there, by its heartbeats', async (name, edge) => {
    const { kept } = idle.get(`${name}, ${edge}`)!;
    await until(kept, 'message', 'still there');
    expect(kept.over).toBe(false);
  });

  test.each(EDGES)('PX %s, %s: without heartbeats only Caddy keeps it', async (name, edge) => {
    const { silent } = idle.get(`${name}, ${edge}`)!;
    if (name === 'Caddy') await until(silent, 'message', 'still there');
    expect(silent.over).toBe(name !== 'Caddy');
  });
});
