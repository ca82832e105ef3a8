/*
 * What runs in Redis cost, what they leave behind, and how they reach other processes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { redisRuns, type RedisRunsOptions } from '../../../lib/journal/redis/index.ts';
import type { NewRun, RunKey, RunStore, RunStoreListener } from '../../../lib/runs/run-store.ts';
import { BUCKETS, bucketOf, isKeyPrefix, RunKeys } from '../../../lib/runs/stores/redis/run-keys.ts';
import { Stalls } from '../../../lib/runs/stores/redis/stalls.ts';
import { kinds, type TestClient } from '../../fixtures/redis-clients.ts';
import { RunRecorder } from '../../fixtures/redis-runs-recorder.ts';
import { ProducerProcess } from '../../fixtures/redis-runs-process.ts';
import { type RedisServer, startRedis } from '../../fixtures/redis-server.ts';

jest.setTimeout(30_000);
let redis: RedisServer;
let emitWarning: jest.SpiedFunction<typeof process.emitWarning>;
const cleanups: (() => unknown)[] = [];
beforeAll(async () => {
  emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {}); // the server has no persistence, on purpose
  redis = await startRedis();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(async () => {
  await redis.stop();
  emitWarning.mockRestore();
});

const RUN: RunKey = { id: 'answer', generation: 'g1' };

function newRun(run: RunKey = RUN, others: Partial<NewRun> = {}): NewRun {
  return { ...run, again: 'join', lease: 60_000, keep: 60_000, ...others };
}

describe('keys', () => {
  test('all keys of a run have the hash tag of its bucket, and runs are spread over all buckets', () => {
    const keys = new RunKeys('sse:runs');
    const used = new Set<number>();
    for (let n = 0; n < 500; n++) {
      const { bucket, newest, meta, log } = keys.of({ id: `{chat}:${n}`, generation: 'g' });
      used.add(bucket);
      for (const key of [newest, meta, log, keys.wake(bucket, 'x'), keys.probes()[bucket]!]) {
        expect(key).toMatch(new RegExp(`^\\{sse:runs:${bucket}\\}:`));
      }
    }
    expect(used.size).toBe(BUCKETS);
  });

  test('the bucket of an id never changes: processes of two versions find the same run', () => {
    expect(['answer', 'chat-1', '', 'ä€😀'].map(bucketOf)).toEqual(BUCKETS_OF_THESE);
  });

  test('a key with a hash tag keeps all runs in its slot; other braces are refused', () => {
    expect(new RunKeys('{x}:runs').of(RUN).log).toMatch(/^\{x\}:runs:\d+:log:answer:g1$/);
    expect(['a', '{a}', 'a:{b}:c'].filter(isKeyPrefix)).toEqual(['a', '{a}', 'a:{b}:c']);
    expect(['', '{', '}', '{}', 'a}{b}', '{a}{b}'].filter(isKeyPrefix)).toEqual([]);
  });

  test.each([
    [{ key: 7 }, 'the number 7'],
    [{ key: '' }, 'the string ""'],
    [{ key: 'a{b' }, 'a{b'],
    [{ keys: 'a' }, 'Did you mean key?'],
    [null, 'null'],
  ])('options %j are refused', async (options, text) => {
    const app = await kinds[0]!.make(redis.url);
    expect(() => redisRuns(app.client, options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_OPTION', message: expect.stringContaining(text) }),
    );
    expect(() => redisRuns({} as never)).toThrow(/^redisRuns: client must be/);
  });
});

describe('stalls', () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  test('after a lost connection, leases are not judged for one lease', () => {
    const stalls = new Stalls();
    expect(stalls.graceOf(1000)).toBe(0);
    stalls.onReconnect();
    expect([stalls.graceOf(1000), stalls.graceOf(300)]).toEqual([1000, 300]);
    jest.advanceTimersByTime(999);
    expect([stalls.graceOf(1000), stalls.graceOf(300)]).toEqual([1, 0]);
    jest.advanceTimersByTime(1);
    expect(stalls.graceOf(1000)).toBe(0);
  });

  test('a late reply counts if it took more than half a lease, and a shorter one after it changes nothing', () => {
    const stalls = new Stalls();
    const since = { monotonic: performance.now(), wall: Date.now() };
    jest.advanceTimersByTime(600);
    stalls.onReply({}, since, Date.now());
    stalls.onReply({}, { monotonic: performance.now() - 50, wall: Date.now() - 50 }, Date.now());
    expect([stalls.graceOf(1000), stalls.graceOf(1300)]).toEqual([1000, 0]);
  });

  test('a reply that this process reads late counts only if Redis executed its command late', () => {
    const [stalls, connection, ahead] = [new Stalls(), {}, 123_456];
    const moment = () => ({ monotonic: performance.now(), wall: Date.now() });
    stalls.onReply(connection, moment(), Date.now() + ahead);
    let [since, executedAt] = [moment(), Date.now() + ahead + 10];
    jest.advanceTimersByTime(5_000);
    stalls.onReply(connection, since, executedAt);
    expect(stalls.graceOf(1000)).toBe(0);
    since = moment();
    jest.advanceTimersByTime(600);
    executedAt = Date.now() + ahead;
    jest.advanceTimersByTime(300);
    stalls.onReply(connection, since, executedAt);
    expect([stalls.graceOf(1000), stalls.graceOf(1300)]).toEqual([1000, 0]);
  });

  test('a clock of Redis that is set makes no reply late for longer than it took, and a fast reply compares again', () => {
    const [stalls, connection] = [new Stalls(), {}];
    const moment = () => ({ monotonic: performance.now(), wall: Date.now() });
    const late = (clock: number): number => {
      const since = moment();
      jest.advanceTimersByTime(600);
      stalls.onReply(connection, since, Date.now() + clock);
      return stalls.graceOf(1000);
    };
    stalls.onReply(connection, moment(), Date.now());
    expect(late(1e6)).toBe(1000); // ahead: counts with the time that it took, not longer
    expect(stalls.graceOf(1300)).toBe(0);
    stalls.onReply(connection, moment(), Date.now() - 1e6);
    jest.advanceTimersByTime(5_000);
    expect(late(-1e6)).toBe(1000); // back: the fast reply has compared the clocks
  });

  test('a read that is overdue counts before its reply arrives', () => {
    const stalls = new Stalls();
    const reader = {};
    stalls.onReadSent(reader, 500);
    jest.advanceTimersByTime(1000);
    expect(stalls.graceOf(1000)).toBe(0);
    jest.advanceTimersByTime(1);
    expect(stalls.graceOf(1000)).toBe(1000);
    stalls.onReadSettled(reader);
    jest.advanceTimersByTime(400);
    expect(stalls.graceOf(1000)).toBe(600);
  });

  test('a new process judges at once, if Redis has been reachable for a lease', () => {
    const stalls = new Stalls();
    stalls.onOpened(2000);
    expect([stalls.graceOf(2000), stalls.graceOf(3000)]).toEqual([0, 1000]);
  });

  test('the sleep of the machine counts, although the monotonic clock stops for it', () => {
    const stalls = new Stalls();
    stalls.onReply({}, { monotonic: performance.now(), wall: Date.now() - 5000 }, Date.now());
    expect(stalls.graceOf(1000)).toBe(1000);
  });
});

describe.each(kinds)('over $name', (kind) => {
  let app: TestClient;
  beforeEach(async () => {
    app = await kind.make(redis.url);
    cleanups.push(() => app.end());
    await app.command('FLUSHALL');
  });

  async function openStore(
    listener: RunStoreListener = { onStop() {} },
    client: TestClient = app,
    options: RedisRunsOptions = {},
  ): Promise<RunStore> {
    const store = redisRuns(client.client, options);
    cleanups.push(() => store.close());
    await store.open(listener);
    return store;
  }

  /** Returns how often each command was executed since the last call of `CONFIG RESETSTAT`. */
  async function commandCounts(): Promise<Record<string, number>> {
    const text = String(await app.command('INFO', 'commandstats'));
    return Object.fromEntries(
      [...text.matchAll(/^cmdstat_([\w|]+):calls=(\d+)/gm)].map(([, name, calls]) => [name, Number(calls)]),
    );
  }

  test('one XADD for each append, and one read for each delivery to another process, for any number of followers there', async () => {
    const [store, reader] = [await openStore(), await openStore()];
    await store.begin(newRun());
    await store.append(RUN, 1, [Buffer.from('x')]); // from here on, the log is known to this connection
    const recorders = Array.from({ length: 5 }, () => new RunRecorder());
    for (const recorder of recorders) reader.follow(RUN, 0, recorder);
    for (const recorder of recorders) await recorder.until(({ count }) => count === 1);
    await app.command('CONFIG', 'RESETSTAT');
    for (let n = 0; n < 50; n++) {
      await store.append(
        RUN,
        2 + n * 4,
        Array.from({ length: 4 }, () => Buffer.from('xyz')),
      );
      for (const recorder of recorders) await recorder.until(({ count }) => count === 5 + n * 4);
    }
    const { xadd, xread, evalsha = 0, exists = 0, ...others } = await commandCounts();
    expect(xadd).toBe(50);
    expect(xread).toBeLessThan(60); // one for each append; a few reads may end by their time
    expect(evalsha).toBe(0);
    expect(exists).toBeLessThan(20); // once a second, for logs without an entry
    expect(Object.keys(others).filter((name) => !/^(?:config|info|client)/.test(name))).toEqual([]);
  });

  test('a process that only produces reads nothing but its wake stream', async () => {
    const store = await openStore();
    await store.begin(newRun());
    await store.append(RUN, 1, [Buffer.from('x')]);
    await app.command('CONFIG', 'RESETSTAT');
    for (let n = 2; n <= 51; n++) await store.append(RUN, n, [Buffer.from('x')]);
    const { xadd, xread = 0, exists } = await commandCounts();
    expect([xadd, exists]).toEqual([50, undefined]);
    expect(xread).toBeLessThan(10);
  });

  test('250 runs are followed by three reads, each of at most a hundred runs', async () => {
    const [store, reader] = [await openStore(), await openStore()];
    const runs = Array.from({ length: 250 }, (_, n): RunKey => ({ id: `run ${n}`, generation: 'g' }));
    await Promise.all(runs.map((run) => store.begin(newRun(run))));
    const recorders = runs.map((run) => {
      const recorder = new RunRecorder();
      reader.follow(run, 0, recorder);
      return recorder;
    });
    for (let n = 1; n <= 5; n++) {
      await Promise.all(runs.map((run) => store.append(run, n, [Buffer.from('x')])));
      for (const recorder of recorders) await recorder.until(({ count }) => count === n);
    }
    const clients = String(await app.command('CLIENT', 'LIST'));
    const reading = [...clients.matchAll(/^.* cmd=xread .*$/gm)];
    expect(reading.length).toBe(4); // three of this process, and the wake stream of the producing one
    await Promise.all(runs.map((run) => store.end(run, 'done')));
    for (const recorder of recorders) await recorder.until(({ ended }) => ended?.status === 'done');
  });

  test('a run that is followed while a read waits is delivered at once', async () => {
    const [store, reader] = [await openStore(), await openStore()];
    const runs = ['a', 'b', 'c'].map((id) => ({ id, generation: 'g' }));
    for (const run of runs) {
      await store.begin(newRun(run));
      await store.append(run, 1, [Buffer.from('x')]);
    }
    const delays: number[] = [];
    for (const run of runs) {
      await sleep(50); // the read of the other runs waits
      const since = performance.now();
      const recorder = new RunRecorder();
      reader.follow(run, 0, recorder);
      await recorder.until(({ count }) => count === 1);
      delays.push(performance.now() - since);
    }
    expect(Math.min(...delays.slice(1))).toBeLessThan(500); // a read that waits ends after a second by itself
  });

  test('a stop from another process arrives within 100 ms', async () => {
    const store = await openStore();
    const delays: number[] = [];
    for (let n = 0; n < 3; n++) {
      const run = { id: `run ${n}`, generation: 'g' };
      const spec = { kind: kind.name, url: redis.url, key: 'sse:runs', run, lease: 60_000, pause: 5 };
      const producer = new ProducerProcess(spec);
      cleanups.push(() => producer.kill());
      await producer.reported('stored');
      const sentAt = Date.now();
      expect(await store.stop(run.id)).toBe(true);
      delays.push((await producer.reported('stoppedAt')).stoppedAt - sentAt);
    }
    expect(Math.min(...delays)).toBeLessThan(100); // the least one: the machine may be busy
  });

  test('every key expires: after lease and keep while a run is running, and after keep when it has ended', async () => {
    const store = await openStore();
    await store.begin(newRun(RUN, { lease: 20_000, keep: 5_000 }));
    await store.append(RUN, 1, [Buffer.from('x')]);
    await (await openStore()).stop(RUN.id); // adds to the wake stream
    const lives = async (): Promise<[string, number][]> => {
      const keys = ((await app.command('KEYS', '*')) as (string | Buffer)[]).map(String).sort();
      const all = await Promise.all(keys.map((key) => app.command('PTTL', key)));
      return keys.map((key, i) => [key.replace(/^.*?:(newest|run|log|wake|uptime)(:.*)?$/, '$1'), Number(all[i])]);
    };
    const running = new Map(await lives());
    expect([...running.keys()].sort()).toEqual(['log', 'newest', 'run', 'uptime', 'wake']);
    for (const kindOfKey of ['log', 'newest', 'run']) {
      expect(running.get(kindOfKey)).toBeGreaterThan(20_000);
      expect(running.get(kindOfKey)).toBeLessThanOrEqual(25_000);
    }
    for (const kindOfKey of ['uptime', 'wake']) expect(running.get(kindOfKey)).toBeGreaterThan(0);
    await store.end(RUN, 'done');
    const ended = new Map(await lives());
    for (const kindOfKey of ['log', 'newest', 'run']) {
      expect(ended.get(kindOfKey)).toBeGreaterThan(0);
      expect(ended.get(kindOfKey)).toBeLessThanOrEqual(5_000);
    }
  });

  test('a renewal extends every key, and the end of an older generation leaves the newest one alone', async () => {
    const store = await openStore();
    await store.begin(newRun(RUN, { lease: 20_000, keep: 10_000 }));
    const keys = ((await app.command('KEYS', '*answer*')) as (string | Buffer)[]).map(String);
    expect(keys.length).toBe(3);
    for (const key of keys) await app.command('PEXPIRE', key, '5000');
    await store.renew([RUN]);
    for (const key of keys) expect(Number(await app.command('PTTL', key))).toBeGreaterThan(20_000);
    const next = { id: RUN.id, generation: 'g2' };
    await store.begin(newRun(next, { again: 'replace' }));
    await store.end(RUN, 'done');
    expect(await store.state(RUN.id)).toMatchObject({ generation: 'g2', status: 'running' });
    expect(await store.state(RUN.id, 'g1')).toMatchObject({ status: 'stopped' });
  });

  test('an ended log refuses a plain XADD of any producer', async () => {
    const store = await openStore();
    await store.begin(newRun());
    await store.append(RUN, 1, [Buffer.from('x')]);
    await store.end(RUN, 'done');
    const key = ((await app.command('KEYS', '*:log:*')) as (string | Buffer)[]).map(String)[0]!;
    await expect(app.command('XADD', key, 'NOMKSTREAM', '2-2', '1', 'y')).rejects.toThrow(/equal or smaller|exhausted/);
    expect(await store.append(RUN, 2, [Buffer.from('y')])).toBe('refused');
  });

  test("the client's keyPrefix and the option key are in front of every key, and an ACL for them suffices", async () => {
    await app.command('ACL', 'SETUSER', 'web', 'on', '>pw', '~app:{mine:*', '-@all', '+@connection', ...ALLOWED);
    const url = `redis://web:pw@127.0.0.1:${redis.port}`;
    const web = await kind.make(url, { keyPrefix: 'app:' });
    cleanups.push(() => web.end());
    const [prefixed, pattern] = [new RunKeys('app:mine'), /^\{app:mine:\d+\}:/];
    expect(prefixed.of(RUN).log).toMatch(pattern);
    await app.command('ACL', 'SETUSER', 'web', '~{app:mine:*');
    const stops: RunKey[] = [];
    const store = await openStore({ onStop: (run) => stops.push(run) }, web, { key: 'mine' });
    await store.begin(newRun());
    const recorder = new RunRecorder();
    store.follow(RUN, 0, recorder);
    await store.append(RUN, 1, [Buffer.from('x')]);
    await recorder.until(({ count }) => count === 1);
    const other = await openStore(undefined, web, { key: 'mine' });
    expect(await other.stop(RUN.id)).toBe(true);
    while (stops.length === 0) await sleep(10);
    await store.end(RUN, 'stopped');
    const keys = ((await app.command('KEYS', '*')) as (string | Buffer)[]).map(String);
    expect(keys.filter((key) => !pattern.test(key))).toEqual([]);
  });

  test('a store warns about eviction and about missing persistence', async () => {
    emitWarning.mockClear();
    await app.command('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru');
    cleanups.push(() => app.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction'));
    await openStore();
    while (emitWarning.mock.calls.length < 2) await sleep(5);
    expect(emitWarning.mock.calls.map(([, options]) => (options as { code: string }).code)).toEqual([
      'SSE_REDIS_EVICTION',
      'SSE_REDIS_PERSISTENCE',
    ]);
  });

  test('close() closes every connection', async () => {
    const store = await openStore();
    await store.begin(newRun());
    store.follow(RUN, 0, new RunRecorder());
    const connected = async (): Promise<number> =>
      String(await app.command('CLIENT', 'LIST'))
        .trim()
        .split('\n').length;
    while ((await connected()) < 3) await sleep(5);
    await store.close();
    while ((await connected()) > 1) await sleep(5);
  });
});

/** The commands of an ACL for `redisRuns`. */
const ALLOWED =
  '+xlen +exists +script|load +evalsha +get +set +hset +hget +hmget +xadd +xread +xrange +xrevrange +pexpire +del +time'.split(
    ' ',
  );
const BUCKETS_OF_THESE = [15, 7, 9, 2];
