/*
 * The requirements for end, stop, leases and `keep`: a run ends once, and its log never grows after that.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import type { RunState, RunStore } from '../runs/run-store.ts';
import { type RunCaseContext, appended, begun, chunksOf, newRun, textsOf } from './run-store-harness.ts';

/** A lease that a case waits for. */
const LEASE_MS = 600;

export const runEndCases: Record<string, (context: RunCaseContext) => Promise<void>> = {
  'a run ends once: the first status remains, and its log never grows after that': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g'));
    await appended(store, run, 1, 'x');
    const ended = await store.end(run, 'done');
    for (const each of [store, other]) {
      deepStrictEqual(await each.end(run, 'failed'), ended, 'a second end');
      deepStrictEqual(await each.state('a'), ended, 'the state');
      strictEqual(await each.append(run, 2, chunksOf('y')), 'refused', 'an append after the end');
      deepStrictEqual(await textsOf(each, run), ['x']);
    }
    deepStrictEqual([ended?.status, ended?.chunks, ended?.bytes], ['done', 1, 1]);
    ok(ended!.endedAt! >= ended!.startedAt, 'the end is not before the start');
    strictEqual(ended!.leaseLeft, undefined, 'an ended run has no lease');
  },

  'every status of an end is kept': async ({ store, other }) => {
    for (const status of ['done', 'stopped', 'failed', 'lost'] as const) {
      const run = await begun(store, newRun(status, 'g'));
      strictEqual((await store.end(run, status))?.status, status);
      strictEqual((await other.state(status))?.status, status);
    }
    strictEqual(await store.end({ id: 'none', generation: 'g' }, 'done'), undefined, 'the end of an unknown run');
  },

  'of several ends at the same time, one is stored, and all return it': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g'));
    const statuses = ['done', 'failed', 'lost', 'stopped'] as const;
    const ends = await Promise.all(statuses.map((status, n) => (n % 2 ? store : other).end(run, status)));
    for (const end of ends) deepStrictEqual(end, ends[0]);
  },

  'an end by another process fences the producer': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g'));
    await appended(store, run, 1, 'x');
    await other.end(run, 'lost');
    strictEqual(await store.append(run, 2, chunksOf('y')), 'refused');
    const [renewal] = await store.renew([run]);
    strictEqual(renewal?.running, false, 'the lease of an ended run is not extended');
    deepStrictEqual(await textsOf(other, run), ['x']);
  },

  'an append and an end at the same time: the log contains the chunk if and only if it is reported as stored': async ({
    store,
    other,
  }) => {
    for (let n = 0; n < 20; n++) {
      const run = await begun(store, newRun(`run ${n}`, 'g'));
      const [result] = await Promise.all([store.append(run, 1, chunksOf('x')), other.end(run, 'lost')]);
      deepStrictEqual(await textsOf(other, run), result === 'stored' ? ['x'] : [], `the log after ${result}`);
      strictEqual((await store.state(run.id))?.status, 'lost');
    }
  },

  'a stop from any process reaches the producer’s process, and ends nothing by itself': async (context) => {
    const { store, other, stops, otherStops, shared, eventually } = context;
    const run = await begun(store, newRun('a', 'g'));
    const unaffected = await begun(store, newRun('b', 'g'));
    strictEqual(await other.stop('a'), true, 'the run was running');
    await eventually(() => stops.stops.length > 0, 'the report of the stop');
    deepStrictEqual(stops.stops, [run]);
    if (shared) deepStrictEqual(otherStops.stops, [], 'a process that does not produce the run');
    strictEqual((await other.state('a'))?.status, 'running', 'the producer ends the run, not the stop');
    await appended(store, run, 1, 'x');
    const renewals = await store.renew([unaffected, run]);
    deepStrictEqual(renewals, [
      { running: true, stopRequested: false, hasReaders: false },
      { running: true, stopRequested: true, hasReaders: false },
    ]);
    strictEqual((await store.end(run, 'stopped'))?.status, 'stopped');
    strictEqual(await other.stop('a'), false, 'an ended run');
    strictEqual(await other.stop('unknown'), false, 'an unknown run');
  },

  'a stop of one generation stops no other one': async ({ store, other, stops, eventually }) => {
    const first = await begun(store, newRun('a', 'g1'));
    await store.end(first, 'done');
    const second = await begun(store, newRun('a', 'g2'));
    strictEqual(await other.stop('a', 'g1'), false, 'a generation that has ended');
    strictEqual(await other.stop('a', 'g3'), false, 'an unknown generation');
    strictEqual((await store.renew([second]))[0]?.stopRequested, false);
    strictEqual(await other.stop('a', 'g2'), true, 'the running generation');
    await eventually(() => stops.stops.length > 0, 'the report of the stop');
    deepStrictEqual(stops.stops, [second]);
  },

  'if a stop is on record, a lost run becomes stopped, and a finished one stays done': async ({ store, other }) => {
    const statuses = { lost: 'stopped', done: 'done', failed: 'failed', stopped: 'stopped' } as const;
    for (const [status, expected] of Object.entries(statuses)) {
      const run = await begun(store, newRun(status, 'g'));
      strictEqual(await other.stop(status), true);
      strictEqual((await store.end(run, status as 'lost'))?.status, expected);
      strictEqual((await other.state(status))?.status, expected);
    }
  },

  'a run that is not renewed is lost after its lease, for both handles and for its producer': async (context) => {
    const { store, other, eventually } = context;
    const start = performance.now();
    const run = await begun(store, newRun('a', 'g', { lease: LEASE_MS }));
    await appended(store, run, 1, 'x');
    const first = await other.state('a');
    if (performance.now() - start < LEASE_MS) strictEqual(first?.status, 'running', 'the state within the lease');
    let state: RunState | undefined;
    await eventually(async () => (state = await other.state('a'))?.status !== 'running', 'the end of the run');
    strictEqual(state?.status, 'lost');
    ok(performance.now() - start >= LEASE_MS * 0.9, 'a run ends before its lease');
    deepStrictEqual(await store.state('a'), state, 'the state of the other handle');
    strictEqual(await store.append(run, 2, chunksOf('y')), 'refused', 'the append of a fenced producer');
    strictEqual((await store.renew([run]))[0]?.running, false, 'a late renewal');
    deepStrictEqual(await textsOf(store, run), ['x'], 'the log stays readable');
    strictEqual(await other.stop('a'), false, 'a lost run is not running');
  },

  'a run that is renewed is not lost': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g', { lease: LEASE_MS }));
    const until = performance.now() + LEASE_MS * 2.5;
    while (performance.now() < until) {
      const [renewal] = await store.renew([run]);
      strictEqual(renewal?.running, true);
      const { status, leaseLeft = 0 } = (await other.state('a'))!;
      strictEqual(status, 'running');
      ok(leaseLeft > 0 && leaseLeft <= LEASE_MS, `leaseLeft is ${leaseLeft}`);
      await new Promise((resolve) => void setTimeout(resolve, LEASE_MS / 6));
    }
    await appended(store, run, 1, 'x');
  },

  'if a stop is on record when the lease expires, the run is stopped': async ({ store, other, eventually }) => {
    await begun(store, newRun('a', 'g', { lease: LEASE_MS }));
    strictEqual(await other.stop('a'), true);
    await eventually(async () => (await other.state('a'))?.status !== 'running', 'the end of the run');
    strictEqual((await store.state('a'))?.status, 'stopped');
  },

  'a run whose lease has expired can begin again': async ({ store, other, eventually }) => {
    await begun(store, newRun('a', 'g1', { lease: LEASE_MS }));
    let started = false;
    await eventually(async () => {
      ({ started } = await other.begin(newRun('a', 'g2', { again: 'reject' })));
      return started;
    }, 'a begin after the lease');
    deepStrictEqual((await store.state('a'))?.generation, 'g2');
    strictEqual((await store.state('a', 'g1'))?.status, 'lost', 'the generation before it');
  },

  'a renewal answers for each run in order, also for unknown ones': async ({ store }) => {
    const runs = [];
    for (const id of ['a', 'b', 'c']) runs.push(await begun(store, newRun(id, 'g')));
    await store.end(runs[1]!, 'done');
    const renewals = await store.renew([...runs, { id: 'a', generation: 'h' }, { id: 'd', generation: 'g' }]);
    deepStrictEqual(
      renewals.map(({ running }) => running),
      [true, false, true, false, false],
    );
    deepStrictEqual(await store.renew([]), []);
  },

  'readers that any process notes are reported to the producer, until their time is over': async (context) => {
    const { store, other, eventually } = context;
    const [read, unread] = [await begun(store, newRun('a', 'g')), await begun(store, newRun('b', 'g'))];
    const hasReaders = async (): Promise<boolean[]> =>
      (await store.renew([read, unread])).map((renewal) => renewal.hasReaders);
    await other.noteReaders([read, { id: 'unknown', generation: 'g' }], 60_000);
    await eventually(async () => (await hasReaders())[0]!, 'the report of a reader');
    deepStrictEqual(await hasReaders(), [true, false]);
    await other.noteReaders([read], 200);
    await other.noteReaders([unread], 200);
    await eventually(async () => (await hasReaders()).every((each) => !each), 'the end of the readers’ time');
  },

  'an ended run is dropped after `keep`': async ({ store, other, recorder, eventually }) => {
    const kept = await begun(store, newRun('kept', 'g'));
    const dropped = await begun(store, newRun('dropped', 'g', { keep: LEASE_MS }));
    await appended(store, dropped, 1, 'x');
    const start = performance.now();
    await store.end(dropped, 'done');
    await store.end(kept, 'done');
    if (!(await isThere(other))) ok(performance.now() - start >= LEASE_MS, 'a run is dropped before `keep`');
    await eventually(async () => !(await isThere(other)) && !(await isThere(store)), 'the drop');
    for (const each of [store, other]) {
      strictEqual(await each.state('dropped', 'g'), undefined);
      strictEqual(await each.read(dropped, 0, 10), undefined);
      strictEqual(await each.stop('dropped'), false);
      strictEqual(await each.append(dropped, 2, chunksOf('y')), 'refused');
      strictEqual((await each.state('kept'))?.status, 'done', 'a run that is kept for longer');
    }
    const follower = recorder();
    other.follow(dropped, 0, follower);
    await follower.hasEnded([], 'lost', 'a follower of a dropped run');
    await begun(other, newRun('dropped', 'g2'));
  },
};

async function isThere(store: RunStore): Promise<boolean> {
  return (await store.state('dropped')) !== undefined;
}
