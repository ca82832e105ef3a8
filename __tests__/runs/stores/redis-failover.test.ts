/*
 * Runs while Redis fails over: a replica is promoted after its primary was killed. The producing and the serving process reach Redis
 * through an address that then leads to the replica, as behind a load balancer or DNS.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { redisRuns } from '../../../lib/journal/redis/index.ts';
import type { TestStream } from '../../../lib/testing/index.ts';
import { kinds, type TestClient } from '../../fixtures/redis-clients.ts';
import { Proxy } from '../../fixtures/redis-proxy.ts';
import { type RedisServer, startRedis } from '../../fixtures/redis-server.ts';
import { later } from '../../fixtures/support.ts';
import { type RunsSite, site, until } from '../sites.ts';

jest.setTimeout(60_000);
beforeEach(() => {
  jest.spyOn(process, 'emitWarning').mockImplementation(() => {}); // servers without persistence, on purpose
});

const LEASE_MS = 1_000;

async function server(...args: string[]): Promise<RedisServer> {
  const redis = await startRedis(...args);
  later(() => redis.stop());
  return redis;
}

async function proxyTo({ port }: RedisServer): Promise<Proxy> {
  const proxy = await Proxy.to(port);
  later(() => proxy.close());
  return proxy;
}

/** The chunks that a reader has received, with their numbers. */
function chunksIn({ events }: TestStream): string[] {
  return events.filter(({ event }) => event === 'message').map(({ id, data }) => `${id!.split('~').at(-1)}: ${data}`);
}

function expected(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}: token ${from + i}`);
}

async function endOf(reader: TestStream): Promise<string> {
  await reader.until(({ ended }) => ended, 10_000);
  const [end, ...more] = reader.events.filter(({ event }) => event === 'end');
  expect([more, reader.events.at(-1)]).toEqual([[], end]); // one end, after everything
  return String(end?.data);
}

describe.each(kinds)('over $name', (kind) => {
  async function clientOf({ url }: { url: string }): Promise<TestClient> {
    const app = await kind.make(url);
    later(() => app.end());
    return app;
  }

  /** A primary with a replica, and two processes: one produces, and readers use the other one. */
  async function pair(lease = LEASE_MS): Promise<{
    producer: RunsSite;
    other: RunsSite;
    emit: (to: number) => void;
    /** Resolves when the replica has everything that the primary has stored. */
    replicated: () => Promise<void>;
    /** From now on, the replica receives nothing. */
    isolate: () => void;
    /** From now on until {@link release}, the producer receives no reply. */
    holdReplies: () => void;
    release: () => void;
    failOver: () => Promise<void>;
  }> {
    const [primary, replica] = [await server('--repl-diskless-sync-delay', '0'), await server()]; // 5 s by default
    const link = await proxyTo(primary);
    const [toPrimary, toReplica] = [await clientOf(primary), await clientOf(replica)];
    await toReplica.command('REPLICAOF', '127.0.0.1', String(link.port));
    await until(async () => String(await toReplica.command('INFO', 'replication')).includes('master_link_status:up'));
    const [address, ofProducer] = [await proxyTo(primary), await proxyTo(primary)];
    const open = async (proxy: Proxy) => site({ store: redisRuns((await clientOf(proxy)).client), lease });
    const [producer, other] = [await open(ofProducer), await open(address)];
    let emitted = 0;
    return {
      producer,
      other,
      emit(to) {
        while (emitted < to) producer.models.last.emit(`token ${++emitted}`);
      },
      async replicated() {
        expect(Number(await toPrimary.command('WAIT', '1', '5000'))).toBe(1);
      },
      isolate: () => link.hold(),
      holdReplies: () => ofProducer.hold(),
      release: () => ofProducer.release(),
      async failOver() {
        await primary.kill();
        link.cut();
        await toReplica.command('REPLICAOF', 'NO', 'ONE');
        for (const proxy of [address, ofProducer]) {
          proxy.target = replica.port;
          proxy.cut();
        }
      },
    };
  }

  test('a replica that has every chunk is promoted: the run continues, for every reader', async () => {
    const { producer, other, emit, replicated, failOver } = await pair();
    const first = await producer.post('r');
    await until(async () => producer.models.calls.length === 1);
    const live = await other.open('/r');
    emit(10);
    for (const reader of [first, live]) await reader.until((each) => chunksIn(each).length === 10);
    const away = await other.open('/r');
    await away.until((each) => chunksIn(each).length === 10);
    await away.close();
    await replicated();
    const failing = failOver();
    emit(20); // while Redis is not available
    await failing;
    const resumed = await away.reconnect();
    await resumed.until((each) => chunksIn(each).length === 10);
    await sleep(LEASE_MS * 1.5); // the lease is renewed at the replica
    emit(30);
    producer.models.last.finish();
    for (const reader of [first, live, await other.open('/r')]) {
      expect(await endOf(reader)).toBe('done');
      expect(chunksIn(reader)).toEqual(expected(1, 30));
    }
    expect(await endOf(resumed)).toBe('done');
    expect(chunksIn(resumed)).toEqual(expected(11, 30));
    expect(await other.chat.status('r')).toMatchObject({ status: 'done', chunks: 30 });
    expect(producer.models.last.signal.aborted).toBe(false);
  });

  test('a replica that lacks chunks is promoted: the run is lost, and no reader receives a chunk twice or another one in its place', async () => {
    const { producer, other, emit, replicated, isolate, failOver } = await pair();
    const first = await producer.post('r');
    await until(async () => producer.models.calls.length === 1);
    const live = await other.open('/r');
    emit(10);
    await live.until((each) => chunksIn(each).length === 10);
    const behind = await other.open('/r');
    await behind.until((each) => chunksIn(each).length === 10);
    await behind.close();
    await replicated();
    isolate();
    emit(15);
    for (const reader of [first, live]) await reader.until((each) => chunksIn(each).length === 15);
    const ahead = await other.open('/r');
    await ahead.until((each) => chunksIn(each).length === 15);
    await ahead.close();
    await failOver();
    const [returned, resumed] = [await ahead.reconnect(), await behind.reconnect()];
    emit(30);
    for (const reader of [first, live]) {
      expect(await endOf(reader)).toBe('lost');
      expect(chunksIn(reader)).toEqual(expected(1, 15));
    }
    // The promoted log has ten chunks. What a reader had received beyond them is not sent again.
    for (const reader of [returned, await ahead.reconnect(), await behind.reconnect()]) {
      expect(await endOf(reader)).toBe('lost');
      expect(chunksIn(reader)).toEqual([]);
    }
    // A process that still has the lost chunks, for its other reader, sends them as they were.
    expect(await endOf(resumed)).toBe('lost');
    expect(chunksIn(resumed)).toEqual(expected(11, 15));
    const late = await other.open('/r');
    expect(await endOf(late)).toBe('lost');
    expect(chunksIn(late)).toEqual(expected(1, 10));
    expect(await other.chat.status('r')).toMatchObject({ status: 'lost', chunks: 10 });
    expect(producer.models.last.signal.aborted).toBe(true);
    // The next answer with this id is another generation, at the promoted server.
    const next = await producer.post('r');
    await until(async () => producer.models.calls.length === 2);
    producer.models.last.emit('again');
    producer.models.last.finish();
    expect(await endOf(next)).toBe('done');
    expect(chunksIn(next)).toEqual(['1: again']);
  });

  test('an append that is lost with its reply is sent again, but not to a client that has its chunk', async () => {
    const { producer, other, emit, replicated, isolate, holdReplies, release, failOver } = await pair(30_000);
    const first = await producer.post('r');
    await until(async () => producer.models.calls.length === 1);
    emit(10);
    await first.until((each) => chunksIn(each).length === 10);
    await replicated();
    isolate();
    const ahead = await other.open('/r');
    await ahead.until((each) => chunksIn(each).length === 10);
    holdReplies();
    emit(11);
    await ahead.until((each) => chunksIn(each).length === 11);
    await ahead.close();
    await failOver();
    const returned = await ahead.reconnect(); // before the append is sent again
    const behind = await other.open('/r');
    await behind.until((each) => chunksIn(each).length === 10);
    release();
    await behind.until((each) => chunksIn(each).length === 11);
    emit(20);
    producer.models.last.finish();
    for (const reader of [returned, behind, first]) expect(await endOf(reader)).toBe('done');
    expect(chunksIn(returned)).toEqual(expected(12, 20));
    for (const reader of [behind, first]) expect(chunksIn(reader)).toEqual(expected(1, 20));
  });
});
