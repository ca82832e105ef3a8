/*
 * A store of runs belongs to one router: `runs()` refuses a second router for it until the first one has closed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lmdbRuns } from '../../lib/journal/lmdb/index.ts';
import { memoryRuns, runs, type RunsRouter, type RunStore } from '../../lib/runs/index.ts';
import { later } from '../fixtures/support.ts';
import { Models, until } from './sites.ts';

const refusal = expect.objectContaining({
  name: 'TypeError',
  code: 'ERR_SSE_OPTION',
  message: expect.stringMatching(
    /^store must be a store of runs that no other router uses, because .*; received the store of another router\. Create a store for each router/,
  ),
});

function router(store?: RunStore): RunsRouter<unknown> {
  const answers = runs<unknown>(() => [], store === undefined ? {} : { store });
  later(() => answers.close());
  return answers;
}

function errorOf(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return error;
  }
}

/** A store of an application: a plain object with the methods of the contract. */
function ofAnApplication(inner: RunStore): RunStore {
  return {
    open: (listener) => inner.open(listener),
    begin: (run) => inner.begin(run),
    append: (run, first, chunks) => inner.append(run, first, chunks),
    end: (run, status) => inner.end(run, status),
    renew: (keys) => inner.renew(keys),
    stop: (id, generation) => inner.stop(id, generation),
    state: (id, generation) => inner.state(id, generation),
    read: (run, after, limit) => inner.read(run, after, limit),
    follow: (run, after, follower) => inner.follow(run, after, follower),
    noteReaders: (keys, ms) => inner.noteReaders(keys, ms),
    close: () => inner.close(),
  };
}

test('a store whose open() throws is no store in use: its error is reported, and each call tries again', async () => {
  const inner = memoryRuns();
  let opens = 0;
  const store: RunStore = {
    ...ofAnApplication(inner),
    open(listener) {
      if (++opens < 2) throw new Error('no config');
      return inner.open(listener);
    },
  };
  const reported: unknown[] = [];
  const answers = runs<unknown>(() => [], { store, onError: (error) => void reported.push(error) });
  await expect(answers.status('r')).rejects.toThrow('no config');
  expect(reported).toEqual([new Error('no config')]);
  expect(await answers.status('r')).toBe(undefined);
  await answers.close();
});

test.each([
  ['memoryRuns()', memoryRuns],
  ['a store of the application', () => ofAnApplication(memoryRuns())],
])('%s for two routers is refused, and the first router still receives stops', async (_, make) => {
  const store = make();
  const first = router(store);
  expect(errorOf(() => runs(() => [], { store }))).toEqual(refusal);

  const models = new Models();
  await first.start('r', (run) => models.produce(run, {} as never) as AsyncIterable<unknown>);
  await until(async () => models.calls.length === 1);
  expect(await store.stop('r')).toBe(true); // as another process stops it
  await until(async () => (await first.status('r'))?.status === 'stopped');
  expect(models.last.signal.aborted).toBe(true);
});

test('the store is free again when its router has closed', async () => {
  let opened = 0;
  let inner = memoryRuns();
  /** A store that can be opened again. */
  const store: RunStore = {
    ...ofAnApplication(inner),
    open: (listener) => {
      if (opened++ > 0) inner = memoryRuns();
      return inner.open(listener);
    },
    state: (id, generation) => inner.state(id, generation),
    close: () => inner.close(),
  };
  const first = router(store);
  const closing = first.close();
  expect(errorOf(() => runs(() => [], { store }))).toEqual(refusal);
  await closing;
  expect(await router(store).status('r')).toBeUndefined();
});

test('an invalid option claims nothing', async () => {
  const store = memoryRuns();
  expect(() => runs(() => [], { store, lease: 1 })).toThrow('lease');
  expect(await router(store).status('r')).toBeUndefined();
});

test('two stores on the same runs, as two processes have them, are allowed', async () => {
  const path = mkdtempSync(join(tmpdir(), 'sse-router-claim-'));
  later(() => rmSync(path, { recursive: true }));
  const [one, two] = [router(lmdbRuns(path)), router(lmdbRuns(path))];
  await one.start('r', ['a']);
  await until(async () => (await two.status('r'))?.status === 'done');
});

test('routers without a store of the application are independent', () => {
  for (let n = 0; n < 3; n++) router();
});
