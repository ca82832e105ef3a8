/*
 * Runs without HTTP: what a hub produces, stops, follows and loses, over one or several processes on a store in memory.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { RunStore } from '../../lib/runs/run-store.ts';
import { MemoryRunLogs } from '../../lib/runs/stores/memory-runs.ts';
import { begun, fakeTime, type Hub, hubOn, pass, Reader, readerOf, Script, settle } from './fixtures.ts';

const LEASE_MS = 10_000;

describe('a run', () => {
  test('is produced once, and its chunks and its end reach every reader in every process', async () => {
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { script, feed, state } = await begun(one, 'a');
    expect([state.status, feed.position]).toEqual(['running', 0]);
    const produce = jest.fn();
    const joined = await other.hub.start('a', produce, 'join');
    expect([joined.started, joined.state.generation]).toEqual([false, state.generation]);
    const readers = [feed, other.hub.feed(joined.state), other.hub.feed(joined.state)].map(readerOf);
    script.yield('one', { two: 2 });
    script.finish();
    for (const reader of readers) {
      expect((await reader.whenEnded).status).toBe('done');
      expect([reader.first, reader.chunksRead]).toEqual([1, ['one', { two: 2 }]]);
    }
    expect(await other.hub.state('a')).toMatchObject({ id: 'a', status: 'done', chunks: 2 });
    expect(one.hub.stats).toMatchObject({ started: 1, chunks: 2, ended: { done: 1 } });
    expect(one.reported).toEqual(['up', 'started a', 'done a']);
    expect([other.reported, produce.mock.calls, one.errors]).toEqual([['up'], [], []]);
  });

  test('is begun by one of many calls at the same time, in two processes, and all of them read it', async () => {
    const logs = new MemoryRunLogs();
    const hubs = [hubOn(logs), hubOn(logs)];
    let made = 0;
    const produce = () => {
      made++;
      return ['x', 'y'];
    };
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, n) => hubs[n % 2]!.hub.start('a', produce, 'join')),
    );
    const readers = results.map(({ state }, n) => readerOf(hubs[n % 2]!.hub.feed(state)));
    for (const reader of readers) await reader.whenEnded;
    expect(made).toBe(1);
    expect(results.filter(({ started }) => started)).toHaveLength(1);
    for (const reader of readers) expect((await reader.whenEnded).status).toBe('done');
  });

  test('can be made of a generator, an array, a promise, a web stream, or an iterator of one', async () => {
    const { hub } = hubOn();
    const sources: Record<string, () => any> = {
      array: () => [1, 2],
      generator: function* () {
        yield 1;
        yield 2;
      },
      'async generator': async function* () {
        yield 1;
        yield 2;
      },
      promise: async () => new Set([1, 2]),
      stream: () => new Blob(['']).stream().constructor && ReadableStream.from([1, 2]),
    };
    for (const [name, produce] of Object.entries(sources)) {
      const { state } = await hub.start(name, produce, 'join');
      const reader = readerOf(hub.feed(state));
      expect([name, (await reader.whenEnded).status, reader.chunksRead]).toEqual([name, 'done', [1, 2]]);
    }
  });

  test('continues without a reader', async () => {
    const one = hubOn();
    const { script, feed } = await begun(one, 'a');
    const reader = new Reader();
    const unsubscribe = feed.subscribe(reader);
    script.yield('x');
    await reader.has(1);
    unsubscribe();
    script.yield('y');
    script.finish();
    const late = readerOf(one.hub.feed((await one.hub.state('a'))!));
    expect((await late.whenEnded).chunks).toBe(2);
    expect((await feed.read(0, 10))?.chunks).toHaveLength(2);
  });

  test('runs its source in the context of the call that began it', async () => {
    const { hub } = hubOn();
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const produce = async function* () {
      try {
        seen.push(storage.getStore());
        yield 1;
        await new Promise(setImmediate);
        seen.push(storage.getStore());
        yield 2;
        await new Promise(() => {});
      } finally {
        seen.push(storage.getStore());
      }
    };
    const { state } = await storage.run('request', () => hub.start('a', produce, 'join'));
    await readerOf(hub.feed(state)).has(2);
    expect(seen).toEqual(['request', 'request']);
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('secret');
      },
      'secret',
    ],
    [
      'rejects',
      async () => {
        throw new Error('secret');
      },
      'secret',
    ],
    [
      'is nothing to iterate',
      () => 7,
      'The result of the producer of the run "a" must be a generator, an array or a readable stream; received the number 7.',
    ],
    [
      'has an iterator whose next() resolves with nothing',
      () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve() }) }),
      'The result of the producer of the run "a" must be an iterable whose next() gives { done, value }; received undefined.',
    ],
    [
      'throws after a chunk',
      function* () {
        yield 'x';
        throw new Error('secret');
      },
      'secret',
    ],
    ['yields undefined', () => ['x', undefined], 'A chunk must be a value for JSON; received undefined.'],
    ['yields a function', () => [() => 1], 'A chunk must be a value for JSON; received the function'],
    [
      'yields a circle',
      () => {
        const circle: any = {};
        circle.self = circle;
        return [circle];
      },
      'A chunk must be a value for JSON',
    ],
    ['yields a message with an id', () => [{ id: 7, data: 1 }], 'The id of a chunk must be left out'],
    ['yields a reserved name', () => [{ event: 'end', data: 1 }], 'event must be a name other than'],
  ])('fails if its source %s, and the error is reported once', async (_, produce, message) => {
    const { hub, errors } = hubOn();
    const { state } = await hub.start('a', produce as any, 'join');
    const reader = readerOf(hub.feed(state));
    expect((await reader.whenEnded).status).toBe('failed');
    expect(errors).toHaveLength(1);
    expect((errors[0] as Error).message).toContain(message);
    expect(hub.stats.ended.failed).toBe(1);
  });

  test('reports a chunk that cannot be sent with its number and its run', async () => {
    const { hub, errors } = hubOn();
    const circle: any = {};
    circle.self = circle;
    for (const [id, chunk] of [
      ['chat "7"', circle],
      ['b', { event: 'end' }],
    ] as const) {
      const { state } = await hub.start(id, () => ['x', chunk], 'join');
      await readerOf(hub.feed(state)).whenEnded;
    }
    const [first, second] = errors as [Error & { code: string }, Error & { code: string }];
    expect(first.message).toBe(
      'A chunk must be a value for JSON; received an object of Object. Leave out what JSON cannot express. It is chunk 2 of the run "chat \\"7\\"".',
    );
    expect([first.code, first.cause]).toEqual(['ERR_SSE_DATA', expect.any(TypeError)]);
    expect(second.message).toMatch(/^event must be .* It is chunk 2 of the run "b"\.$/);
    expect([second.code, 'cause' in second]).toEqual(['ERR_SSE_EVENT', false]);
  });
});

describe('a chunk', () => {
  test('is delivered only when the store has it, and the producing process never reads its runs back', async () => {
    const one = hubOn();
    const { script, feed } = await begun(one, 'a');
    const readers = Array.from({ length: 5 }, () => readerOf(feed));
    script.yield('x');
    for (const reader of readers) await reader.has(1);
    one.store.cut();
    script.yield('y');
    await settle();
    for (const reader of readers) expect(reader.chunksRead).toEqual(['x']);
    one.store.restore();
    script.finish();
    for (const reader of readers) {
      await reader.whenEnded;
      expect(reader.chunksRead).toEqual(['x', 'y']);
    }
    expect([one.store.calls['read'], one.store.calls['follow']]).toEqual([undefined, undefined]);
  });

  test('costs one append with all others that arrive while an append is in flight', async () => {
    const one = hubOn();
    const { script, feed } = await begun(one, 'a');
    const reader = readerOf(feed);
    await settle();
    one.store.cut();
    script.yield(...Array.from({ length: 50 }, (_, n) => n));
    await settle();
    expect(one.store.calls['append']).toBe(1);
    one.store.restore();
    await reader.has(50);
    expect(one.store.calls['append']).toBe(2);
  });

  test('is followed once per process in the store, whatever the number of readers', async () => {
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { script } = await begun(one, 'a');
    const readers = [];
    for (let n = 0; n < 50; n++) readers.push(readerOf(other.hub.feed((await other.hub.state('a'))!)));
    script.yield('x', 'y');
    script.finish();
    for (const reader of readers) await reader.whenEnded;
    expect(other.store.calls['follow']).toBe(1);
    expect(other.store.calls['read']).toBeUndefined();
  });

  test('makes the source wait while the store does not answer: the process holds a bounded number', async () => {
    const one = hubOn();
    let made = 0;
    const { state } = await one.hub.start(
      'a',
      async function* () {
        for (let n = 0; n < 5000; n++) {
          made++;
          yield n;
        }
      },
      'join',
    );
    const reader = readerOf(one.hub.feed(state));
    one.store.cut();
    for (let n = 0; n < 50; n++) await settle();
    expect(made).toBeGreaterThan(1000);
    expect(made).toBeLessThan(2200);
    one.store.restore();
    await reader.whenEnded;
    expect(reader.chunksRead).toEqual(Array.from({ length: 5000 }, (_, n) => n));
  });

  test('of 256 KiB makes the source wait as well', async () => {
    const one = hubOn();
    let made = 0;
    const { state } = await one.hub.start(
      'a',
      function* () {
        for (let n = 0; n < 20; n++) {
          made++;
          yield 'x'.repeat(100_000);
        }
      },
      'join',
    );
    const reader = readerOf(one.hub.feed(state));
    one.store.cut();
    for (let n = 0; n < 20; n++) await settle();
    expect(made).toBeLessThan(8);
    one.store.restore();
    await reader.whenEnded;
    expect(reader.chunksRead).toHaveLength(20);
  });

  test('is appended at once after a pause, and otherwise `batch` milliseconds after the previous append', async () => {
    fakeTime();
    const one = hubOn(undefined, { batch: 20 });
    const { script, feed } = await begun(one, 'a');
    const reader = readerOf(feed);
    await settle();
    script.yield(1);
    await settle();
    expect(reader.chunksRead).toEqual([1]);
    for (const n of [2, 3, 4]) {
      script.yield(n);
      await pass(5, 5);
    }
    expect([reader.chunksRead, one.store.calls['append']]).toEqual([[1], 1]);
    await pass(5, 5);
    expect([reader.chunksRead, one.store.calls['append']]).toEqual([[1, 2, 3, 4], 2]);
    script.yield(5);
    script.finish(); // the end does not wait
    await settle();
    expect([reader.chunksRead, reader.ended?.status]).toEqual([[1, 2, 3, 4, 5], 'done']);
  });

  test('that exceeds maxBytes fails the run, with 64 bytes counted for each chunk; its signal aborts', async () => {
    const one = hubOn(undefined, { maxBytes: 1000 });
    const { script, feed, signal } = await begun(one, 'a');
    const reader = readerOf(feed);
    script.yield(...Array.from({ length: 100 }, (_, n) => n));
    expect((await reader.whenEnded).status).toBe('failed');
    expect(reader.chunksRead).toHaveLength(Math.floor(1000 / (64 + 1 + 'data: 0\n\n'.length)));
    expect(one.errors).toEqual([expect.objectContaining({ code: 'ERR_SSE_TOO_LARGE' })]);
    expect([signal().aborted, script.isReleased]).toEqual([true, true]);
  });
});

describe('a stop', () => {
  test('from any process aborts the source; the chunks until then stay readable, and the end waits for no generator', async () => {
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { script, feed, signal } = await begun(one, 'a');
    const readers = [readerOf(feed), readerOf(other.hub.feed((await other.hub.state('a'))!))];
    script.yield('x');
    await readers[0]!.has(1); // the source is asked for the next chunk now, and never answers
    expect(await other.hub.stop('a')).toBe(true);
    for (const reader of readers) {
      expect((await reader.whenEnded).status).toBe('stopped');
      expect(reader.chunksRead).toEqual(['x']);
    }
    expect([signal().aborted, (signal().reason as Error).name, script.isReleased]).toEqual([true, 'AbortError', true]);
    expect(await other.hub.stop('a')).toBe(false);
    expect([one.errors, one.hub.stats.ended.stopped]).toEqual([[], 1]);
  });

  test('appends what waits for the store before the end', async () => {
    const one = hubOn(undefined, { batch: 1000 });
    const { script, feed } = await begun(one, 'a');
    const reader = readerOf(feed);
    script.yield('x');
    await reader.has(1);
    script.yield('y', 'z');
    await settle();
    expect(await one.hub.stop('a')).toBe(true);
    await reader.whenEnded;
    expect(reader.chunksRead).toEqual(['x', 'y', 'z']);
  });

  test('aborts a run of this process at once while the store does not answer', async () => {
    const one = hubOn();
    const { script, feed, signal } = await begun(one, 'a');
    const reader = readerOf(feed);
    script.yield('x');
    await reader.has(1);
    one.store.cut();
    const stopped = one.hub.stop('a');
    expect(signal().aborted).toBe(true);
    one.store.restore();
    expect([await stopped, (await reader.whenEnded).status]).toEqual([true, 'stopped']);
  });

  test('of a run whose source has not been made yet means that it never is', async () => {
    const { hub } = hubOn();
    const produce = jest.fn();
    const { state } = await hub.start('a', produce, 'join');
    expect(await hub.stop('a')).toBe(true);
    expect((await readerOf(hub.feed(state)).whenEnded).status).toBe('stopped');
    await settle();
    expect(produce).not.toHaveBeenCalled();
  });

  test('while the source is being made releases what is made later', async () => {
    const { hub } = hubOn();
    const script = new Script();
    let make!: (source: Script) => void;
    const { state } = await hub.start('a', async () => new Promise<Script>((resolve) => (make = resolve)), 'join');
    await settle();
    await hub.stop('a');
    expect((await readerOf(hub.feed(state)).whenEnded).status).toBe('stopped');
    make(script);
    await settle();
    expect([script.isReleased, script.asked]).toEqual([true, 0]);
  });

  test('of one generation does not stop the next one', async () => {
    const one = hubOn();
    const first = await begun(one, 'a');
    first.script.finish();
    await readerOf(first.feed).whenEnded;
    const second = await begun(one, 'a');
    expect(await one.hub.stop('a', first.state.generation)).toBe(false);
    await settle();
    expect(second.signal().aborted).toBe(false);
    expect(await one.hub.stop('a', second.state.generation)).toBe(true);
    expect((await readerOf(second.feed).whenEnded).status).toBe('stopped');
  });

  test('is no consequence of a disconnect', async () => {
    const one = hubOn();
    const { script, feed, signal } = await begun(one, 'a');
    const unsubscribe = feed.subscribe(new Reader());
    await settle();
    unsubscribe();
    await settle();
    expect(signal().aborted).toBe(false);
    script.finish();
    expect((await readerOf(feed).whenEnded).status).toBe('done');
  });
});

describe('a replacement', () => {
  test('stops the running generation in its process, and each reader gets only its own generation', async () => {
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const first = await begun(one, 'a', 'replace');
    const reader = readerOf(first.feed);
    first.script.yield('old');
    await reader.has(1);
    const second = await begun(other, 'a', 'replace');
    expect((await reader.whenEnded).status).toBe('stopped');
    expect(first.signal().aborted).toBe(true);
    const next = readerOf(second.feed);
    second.script.yield('new');
    second.script.finish();
    await next.whenEnded;
    expect([reader.chunksRead, next.chunksRead, one.errors]).toEqual([['old'], ['new'], []]);
  });
});

describe('a lost run', () => {
  test('ends for readers of other processes within a lease and a second after its process was killed', async () => {
    for (const aliveFor of [0, 4000, 9000, 25_000]) {
      fakeTime();
      const logs = new MemoryRunLogs();
      const [one, other, late] = [hubOn(logs), hubOn(logs), hubOn(logs)];
      const { script } = await begun(one, 'a');
      const reader = readerOf(other.hub.feed((await other.hub.state('a'))!));
      script.yield('x');
      await pass(aliveFor);
      expect([reader.chunksRead, reader.ended]).toEqual([['x'], undefined]);
      one.store.cut(); // for ever: killed
      await pass(LEASE_MS + 1000);
      expect([aliveFor, reader.ended?.status]).toEqual([aliveFor, 'lost']);
      expect((await late.hub.state('a'))?.status).toBe('lost');
      jest.useRealTimers();
    }
  });

  test('ends for its readers by the answer to the check, if the store delivers its end late, but not before its chunks', async () => {
    fakeTime();
    const logs = new MemoryRunLogs();
    const one = hubOn(logs);
    /** A store whose follower gets nothing more from a chunk on, as while its connection is opened again. */
    const lateAfter = (chunks: number) => (store: RunStore) => {
      const follow = store.follow.bind(store);
      store.follow = (run, after, follower) =>
        follow(run, after, {
          chunks: (first, list) => first <= chunks && follower.chunks(first, list),
          end: () => {},
        });
      return store;
    };
    /** As {@link lateAfter}, and the engine has lost the last chunk. */
    const lossy = (store: RunStore) => {
      const state = store.state.bind(store);
      store.state = async (id, generation) => {
        const found = await state(id, generation);
        return found && (found.status === 'running' ? found : { ...found, chunks: 1 });
      };
      return lateAfter(2)(store);
    };
    const [whole, behind] = [hubOn(logs, {}, lateAfter(2)), hubOn(logs, {}, lateAfter(1))];
    const ahead = hubOn(logs, {}, lossy);
    const { script } = await begun(one, 'a');
    const readers: Reader[] = [];
    for (const { hub } of [whole, behind, ahead]) readers.push(readerOf(hub.feed((await hub.state('a'))!)));
    for (const chunk of ['x', 'y']) {
      script.yield(chunk);
      await settle();
    }
    one.store.cut(); // for ever: killed
    await pass(LEASE_MS + 1000);
    expect(readers.map(({ chunksRead, ended }) => [chunksRead, ended?.status])).toEqual([
      [['x', 'y'], 'lost'],
      [['x'], undefined],
      [['x', 'y'], 'lost'],
    ]);
  });

  test('is lost at the first call of state() after the lease', async () => {
    fakeTime();
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    await begun(one, 'a');
    await settle();
    one.store.cut();
    await pass(LEASE_MS, 500);
    const state = other.hub.state('a');
    await pass(10, 1);
    expect((await state)?.status).toBe('lost');
  });

  test('is not lost while its process renews it, and a run is followed for many leases', async () => {
    fakeTime();
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { script } = await begun(one, 'a');
    const reader = readerOf(other.hub.feed((await other.hub.state('a'))!));
    await pass(LEASE_MS * 5, 200);
    script.yield('x');
    script.finish();
    await settle();
    expect([reader.chunksRead, reader.ended?.status]).toEqual([['x'], 'done']);
    expect(one.store.calls['renew']).toBeLessThanOrEqual(15);
    expect(other.store.calls['state']).toBeLessThan(15);
  });

  /** A run that is lost while its process is cut off, with these chunks to append, and the process when it is connected again. */
  async function lostWhileCutOff(chunks: readonly string[]): Promise<{ one: Hub; local: Reader; remote: Reader }> {
    fakeTime();
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { script, feed, signal } = await begun(one, 'a');
    const local = readerOf(feed);
    const remote = readerOf(other.hub.feed((await other.hub.state('a'))!));
    script.yield('x');
    await settle();
    one.store.cut();
    script.yield(...chunks);
    await pass(LEASE_MS + 1000, 200);
    expect([remote.ended?.status, local.ended, signal().aborted]).toEqual(['lost', undefined, false]);
    one.store.restore();
    await settle();
    expect([local.ended?.status, signal().aborted, script.isReleased]).toEqual(['lost', true, true]);
    return { one, local, remote };
  }

  test('aborts its source when its process is connected again: it can no longer append', async () => {
    const { one, local, remote } = await lostWhileCutOff(['y']);
    expect([local.chunksRead, remote.chunksRead]).toEqual([['x'], ['x']]);
    expect(one.errors.map(String)).toEqual([
      'Error: the engine does not answer',
      expect.stringContaining('The run "a" is lost: its lease expired'),
    ]);
    expect(one.reported).toEqual(['up', 'started a', 'down', 'up', 'lost a']);
  });

  test('aborts its source by the answer to a renewal, if it has nothing to append', async () => {
    const { one, local } = await lostWhileCutOff([]);
    expect([local.chunksRead, one.store.calls['append']]).toEqual([['x'], 1]);
  });

  test('is not lost if the engine was away for longer than a lease, because its producer renews it first', async () => {
    fakeTime();
    const one = hubOn();
    const { script, feed } = await begun(one, 'a');
    const reader = readerOf(feed);
    await settle();
    one.store.cut();
    script.yield('x');
    await pass(LEASE_MS * 3, 200);
    one.store.restore();
    script.finish();
    await pass(1000);
    expect([reader.chunksRead, reader.ended?.status]).toEqual([['x'], 'done']);
    expect(one.store.calls['renew']).toBe(1); // it was not repeated before its answer
  });

  test('is stopped if a stop was requested before its process was killed', async () => {
    fakeTime();
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    await begun(one, 'a');
    const reader = readerOf(other.hub.feed((await other.hub.state('a'))!));
    await settle();
    one.store.cut();
    expect(await other.hub.stop('a')).toBe(true);
    await pass(LEASE_MS + 1000, 200);
    expect(reader.ended?.status).toBe('stopped');
  });

  test('reports one end, although a check of its lease is answered after it', async () => {
    fakeTime();
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { script } = await begun(one, 'a');
    const reader = readerOf(other.hub.feed((await other.hub.state('a'))!));
    await settle();
    let answer: ((state: undefined) => void) | undefined;
    other.store.state = () => new Promise((resolve) => (answer = resolve));
    await pass(LEASE_MS + 500, 200);
    script.finish();
    await settle();
    expect(reader.ended?.status).toBe('done');
    answer!(undefined); // its log was dropped meanwhile
    await settle();
    expect([reader.ended?.status, other.errors]).toEqual(['done', []]);
  });

  test('that a blocked event loop has not renewed in time is not lost in its own process', async () => {
    const one = hubOn(undefined, { lease: 300 });
    const { script, feed } = await begun(one, 'a');
    const reader = readerOf(feed);
    await settle();
    const until = performance.now() + 700;
    while (performance.now() < until);
    expect((await one.hub.state('a'))?.status).toBe('running');
    script.finish();
    expect((await reader.whenEnded).status).toBe('done');
  });
});

describe('a run without readers', () => {
  const stopUnread = 5000;

  test('is stopped after `stopUnread`', async () => {
    fakeTime();
    const one = hubOn(undefined, { stopUnread });
    const { feed, signal } = await begun(one, 'a');
    await pass(stopUnread - 100);
    expect(signal().aborted).toBe(false);
    await pass(stopUnread / 3 + 200);
    expect([signal().aborted, feed.ended?.status ?? (await one.hub.state('a'))?.status]).toEqual([true, 'stopped']);
  });

  test('is not stopped while it has a reader in any process, and is `stopUnread` after the last one', async () => {
    for (const where of ['this process', 'another process']) {
      fakeTime();
      const logs = new MemoryRunLogs();
      const [one, other] = [hubOn(logs, { stopUnread }), hubOn(logs, { stopUnread })];
      const { signal } = await begun(one, 'a');
      await pass(stopUnread - 500);
      const { hub } = where === 'this process' ? one : other;
      const unsubscribe = hub.feed((await hub.state('a'))!).subscribe(new Reader());
      await pass(stopUnread * 4);
      expect([where, signal().aborted]).toEqual([where, false]);
      unsubscribe();
      await pass(stopUnread - 100);
      expect([where, signal().aborted]).toEqual([where, false]);
      await pass(stopUnread * 2);
      expect([where, signal().aborted]).toEqual([where, true]);
      jest.useRealTimers();
    }
  });

  test('causes no calls without the option', async () => {
    fakeTime();
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { signal } = await begun(one, 'a');
    readerOf(other.hub.feed((await other.hub.state('a'))!));
    await pass(60_000, 500);
    expect([signal().aborted, other.store.calls['noteReaders']]).toEqual([false, undefined]);
  });
});

describe('the end of a process', () => {
  test('waits for the runs, and begins no other one', async () => {
    const one = hubOn();
    const { script, feed } = await begun(one, 'a');
    const reader = readerOf(feed);
    const finished = one.hub.drain(60_000);
    await expect(one.hub.start('b', () => [], 'join')).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
    script.yield('x');
    script.finish();
    await finished;
    expect([reader.chunksRead, reader.ended?.status]).toEqual([['x'], 'done']);
  });

  test('cuts the runs that exceed its wait: they are lost, with all chunks, and no error is reported', async () => {
    fakeTime();
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const { script, feed, signal } = await begun(one, 'a');
    const reader = readerOf(feed);
    script.yield('x');
    await settle();
    const finished = one.hub.drain(5000);
    await pass(4900);
    expect([reader.ended, signal().aborted]).toEqual([undefined, false]);
    await pass(200);
    await finished;
    expect([reader.chunksRead, reader.ended?.status, signal().aborted]).toEqual([['x'], 'lost', true]);
    expect((await other.hub.state('a'))?.status).toBe('lost');
    expect(one.errors).toEqual([]);
  });

  test('does not wait for a store that does not answer', async () => {
    fakeTime();
    const one = hubOn();
    const { signal } = await begun(one, 'a');
    await settle();
    one.store.cut();
    let isClosed = false;
    const closed = one.hub.close().then(() => (isClosed = true));
    await pass(2100);
    expect([isClosed, signal().aborted]).toEqual([true, true]);
    await closed;
  });

  test.each([
    ['is lost if there is no wait for it', 0, 'lost'],
    ['is produced within the wait', 60_000, 'done'],
  ])('a run that was started in the same tick, before the store was open, %s', async (_name, wait, status) => {
    const logs = new MemoryRunLogs();
    const [one, other] = [hubOn(logs), hubOn(logs)];
    const starting = one.hub.start('a', () => ['x'], 'join');
    const closing = one.hub.close({ wait });
    const { started, state } = await starting;
    await closing;
    expect(started).toBe(true);
    expect((await other.hub.state('a', state.generation))?.status).toBe(status);
    expect(one.errors).toEqual([]);
  });

  test('a run that begins while the process ends is lost at once', async () => {
    const one = hubOn();
    await one.hub.state('a'); // the store is open
    one.store.cut();
    const produce = jest.fn();
    const beginning = one.hub.start('a', produce, 'join');
    await settle();
    const finished = one.hub.drain(0);
    one.store.restore();
    const { state } = await beginning;
    await finished;
    expect((await one.hub.state('a', state.generation))?.status).toBe('lost');
    expect(produce).not.toHaveBeenCalled();
  });
});

test('a chunk whose append was stored, although the store reported an error, reaches the readers of its process', async () => {
  const one = hubOn();
  const { script, feed } = await begun(one, 'a');
  const reader = readerOf(feed);
  await settle();
  const append = one.store.append.bind(one.store);
  one.store.append = async (...args) => {
    await append(...args);
    throw new Error('no reply');
  };
  script.yield('x');
  expect((await reader.whenEnded).status).toBe('failed');
  expect([reader.chunksRead, one.errors.map(String)]).toEqual([['x'], ['Error: no reply']]);
});

test('a store that cannot be opened is reported, and the next call opens it again', async () => {
  const logs = new MemoryRunLogs();
  const broken = logs.handle();
  const open = broken.open.bind(broken);
  broken.open = jest.fn(async () => Promise.reject(new Error('no such file')));
  const one = hubOn(logs, { store: broken });
  await expect(one.hub.start('a', () => [], 'join')).rejects.toThrow('no such file');
  expect(one.errors.map(String)).toEqual(['Error: no such file']);
  broken.open = open;
  expect((await one.hub.start('a', () => [], 'join')).started).toBe(true);
});
