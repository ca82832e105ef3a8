/*
 * Runs in LMDB in one process: its options, its files, restarts, and what is removed when.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { open } from 'lmdb';
import { lmdbJournal, lmdbRuns, type LmdbRunsOptions } from '../../../lib/journal/lmdb/index.ts';
import type { NewRun, RunFollower, RunState, RunStore } from '../../../lib/runs/run-store.ts';
import { codeOf, later } from '../../fixtures/support.ts';

let path: string;

beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'sse-router-lmdb-'));
  later(() => rm(path, { recursive: true, force: true, maxRetries: 5 }));
});

async function opened(options?: LmdbRunsOptions): Promise<RunStore> {
  const store = lmdbRuns(path, options);
  later(() => store.close());
  await store.open({ onStop() {} });
  return store;
}

function newRun(generation: string, others: Partial<NewRun> = {}): NewRun {
  return { id: 'a', generation, again: 'join', lease: 60_000, keep: 60_000, ...others };
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Follows a run until its end. */
function followed(store: RunStore, generation: string): Promise<{ texts: string[]; end: RunState }> {
  return new Promise((resolve) => {
    const texts: string[] = [];
    const follower: RunFollower = {
      chunks: (_, chunks) => void texts.push(...chunks.map((chunk) => new TextDecoder().decode(chunk))),
      end: (end) => resolve({ texts, end }),
    };
    store.follow({ id: 'a', generation }, 0, follower);
  });
}

/** Blocks the event loop. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('options', () => {
  test('a path or an option that is not valid is refused with its cure', () => {
    expect(codeOf(() => lmdbRuns(''))).toBe('ERR_SSE_OPTION');
    expect(codeOf(() => lmdbRuns(path, { sync: 1 as never }))).toBe('ERR_SSE_OPTION');
    expect(() => lmdbRuns(path, { synch: true } as never)).toThrow(
      'The name of each option of lmdbRuns() must be sync; received the string "synch". Did you mean sync?',
    );
    expect(() => lmdbRuns(7 as never)).toThrow('lmdbRuns: path must be a non-empty string; received the number 7.');
  });

  test('a directory that cannot be created is reported with its path', async () => {
    await writeFile(join(path, 'file'), '');
    await expect(lmdbRuns(join(path, 'file')).open({ onStop() {} })).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(/^lmdbRuns\(".*file"\): the path must be a directory/),
    });
  });
});

describe('the directory', () => {
  test('a journal and runs in one directory are refused, in both orders', async () => {
    const journal = lmdbJournal(join(path, 'journal'));
    later(() => journal.close());
    await journal.append({ body: bytesOf('x') });
    await expect(lmdbRuns(join(path, 'journal')).open({ onStop() {} })).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: `lmdbRuns: path must be a directory that nothing else uses; received ${JSON.stringify(join(path, 'journal'))}, the directory of lmdbJournal(). Pass another path.`,
    });
    const store = lmdbRuns(join(path, 'runs'));
    later(() => store.close());
    await store.open({ onStop() {} });
    await expect(lmdbJournal(join(path, 'runs')).open()).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringContaining('the directory of lmdbRuns(). Pass another path.'),
    });
    expect((await journal.window(10)).entries).toHaveLength(1);
    expect(await store.begin(newRun('g'))).toMatchObject({ started: true });
  });

  test('runs survive the restart of the process that reads them', async () => {
    const first = await opened();
    await first.begin(newRun('g'));
    await first.append({ id: 'a', generation: 'g' }, 1, [bytesOf('1'), bytesOf('2')]);
    await first.end({ id: 'a', generation: 'g' }, 'done');
    await first.close();
    const second = await opened();
    expect(await second.state('a')).toMatchObject({ status: 'done', chunks: 2 });
    expect((await followed(second, 'g')).texts).toEqual(['1', '2']);
  });

  test('if the directory is removed, followers receive the end, appends are refused, and new runs begin', async () => {
    const store = await opened();
    await store.begin(newRun('g'));
    await store.append({ id: 'a', generation: 'g' }, 1, [bytesOf('1')]);
    const follower = followed(store, 'g');
    await sleep(20);
    await rename(path, `${path}-old`);
    later(() => rm(`${path}-old`, { recursive: true, force: true }));
    expect(await store.append({ id: 'a', generation: 'g' }, 2, [bytesOf('2')])).toBe('refused');
    expect(await follower).toMatchObject({ texts: ['1'], end: { status: 'lost' } });
    expect(await store.begin(newRun('h'))).toMatchObject({ started: true });
    expect(existsSync(join(path, 'runs.mdb'))).toBe(true);
  });

  test('after a restart of the machine, runs that were written without sync are discarded', async () => {
    const first = await opened();
    await first.begin(newRun('g'));
    await first.close();
    expect(await (await opened()).state('a')).toMatchObject({ status: 'running' });
    const boot = join(path, 'boot');
    if (!existsSync(boot)) return; // the system does not identify its start
    const current = await readFile(boot, 'utf8');
    await Promise.all([first.close(), sleep(0)]);
    await writeFile(boot, 'another start');
    const second = await opened();
    expect(await second.state('a')).toBeUndefined();
    expect(await readFile(boot, 'utf8')).toBe(current);
  });

  test('with sync, runs stay after a restart of the machine', async () => {
    const first = await opened({ sync: true });
    await first.begin(newRun('g'));
    await first.end({ id: 'a', generation: 'g' }, 'done');
    await first.close();
    await writeFile(join(path, 'boot'), 'another start');
    expect(await (await opened({ sync: true })).state('a')).toMatchObject({ status: 'done' });
  });
});

describe('leases', () => {
  test('after the event loop was blocked for longer than a lease, the producer renews before its run is lost', async () => {
    const store = await opened();
    const run = newRun('g', { lease: 800 });
    await store.begin(run);
    block(2000);
    const state = await store.state('a');
    expect(state?.status).toBe('running');
    expect(state!.leaseLeft).toBeGreaterThan(0);
    expect(await store.renew([run])).toMatchObject([{ running: true }]);
    expect((await store.state('a'))?.status).toBe('running');
  });

  test('a producer that does not renew after such a block loses its run', async () => {
    const store = await opened();
    await store.begin(newRun('g', { lease: 800 }));
    block(2000);
    expect((await store.state('a'))?.status).toBe('running');
    await sleep(1000);
    expect((await store.state('a'))?.status).toBe('lost');
  });
});

test('a run whose caller stops to wait before it is in a transaction never begins; runs of the same transaction do', async () => {
  const store = await opened();
  const signal = AbortSignal.abort(new Error('the caller has left'));
  const [abandoned, begun] = [store.begin({ ...newRun('g'), signal }), store.begin({ ...newRun('g'), id: 'b' })];
  await expect(abandoned).rejects.toThrow('the caller has left');
  expect(await begun).toMatchObject({ started: true });
  expect(await store.state('a')).toBeUndefined();
});

test('an append that leaves a gap is refused, and ends the run as lost', async () => {
  const store = await opened();
  const run = { id: 'a', generation: 'g' };
  await store.begin(newRun('g'));
  expect(await store.append(run, 1, [bytesOf('1')])).toBe('stored');
  expect(await store.append(run, 3, [bytesOf('3')])).toBe('refused');
  expect(await store.state('a')).toMatchObject({ status: 'lost', chunks: 1 });
  expect(await followed(store, 'g')).toMatchObject({ texts: ['1'], end: { status: 'lost' } });
});

test('a log of more than one page reaches a follower completely: of a running run without a further change, and before the end', async () => {
  const store = await opened();
  const run = { id: 'a', generation: 'g' };
  await store.begin(newRun('g'));
  const texts = Array.from({ length: 2500 }, (_, n) => `${n + 1}`);
  expect(await store.append(run, 1, texts.map(bytesOf))).toBe('stored');
  await new Promise<void>((resolve) => {
    let received = 0;
    store.follow(run, 0, { chunks: (_, { length }) => (received += length) === 2500 && resolve(), end: () => {} });
  });
  await store.end(run, 'done');
  expect(await followed(store, 'g')).toMatchObject({ texts, end: { status: 'done' } });
});

describe('the end of `keep`', () => {
  test('a run cannot be read as soon as `keep` is over, although its chunks are removed later', async () => {
    const store = await opened();
    const run = { id: 'a', generation: 'g' };
    await store.begin(newRun('g', { keep: 200 }));
    await store.append(run, 1, [bytesOf('1')]);
    await store.end(run, 'done');
    block(220); // the maintenance is overdue, too
    expect(await Promise.all([store.state('a'), store.read(run, 0, 1)])).toEqual([undefined, undefined]);
    expect(await followed(store, 'g')).toMatchObject({ texts: [], end: { status: 'lost' } });
  });

  test('every trace of the runs is removed, although nothing calls the store', async () => {
    const store = await opened();
    for (const id of ['a', 'b', 'c']) {
      await store.begin(newRun('g', { id, keep: 300 }));
      for (let n = 0; n < 12; n++) {
        const chunks = Array.from({ length: 100 }, () => new Uint8Array(10));
        await store.append({ id, generation: 'g' }, 1 + n * 100, chunks);
      }
      await store.end({ id, generation: 'g' }, 'done');
    }
    await sleep(2500);
    await store.close();
    const database = open({ path: join(path, 'runs.mdb'), noSubdir: true, encoding: 'binary', readOnly: true });
    const left = [...database.getKeys()].filter((key) => Array.isArray(key) && key[0] !== 'w');
    await database.close();
    expect(left).toEqual([]);
  });

  test('a run that its producer neither renews nor ends is removed after its lease and `keep`', async () => {
    const store = await opened();
    await store.begin(newRun('g', { lease: 300, keep: 300 }));
    await store.append({ id: 'a', generation: 'g' }, 1, [bytesOf('1')]);
    await sleep(2000);
    expect(await store.state('a')).toBeUndefined();
  });
});

test('a call that waits when the store is closed is rejected', async () => {
  const store = await opened();
  const calls = [store.begin(newRun('g')), store.append({ id: 'a', generation: 'g' }, 1, [bytesOf('1')])];
  const closed = store.close();
  for (const call of calls) {
    await call.catch((error: { code: string }) => expect(error.code).toBe('ERR_SSE_CLOSED'));
  }
  await closed;
  await expect(store.state('a')).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
});
