/*
 * The journal on Redis without a Redis: what is refused at set-up, the shapes of replies, connections that never answer.
 */
import { expectTypeOf } from 'expect-type';
import { Cluster, Redis } from 'ioredis';
import { createClient, createClientPool, createCluster, createSentinel } from 'redis';
import { SseError } from '../../../lib/errors.ts';
import { sourceOf } from '../../../lib/journal/redis/clients.ts';
import { type IORedis, type NodeRedisClient, redisJournal } from '../../../lib/journal/redis/index.ts';
import { type Driver, Link, LinkLost, passes, Refusal } from '../../../lib/journal/redis/redis-connection.ts';
import { Producer } from '../../../lib/journal/redis/producer.ts';
import { compareStreamIds, entriesRead, isStreamId, streamInfo } from '../../../lib/journal/redis/replies.ts';
import { besideOf } from '../../../lib/journal/redis/scripts.ts';
import { collectGarbage } from '../../fixtures/garbage.ts';

const client = createClient();

describe('set-up', () => {
  test.each([
    ['nothing', undefined, 'undefined'],
    ['a URL', 'redis://localhost', 'the string "redis://localhost"'],
    ['an object', {}, 'an object of Object'],
    ['a pool', createClientPool(), 'an object of'],
    ['a sentinel', createSentinel({ name: 'x', sentinelRootNodes: [{ host: 'localhost', port: 1 }] }), 'an object of'],
    ['a module', { createClient }, 'an object of Object'],
  ])('%s is no client', (_name, value, seen) => {
    expect(() => redisJournal(value as never)).toThrow(
      expect.objectContaining({
        name: 'TypeError',
        code: 'ERR_SSE_OPTION',
        message: expect.stringContaining(`got ${seen}`),
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
  ])('options %j are refused', (options, seen) => {
    expect(() => redisJournal(client, options as never)).toThrow(
      expect.objectContaining({ name: 'TypeError', code: 'ERR_SSE_OPTION', message: expect.stringContaining(seen) }),
    );
  });

  test('a keyPrefix that leaves no slot in common is refused, with the prefix in the message', () => {
    expect(() => redisJournal(createClient({ keyPrefix: 'a}' }), { key: 'b' })).toThrow(/a\}/);
    expect(() => redisJournal(new Redis({ keyPrefix: Buffer.from([0xff]) as never, lazyConnect: true }))).toThrow(
      /keyPrefix/,
    );
  });

  test('undefined is a left out option, and Infinity no bound', async () => {
    const journal = redisJournal(client, { key: undefined, maxLength: Infinity, maxAge: Infinity, keyAge: Infinity });
    await journal.close();
    await journal.close();
    expect(journal.follow('1-1', { entries() {}, known: () => [], rewind() {}, restart() {} })).toBeInstanceOf(
      Function,
    );
  });

  test('both packages’ clients are taken, by type', () => {
    expectTypeOf<Redis>().toExtend<IORedis>();
    expectTypeOf<Cluster>().toExtend<IORedis>();
    expectTypeOf(client).toExtend<NodeRedisClient>();
    expectTypeOf<ReturnType<typeof createCluster>>().toExtend<NodeRedisClient>();
    // @ts-expect-error a URL is no client
    expect(() => redisJournal('redis://localhost')).toThrow(TypeError);
  });

  test('the keys beside a log begin with its key and carry one tag', () => {
    expect(besideOf('{sse}:log')).toBe('{sse}:log');
    expect(besideOf('app:news')).toBe('app:news:{app:news}');
    expect(['{', '}', 'a{}', '{}a{b}'].map(besideOf)).toEqual([undefined, undefined, undefined, undefined]);
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
    expect(entriesRead(reply)).toEqual([{ id: '1-0', body: Buffer.from('data: x\n\n') }]);
  });

  test('XREAD: nothing came', () => {
    expect([null, undefined].map(entriesRead)).toEqual([[], []]);
  });

  test('XINFO STREAM as a list and as a map', () => {
    const facts = { length: 1, 'last-generated-id': '5-0', 'first-entry': ['1-0', fields], 'last-entry': null };
    for (const reply of [facts, Object.entries(facts).flat(), new Map(Object.entries(facts))]) {
      expect(streamInfo(reply)).toMatchObject({ last: '5-0', first: { id: '1-0' } });
    }
    expect(streamInfo({ ...facts, 'first-entry': null })).toEqual({ last: '5-0', first: undefined });
  });

  test('ids: their form, and their order by both numbers', () => {
    const most = '18446744073709551615';
    const good = ['0-0', '1-0', '1795352641531-0', '1795352641531-18', '9999999999999999999-0', `${most}-${most}`];
    const bad = [
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
    expect(good.map(isStreamId)).toEqual(good.map(() => true));
    expect(bad.map(isStreamId)).toEqual(bad.map(() => false));
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

  test('what never settles is rejected when it is destroyed, and those who keep count hear of it first', async () => {
    const driver = driverOf(() => new Promise(() => {}));
    const link = new Link(driver, 1000);
    const order: string[] = [];
    link.onGone(() => order.push('gone'));
    const waits = [1, 2].map((n) => link.command(['PING']).catch((error: Error) => order.push(`${n} ${error.name}`)));
    link.destroy(new Error('cut'));
    link.destroy(new Error('again'));
    await Promise.all(waits);
    expect(order).toEqual(['gone', '1 LinkLost', '2 LinkLost']);
    expect(driver.destroyed).toBe(1);
    await expect(link.command(['PING'])).rejects.toThrow('cut');
    link.onGone((error) => order.push(error.message));
    expect(order.at(-1)).toBe('cut');
  });

  test('without an answer for its patience it is given up; answers and silence without questions are fine', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    try {
      let answer: ((value: unknown) => void) | undefined;
      const link = new Link(
        driverOf(() => new Promise((resolve) => (answer = resolve))),
        1000,
      );
      let gone: Error | undefined;
      link.onGone((error) => (gone = error));
      const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      const first = link.command(['PING']);
      await jest.advanceTimersByTimeAsync(900);
      answer!('PONG');
      expect(await first).toBe('PONG');
      await jest.advanceTimersByTimeAsync(5000);
      await turn();
      expect(gone).toBeUndefined();
      const second = link.command(['PING']);
      second.catch(() => {});
      await jest.advanceTimersByTimeAsync(990);
      await turn();
      expect(gone).toBeUndefined();
      await jest.advanceTimersByTimeAsync(20);
      await turn();
      expect(gone).toBeInstanceOf(LinkLost);
      await expect(second).rejects.toThrow('no answer for 1000 ms');
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
  ])('«%s» is a refusal: %s', async (message, code, passing) => {
    const link = new Link(
      driverOf(() => Promise.reject(new Error(message))),
      1000,
    );
    const error: unknown = await link.command(['PING']).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Refusal);
    expect(error).toMatchObject({ code, message });
    expect(passes(error)).toBe(passing);
    link.destroy(new Error('end'));
  });

  test.each([
    'Socket closed unexpectedly',
    'Connection is closed.',
    'The client is closed',
    'connect ECONNREFUSED 127.0.0.1:1',
  ])('«%s» is a loss', async (message) => {
    const driver = driverOf(() => Promise.reject(new Error(message)));
    const error: unknown = await new Link(driver, 1000).command(['PING']).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LinkLost);
    expect(passes(error)).toBe(true);
    expect(driver.destroyed).toBe(1);
  });
});

describe('what is settled is let go of', () => {
  const limits = { maxLength: 1, wait: 20, maxPending: 3000, maxPendingBytes: 3000, maxEntryBytes: 1, keyAge: 1 };
  const make = (wait = 20): Producer => new Producer('{x}', '{x}', { ...limits, wait }, () => undefined);

  /** How many of the bodies are still referred to, once all have been stored or refused. */
  async function alive(producer: Producer, count: number, meanwhile = () => {}): Promise<number> {
    const bodies: WeakRef<Uint8Array>[] = [];
    const appends = Array.from({ length: count }, () => {
      const body = Buffer.alloc(1);
      bodies.push(new WeakRef(body));
      return producer.append({ body });
    });
    const settled = Promise.allSettled(appends);
    meanwhile();
    await settled;
    await collectGarbage();
    const held = bodies.filter((body) => body.deref() !== undefined).length;
    await producer.close(new SseError('ERR_SSE_CLOSED', 'closed'));
    return held;
  }

  test.each([1, 64, 1000, 3000])('refused, as there has never been a connection: %d', async (count) => {
    expect(await alive(make(), count)).toBe(0);
  });

  test('refused, as the connection was lost while it was under way', async () => {
    const producer = make();
    const link = new Link({ send: () => new Promise(() => {}), destroy() {} }, 10_000);
    link.onGone(() => producer.offline());
    producer.online(link);
    expect(await alive(producer, 500, () => link.destroy(new LinkLost('x')))).toBe(0);
  });

  test('stored', async () => {
    const producer = make(5000);
    producer.online(new Link({ send: async () => '1-1', destroy() {} }, 10_000));
    expect(await alive(producer, 500)).toBe(0);
  });
});

describe('a cluster’s client that leads to no node', () => {
  const nowhere = { duplicate() {}, sendCommand() {}, masters: [{}], nodeClient: () => new Promise(() => {}) };

  test('is given up after 10 s, so that the next try may ask another node', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    try {
      const { signal } = new AbortController();
      const failed = sourceOf(nowhere)
        .connect(undefined, signal)
        .catch((error: Error) => error);
      await jest.advanceTimersByTimeAsync(10_000);
      expect(await failed).toBeInstanceOf(LinkLost);
    } finally {
      jest.useRealTimers();
    }
  });

  test('is given up at once by who closes the journal', async () => {
    const closed = new AbortController();
    const connected = sourceOf(nowhere).connect(undefined, closed.signal);
    closed.abort();
    await expect(connected).rejects.toThrow(LinkLost);
  });
});
