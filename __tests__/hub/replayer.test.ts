/*
 * Many connections behind the ring at the same id: the replayer serves them in slices, and skips a connection that was removed.
 * The fake connections take one millisecond for each write, on a clock that only they advance. The model tests everything else.
 */
import { SubscriberGroup } from '../../lib/fanout/subscriber-groups.ts';
import { Replayer } from '../../lib/hub/replayer.ts';
import type { Entry, Journal } from '../../lib/journal/journal.ts';
import type { ServerConnection } from '../../lib/connection/server-connection.ts';
import { tick } from '../fixtures/support.ts';

const CONNECTIONS = 100;
const LOG: Entry[] = ['1', '2', '3'].map((id) => ({ id, body: Buffer.from(`data: ${id}\n\n`) }));

const group = new SubscriberGroup('', []);
const packets = { hasIdsFor: () => true };
const compare = (a: string, b: string): number => Number(a) - Number(b);
const after = (id: string, count = Infinity) => ({
  ok: true,
  entries: LOG.filter((entry) => compare(entry.id, id) > 0).slice(0, count),
});

test('no slice blocks the event loop for 30 ms; each connection receives every entry once, unless it is removed meanwhile', async () => {
  let now = 0;
  jest.spyOn(performance, 'now').mockImplementation(() => now);
  const journal = {
    compare,
    read: (id: string) => Promise.resolve(after(id)),
  } as unknown as Journal;
  // The ring begins where the log ends.
  const ring = { headId: '3', find: (id: string) => (id === '3' ? 3 : undefined) };
  const catchUp = new Replayer({ ring, journal, packets, timer: { now, wakeAt: () => {} } });
  const got = new Map<ServerConnection, string[]>();
  for (let i = 0; i < CONNECTIONS; i++) {
    const mine: string[] = [];
    const work = (what: string): void => {
      now += 1;
      mine.push(what);
    };
    const reader = { cursorId: '1', group, membership: undefined, usesAppIds: false } as unknown as ServerConnection;
    Object.assign(reader, {
      onReplayStarted: () => {},
      onReplayPage: (packet: { payload: Buffer }, id: string) => work(`${id}: ${packet.payload.toString()}`),
      continueInRing: (n: number) => work(`on from ${n}`),
    });
    got.set(reader, mine);
    catchUp.enqueue(reader);
  }
  const [removed] = [...got.keys()].slice(-1) as [ServerConnection];
  const slices: number[] = [];
  while (catchUp.size > 0) {
    const start = now;
    await tick();
    slices.push(now - start);
    if (slices.length === 3) catchUp.remove(removed);
  }
  expect(Math.max(...slices)).toBeLessThan(30);
  expect(slices.length).toBeGreaterThan(10);
  const all = ['3: id: 2\ndata: 2\n\nid: 3\ndata: 3\n\n', 'on from 3'];
  for (const [reader, mine] of got) expect(mine).toEqual(reader === removed ? [] : all);
});

test('a long scan of the log does not time out; an engine that does not answer times out after 30 s', async () => {
  const answers: (() => void)[] = [];
  const journal = {
    compare,
    read: (id: string) => new Promise((resolve) => answers.push(() => resolve(after(id, 1)))),
  } as unknown as Journal;
  let due = Infinity;
  const ring = { headId: '9', find: () => undefined };
  const timer = { now: 0, wakeAt: (at: number) => void (due = Math.min(due, at)) };
  const catchUp = new Replayer({ ring, journal, packets, timer });
  const failed: unknown[] = [];
  const waits = (at: string): { source: string } => {
    const reader = { cursorId: at, source: 'queued', group, membership: undefined, usesAppIds: false };
    Object.assign(reader, {
      onReplayStarted: () => void (reader.source = 'replaying'),
      onReplayPage: () => {},
      closeWithError: (error: { code: string }) => {
        failed.push(error.code);
        catchUp.remove(reader as unknown as ServerConnection);
      },
    });
    catchUp.enqueue(reader as unknown as ServerConnection);
    return reader;
  };
  waits('1');
  await tick();
  const other = waits('0'); // its id is before the start of this scan: it waits for the next scan
  // The hub's timer works like this: its time advances only when something is due.
  const advance = (until: number): void => {
    while (due <= until && catchUp.size > 0) due = catchUp.expire((timer.now = due));
  };
  for (const at of [20_000, 40_000]) {
    advance(at);
    answers.shift()!();
    while (answers.length === 0) await tick(); // it reads the next page
    expect(failed).toEqual([]);
  }
  expect(other.source).toBe('queued');
  advance(69_000);
  expect(failed).toEqual([]);
  advance(71_000); // no answer since 40,000
  expect(failed).toEqual(['ERR_SSE_TIMEOUT', 'ERR_SSE_TIMEOUT']);
  expect(catchUp.size).toBe(0);
  catchUp.close();
});

test('the scan does not pass the head of this process, which may not have received a disconnect yet', async () => {
  const journal = { compare, read: (id: string) => Promise.resolve(after(id)) } as unknown as Journal;
  const ring = { headId: '2', find: (id: string) => (id === '2' ? 2 : undefined) }; // the log already has 3
  const replayer = new Replayer({ ring, journal, packets, timer: { now: 0, wakeAt: () => {} } });
  const received: string[] = [];
  const connection = {
    cursorId: '1',
    group,
    membership: undefined,
    usesAppIds: false,
    closing: undefined,
    onReplayStarted: () => {},
    onReplayPage: (packet: { payload: Buffer }, id: string) => received.push(`${id}: ${packet.payload.toString()}`),
    continueInRing: (n: number) => received.push(`continues at ${n}`),
  };
  replayer.enqueue(connection as unknown as ServerConnection);
  while (replayer.size > 0) await tick();
  expect(received).toEqual(['2: id: 2\ndata: 2\n\n', 'continues at 2']);
});
