/*
 * The requirements for follow: deliver every chunk once, in order, without a gap, and then the end.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import {
  type RunCaseContext,
  type RunRecorder,
  appended,
  begun,
  chunksOf,
  newRun,
  textsOf,
} from './run-store-harness.ts';

export const runFollowCases: Record<string, (context: RunCaseContext) => Promise<void>> = {
  'a follower receives the past chunks, then the new ones, then the end': async ({ store, other, recorder }) => {
    const run = await begun(store, newRun('a', 'g'));
    await appended(store, run, 1, '1', '2', '3');
    await appended(store, run, 4, '4');
    const followers: { readonly after: number; readonly follower: RunRecorder }[] = [];
    for (const after of [0, 2, 4]) {
      for (const each of [store, other]) {
        const follower = recorder();
        followers.push({ after, follower });
        each.follow(run, after, follower);
      }
    }
    await appended(store, run, 5, '5', '6');
    await store.end(run, 'done');
    for (const { after, follower } of followers) {
      await follower.hasEnded(['1', '2', '3', '4', '5', '6'].slice(after), 'done', `the follower after ${after}`);
      strictEqual(follower.first, after + 1, 'the number of the first chunk');
      deepStrictEqual([follower.ended!.chunks, follower.ended!.generation], [6, 'g'], 'the state of the end');
    }
  },

  'no gap and no duplicate while the producer appends': async ({ store, other, recorder }) => {
    const run = await begun(store, newRun('a', 'g'));
    const followers: { readonly after: number; readonly follower: RunRecorder }[] = [];
    const texts: string[] = [];
    for (let n = 0; n < 120; n++) {
      const batch = Array.from({ length: 1 + (n % 3) }, (_, k) => `${n} ${k}`);
      await appended(store, run, texts.length + 1, ...batch);
      texts.push(...batch);
      if (n % 10 !== 0) continue;
      for (const each of [store, other]) {
        for (const after of [texts.length, Math.floor(texts.length / 2)]) {
          const follower = recorder(); // begins in between, at the chunk that has just been stored, and far before it
          followers.push({ after, follower });
          each.follow(run, after, follower);
        }
      }
    }
    await store.end(run, 'failed');
    for (const { after, follower } of followers) {
      await follower.hasEnded(texts.slice(after), 'failed', `the follower after ${after}`);
    }
  },

  'nothing is delivered within the call of follow': async ({ store, recorder }) => {
    const run = await begun(store, newRun('a', 'g'));
    await appended(store, run, 1, 'x');
    await store.end(run, 'done');
    for (const key of [run, { id: 'unknown', generation: 'g' }]) {
      const follower = recorder();
      store.follow(key, 0, follower);
      deepStrictEqual([follower.received.length, follower.ended], [0, undefined]);
    }
  },

  'a follower of an ended run receives the rest and the end': async ({ store, other, recorder }) => {
    const run = await begun(store, newRun('a', 'g'));
    await appended(store, run, 1, '1', '2');
    await store.end(run, 'stopped');
    await begun(store, newRun('a', 'g2')); // a newer generation changes nothing for it
    for (const each of [store, other]) {
      for (const after of [0, 1, 2]) {
        const follower = recorder();
        each.follow(run, after, follower);
        await follower.hasEnded(['1', '2'].slice(after), 'stopped', `the follower after ${after}`);
      }
    }
  },

  'a follower of a run without a log receives the end lost': async ({ store, other, recorder }) => {
    await begun(store, newRun('a', 'g'));
    for (const each of [store, other]) {
      for (const key of [
        { id: 'a', generation: 'h' },
        { id: 'unknown', generation: 'g' },
      ]) {
        const follower = recorder();
        each.follow(key, 0, follower);
        await follower.hasEnded([], 'lost');
        deepStrictEqual([follower.ended!.id, follower.ended!.generation], [key.id, key.generation]);
      }
    }
  },

  'followers receive the end of a run whose lease has expired, after a call of state()': async (context) => {
    const { store, other, recorder, eventually } = context;
    const run = await begun(store, newRun('a', 'g', { lease: 600 }));
    const followers = [store, other].map((each) => {
      const follower = recorder();
      each.follow(run, 0, follower);
      return follower;
    });
    await appended(store, run, 1, 'x');
    await eventually(async () => (await other.state('a'))?.status !== 'running', 'the end of the run');
    for (const follower of followers) await follower.hasEnded(['x'], 'lost');
  },

  'unfollow stops one follower at once, even during a delivery': async ({ store, other, recorder }) => {
    const run = await begun(store, newRun('a', 'g'));
    const [stopped, stopping, witness] = [recorder(), recorder(), recorder()];
    const unfollow = other.follow(run, 0, stopped);
    await appended(store, run, 1, '1');
    await stopped.hasReceived(['1']);
    unfollow();
    unfollow();
    const handle: { unfollow?: () => void } = {};
    stopping.onChunks = () => handle.unfollow?.();
    handle.unfollow = other.follow(run, 1, stopping);
    other.follow(run, 0, witness);
    for (const n of [2, 3, 4]) await appended(store, run, n, `${n}`);
    await store.end(run, 'done');
    await witness.hasEnded(['1', '2', '3', '4'], 'done');
    await stopping.until(() => stopping.received.length > 0, 'the first chunk of the follower that stops');
    strictEqual(stopping.texts[0], '2');
    strictEqual(stopping.ended, undefined, 'the follower that stopped receives no end');
    deepStrictEqual([stopped.texts, stopped.ended], [['1'], undefined], 'the follower that was stopped');
  },

  'many runs are followed at the same time, each by its own followers': async ({ store, other, recorder }) => {
    const runs = [];
    for (let n = 0; n < 60; n++) runs.push(await begun(n % 2 ? store : other, newRun(`run ${n}`, 'g')));
    const followers = runs.map((run) => {
      const pair = [recorder(), recorder()];
      store.follow(run, 0, pair[0]!);
      other.follow(run, 0, pair[1]!);
      return pair;
    });
    await Promise.all(
      runs.map(async (run, n) => {
        const handle = n % 2 ? store : other;
        for (let k = 1; k <= 5; k++) await appended(handle, run, k, `${run.id}: ${k}`);
        await handle.end(run, 'done');
      }),
    );
    for (const [n, pair] of followers.entries()) {
      const expected = Array.from({ length: 5 }, (_, k) => `run ${n}: ${k + 1}`);
      for (const follower of pair) await follower.hasEnded(expected, 'done', `a follower of run ${n}`);
    }
  },

  'a follower that appends from within receives its chunks once and in order': async ({ store, recorder }) => {
    const run = await begun(store, newRun('a', 'g'));
    const follower = recorder();
    let [n, last] = [1, Promise.resolve<unknown>('stored')];
    follower.onChunks = () => {
      if (n < 20) last = store.append(run, ++n, chunksOf(`${n}`));
    };
    store.follow(run, 0, follower);
    await appended(store, run, 1, '1');
    await follower.until(() => follower.received.length === 20, 'twenty chunks');
    await last;
    deepStrictEqual(follower.texts, await textsOf(store, run));
    ok(n === 20);
  },
};
