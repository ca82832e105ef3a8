/*
 * The parts of the journal on Redis that need no server: checks of options, forms of replies, connections that never reply.
 */
import { expectTypeOf } from 'expect-type';
import { Cluster, Redis } from 'ioredis';
import { createClient, createClientPool, createCluster, createSentinel } from 'redis';
import { adapterFor } from '../../../lib/journal/redis/clients.ts';
import { type IORedis, type NodeRedisClient, redisJournal } from '../../../lib/journal/redis/index.ts';
import {
  ConnectionLost,
  type Driver,
  isTransient,
  RedisConnection,
  RedisError,
} from '../../../lib/journal/redis/redis-connection.ts';
import { Producer } from '../../../lib/journal/redis/producer.ts';
import { compareStreamIds, isStreamId, parseStreamInfo, parseXread } from '../../../lib/journal/redis/replies.ts';
import { keyPrefixFor } from '../../../lib/journal/redis/scripts.ts';
import { collectGarbage } from '../../fixtures/garbage.ts';

const client = createClient();

describe('options', () => {
  test.each([
    ['nothing', undefined, 'undefined'],
    ['a URL', 'redis://localhost', 'the string "redis://localhost"'],
    ['an object', {}, 'an object of Object'],
    ['a pool', createClientPool(), 'an object of'],
    ['a sentinel', createSentinel({ name: 'x', sentinelRootNodes: [{ host: 'localhost', port: 1 }] }), 'an object of'],
    ['a module', { createClient }, 'an object of Object'],
  ])('%s is not a client', (_name, value, received) => {
    expect(() => redisJournal(value as never)).toThrow(
      expect.objectContaining({
        name: 'TypeError',
        code: 'ERR_SSE_OPTION',
        message: expect.stringContaining(`received ${received}`),
      }),
    );
  });

  test.each([
    [{ maxLenght: 5 }, 'maxLenght'],
    [{ maxLength: 0 }, 'maxLength'],
    [{ maxLength: 1.5 }, 'maxLength'],
    [{ maxAge: -1 }, 'maxAge'],
    [{ maxAge: '1h' }, 'maxAge'],
    [{ wait: NaN }, 'wait'],
    [{ maxPending: 0 }, 'maxPending'],
    [{ maxPendingBytes: null }, 'maxPendingBytes'],
    [{ maxEntryBytes: 0 }, 'maxEntryBytes'],
    [{ keyAge: 0 }, 'keyAge'],
    [{ key: 7 }, 'the number 7'],
    [{ key: '' }, 'the string ""'],
    [{ key: 'a{b' }, 'a{b'],
    [{ key: 'a{}b' }, 'a{}b'],
    [{ key: 'a}b' }, 'a}b'],
    [null, 'null'],
    ['key', 'the string "key"'],
  ])('options %j are rejected', (options, text) => {
    expect(() => redisJournal(client, options as never)).toThrow(
      expect.objectContaining({ name: 'TypeError', code: 'ERR_SSE_OPTION', message: expect.stringContaining(text) }),
    );
  });

  test('a keyPrefix with which the keys have no common slot is rejected, with the prefix in the message', () => {
    expect(() => redisJournal(createClient({ keyPrefix: 'a}' }), { key: 'b' })).toThrow(/a\}/);
    expect(() => redisJournal(new Redis({ keyPrefix: Buffer.from([0xff]) as never, lazyConnect: true }))).toThrow(
      /keyPrefix/,
    );
  });

  test('undefined means the default, and Infinity means no limit', async () => {
    const journal = redisJournal(client, { key: undefined, maxLength: Infinity, maxAge: Infinity, keyAge: Infinity });
    await journal.close();
    await journal.close();
    expect(journal.follow('1-1', { entries() {}, known: () => [], rewind() {}, restart() {} })).toBeInstanceOf(
      Function,
    );
  });

  test('the types of both packages’ clients are accepted', () => {
    expectTypeOf<Redis>().toExtend<IORedis>();
    expectTypeOf<Cluster>().toExtend<IORedis>();
    expectTypeOf(client).toExtend<NodeRedisClient>();
    expectTypeOf<ReturnType<typeof createCluster>>().toExtend<NodeRedisClient>();
    // @ts-expect-error a URL is not a client
    expect(() => redisJournal('redis://localhost')).toThrow(TypeError);
  });

  test('the other keys of a log begin with its key and have one tag', () => {
    expect(keyPrefixFor('{sse}:log')).toBe('{sse}:log');
    expect(keyPrefixFor('app:news')).toBe('app:news:{app:news}');
    expect(['{', '}', 'a{}', '{}a{b}'].map(keyPrefixFor)).toEqual([undefined, undefined, undefined, undefined]);
  });
});

describe('replies', () => {
  const fields = ['data', 'x'];
  const buffers = ['data', 'x'].map((text) => Buffer.from(text));
  test.each([
    ['RESP2, or .xread()', [['key', [['1-0', fields]]]]],
    ['RESP3 as an object', { key: [['1-0', fields]] }],
    ['RESP3 as a Map', new Map([['key', [['1-0', fields]]]])],
    ['RESP3 flattened, ioredis’ .call()', ['key', [['1-0', fields]]]],
    ['with Buffers', [[Buffer.from('key'), [[Buffer.from('1-0'), buffers]]]]],
  ])('XREAD: %s', (_name, reply) => {
    expect(parseXread(reply)).toEqual([{ id: '1-0', body: Buffer.from('data: x\n\n') }]);
  });

  test('XREAD: no entries', () => {
    expect([null, undefined].map(parseXread)).toEqual([[], []]);
  });

  test('XINFO STREAM as a list and as a map', () => {
    const facts = { length: 1, 'last-generated-id': '5-0', 'first-entry': ['1-0', fields], 'last-entry': null };
    for (const reply of [facts, Object.entries(facts).flat(), new Map(Object.entries(facts))]) {
      expect(parseStreamInfo(reply)).toMatchObject({ last: '5-0', first: { id: '1-0' } });
    }
    expect(parseStreamInfo({ ...facts, 'first-entry': null })).toEqual({ last: '5-0', first: undefined });
  });

  test('ids: form, and order by both numbers', () => {
    const max = '18446744073709551615';
    const valid = ['0-0', '1-0', '1795352641531-0', '1795352641531-18', '9999999999999999999-0', `${max}-${max}`];
    const invalid = [
      '',
      '1',
      '1-',
      '-1',
      '01-0',
      '1-01',
      '1-1-1',
      '1-a',
      ' 1-1',
      '1-1\n',
      '1-1 ',
      '１-1',
      '99999999999999999999-0',
      '18446744073709551616-0',
      '0-18446744073709551616',
      '*',
      '$',
      '+',
    ];
    expect(valid.map(isStreamId)).toEqual(valid.map(() => true));
    expect(invalid.map(isStreamId)).toEqual(invalid.map(() => false));
    const ordered = ['0-9', '9-0', '9-9', '9-10', '10-0', '9007199254740993-0', '9007199254740994-0'];
    for (const [i, a] of ordered.entries()) {
      for (const [j, b] of ordered.entries()) expect(Math.sign(compareStreamIds(a, b))).toBe(Math.sign(i - j));
    }
  });
});

describe('a connection', () => {
  function driverOf(send: Driver['send']): Driver & { destroyed: number } {
    return {
      send,
      destroyed: 0,
      destroy() {
        this.destroyed++;
      },
    };
  }

  test('destroy() rejects pending commands, after it has called the close listeners', async () => {
    const driver = driverOf(() => new Promise(() => {}));
    const connection = new RedisConnection(driver, 1000);
    const order: string[] = [];
    connection.onClosed(() => order.push('closed'));
    const commands = [1, 2].map((n) =>
      connection.command(['PING']).catch((error: Error) => order.push(`${n} ${error.name}`)),
    );
    connection.destroy(new Error('cut'));
    connection.destroy(new Error('again'));
    await Promise.all(commands);
    expect(order).toEqual(['closed', '1 ConnectionLost', '2 ConnectionLost']);
    expect(driver.destroyed).toBe(1);
    await expect(connection.command(['PING'])).rejects.toThrow('cut');
    connection.onClosed((error) => order.push(error.message));
    expect(order.at(-1)).toBe('cut');
  });

  test('it is closed after the reply timeout; a reply, or no pending command, keeps it open', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    try {
      let reply: ((value: unknown) => void) | undefined;
      const connection = new RedisConnection(
        driverOf(() => new Promise((resolve) => (reply = resolve))),
        1000,
      );
      let closeError: Error | undefined;
      connection.onClosed((error) => (closeError = error));
      const nextTicks = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      const first = connection.command(['PING']);
      await jest.advanceTimersByTimeAsync(900);
      reply!('PONG');
      expect(await first).toBe('PONG');
      await jest.advanceTimersByTimeAsync(5000);
      await nextTicks();
      expect(closeError).toBeUndefined();
      const second = connection.command(['PING']);
      second.catch(() => {});
      await jest.advanceTimersByTimeAsync(990);
      await nextTicks();
      expect(closeError).toBeUndefined();
      await jest.advanceTimersByTimeAsync(20);
      await nextTicks();
      expect(closeError).toBeInstanceOf(ConnectionLost);
      await expect(second).rejects.toThrow('no reply for 1000 ms');
    } finally {
      jest.useRealTimers();
    }
  });

  test.each([
    ['LOADING Redis is loading the dataset in memory', 'LOADING', true],
    ["READONLY You can't write against a read only replica.", 'READONLY', true],
    ['MOVED 3999 127.0.0.1:6381', 'MOVED', true],
    ['CLUSTERDOWN The cluster is down', 'CLUSTERDOWN', true],
    ["OOM command not allowed when used memory > 'maxmemory'.", 'OOM', false],
    [
      'ERR Error running script (call to f_ab): @user_script:9: @user_script: 9: -OOM command not allowed',
      'OOM',
      false,
    ],
    ["ERR Error running script (call to f_ab): @user_script: 9: -READONLY You can't write", 'READONLY', true],
    ['WRONGTYPE Operation against a key', 'WRONGTYPE', false],
    ['NOPERM this user has no permissions', 'NOPERM', false],
    ['ERR syntax error', 'ERR', false],
  ])('«%s» is an error of Redis: %s', async (message, code, transient) => {
    const connection = new RedisConnection(
      driverOf(() => Promise.reject(new Error(message))),
      1000,
    );
    const error: unknown = await connection.command(['PING']).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RedisError);
    expect(error).toMatchObject({ code, message });
    expect(isTransient(error)).toBe(transient);
    connection.destroy(new Error('end'));
  });

  test.each([
    'Socket closed unexpectedly',
    'Connection is closed.',
    'The client is closed',
    'connect ECONNREFUSED 127.0.0.1:1',
  ])('«%s» means that the connection is lost', async (message) => {
    const driver = driverOf(() => Promise.reject(new Error(message)));
    const error: unknown = await new RedisConnection(driver, 1000).command(['PING']).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConnectionLost);
    expect(isTransient(error)).toBe(true);
    expect(driver.destroyed).toBe(1);
  });
});

describe('a settled entry is no longer referenced', () => {
  const limits = { maxLength: 1, wait: 20, maxPending: 3000, maxPendingBytes: 3000, maxEntryBytes: 1, keyAge: 1 };
  const makeProducer = (wait = 20): Producer => new Producer('{x}', '{x}', { ...limits, wait }, () => undefined);

  /** Returns how many of the bodies are still referenced, once all entries have been stored or rejected. */
  async function countReferenced(producer: Producer, count: number, afterAppends = () => {}): Promise<number> {
    const bodies: WeakRef<Uint8Array>[] = [];
    const appends = Array.from({ length: count }, () => {
      const body = Buffer.alloc(1);
      bodies.push(new WeakRef(body));
      return producer.append({ body });
    });
    const settled = Promise.allSettled(appends);
    afterAppends();
    await settled;
    await collectGarbage();
    const referenced = bodies.filter((body) => body.deref() !== undefined).length;
    await producer.close();
    return referenced;
  }

  test.each([1, 64, 1000, 3000])('rejected without any connection: %d entries', async (count) => {
    expect(await countReferenced(makeProducer(), count)).toBe(0);
  });

  test('rejected after the connection was lost', async () => {
    const producer = makeProducer();
    const connection = new RedisConnection({ send: () => new Promise(() => {}), destroy() {} }, 10_000);
    connection.onClosed(() => producer.onDisconnected());
    producer.onConnected(connection);
    expect(await countReferenced(producer, 500, () => connection.destroy(new ConnectionLost('x')))).toBe(0);
  });

  test('stored', async () => {
    const producer = makeProducer(5000);
    producer.onConnected(new RedisConnection({ send: async () => '1-1', destroy() {} }, 10_000));
    expect(await countReferenced(producer, 500)).toBe(0);
  });
});

describe('a cluster’s client that returns no node', () => {
  const clientWithoutNodes = {
    duplicate() {},
    sendCommand() {},
    masters: [{}],
    nodeClient: () => new Promise(() => {}),
  };

  test('is abandoned after 10 s, so that the next attempt may use another node', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    try {
      const { signal } = new AbortController();
      const failed = adapterFor(clientWithoutNodes)
        .connect(undefined, signal)
        .catch((error: Error) => error);
      await jest.advanceTimersByTimeAsync(10_000);
      expect(await failed).toBeInstanceOf(ConnectionLost);
    } finally {
      jest.useRealTimers();
    }
  });

  test('is abandoned at once when the journal is closed', async () => {
    const closing = new AbortController();
    const connected = adapterFor(clientWithoutNodes).connect(undefined, closing.signal);
    closing.abort();
    await expect(connected).rejects.toThrow(ConnectionLost);
  });
});
