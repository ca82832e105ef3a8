/*
 * The journal on Redis during faults: lost replies; servers that are killed, frozen, emptied, rolled back or loading.
 */
import { randomUUID } from 'node:crypto';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Journal } from '../../../lib/journal/journal.ts';
import { redisJournal, type RedisJournalOptions } from '../../../lib/journal/redis/index.ts';
import { MAX_IN_FLIGHT } from '../../../lib/journal/redis/scripts.ts';
import { kinds, type TestClient } from '../../fixtures/redis-clients.ts';
import { Proxy } from '../../fixtures/redis-proxy.ts';
import { frame, Recorder } from '../../fixtures/redis-recorder.ts';
import { type RedisServer, startRedis } from '../../fixtures/redis-server.ts';

jest.setTimeout(60_000);
const cleanups: (() => unknown)[] = [];
let emitWarning: jest.SpiedFunction<typeof process.emitWarning>;
beforeEach(() => {
  emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {}); // the servers here have no persistence, on purpose
  cleanups.push(() => emitWarning.mockRestore());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

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

function numbers(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

describe.each(kinds)('over $name', (kind) => {
  async function clientOf({ url }: { url: string }): Promise<TestClient> {
    const app = await kind.make(url);
    cleanups.push(() => app.end());
    return app;
  }

  async function journalOn(target: { url: string }, options: RedisJournalOptions = {}): Promise<Journal> {
    const app = await clientOf(target);
    const journal = redisJournal(app.client, { key: `{${randomUUID()}}`, ...options });
    cleanups.push(() => journal.close());
    return journal;
  }

  async function following(journal: Journal): Promise<Recorder> {
    await journal.open();
    const recorder = new Recorder((await journal.window(0)).floor);
    journal.follow(recorder.ids[0]!, recorder);
    await recorder.until(({ calls }) => calls.includes('up'));
    return recorder;
  }

  /** Creates a journal behind a proxy, and a direct journal whose recorder shows what is in the log. */
  async function behindProxy() {
    const redis = await server();
    const proxy = await proxyTo(redis);
    const [journal, direct] = [await journalOn(proxy, { key: 'a' }), await journalOn(redis, { key: 'a' })];
    const recorder = await following(direct);
    await journal.open();
    return { proxy, journal, direct, recorder };
  }

  test('lost replies: each publish is stored once, in order, with its own id', async () => {
    const { proxy, journal, recorder } = await behindProxy();
    const ids: string[] = [];
    for (let round = 0; round < 5; round++) {
      const lost = proxy.loseNextReply();
      const appends = numbers(20).map((i) => journal.append({ body: frame(`${round}/${i}`) }));
      await lost;
      ids.push(...(await Promise.all(appends)));
    }
    await recorder.until(({ bodies }) => bodies.length >= 100);
    expect(recorder.ids.slice(1)).toEqual(ids);
    expect(recorder.bodies).toEqual(numbers(5).flatMap((round) => numbers(20).map((i) => `data: ${round}/${i}\n\n`)));
  });

  test('SIGKILL with 64 publishes in flight: acknowledged entries are kept, without duplicates, in order', async () => {
    const redis = await server('--appendonly', 'yes', '--appendfsync', 'always');
    const journal = await journalOn(redis, { wait: 20_000 });
    const recorder = await following(journal);
    const appends: Promise<string>[] = [];
    const acknowledged: string[] = [];
    for (let kills = 0; kills < 3; kills++) {
      const until = acknowledged.length + 300;
      while (acknowledged.length < until) {
        for (let i = 0; i < 64; i++) {
          const append = journal.append({ body: frame(String(appends.length)) });
          void append.then((id) => acknowledged.push(id));
          appends.push(append);
        }
        await Promise.race(appends.slice(-64));
      }
      await redis.kill();
      await redis.start();
    }
    const ids = await Promise.all(appends);
    await recorder.until(({ bodies }) => bodies.length >= appends.length);
    expect(recorder.bodies).toEqual(appends.map((_, i) => `data: ${i}\n\n`));
    expect(recorder.ids.slice(1)).toEqual(ids);
    expect(recorder.calls.filter((call) => call !== 'up' && call !== 'down')).toEqual([]);
  });

  test('a process that is stopped for longer than `wait` reads the replies that have arrived, before entries expire', async () => {
    const journal = await journalOn(await server(), { wait: 300 });
    await journal.open();
    await journal.append({ body: frame('first') });
    const sent = journal.append({ body: frame('sent') });
    await new Promise(setImmediate); // the command is in the socket
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000); // nothing of this process runs meanwhile
    const [entry] = (await journal.window(1)).entries;
    expect(await sent).toBe(entry!.id);
  });

  test('an append that has expired before it was sent is not stored, also if replies arrive before it is rejected', async () => {
    const journal = await journalOn(await server(), { wait: 300 });
    await journal.open();
    const { floor } = await journal.window(0);
    const outcomes = Promise.allSettled(numbers(3000).map((i) => journal.append({ body: frame(String(i)) })));
    await new Promise(setImmediate);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
    const reasons = (await outcomes).map((outcome) =>
      outcome.status === 'rejected' ? String(outcome.reason) : 'stored',
    );
    const refused = reasons.filter((reason) => reason.includes('was not stored'));
    expect(refused).toHaveLength(3000 - MAX_IN_FLIGHT); // those that had to wait for the replies to others
    const last = await journal.append({ body: frame('last') });
    const stored = await journal.read(floor, 5000);
    expect(stored.ok && stored.entries.at(-1)!.id).toBe(last);
    expect(stored.ok && stored.entries).toHaveLength(MAX_IN_FLIGHT + 1);
  });

  test('a read in flight when Redis is killed is sent again; it is rejected if Redis stays down', async () => {
    const redis = await server('--appendonly', 'yes', '--appendfsync', 'always');
    const journal = await journalOn(redis, { wait: 1000 });
    await journal.open();
    const id = await journal.append({ body: frame('1') });
    const killed = async (): Promise<void> => {
      await new Promise((resolve) => setImmediate(resolve)); // the command is in the socket
      await redis.kill();
    };
    redis.freeze();
    const first = journal.read(id, 1);
    await killed();
    await redis.start();
    expect(await first).toEqual({ ok: true, entries: [] });
    await journal.append({ body: frame('2') });
    redis.freeze();
    const second = journal.read(id, 1);
    await killed();
    await expect(second).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringContaining('reached'),
    });
  });

  test('FLUSHALL and a restart without persistence restart a follower as unknown', async () => {
    const redis = await server();
    const journal = await journalOn(redis);
    const app = await clientOf(redis);
    const recorder = await following(journal);
    const before = await journal.append({ body: frame('1') });
    await app.command('FLUSHALL');
    await recorder.until(({ calls }) => calls.includes('restart unknown'));
    const after = await journal.append({ body: frame('2') });
    await recorder.until(({ ids }) => ids.includes(after));
    expect(await journal.read(before, 1)).toEqual({ ok: false, reason: 'unknown' });

    await redis.kill();
    await redis.start();
    await recorder.until(({ calls }) => calls.filter((call) => call === 'restart unknown').length === 2);
    const last = await journal.append({ body: frame('3') });
    await recorder.until(({ ids }) => ids.includes(last));
  });

  test('a follower whose position is trimmed while it lags is restarted as lost', async () => {
    const redis = await server();
    const proxy = await proxyTo(redis);
    const [key, app] = ['{x}', await clientOf(redis)];
    const [journal, other] = [await journalOn(proxy, { key }), await journalOn(redis, { key })];
    const recorder = await following(journal);
    proxy.hold();
    for (const i of numbers(300)) await other.append({ body: frame(String(i)) });
    await app.command('XTRIM', key, 'MAXLEN', '10');
    proxy.release();
    await recorder.until(({ calls }) => calls.includes('restart lost'));
    expect(recorder.ids.length).toBe(10);
    const last = await other.append({ body: frame('last') });
    await recorder.until(({ ids }) => ids.at(-1) === last);
  });

  test('a failover that lost acknowledged writes rewinds to the last common entry', async () => {
    const [redis, replica] = [await server('--repl-diskless-sync-delay', '0'), await server()]; // 5 s by default
    const proxy = await proxyTo(redis);
    const journal = await journalOn(proxy);
    const recorder = await following(journal);
    const kept: string[] = [];
    for (const i of numbers(200)) kept.push(await journal.append({ body: frame(`kept ${i}`) }));
    const [primary, other] = [await clientOf(redis), await clientOf(replica)];
    await other.command('REPLICAOF', '127.0.0.1', String(redis.port));
    while (!String(await other.command('INFO', 'replication')).includes('master_link_status:up')) await sleep(10);
    await primary.command('WAIT', '1', '5000');
    await other.command('REPLICAOF', 'NO', 'ONE'); // from here on it does not get what the primary stores
    const lost: string[] = [];
    for (const i of numbers(300)) lost.push(await journal.append({ body: frame(`lost ${i}`) }));
    await recorder.until(({ ids }) => ids.at(-1) === lost.at(-1));

    proxy.target = replica.port;
    proxy.cut();
    await recorder.until(({ calls }) => calls.some((call) => call.startsWith('rewind')));
    expect(recorder.calls).toContain('rewind 200');
    const after = await journal.append({ body: frame('after') });
    await recorder.until(({ ids }) => ids.at(-1) === after);
    expect(recorder.ids.slice(1)).toEqual([...kept, after]);
    expect(await journal.read(lost[5]!, 1)).toEqual({ ok: false, reason: 'unknown' });
    expect(await journal.read(kept[198]!, 5)).toMatchObject({ ok: true, entries: [{ id: kept[199] }, { id: after }] });
    expect(recorder.calls.filter((call) => call.startsWith('restart'))).toEqual([]);
  });

  test('an older copy of the append-only file rewinds followers too', async () => {
    const redis = await server('--appendonly', 'yes', '--appendfsync', 'always');
    const journal = await journalOn(redis, { wait: 20_000 });
    const recorder = await following(journal);
    for (const i of numbers(5)) await journal.append({ body: frame(String(i)) });
    await redis.kill();
    cpSync(join(redis.dir, 'appendonlydir'), join(redis.dir, 'older'), { recursive: true });
    await redis.start();
    for (const i of numbers(5)) await journal.append({ body: frame(String(i)) });
    await recorder.until(({ bodies }) => bodies.length === 10);
    await redis.kill();
    cpSync(join(redis.dir, 'older'), join(redis.dir, 'appendonlydir'), { recursive: true });
    await redis.start();
    await recorder.until(({ calls }) => calls.includes('rewind 5'));
    expect(recorder.calls.filter((call) => call.startsWith('restart'))).toEqual([]);
  });

  // Two journals share the freeze, because a follower detects it only after BLOCK_MS + 3 s.
  test('a frozen Redis: the followers are down, appends with a short wait time out, appends with a long wait are stored once and in order', async () => {
    const redis = await server();
    const [journal, longWait] = [await journalOn(redis, { wait: 500 }), await journalOn(redis, { wait: 30_000 })];
    const [recorder, longWaitRecorder] = [await following(journal), await following(longWait)];
    redis.freeze();
    cleanups.push(() => redis.thaw());
    const appends = numbers(30).map((i) => longWait.append({ body: frame(String(i)) }));
    const sent = journal.append({ body: frame('sent') });
    await expect(sent).rejects.toMatchObject({ code: 'ERR_SSE_TIMEOUT', message: expect.stringContaining('unknown') });
    await Promise.all([recorder, longWaitRecorder].map((one) => one.until(({ calls }) => calls.includes('down'))));
    await expect(journal.read(recorder.ids[0]!, 1)).rejects.toMatchObject({ code: 'ERR_SSE_JOURNAL' });
    await expect(journal.append({ body: frame('x') })).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringMatching(/The entry was not stored/),
    });
    await sleep(600); // the command connections are as old as the followers': they have timed out too, and connect again
    redis.thaw();
    await recorder.until(({ calls }) => calls.at(-1) === 'up');
    const after = await journal.append({ body: frame('after') });
    await recorder.until(({ ids }) => ids.at(-1) === after);
    expect(recorder.bodies.filter((body) => body === 'data: sent\n\n').length).toBeLessThanOrEqual(1);
    expect(recorder.bodies).not.toContain('data: x\n\n');
    expect(recorder.calls).toEqual(['up', 'down', 'up']);
    const ids = await Promise.all(appends);
    await longWaitRecorder.until(({ bodies }) => bodies.length >= 30);
    expect(longWaitRecorder.ids.slice(1)).toEqual(ids);
  });

  test('a loading server is down and never causes a reset; waiting appends are stored', async () => {
    const redis = await server('--appendonly', 'yes', '--aof-use-rdb-preamble', 'no');
    const journal = await journalOn(redis, { wait: 30_000 });
    const app = await clientOf(redis);
    const recorder = await following(journal);
    await journal.append({ body: frame('1') });
    for (const i of numbers(3000)) await app.command('SET', `k${i}`, 'x'.repeat(100));
    await redis.kill();
    await redis.start('Server initialized', [
      '--key-load-delay',
      '500',
      '--loading-process-events-interval-bytes',
      '1024',
    ]);
    await recorder.until(({ calls }) => calls.includes('down'));
    const id = await journal.append({ body: frame('2') });
    await recorder.until(({ ids }) => ids.at(-1) === id);
    expect(recorder.bodies).toEqual(['data: 1\n\n', 'data: 2\n\n']);
    expect(recorder.calls).toEqual(['up', 'down', 'up']);
  });

  test('appends wait while a replica rejects writes; SCRIPT FLUSH loses no append', async () => {
    const redis = await server();
    const journal = await journalOn(redis, { wait: 20_000 });
    const app = await clientOf(redis);
    const recorder = await following(journal);
    await journal.append({ body: frame('0') });
    await app.command('SCRIPT', 'FLUSH');
    await Promise.all([1, 2, 3].map((i) => journal.append({ body: frame(String(i)) })));
    await app.command('REPLICAOF', '127.0.0.1', '1'); // no server is there: the data stays and is read-only
    const appends = [4, 5, 6].map((i) => journal.append({ body: frame(String(i)) }));
    await sleep(300); // several rejected attempts
    await app.command('REPLICAOF', 'NO', 'ONE');
    await Promise.all(appends);
    await recorder.until(({ bodies }) => bodies.length >= 7);
    expect(recorder.bodies).toEqual(numbers(7).map((i) => `data: ${i}\n\n`));
    expect(recorder.calls).not.toContainEqual(expect.stringMatching(/re/));
  });

  test('out of memory: appends are rejected with the reason, nothing is stored, and later appends succeed', async () => {
    const redis = await server('--maxmemory-policy', 'noeviction');
    const journal = await journalOn(redis);
    const app = await clientOf(redis);
    const recorder = await following(journal);
    await app.command('CONFIG', 'SET', 'maxmemory', '1');
    const outcomes = await Promise.allSettled(numbers(10).map((i) => journal.append({ body: frame(String(i)) })));
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ reason: { code: 'ERR_SSE_JOURNAL', message: expect.stringContaining('OOM') } });
    }
    await app.command('CONFIG', 'SET', 'maxmemory', '0');
    const id = await journal.append({ body: frame('after') });
    await recorder.until(({ ids }) => ids.length === 2);
    expect(recorder.ids[1]).toBe(id);
  });

  test('Redis unreachable at the start: open() waits and warns, a full queue rejects, close() rejects pending calls', async () => {
    const redis = await server();
    const journal = await journalOn(redis, { wait: 200, maxPending: 2 });
    await redis.kill();
    const opened = journal.open();
    const [a, b, c] = ['a', 'b', 'c'].map((text) => journal.append({ body: frame(text) }));
    await expect(c).rejects.toMatchObject({
      code: 'ERR_SSE_QUEUE_FULL',
      message: expect.stringContaining('The entry was not stored'),
    });
    for (const append of [a, b]) {
      await expect(append).rejects.toMatchObject({
        code: 'ERR_SSE_TIMEOUT',
        message: expect.stringContaining('The entry was not stored'),
      });
    }
    await redis.start();
    await opened;
    expect(emitWarning.mock.calls.map(([, options]) => (options as unknown as { code: string }).code)).toContain(
      'SSE_REDIS_UNREACHABLE',
    );
    expect((await journal.window(10)).entries).toEqual([]);

    await redis.kill();
    await expect(journal.read('1-1', 1)).rejects.toMatchObject({ code: 'ERR_SSE_JOURNAL' }); // now the journal has noticed that the connection is closed
    const append = journal.append({ body: frame('d') });
    const read = journal.read('1-1', 1);
    for (const call of [append, read]) call.catch(() => {}); // checked below
    await journal.close();
    await expect(append).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringMatching(/The entry was not stored/),
    });
    await expect(read).rejects.toMatchObject({ code: 'ERR_SSE_JOURNAL' });
  });

  test('close: entries in flight still get their reply, and an unsent entry is sent and stored', async () => {
    const { proxy, journal, direct, recorder } = await behindProxy();
    proxy.hold();
    const sent = numbers(MAX_IN_FLIGHT).map((i) => journal.append({ body: frame(String(i)) }));
    const unsent = journal.append({ body: frame('unsent') });
    const replies = Promise.all(sent);
    replies.catch(() => {}); // checked below
    await recorder.until(({ bodies }) => bodies.length === MAX_IN_FLIGHT);
    const closed = journal.close();
    proxy.release();
    const ids = [...(await replies), await unsent];
    await closed;
    await recorder.until(({ bodies }) => bodies.length === MAX_IN_FLIGHT + 1);
    expect(recorder.ids.slice(1)).toEqual(ids);
    expect((await direct.window(1)).entries[0]!.id).toBe(ids.at(-1));
  });

  test('close without replies: it resolves after a second, and sent entries are rejected with an unknown outcome', async () => {
    const { proxy, journal, recorder } = await behindProxy();
    proxy.hold();
    const append = journal.append({ body: frame('x') });
    await recorder.until(({ bodies }) => bodies.length === 1);
    const before = performance.now();
    const closed = journal.close();
    await expect(append).rejects.toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringContaining('The outcome is unknown'),
    });
    await closed;
    const duration = performance.now() - before;
    expect(duration).toBeGreaterThan(900);
    expect(duration).toBeLessThan(3000);
  });

  test('close before Redis was ever reached rejects after a second, and nothing was stored', async () => {
    const redis = await server();
    await redis.kill();
    const journal = await journalOn(redis);
    const append = journal.append({ body: frame('x') });
    const before = performance.now();
    const outcome = append.catch((error: unknown) => error);
    await journal.close();
    expect(await outcome).toMatchObject({
      code: 'ERR_SSE_TIMEOUT',
      message: expect.stringMatching(/The entry was not stored/),
    });
    expect(performance.now() - before).toBeLessThan(3000);
  });

  test('a wrong password and a key that is no stream are reported at once', async () => {
    const redis = await server('--requirepass', 'right');
    const app = await clientOf({ url: `redis://:right@127.0.0.1:${redis.port}` });
    await app.command('SET', 'text', 'x');
    const wrong = await journalOn({ url: `redis://:wrong@127.0.0.1:${redis.port}` });
    await expect(wrong.open()).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(/WRONGPASS|NOAUTH/),
    });
    const text = await journalOn({ url: `redis://:right@127.0.0.1:${redis.port}` }, { key: 'text' });
    await expect(text.open()).rejects.toMatchObject({
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(/WRONGTYPE/),
    });
    await app.command('DEL', 'text');
    await text.open();
  });
});
