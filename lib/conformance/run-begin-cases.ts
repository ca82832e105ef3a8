/*
 * The requirements for begin, open and close: one generation of a run id is running, whichever handles begin it.
 */
import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import type { RunKey } from '../runs/run-store.ts';
import { type RunCaseContext, appended, begun, newRun, textsOf } from './run-store-harness.ts';

export const runBeginCases: Record<string, (context: RunCaseContext) => Promise<void>> = {
  'a run that has begun is running, with an empty log, for both handles': async ({ store, other }) => {
    strictEqual(await store.state('a'), undefined, 'the state before the begin');
    strictEqual(await store.read({ id: 'a', generation: 'g' }, 0, 10), undefined, 'a log before the begin');
    const before = Date.now();
    const run = await begun(store, newRun('a', 'g'));
    for (const each of [store, other]) {
      const state = await each.state('a');
      ok(state !== undefined);
      deepStrictEqual(
        { ...state, startedAt: 0, leaseLeft: 0 },
        { ...run, status: 'running', startedAt: 0, chunks: 0, bytes: 0, leaseLeft: 0 },
      );
      ok(Math.abs(state.startedAt - before) < 60_000, 'startedAt is the time in milliseconds since 1970');
      ok(state.leaseLeft! > 0 && state.leaseLeft! <= 60_000, 'leaseLeft is a part of the lease');
      deepStrictEqual((await each.read(run, 0, 10))?.chunks, [], 'the log');
      deepStrictEqual((await each.state('a', 'g'))?.status, 'running', 'by its generation');
      strictEqual(await each.state('a', 'h'), undefined, 'an unknown generation');
    }
  },

  'of many begins at the same time, one starts the run, and the others join it': async ({ store, other }) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, n) => (n % 2 ? store : other).begin(newRun('a', `g${n}`))),
    );
    const started = results.filter((result) => result.started);
    strictEqual(started.length, 1, 'the number of begins that started the run');
    const { generation } = started[0]!.state;
    deepStrictEqual(
      results.map(({ state }) => [state.generation, state.status]),
      results.map(() => [generation, 'running']),
      'the generation that each begin returned',
    );
    strictEqual((await other.state('a'))?.generation, generation);
  },

  'a begin that joins or is rejected returns the running generation, and changes nothing': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g'));
    await appended(store, run, 1, 'x');
    for (const again of ['join', 'reject'] as const) {
      for (const each of [store, other]) {
        const { started, state } = await each.begin(newRun('a', `h-${again}`, { again }));
        deepStrictEqual([started, state.generation, state.status, state.chunks], [false, 'g', 'running', 1]);
      }
    }
    await appended(store, run, 2, 'y');
    deepStrictEqual(await textsOf(other, run), ['x', 'y']);
  },

  'a replacement ends the running generation as stopped, and reports the stop to its process': async (context) => {
    const { store, other, stops, eventually } = context;
    const first = await begun(store, newRun('a', 'g1'));
    await appended(store, first, 1, 'x');
    const second = await begun(other, newRun('a', 'g2', { again: 'replace' }));
    strictEqual((await store.state('a', 'g1'))?.status, 'stopped', 'the replaced generation');
    strictEqual((await store.state('a'))?.generation, 'g2', 'the newest generation');
    strictEqual(await store.append(first, 2, [new Uint8Array(1)]), 'refused', 'an append of the replaced producer');
    await eventually(() => stops.stops.length > 0, 'the report of the stop to the replaced producer');
    deepStrictEqual(stops.stops, [first]);
    await appended(other, second, 1, 'z');
    deepStrictEqual([await textsOf(store, first), await textsOf(store, second)], [['x'], ['z']]);
  },

  'of many replacements at the same time, one generation remains': async ({ store, other }) => {
    const runs = Array.from({ length: 12 }, (_, n): RunKey => ({ id: 'a', generation: `g${n}` }));
    const results = await Promise.all(
      runs.map(({ id, generation }, n) => (n % 2 ? store : other).begin(newRun(id, generation, { again: 'replace' }))),
    );
    ok(
      results.every((result, n) => result.started && result.state.generation === `g${n}`),
      'each replacement starts its own generation',
    );
    const states = await Promise.all(runs.map(({ id, generation }) => other.state(id, generation)));
    const running = states.filter((state) => state?.status === 'running');
    strictEqual(running.length, 1, 'the number of running generations');
    strictEqual(states.filter((state) => state?.status === 'stopped').length, 11, 'the number of stopped generations');
    strictEqual((await store.state('a'))?.generation, running[0]!.generation, 'the running generation is the newest');
  },

  'a run that has ended can begin again, and both logs stay readable': async ({ store, other }) => {
    const first = await begun(store, newRun('a', 'g1'));
    await appended(store, first, 1, 'old');
    await store.end(first, 'done');
    const second = await begun(other, newRun('a', 'g2', { again: 'reject' }));
    await appended(other, second, 1, 'new');
    for (const each of [store, other]) {
      deepStrictEqual(await textsOf(each, first), ['old']);
      deepStrictEqual(await textsOf(each, second), ['new']);
      strictEqual((await each.state('a'))?.generation, 'g2');
      strictEqual((await each.state('a', 'g1'))?.status, 'done');
    }
  },

  'run ids of any text are kept apart': async ({ store, other }) => {
    const ids = ['a', 'A', 'a ', 'a/b', 'a:b', 'a~b', '%61', '*', '?', '{a}', '[a]', '__proto__', 'ä', 'a\u0308', '😀'];
    ids.push('€'.repeat(100), 'x'.repeat(256), 'x'.repeat(255), "'; --", '$1', '\\', '"');
    for (const [n, id] of ids.entries()) {
      const run = await begun(n % 2 ? store : other, newRun(id, 'A-z_0123456789abcdefghijklmnopqrs'));
      await appended(n % 2 ? store : other, run, 1, id);
    }
    for (const id of ids) {
      const state = await other.state(id);
      deepStrictEqual([state?.id, state?.chunks], [id, 1], `the state of ${JSON.stringify(id)}`);
      deepStrictEqual(await textsOf(store, { id, generation: state!.generation }), [id]);
    }
  },

  'open can be called again, and a store works on after it': async ({ store, stops }) => {
    const run = await begun(store, newRun('a', 'g'));
    await Promise.all([store.open(stops), store.open(stops)]);
    await appended(store, run, 1, 'x');
    strictEqual((await store.state('a'))?.chunks, 1);
  },

  'close can be called again; a closed store rejects every call and delivers nothing': async (context) => {
    const { store, other, shared, recorder } = context;
    const run = await begun(store, newRun('a', 'g'));
    const follower = recorder();
    store.follow(run, 0, follower);
    await appended(store, run, 1, 'x');
    await follower.hasReceived(['x']);
    await Promise.all([store.close(), store.close()]);
    await store.close();
    const calls: Record<string, () => Promise<unknown>> = {
      begin: () => store.begin(newRun('b', 'g')),
      append: () => store.append(run, 2, [new Uint8Array(1)]),
      end: () => store.end(run, 'done'),
      renew: () => store.renew([run]),
      stop: () => store.stop('a'),
      state: () => store.state('a'),
      read: () => store.read(run, 0, 1),
      noteReaders: () => store.noteReaders([run], 1000),
    };
    for (const [name, call] of Object.entries(calls)) await rejects(call, { code: 'ERR_SSE_CLOSED' }, name);
    if (!shared) return;
    await other.end(run, 'lost'); // the other handle is not affected
    const witness = recorder();
    other.follow(run, 0, witness);
    await witness.hasEnded(['x'], 'lost');
    await follower.hasReceived(['x'], 'the chunks received from a closed store');
    strictEqual(follower.ended, undefined, 'a closed store delivers no end');
  },
};
