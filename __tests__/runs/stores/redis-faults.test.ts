/*
 * Runs in Redis during faults: lost replies; servers that are killed, frozen, emptied or rolled back; producers that are killed or
 * stopped.
 */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { redisRuns } from '../../../lib/journal/redis/index.ts';
import type { RunKey, RunStore, RunStoreListener } from '../../../lib/runs/run-store.ts';
import { kinds, type TestClient } from '../../fixtures/redis-clients.ts';
import { Proxy } from '../../fixtures/redis-proxy.ts';
import { RunRecorder } from '../../fixtures/redis-runs-recorder.ts';
import { ProducerProcess } from '../../fixtures/redis-runs-process.ts';
import { type RedisServer, startRedis } from '../../fixtures/redis-server.ts';

jest.setTimeout(60_000);
const cleanups: (() => unknown)[] = [];
beforeEach(() => {
  const emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {}); // servers without persistence, on purpose
  cleanups.push(() => emitWarning.mockRestore());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const RUN: RunKey = { id: 'answer', generation: 'g1' };
const LOG = /:log:answer:g1$/;
const LEASE_MS = 1_000;
const KEEP_MS = 60_000;

async function server(...args: string[]): Promise<RedisServer> {
  const redis = await startRedis(...args);
  cleanups.push(() => redis.stop());
  return redis;
}

async function proxyTo({ port }: RedisServer): Promise<Proxy> {
  const proxy = await Proxy.to(port);
  cleanups.push(() => proxy.close());
  return proxy;
}

function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => String(from + i));
}

describe.each(kinds)('over $name', (kind) => {
  async function clientOf({ url }: { url: string }): Promise<TestClient> {
    const app = await kind.make(url);
    cleanups.push(() => app.end());
    return app;
  }

  async function storeOn(target: { url: string }, listener: RunStoreListener = { onStop() {} }): Promise<RunStore> {
    const store = redisRuns((await clientOf(target)).client);
    cleanups.push(() => store.close());
    await store.open(listener);
    return store;
  }

  async function begin(store: RunStore, lease = LEASE_MS): Promise<void> {
    const { started } = await store.begin({ ...RUN, again: 'join', lease, keep: KEEP_MS });
    expect(started).toBe(true);
  }

  function append(store: RunStore, n: number): Promise<'stored' | 'refused'> {
    return store.append(RUN, n, [Buffer.from(String(n))]);
  }

  async function textsOf(store: RunStore): Promise<string[] | undefined> {
    return (await store.read(RUN, 0, 10_000))?.chunks.map((chunk) => Buffer.from(chunk).toString());
  }

  /** Renews the lease as the hub of runs does. */
  function renewing(store: RunStore, lease = LEASE_MS): void {
    const timer = setInterval(() => void store.renew([RUN]).catch(() => {}), lease / 3);
    cleanups.push(() => clearInterval(timer));
  }

  async function keyOf(app: TestClient, pattern: RegExp): Promise<string | undefined> {
    return ((await app.command('KEYS', '*')) as (string | Buffer)[]).map(String).find((key) => pattern.test(key));
  }

  test('lost replies: every chunk is stored once and in order, and a begin, a stop and an end count once', async () => {
    const redis = await server();
    const proxy = await proxyTo(redis);
    const stops: RunKey[] = [];
    const [store, direct] = [await storeOn(proxy, { onStop: (run) => stops.push(run) }), await storeOn(redis)];
    let lost = proxy.loseNextReply('started');
    await begin(store);
    await lost;
    const recorder = new RunRecorder();
    direct.follow(RUN, 0, recorder);
    for (let n = 1; n <= 10; n++) {
      lost = proxy.loseNextReply(`${n}-`); // the id of the entry, which is the reply to its append
      expect(await append(store, n)).toBe('stored');
      await lost;
      expect(await append(store, ++n)).toBe('stored');
    }
    lost = proxy.loseNextReply('running');
    expect(await store.stop(RUN.id)).toBe(true);
    await lost;
    lost = proxy.loseNextReply('done');
    expect(await store.end(RUN, 'done')).toMatchObject({ status: 'done', chunks: 10 });
    await lost;
    await recorder.until(({ ended }) => ended !== undefined);
    expect(recorder.texts).toEqual(numbers(1, 10));
    expect(recorder.ended).toMatchObject({ status: 'done', chunks: 10, bytes: numbers(1, 10).join('').length });
    expect(await textsOf(direct)).toEqual(numbers(1, 10));
    expect(stops).toEqual([RUN]);
  });

  test('SIGKILL with appendonly: calls wait, what was stored is kept, and the run is not lost', async () => {
    const redis = await server('--appendonly', 'yes', '--appendfsync', 'always');
    const [store, reader] = [await storeOn(redis), await storeOn(redis)];
    await begin(store);
    renewing(store);
    const recorder = new RunRecorder();
    reader.follow(RUN, 0, recorder);
    let n = 0;
    for (let kills = 0; kills < 2; kills++) {
      for (const until = n + 50; n < until;) expect(await append(store, ++n)).toBe('stored');
      const killed = redis.kill();
      const [pending, state] = [append(store, ++n), killed.then(() => reader.state(RUN.id))];
      await killed;
      await sleep(LEASE_MS * 1.2); // the lease expires while Redis is down
      await redis.start();
      expect(await state).toMatchObject({ status: 'running' });
      expect(await pending).toBe('stored');
    }
    await store.end(RUN, 'done');
    await recorder.until(({ ended }) => ended !== undefined);
    expect(recorder.ended).toMatchObject({ status: 'done', chunks: n });
    expect(recorder.texts).toEqual(numbers(1, n));
  });

  test('an outage is reported once, with the store, a code, the cure and the cause; a run whose caller stops to wait never begins', async () => {
    const redis = await server('--appendonly', 'yes');
    const onStatus = jest.fn<void, [boolean, Error?]>();
    const store = await storeOn(redis, { onStop() {}, onStatus });
    await begin(store);
    onStatus.mockClear();
    await redis.kill();
    await sleep(300); // for every connection to notice it: a begin that was sent may have been executed
    const controller = new AbortController();
    const { signal } = controller;
    const other: RunKey = { id: 'other', generation: 'g1' };
    const begun = store.begin({ ...other, again: 'join', lease: LEASE_MS, keep: KEEP_MS, signal });
    begun.catch(() => {});
    await sleep(500); // several attempts to connect
    expect(onStatus.mock.calls).toEqual([
      [
        false,
        expect.objectContaining({
          code: 'ERR_SSE_JOURNAL',
          message: expect.stringMatching(/^redisRuns: Redis cannot be reached: .+\. Check that Redis runs/),
          cause: expect.objectContaining({ message: expect.any(String) }),
        }),
      ],
    ]);
    controller.abort(new Error('the caller has left'));
    await redis.start();
    await expect(begun).rejects.toThrow('the caller has left');
    expect(await store.state(other.id)).toBeUndefined();
    while (onStatus.mock.calls.length < 2) await sleep(10);
    expect(onStatus).toHaveBeenLastCalledWith(true, undefined);
  });

  test('Redis is frozen for longer than a lease: a process that was frozen with it does not end the run', async () => {
    const redis = await server();
    const [store, reader] = [await storeOn(redis), await storeOn(redis)];
    await begin(store);
    reader.follow(RUN, 0, new RunRecorder());
    await append(store, 1);
    redis.freeze();
    cleanups.push(() => redis.thaw());
    const state = reader.state(RUN.id);
    await sleep(LEASE_MS * 1.5);
    redis.thaw();
    const thawedAt = performance.now();
    const { status, leaseLeft } = (await state)!;
    expect(status).toBe('running');
    expect(leaseLeft).toBeGreaterThan(0);
    expect(leaseLeft).toBeLessThanOrEqual(LEASE_MS);
    expect(await append(store, 2)).toBe('stored'); // its lease has expired, but nothing has ended it
    // No renewal follows. One lease later, the run is lost.
    let last = await reader.state(RUN.id);
    while (last?.status === 'running') {
      await sleep(last.leaseLeft!);
      last = await reader.state(RUN.id);
    }
    expect(last?.status).toBe('lost');
    expect(performance.now() - thawedAt).toBeGreaterThan(LEASE_MS * 0.9);
  });

  test('FLUSHALL: an append is refused and creates no log, and followers receive the end lost', async () => {
    const redis = await server();
    const app = await clientOf(redis);
    const [store, reader] = [await storeOn(redis), await storeOn(redis)];
    await begin(store);
    const [recorder, own] = [new RunRecorder(), new RunRecorder()];
    reader.follow(RUN, 0, recorder);
    store.follow(RUN, 0, own);
    for (let n = 1; n <= 3; n++) await append(store, n);
    await recorder.until(({ texts }) => texts.length === 3);
    await app.command('FLUSHALL');
    expect(await append(store, 4)).toBe('refused');
    expect(await keyOf(app, LOG)).toBeUndefined();
    expect(await store.renew([RUN])).toEqual([{ running: false, stopRequested: false, hasReaders: false }]);
    expect(await store.end(RUN, 'lost')).toBeUndefined();
    expect(await reader.state(RUN.id)).toBeUndefined();
    expect(await reader.read(RUN, 0, 10)).toBeUndefined();
    for (const one of [recorder, own]) {
      await one.until(({ ended }) => ended !== undefined);
      expect(one.ended).toMatchObject({ ...RUN, status: 'lost', chunks: 3 });
    }
    // The id is free, and stops and followed runs still work on the same connections.
    const again = { id: RUN.id, generation: 'g2' };
    expect(await reader.begin({ ...again, again: 'join', lease: 60_000, keep: KEEP_MS })).toMatchObject({
      started: true,
    });
    const next = new RunRecorder();
    store.follow(again, 0, next);
    await reader.append(again, 1, [Buffer.from('new')]);
    await next.until(({ texts }) => texts.length === 1);
  });

  test('the log or the state of a run is evicted: the run is lost, and its other keys do not remain', async () => {
    const redis = await server();
    const app = await clientOf(redis);
    const [store, reader] = [await storeOn(redis), await storeOn(redis)];
    for (const [generation, evicted] of [
      ['g1', /:log:/],
      ['g2', /:run:/],
    ] as const) {
      const run = { id: RUN.id, generation };
      await store.begin({ ...run, again: 'replace', lease: 60_000, keep: KEEP_MS });
      const recorder = new RunRecorder();
      reader.follow(run, 0, recorder);
      await store.append(run, 1, [Buffer.from('1')]);
      await recorder.until(({ texts }) => texts.length === 1);
      await app.command('DEL', (await keyOf(app, evicted))!);
      expect(await reader.state(RUN.id)).toBeUndefined();
      expect(await store.renew([run])).toMatchObject([{ running: false }]);
      expect(await store.end(run, 'lost')).toBeUndefined();
      await recorder.until(({ ended }) => ended !== undefined);
      expect(recorder.ended!.status).toBe('lost');
      expect(await keyOf(app, /:(?:run|log):/)).toBeUndefined();
    }
  });

  test('Redis comes back with an older copy: a run that has lost chunks ends as lost, whether it appends or ends', async () => {
    const redis = await server('--appendonly', 'yes', '--appendfsync', 'always');
    const [store, reader] = [await storeOn(redis), await storeOn(redis)];
    const runs = ['appends', 'ends'].map((id) => ({ id, generation: 'g' }));
    for (const run of runs) await store.begin({ ...run, again: 'join', lease: 60_000, keep: KEEP_MS });
    const text = (n: number) => [Buffer.from(String(n))];
    for (const n of [1, 2]) for (const run of runs) await store.append(run, n, text(n));
    await redis.kill();
    cpSync(join(redis.dir, 'appendonlydir'), join(redis.dir, 'older'), { recursive: true });
    await redis.start();
    const recorders = runs.map(() => new RunRecorder());
    for (const [i, run] of runs.entries()) reader.follow(run, 0, recorders[i]!);
    for (const n of [3, 4]) for (const run of runs) expect(await store.append(run, n, text(n))).toBe('stored');
    for (const recorder of recorders) await recorder.until(({ texts }) => texts.length === 4);
    await redis.kill();
    cpSync(join(redis.dir, 'older'), join(redis.dir, 'appendonlydir'), { recursive: true });
    await redis.start();
    expect(await store.append(runs[0]!, 5, text(5))).toBe('refused');
    expect(await store.end(runs[1]!, 'done')).toMatchObject({ status: 'lost', chunks: 2 });
    for (const recorder of recorders) {
      await recorder.until(({ ended }) => ended !== undefined);
      expect([recorder.texts, recorder.ended!.status]).toEqual([numbers(1, 4), 'lost']);
    }
    expect(await reader.state('appends')).toMatchObject({ status: 'lost', chunks: 2 });
  });

  test('a log with a gap, as after a failover that no connection has noticed: the run is lost, and nothing behind the gap is delivered', async () => {
    const redis = await server();
    const app = await clientOf(redis);
    const [store, reader] = [await storeOn(redis), await storeOn(redis)];
    await begin(store, 60_000);
    const recorder = new RunRecorder();
    reader.follow(RUN, 0, recorder);
    await append(store, 1);
    await recorder.until(({ texts }) => texts.length === 1);
    await app.command('XADD', (await keyOf(app, LOG))!, '3-3', '1', '3');
    await recorder.until(({ ended }) => ended !== undefined);
    expect(recorder.texts).toEqual(['1']);
    expect(recorder.ended).toMatchObject({ ...RUN, status: 'lost', chunks: 1 });
    while ((await reader.state(RUN.id))?.status === 'running') await sleep(10);
    expect(await append(store, 2)).toBe('refused');
  });

  test('a lease that is renewed while its end is being decided is not lost', async () => {
    const redis = await server();
    const proxy = await proxyTo(redis);
    const [store, reader] = [await storeOn(redis), await storeOn(proxy)];
    await begin(store, 300);
    await reader.state(RUN.id);
    await sleep(700); // it has expired, and the reader has reached Redis for longer than a lease
    proxy.hold();
    const state = reader.state(RUN.id, RUN.generation);
    await sleep(50); // Redis has replied that it has expired
    expect(await store.renew([RUN])).toMatchObject([{ running: true }]);
    proxy.release();
    expect(await state).toMatchObject({ status: 'running' });
    expect(await append(store, 1)).toBe('stored');
  });

  test('a producing process that is stopped for longer than its lease is fenced: no chunk follows the end', async () => {
    const redis = await server();
    const reader = await storeOn(redis);
    const producer = new ProducerProcess({
      kind: kind.name,
      url: redis.url,
      key: 'sse:runs',
      run: RUN,
      lease: LEASE_MS,
      pause: 5,
    });
    cleanups.push(() => producer.kill());
    await producer.reported('stored');
    const recorder = new RunRecorder();
    reader.follow(RUN, 0, recorder);
    await recorder.until(({ texts }) => texts.length > 10);
    producer.signal('SIGSTOP');
    let state = await reader.state(RUN.id);
    while (state?.status === 'running') {
      await sleep(state.leaseLeft!);
      state = await reader.state(RUN.id);
    }
    expect(state?.status).toBe('lost');
    await recorder.until(({ ended }) => ended !== undefined);
    producer.signal('SIGCONT');
    const { refused } = await producer.reported('refused');
    await producer.reported('notRunning');
    // A chunk may have been stored whose reply the process had not read when it was stopped.
    expect(state!.chunks - (refused - 1)).toBe(0);
    expect(recorder.texts).toEqual(numbers(1, state!.chunks).map((n) => `chunk ${n}`));
    expect(await reader.state(RUN.id)).toEqual(state);
  });

  test('a producing process that is killed: its run is lost within its lease and a second', async () => {
    const redis = await server();
    const reader = await storeOn(redis);
    const run = { kind: kind.name, url: redis.url, key: 'sse:runs', run: RUN, lease: LEASE_MS, pause: 5 };
    const producer = new ProducerProcess(run);
    cleanups.push(() => producer.kill());
    await producer.reported('stored');
    await producer.kill();
    const killedAt = performance.now();
    let state = await reader.state(RUN.id);
    while (state?.status === 'running') {
      await sleep(state.leaseLeft!);
      state = await reader.state(RUN.id);
    }
    expect(state?.status).toBe('lost');
    expect(performance.now() - killedAt).toBeLessThan(LEASE_MS + 1_000);
    // A process that has just started answers with the end at its first call.
    expect((await (await storeOn(redis)).state(RUN.id))?.status).toBe('lost');
  });

  test('the first call of a new process ends a run whose lease has expired', async () => {
    const redis = await server();
    const store = await storeOn(redis);
    await begin(store, 300);
    await store.stop(RUN.id);
    await sleep(3_100); // Redis has then been up for longer than the lease, also in whole seconds
    expect((await (await storeOn(redis)).state(RUN.id))?.status).toBe('stopped');
  });

  test('a process that starts as soon as Redis has loaded its data ends no run before its producer can renew', async () => {
    const redis = await server('--appendonly', 'yes', '--appendfsync', 'always');
    const proxy = await proxyTo(redis);
    const store = await storeOn(proxy);
    await begin(store);
    for (let n = 1; n <= 10; n++) await append(store, n);
    proxy.target = 1; // the producer reconnects late
    await redis.kill();
    await redis.start(undefined, ['--key-load-delay', '200000']); // microseconds for each of more than 15 commands
    const loadedAt = performance.now();
    const first = await storeOn(redis);
    const { status, leaseLeft } = (await first.state(RUN.id))!;
    expect(status).toBe('running');
    expect(leaseLeft).toBeGreaterThan(LEASE_MS * 0.7);
    proxy.target = redis.port;
    expect(await store.renew([RUN])).toMatchObject([{ running: true }]);
    expect(performance.now() - loadedAt).toBeLessThan(LEASE_MS); // otherwise this test shows nothing
    expect(await append(store, 11)).toBe('stored');
    // No renewal follows. The first process has noted when Redis was reached, so a later one judges at once.
    await sleep(LEASE_MS * 1.2);
    expect((await (await storeOn(redis)).state(RUN.id))?.status).toBe('lost');
  });

  test('after a restart, the process that reconnects notes it, so that one that starts later judges at once', async () => {
    const redis = await server('--appendonly', 'yes', '--appendfsync', 'always');
    const store = await storeOn(redis);
    await begin(store);
    await redis.kill();
    await redis.start();
    expect(await store.renew([RUN])).toMatchObject([{ running: true }]);
    await sleep(LEASE_MS * 1.2);
    expect((await (await storeOn(redis)).state(RUN.id))?.status).toBe('lost');
  });

  test('while a replica refuses writes, appends wait; SCRIPT FLUSH loses nothing', async () => {
    const redis = await server();
    const app = await clientOf(redis);
    const store = await storeOn(redis);
    await begin(store, 60_000);
    await append(store, 1);
    await app.command('SCRIPT', 'FLUSH');
    expect(await store.state(RUN.id)).toMatchObject({ status: 'running', chunks: 1 });
    await app.command('REPLICAOF', '127.0.0.1', '1'); // no server is there: the data stays and is read-only
    const pending = append(store, 2);
    await sleep(300); // several refused attempts
    await app.command('REPLICAOF', 'NO', 'ONE');
    expect(await pending).toBe('stored');
    expect(await textsOf(store)).toEqual(['1', '2']);
  });

  test('out of memory: an append is rejected with the reason, and a later one is stored', async () => {
    const redis = await server('--maxmemory-policy', 'noeviction');
    const app = await clientOf(redis);
    const store = await storeOn(redis);
    await begin(store, 60_000);
    await append(store, 1);
    await app.command('CONFIG', 'SET', 'maxmemory', '1');
    await expect(append(store, 2)).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(/^redisRuns: .*OOM/),
    });
    await app.command('CONFIG', 'SET', 'maxmemory', '0');
    expect(await append(store, 2)).toBe('stored');
  });

  test('Redis is unreachable at the start: calls wait; close() rejects them', async () => {
    const redis = await server();
    await redis.kill();
    const app = await clientOf(redis);
    const [store, closed] = [redisRuns(app.client), redisRuns(app.client)];
    cleanups.push(() => store.close());
    const statuses: boolean[] = [];
    const opened = store.open({ onStop() {}, onStatus: (up) => statuses.push(up) });
    const calls = [
      closed.open({ onStop() {} }),
      closed.begin({ ...RUN, again: 'join', lease: LEASE_MS, keep: KEEP_MS }),
      closed.append(RUN, 1, [Buffer.from('1')]),
      closed.end(RUN, 'done'),
      closed.renew([RUN]),
      closed.stop(RUN.id),
      closed.state(RUN.id),
      closed.read(RUN, 0, 1),
      closed.noteReaders([RUN], 1),
    ];
    const settled = Promise.allSettled(calls);
    await sleep(200);
    await closed.close();
    for (const outcome of await settled) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_SSE_CLOSED' } });
    }
    const begun = begin(store);
    await redis.start();
    await Promise.all([opened, begun]);
    expect(statuses).toEqual([true]);
    await redis.kill();
    while (statuses.length < 2) await sleep(10);
    await redis.start();
    while (statuses.length < 3) await sleep(10);
    expect(statuses).toEqual([true, false, true]);
  });

  test('a wrong password rejects calls with the reason of Redis', async () => {
    const redis = await server('--requirepass', 'secret');
    const app = await clientOf(redis);
    const store = redisRuns(app.client);
    cleanups.push(() => store.close());
    await expect(store.open({ onStop() {} })).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(/^redisRuns: .*NOAUTH/),
    });
    const admin = await clientOf({ url: `redis://:secret@127.0.0.1:${redis.port}` });
    await admin.command('CONFIG', 'SET', 'requirepass', '');
    await store.open({ onStop() {} }); // another attempt, after the cure
  });
});
