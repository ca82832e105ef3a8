/*
 * Many connections with channels of their own: the work is divided into slices, and connections may change between two of them.
 * No test measures time: the clock is a stub that each piece of work advances.
 */
import type { Request } from 'express';
import type { ServerConnection } from '../../lib/connection/server-connection.ts';
import { Selection } from '../../lib/fanout/selection.ts';
import { SubscriberGroup } from '../../lib/fanout/subscriber-groups.ts';
import { Hub } from '../../lib/hub/hub.ts';
import { broadcast, disconnect } from '../../lib/hub/publish.ts';
import { checkOptions } from '../../lib/options/options.ts';
import { Packet } from '../../lib/wire/packet.ts';
import { tick } from '../fixtures/support.ts';
import { Pipe } from '../model/pipe.ts';

const clock = { now: 0 };
const hubs: Hub[] = [];

beforeEach(() => {
  clock.now = 0;
});

afterEach(async () => {
  for (const hub of hubs.splice(0)) await hub.close();
});

async function openHub(): Promise<Hub> {
  const hub = new Hub(checkOptions({ retry: false } as never));
  hubs.push(hub);
  await hub.open();
  return hub;
}

/** Admits a connection in these channels. Its writes advance the clock by `ms`. */
function admit(hub: Hub, channels: readonly string[], hasSocket = true, ms = 0) {
  const pipe = new Pipe(1e9, 1e9, hasSocket, setImmediate);
  const { socket } = pipe;
  if (socket !== undefined && ms > 0) {
    const write = socket.write.bind(socket) as (chunk: unknown) => boolean;
    socket.write = (chunk: unknown) => ((clock.now += ms), write(chunk));
  }
  const request = { request: {} as Request, lastEventId: '', padding: '', client: '', maxAge: undefined };
  const connection = hub.admit(pipe, request);
  connection.join(...channels);
  connection.open();
  return { pipe, connection };
}

/** Resolves when so many connections are open: their flushes are divided into slices as well. */
async function opened(hub: Hub, count: number): Promise<void> {
  while (hub.registry.open.size < count) await tick();
}

/** Returns the data of the broadcasts that a client has received. */
const received = (pipe: Pipe): string[] =>
  [...pipe.read(Infinity).matchAll(/^data: (e\d+)$/gm)].map((match) => match[1]!);

/** Runs ticks until the dispatcher has no more work, and calls `between` after each. Returns the time of each tick on the clock. */
async function run(hub: Hub, between: (ticks: number) => void = () => undefined): Promise<number[]> {
  const slices: number[] = [];
  while (hub.dispatcher.dispatchedUpTo < hub.ring.head) {
    const start = clock.now;
    await tick();
    slices.push(clock.now - start);
    between(slices.length);
  }
  await tick();
  return slices;
}

test('no slice blocks the event loop for 30 ms with 1,000 mixed events to 4,000 connections in a channel of their own and in `all`', async () => {
  const hub = await openHub();
  const connections = Array.from({ length: 4000 }, (_, n) => admit(hub, [`user:${n}`, 'all'], true, 0.05));
  await opened(hub, 4000);
  jest.spyOn(performance, 'now').mockImplementation(() => clock.now);
  // Ten times what it takes on the machine of the benchmarks: 1 µs for a group and a class of entries, and 1 µs for an entry of a packet.
  const add = Selection.prototype.with; // oxlint-disable-line typescript/unbound-method -- called with `this` below
  jest.spyOn(Selection.prototype, 'with').mockImplementation(function timed(this: Selection, entryClass) {
    clock.now += 0.001;
    return add.call(this, entryClass);
  });
  const join = Packet.fromEntries.bind(Packet);
  jest.spyOn(Packet, 'fromEntries').mockImplementation((entries, withIds, lastN) => {
    clock.now += 0.001 * entries.length;
    return join(entries, withIds, lastN);
  });
  const expected = connections.map((): string[] => []);
  for (let n = 0; n < 1000; n++) {
    const user = (n * 1237) % 4000;
    void broadcast(hub, `e${n}`, { to: n % 2 === 0 ? 'all' : `user:${user}` });
    for (const [i, list] of expected.entries()) if (n % 2 === 0 || i === user) list.push(`e${n}`);
  }
  await Promise.resolve();
  const slices = await run(hub);
  expect(Math.max(...slices)).toBeLessThan(30);
  expect(slices.length).toBeGreaterThan(10);
  expect(connections.map(({ pipe }) => received(pipe))).toEqual(expected);
}, 60_000);

test('a loop of 10,000 broadcasts runs the dispatcher at most once before its end', async () => {
  const hub = await openHub();
  const connections = Array.from({ length: 100 }, (_, n) => admit(hub, [`user:${n}`]));
  await opened(hub, 100);
  const refresh = jest.spyOn(hub.timer, 'refresh');
  const loop = Array.from({ length: 10_000 }, (_, n) => broadcast(hub, `e${n}`.padEnd(1), { to: `user:${n % 100}` }));
  await Promise.all(loop);
  expect(refresh.mock.calls.length).toBeLessThanOrEqual(1);
  await run(hub);
  const expected = connections.map((_, user) => Array.from({ length: 100 }, (_value, i) => `e${i * 100 + user}`));
  expect(connections.map(({ pipe }) => received(pipe))).toEqual(expected);
});

test('connections that join, leave, close and open between the slices receive exactly the events that were broadcast for them', async () => {
  const hub = await openHub();
  const users = 2000;
  const connections = Array.from({ length: 2 * users }, (_, n) => {
    const user = n % users;
    const others = user % 3 === 0 ? ['third'] : [];
    return { ...admit(hub, [`user:${user}`, ...others], n % 5 > 0), user, joined: [`user:${user}`, ...others] };
  });
  await opened(hub, 2 * users);
  // Each reading of the clock finds that the slice has taken too long.
  jest.spyOn(performance, 'now').mockImplementation(() => (clock.now += 11));
  const everyOther = Array.from({ length: users / 2 }, (_, n) => `user:${2 * n}`);
  const events: { to?: string[]; except?: string[] }[] = [
    { to: everyOther },
    {},
    { to: ['user:7'] },
    { except: ['third'] },
    { to: ['third', 'user:8'], except: ['user:3'] },
    { to: ['user:3'] },
    {},
  ];
  for (const [n, options] of events.entries()) void broadcast(hub, `e${n}`, options as never);
  await Promise.resolve();
  const isFor = ({ to, except }: (typeof events)[number], joined: readonly string[]): boolean =>
    (to === undefined || to.some((channel) => joined.includes(channel))) &&
    !except?.some((channel) => joined.includes(channel));
  const expected = connections.map(({ joined }) =>
    events.flatMap((options, n) => (isFor(options, joined) ? [`e${n}`] : [])),
  );
  const changes = new Map<ServerConnection, string>();
  const newcomers: { pipe: Pipe; connection: ServerConnection }[] = [];
  const slices = await run(hub, (ticks) => {
    for (let n = ticks % 7; n < connections.length; n += 7 * 13) {
      const { connection, user } = connections[(n + ticks * 31) % connections.length]!;
      changes.set(connection, `${changes.get(connection) ?? ''} ${ticks}`);
      if (ticks % 4 === 0) connection.join('third', `user:${(user + 1) % users}`);
      else if (ticks % 4 === 1) connection.leave(`user:${user}`);
      else if (ticks % 4 === 2) connection.close();
      else newcomers.push(admit(hub, [`user:${user}`, 'third']));
    }
  });
  expect(slices.length).toBeGreaterThan(20);
  const wrong = connections.flatMap(({ pipe, connection }, n) => {
    const events = received(pipe).join();
    return events === expected[n]!.join()
      ? []
      : [{ n, events, expected: expected[n]!.join(), changes: changes.get(connection) }];
  });
  expect(wrong.slice(0, 10)).toEqual([]);
  expect(newcomers.length).toBeGreaterThan(0);
  for (const { pipe } of newcomers) expect(received(pipe)).toEqual([]);
});

test('a disconnect during a long dispatch: its connections receive the earlier events, and no later one', async () => {
  const hub = await openHub();
  const users = 600; // its slices take less than a second of the clock, after which a close is forced
  const connections = Array.from({ length: users }, (_, n) => admit(hub, [`user:${n}`], n % 2 === 0));
  await opened(hub, users);
  jest.spyOn(performance, 'now').mockImplementation(() => (clock.now += 11));
  void broadcast(hub, 'e0');
  await Promise.resolve();
  await tick();
  const ended = [0, 1, users - 2, users - 1];
  void disconnect(hub, { to: ended.map((user) => `user:${user}`) });
  void broadcast(hub, 'e1');
  await Promise.resolve();
  await run(hub);
  const expected = connections.map((_, user) => (ended.includes(user) ? ['e0'] : ['e0', 'e1']));
  expect(connections.map(({ pipe }) => received(pipe))).toEqual(expected);
  for (const user of ended) expect(connections[user]!.pipe.ended).toBe(true);
});

test('a user with one connection takes no Set, and a second connection of the user receives the events as well', async () => {
  const hub = await openHub();
  const first = admit(hub, ['user:1']);
  await tick();
  expect(hub.groups.ofChannel('user:1')).toBeInstanceOf(SubscriberGroup);
  expect((hub.groups.ofChannel('user:1') as SubscriberGroup<ServerConnection>).only).toBe(first.connection);
  const second = admit(hub, ['user:1']);
  const third = admit(hub, ['user:1', 'more']);
  await tick();
  await broadcast(hub, 'e1', { to: 'user:1' });
  await run(hub);
  for (const { pipe } of [first, second, third]) expect(received(pipe)).toEqual(['e1']);
  second.connection.close();
  third.connection.leave('user:1');
  await broadcast(hub, 'e2', { to: 'user:1' });
  await run(hub);
  expect(received(first.pipe)).toEqual(['e2']);
  for (const { pipe } of [second, third]) expect(received(pipe)).toEqual([]);
});

test('text that is not ASCII leaves as UTF-8 in a packet for one connection', async () => {
  const hub = await openHub();
  const { pipe } = admit(hub, ['user:1']);
  await tick();
  pipe.read(Infinity);
  const text = 'é€💥 ünïcode';
  const id = await broadcast(hub, text, { to: 'user:1' });
  await run(hub);
  const bytes = Buffer.from(pipe.read(Infinity), 'latin1'); // the pipe keeps one character for each byte
  expect(bytes.toString('utf8')).toBe(`id: ${id}\ndata: ${text}\n\n`);
});
