/*
 * The dispatcher divides its work into slices, so that one broadcast never blocks the event loop for more than 30 ms.
 * The fake connections and sockets take 50 µs for each write, on a clock that only they advance.
 */
import { SubscriberGroups } from '../../lib/fanout/subscriber-groups.ts';
import type { ServerConnection } from '../../lib/connection/server-connection.ts';
import { Dispatcher } from '../../lib/hub/dispatcher.ts';
import { PacketCache } from '../../lib/fanout/packet-cache.ts';
import { Ring } from '../../lib/fanout/ring.ts';
import { Counters } from '../../lib/diagnostics/stats.ts';
import { tick } from '../fixtures/support.ts';

const CONNECTIONS = 2000;
const EVENTS = 3;
const WRITE = 0.05;

/** Returns a dispatcher with many fake connections, and the clock that their writes advance. */
function dispatcherWithConnections(channelsOf: (n: number) => string[], ms = 0) {
  const clock = { now: 0 };
  jest.spyOn(performance, 'now').mockImplementation(() => clock.now);
  const ring = new Ring({ entries: 100, bytes: 1e6 }, (a, b) => Number(a) - Number(b));
  const audiences = new SubscriberGroups<ServerConnection>();
  const range = new PacketCache(ring, true);
  const timer = { refresh: () => clock.now };
  const handOut = new Dispatcher(
    { ring, packets: range, groups: audiences, timer, counters: new Counters() },
    () => {},
  );
  const before = handOut.dispatchedUpTo;
  const got: number[][] = [];
  for (let n = 0; n < CONNECTIONS; n++) {
    const mine: number[] = [];
    got.push(mine);
    const write = (_chunk: unknown, from = before, to = before + EVENTS): boolean => {
      clock.now += WRITE;
      for (let at = from + 1; at <= to; at++) mine.push(at);
      return true;
    };
    const reader = {
      source: 'live',
      usesAppIds: false,
      membership: undefined,
      group: undefined as unknown,
      outbox: undefined,
      cursor: before,
      socket: n % 3 === 0 ? undefined : { writable: true, writableLength: 0, write }, // one in three is not part of the batch
      writeDispatched: write,
    };
    const group = audiences.assign(reader as unknown as ServerConnection, undefined, channelsOf(n));
    reader.group = group;
    if (ms > 0) group.matches = () => ((clock.now += ms), !channelsOf(n)[0]?.startsWith('not'));
  }
  for (let id = 1; id <= EVENTS; id++)
    ring.push({ id: String(id), to: undefined, except: ms ? ['x'] : undefined, body: Buffer.from('data: x\n\n') });
  return { clock, ring, handOut, got, all: Array.from({ length: EVENTS }, (_event, i) => before + 1 + i) };
}

test.each<[string, (n: number) => string[], number]>([
  ['all connections in one group', () => [], 0],
  ['each connection in a channel of its own', (n) => [`user:${n}`], 0],
  [
    'half of the connections excluded, which takes as long as a write',
    (n) => [n % 2 === 0 ? `user:${n}` : `not:${n}`],
    WRITE,
  ],
])(
  '%s: no slice blocks the event loop for 30 ms, and each connection receives every event once and in order',
  async (_, channelsOf, ms) => {
    const { clock, ring, handOut, got, all } = dispatcherWithConnections(channelsOf, ms);
    handOut.onAppended(27);
    const slices: number[] = [];
    while (handOut.dispatchedUpTo < ring.head) {
      const start = clock.now;
      await tick();
      slices.push(clock.now - start);
    }
    expect(Math.max(...slices)).toBeLessThan(30);
    expect(slices.length).toBeGreaterThan(5);
    expect(got).toEqual(got.map((_mine, n) => (channelsOf(n)[0]?.startsWith('not') ? [] : all)));
  },
);

test('an endless loop of broadcasts prevents the end of the tick: its broadcasts are dispatched in slices during the loop', () => {
  const { clock, ring, handOut, got, all } = dispatcherWithConnections(() => []);
  const slices: number[] = [];
  for (let n = 0; n < 50 && handOut.dispatchedUpTo < ring.head; n++) {
    const start = clock.now;
    handOut.onAppended(300_000);
    slices.push(clock.now - start);
  }
  expect(handOut.dispatchedUpTo).toBe(ring.head);
  expect(Math.max(...slices)).toBeLessThan(30);
  expect(got).toEqual(got.map(() => all));
});
