/*
 * The requirements for append and read: a log keeps the chunks of its one producer, unchanged and in order.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { type RunCaseContext, appended, begun, chunksAfter, newRun, textsOf } from './run-store-harness.ts';

const MEBIBYTE = 1024 * 1024;

export const runLogCases: Record<string, (context: RunCaseContext) => Promise<void>> = {
  'a chunk is in the log for both handles once its append has resolved': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g'));
    for (let n = 1; n <= 20; n++) {
      await appended(store, run, n, `${n}`);
      for (const each of [other, store]) {
        const state = await each.state('a');
        deepStrictEqual([state?.chunks, state?.bytes], [n, n < 10 ? n : 9 + (n - 9) * 2], 'the state');
        const page = await each.read(run, n - 1, 10);
        deepStrictEqual(page?.chunks.map(textOf), [`${n}`], 'the newest chunk');
        strictEqual(page?.state.chunks, n, 'the state of the page');
      }
    }
  },

  'chunks are returned as they were appended': async ({ store, other, recorder }) => {
    const run = await begun(store, newRun('a', 'g'));
    const follower = recorder();
    other.follow(run, 0, follower);
    const chunks = [
      Uint8Array.from({ length: 256 }, (_, n) => n),
      Uint8Array.from({ length: MEBIBYTE }, (_, n) => (n * 31 + (n >> 8)) & 255),
      new Uint8Array(1),
      Buffer.from('xxevent: ä€😀\ndata: 1\n\nxx').subarray(2, -2),
      Uint8Array.from([0, 13, 10, 0]),
    ];
    strictEqual(await store.append(run, 1, chunks.slice(0, 2)), 'stored');
    strictEqual(await store.append(run, 3, chunks.slice(2)), 'stored');
    await follower.until(() => follower.received.length >= chunks.length, 'the chunks received');
    const views: Record<string, readonly Uint8Array[]> = {
      'read()': await chunksAfter(store, run),
      'read() of the other handle': await chunksAfter(other, run),
      'a follower': follower.received,
    };
    for (const [view, received] of Object.entries(views)) {
      strictEqual(received.length, chunks.length, `${view}: the number of chunks`);
      for (const [n, chunk] of chunks.entries())
        ok(Buffer.compare(received[n]!, chunk) === 0, `${view}: chunk ${n + 1}`);
    }
    strictEqual(
      (await other.state('a'))?.bytes,
      chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0),
      'bytes',
    );
  },

  'a log is read in pages from any position, and the limit holds': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g'));
    const texts = Array.from({ length: 1000 }, (_, n) => `${n + 1}`);
    for (const [first, last] of [
      [0, 1],
      [1, 9],
      [9, 100],
      [100, 1000],
    ] as const)
      // over 9 → 10 and 99 → 100
      await appended(store, run, first + 1, ...texts.slice(first, last));
    for (const each of [store, other]) {
      for (const [after, limit] of [
        [0, 1000],
        [0, 7],
        [9, 90],
        [99, 1],
        [500, 2000],
        [999, 5],
        [1000, 5],
      ] as const)
        if (limit > 1) deepStrictEqual(await textsOf(each, run, after, limit), texts.slice(after), `after ${after}`);
        else strictEqual((await each.read(run, after, limit))?.chunks.length, 1, 'a page of one chunk');
      deepStrictEqual((await each.read(run, 1000, 5))?.chunks, [], 'a page after the last chunk');
    }
  },

  'a log of 4 MiB is read completely, in pages that are not empty': async ({ store, other }) => {
    const run = await begun(store, newRun('a', 'g'));
    const chunks = Array.from({ length: 64 }, (_, n) => new Uint8Array(64 * 1024).fill(n + 1));
    for (let n = 0; n < chunks.length; n += 8)
      strictEqual(await store.append(run, n + 1, chunks.slice(n, n + 8)), 'stored');
    for (const each of [store, other]) {
      const read = await chunksAfter(each, run, 0, 1000);
      strictEqual(read.length, 64);
      ok(
        read.every((chunk, n) => Buffer.compare(chunk, chunks[n]!) === 0),
        'the chunks that were read',
      );
    }
  },

  'logs of many runs that are produced at the same time are kept apart': async ({ store, other }) => {
    const ids = Array.from({ length: 40 }, (_, n) => `run ${n}`);
    await Promise.all(
      ids.map(async (id, n) => {
        const handle = n % 2 ? store : other;
        const run = await begun(handle, newRun(id, 'g'));
        for (let first = 1; first <= 21; first += 5)
          await appended(handle, run, first, ...Array.from({ length: 5 }, (_, k) => `${id}: ${first + k}`));
      }),
    );
    for (const id of ids) {
      const expected = Array.from({ length: 25 }, (_, k) => `${id}: ${k + 1}`);
      deepStrictEqual(await textsOf(store, { id, generation: 'g' }), expected);
    }
  },
};

function textOf(chunk: Uint8Array): string {
  return new TextDecoder().decode(chunk);
}
