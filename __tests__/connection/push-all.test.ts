/*
 * `pushAll`: every kind of source, at the reader's speed, released in every case: API-11, and rule 8.
 */
import { getMaxListeners } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { ReadableStream as WebStream } from 'node:stream/web';
import type { Source } from '../../lib/index.ts';
import { collectGarbage } from '../fixtures/garbage.ts';
import { BARE, choke, gate, HEAD, opened, overOf, turn } from '../fixtures/support.ts';

type AnySource = Source<Record<string, unknown>>;

async function* slowly<T>(...items: T[]): AsyncGenerator<T, void> {
  for (const item of items) {
    await turn();
    yield item;
  }
}

function webOf(...items: unknown[]): WebStream {
  return new WebStream({
    start(controller) {
      for (const item of items) controller.enqueue(item);
      controller.close();
    },
  });
}

const bytes = (text: string): Buffer => Buffer.from(text);

describe('what it takes', () => {
  test.each<[name: string, source: () => unknown]>([
    ['a list', () => ['a', { event: 'b', data: 1 }]],
    ['a set', () => new Set(['a', { event: 'b', data: 1 }])],
    ['an iterator of a list', () => ['a', { event: 'b', data: 1 }].values()],
    [
      'a generator',
      () =>
        (function* () {
          yield 'a';
          yield { event: 'b', data: 1 };
        })(),
    ],
    ['an async generator', () => slowly<unknown>('a', { event: 'b', data: 1 })],
    [
      'an iterable without return()',
      () => ({
        [Symbol.iterator]: () => {
          const items: unknown[] = ['a', { event: 'b', data: 1 }];
          return { next: () => ({ done: items.length === 0, value: items.shift() }) };
        },
      }),
    ],
    ['a Node readable of objects', () => Readable.from(['a', { event: 'b', data: 1 }])],
    ['a web stream of objects', () => webOf('a', { event: 'b', data: 1 })],
  ])('%s', async (_name, source) => {
    const { stream, conn } = await opened((connection) => connection.pushAll(source() as AnySource), BARE);
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: a\n\nevent: b\ndata: 1\n\n`);
    expect(conn.readyState).toBe('open'); // pushAll is not the end of the stream
  });

  test.each<[name: string, source: () => unknown]>([
    ['a Node readable of bytes', () => Readable.from([bytes('a'), bytes('b\nc')])],
    ['a Node readable of texts', () => Readable.from(['a', 'b\nc'])],
    ['a web stream of bytes', () => webOf(new Uint8Array([97]), new Uint8Array(bytes('b\nc')))],
    ['an async generator of bytes', () => slowly(bytes('a'), bytes('b\nc'))],
  ])('%s: a chunk is an event', async (_name, source) => {
    const { stream } = await opened((connection) => connection.pushAll(source() as AnySource), BARE);
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: a\n\ndata: b\ndata: c\n\n`);
  });

  test('WIRE-10 UTF-8 that is cut anywhere stays whole', async () => {
    const text = '€豆腐💥é';
    const { stream, conn } = await opened(
      (connection) => connection.pushAll(slowly(...[...bytes(text)].map((byte) => Uint8Array.of(byte)))),
      BARE,
    );
    await stream.take(5);
    expect(stream.events.map(({ data }) => data as string).join('')).toBe(text);
    expect(stream.text).not.toContain('\uFFFD');
    await conn.pushAll([Buffer.from([0xe2, 0x82])] as unknown as string[]); // the end of the source is in the middle of one
    expect((await stream.next()).data).toBe('\uFFFD');
  });

  test.each([undefined, null, 7, 'a text', {}, () => {}, true, Buffer.from('x')])(
    '%p is nothing to iterate',
    async (source) => {
      const { conn } = await opened();
      const said = conn.pushAll(source as never);
      await expect(said).rejects.toMatchObject({ name: 'TypeError', code: 'ERR_SSE_SOURCE' });
    },
  );

  test('resolves when the source is exhausted, and the stream works on', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    expect(await conn.pushAll(['a', 'b'])).toBeUndefined();
    conn.push('c');
    expect((await stream.take(3)).map(({ data }) => data as string)).toEqual(['a', 'b', 'c']);
  });

  test('two sources at once do not mix inside an event', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    await Promise.all([conn.pushAll(slowly('a\n1', 'a\n2')), conn.pushAll(slowly('b\n1', 'b\n2'))]);
    const data = (await stream.take(4)).map((event) => event.data as string);
    expect(data.toSorted()).toEqual(['a\n1', 'a\n2', 'b\n1', 'b\n2']);
  });
});

describe('what goes wrong in a source', () => {
  const boom = new Error('boom');
  const failing: [name: string, source: () => unknown][] = [
    [
      'a generator',
      () =>
        (function* () {
          yield 'a';
          throw boom;
        })(),
    ],
    [
      'an async generator',
      () =>
        (async function* () {
          yield 'a';
          throw boom;
        })(),
    ],
    [
      'a Node readable',
      () =>
        Readable.from(
          (async function* () {
            yield 'a';
            throw boom;
          })(),
        ),
    ],
    [
      'a web stream',
      () =>
        new WebStream(
          { pull: (controller) => (controller.desiredSize === 1 ? controller.enqueue('a') : controller.error(boom)) },
          { highWaterMark: 2 },
        ),
    ],
  ];
  test.each(failing)(
    'API-11 %s that fails: pushAll rejects with its error, the stream works on',
    async (_name, source) => {
      const { stream, conn } = await opened(() => {}, BARE);
      await expect(conn.pushAll(source() as AnySource)).rejects.toBe(boom);
      conn.push('after');
      await stream.until(() => stream.text.endsWith('data: after\n\n'));
      expect(conn.readyState).toBe('open');
    },
  );

  test('an item that cannot be sent rejects, and releases the source', async () => {
    const freed = jest.fn();
    const { stream, conn } = await opened(() => {}, BARE);
    const source = (function* () {
      try {
        yield 'a';
        yield { data: 1n };
        yield 'c';
      } finally {
        freed();
      }
    })();
    await expect(conn.pushAll(source)).rejects.toMatchObject({ code: 'ERR_SSE_DATA' });
    expect(freed).toHaveBeenCalledTimes(1);
    expect((await stream.next()).data).toBe('a');
  });

  test('a web stream that is locked, and a readable that was destroyed before', async () => {
    const { conn } = await opened(() => {}, BARE);
    const locked = webOf('a');
    locked.getReader();
    await expect(conn.pushAll(locked as never)).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    const destroyed = new PassThrough();
    destroyed.destroy();
    await expect(conn.pushAll(destroyed)).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
  });
});

describe('releasing', () => {
  /** Sources that wait for ever after a first event, and when they were let go. */
  const pending: [name: string, make: (freed: () => void) => unknown][] = [
    [
      'a Node readable',
      (freed) =>
        new Readable({
          read() {},
          destroy(error, done) {
            freed();
            done(error);
          },
        }),
    ],
    ['a web stream', (freed) => new WebStream({ cancel: freed })],
    [
      'an async iterator',
      (freed) => ({
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise(() => {}),
          return: async () => {
            freed();
            return { done: true, value: undefined };
          },
        }),
      }),
    ],
  ];

  test.each(pending)(
    'API-11 %s that is waited for is released when the client leaves, and pushAll resolves',
    async (_name, make) => {
      const freed = gate();
      const { stream, conn } = await opened(() => {}, BARE);
      const poured = conn.pushAll(make(freed.open) as AnySource);
      await stream.close();
      await freed.pass;
      await poured;
      expect(conn.signal.reason).toBe('client');
    },
  );

  test.each(pending)('%s is released when the stream is closed here', async (_name, make) => {
    const freed = gate();
    const { conn } = await opened(() => {}, BARE);
    const poured = conn.pushAll(make(freed.open) as AnySource);
    await turn();
    conn.close();
    await freed.pass;
    await poured;
  });

  test.each(pending)('%s that is handed to a connection that is over is released at once', async (_name, make) => {
    const freed = gate();
    const { stream, conn } = await opened(() => {}, BARE);
    conn.close();
    await stream.closed;
    await conn.pushAll(make(freed.open) as AnySource);
    await freed.pass;
  });

  test('a readable that nobody has asked yet may complain of being released', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    conn.close();
    await stream.closed;
    const destroyed = gate();
    const source = new Readable({
      read() {},
      destroy(_error, done) {
        done(new Error('no such file'));
        destroyed.open();
      },
    });
    await conn.pushAll(source); // its error would end the process, as nobody else listens for it
    await destroyed.pass;
    await turn();
    expect(source.listenerCount('error')).toBeGreaterThan(0);
  });

  test('a generator that ends the stream itself is released once it can listen', async () => {
    const freed = gate();
    const { conn } = await opened(() => {}, BARE);
    await conn.pushAll(
      (function* () {
        try {
          yield 'a';
          conn.close();
          yield 'b';
        } finally {
          freed.open();
        }
      })(),
    );
    await freed.pass;
  });

  test('nothing is asked for any more once the stream is over, also where its reader was waited for', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    stream.pause();
    await choke(conn);
    let asked = 0;
    const next = (): Promise<IteratorResult<string>> =>
      ++asked === 1 ? Promise.resolve({ value: 'y' }) : new Promise(() => {});
    const poured = conn.pushAll({ [Symbol.asyncIterator]: () => ({ next }) });
    await turn();
    await stream.cut();
    await poured;
    expect(asked).toBe(1);
  });

  test('a source that complains of being released is not news', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    const unhandled = jest.fn();
    process.on('unhandledRejection', unhandled);
    const poured = Promise.all([
      conn.pushAll({
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise<never>(() => {}),
          return: () => Promise.reject(new Error('no')),
        }),
      }),
      conn.pushAll({
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise<never>(() => {}),
          return: () => {
            throw new Error('no');
          },
        }),
      }),
      conn.pushAll(new WebStream({ cancel: () => Promise.reject(new Error('no')) }) as never),
    ]);
    await stream.close();
    await poured;
    await turn();
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  test('a source that fails because its client left does not reject', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    const source = (async function* () {
      yield 'a';
      await overOf(conn);
      throw new Error('aborted');
    })();
    const poured = conn.pushAll(source);
    await stream.next();
    await stream.close();
    await expect(poured).resolves.toBeUndefined();
  });

  test('API-11 a source is released while pushAll waits for a reader that takes nothing', async () => {
    const freed = gate();
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    stream.pause();
    await choke(conn);
    let drawn = 0;
    const poured = conn.pushAll(
      (function* () {
        try {
          for (;;) {
            drawn++;
            yield 'y';
          }
        } finally {
          freed.open();
        }
      })(),
    );
    await turn();
    await turn();
    expect(drawn).toBe(1); // it waits for the reader, and draws nothing more
    const over = overOf(conn);
    await stream.cut();
    await freed.pass;
    await poured;
    expect(await over).toBe('client');
  });

  test('what a source yielded is not held for as long as the connection lasts', async () => {
    const { conn } = await opened(() => {}, BARE);
    const yielded: WeakRef<object>[] = [];
    const more = gate();
    const source = (async function* () {
      for (let n = 0; n < 500; n++) {
        const message = { data: `${n}` };
        yielded.push(new WeakRef(message));
        yield message;
      }
      await turn();
      more.open();
      await new Promise(() => {});
    })();
    void conn.pushAll(source);
    await more.pass;
    await collectGarbage();
    expect(yielded).toHaveLength(500);
    expect(yielded.filter((one) => one.deref() !== undefined).length).toBeLessThan(50);
  });
});

describe('the reader’s speed', () => {
  test('API-11 a readable is read no faster than its reader reads', async () => {
    let read = 0;
    const source = Readable.from(
      (function* () {
        for (; read < 2000; read++) yield 'x'.repeat(16_384);
      })(),
    );
    const { stream, conn } = await opened((connection) => {
      connection.push('go');
    }, BARE);
    await stream.next();
    stream.pause();
    const poured = conn.pushAll(source as AnySource);
    let before = -1;
    while (before !== read) {
      before = read;
      for (let turns = 0; turns < 50; turns++) await turn();
    }
    expect(read).toBeLessThan(2000);
    expect(conn.bufferedBytes).toBeLessThan(1_048_576);
    stream.resume();
    await poured;
    await stream.until(() => stream.events.length === 2001, 10_000);
    expect(conn.readyState).toBe('open');
  });

  test('a source of many small items lets others have their turn', async () => {
    const { conn } = await opened(() => {}, BARE);
    let turns = 0;
    let over = false;
    const count = (): void => {
      turns++;
      if (!over) setImmediate(count);
    };
    const items = Array.from({ length: 200_000 }, (_, n) => `${n} ${'x'.repeat(90)}`);
    setImmediate(count);
    await conn.pushAll(items);
    over = true;
    expect(turns).toBeGreaterThan(5);
  });
});

test('thirty sources at once, and listeners of the application, exceed no limit of listeners', async () => {
  const { conn } = await opened(() => {}, BARE);
  await Promise.all(Array.from({ length: 30 }, () => conn.pushAll(slowly('a', 'b'))));
  // Jest does not show the warnings of Node's own event targets.
  expect(getMaxListeners(conn.signal)).toBe(Infinity);
});
