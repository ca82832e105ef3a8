/*
 * `pushAll()`: accepts every kind of source, reads it at the speed of the client, and releases it in every case.
 */
import { getMaxListeners } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { ReadableStream as WebStream } from 'node:stream/web';
import type { Source } from '../../lib/index.ts';
import { collectGarbage } from '../fixtures/garbage.ts';
import { BARE, choke, gate, HEAD, opened, overOf, tick } from '../fixtures/support.ts';

type AnySource = Source<Record<string, unknown>>;

async function* slowly<T>(...items: T[]): AsyncGenerator<T, void> {
  for (const item of items) {
    await tick();
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

describe('a source', () => {
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
    expect(conn.readyState).toBe('open'); // pushAll does not end the stream
  });

  test.each<[name: string, source: () => unknown]>([
    ['a Node readable of bytes', () => Readable.from([bytes('a'), bytes('b\nc')])],
    ['a Node readable of strings', () => Readable.from(['a', 'b\nc'])],
    ['a web stream of bytes', () => webOf(new Uint8Array([97]), new Uint8Array(bytes('b\nc')))],
    ['an async generator of bytes', () => slowly(bytes('a'), bytes('b\nc'))],
  ])('%s: each chunk is an event', async (_name, source) => {
    const { stream } = await opened((connection) => connection.pushAll(source() as AnySource), BARE);
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: a\n\ndata: b\ndata: c\n\n`);
  });

  test('of bytes may divide a UTF-8 character anywhere', async () => {
    const text = '€豆腐💥é';
    const { stream, conn } = await opened(
      (connection) => connection.pushAll(slowly(...[...bytes(text)].map((byte) => Uint8Array.of(byte)))),
      BARE,
    );
    await stream.take(5);
    expect(stream.events.map(({ data }) => data as string).join('')).toBe(text);
    expect(stream.text).not.toContain('\uFFFD');
    await conn.pushAll([Buffer.from([0xe2, 0x82])] as unknown as string[]); // the source ends within a character
    expect((await stream.next()).data).toBe('\uFFFD');
  });

  const units = (text: string): string[] => text.split('');

  test.each<[name: string, source: () => unknown]>([
    ['a list of strings', () => units('a💥b豆💥💥')],
    ['an async generator of strings', () => slowly(...units('a💥b豆💥💥'))],
    ['a Node readable of objects', () => Readable.from(units('a💥b豆💥💥'))],
    ['a web stream of strings', () => webOf(...units('a💥b豆💥💥'))],
    ['messages', () => units('a💥b豆💥💥').map((data) => ({ data }))],
    ['messages with a name', () => slowly(...units('a💥b豆💥💥').map((data) => ({ event: 'token', data })))],
  ])('UTF-16 that is cut inside a surrogate pair stays whole: %s', async (_name, source) => {
    const { stream } = await opened(async (connection) => {
      await connection.pushAll(source() as AnySource);
      connection.push({ event: 'last' });
    }, BARE);
    await stream.until(() => stream.events.at(-1)?.event === 'last');
    const characters = stream.events.slice(0, -1).map(({ data }) => data as string);
    expect(characters).toEqual(Array.from('a💥b豆💥💥'));
  });

  test('half of a surrogate pair waits for the next message of the same event', async () => {
    const [high, low] = units('💥') as [string, string];
    const { stream } = await opened(
      (connection) =>
        connection.pushAll([
          { event: 'a', data: `1${high}`, id: 1 },
          { event: 'b', data: `2${high}`, id: 2 },
          `3${high}`,
          { event: 'b', data: { not: 'a text' }, id: 3 },
          { event: 'c', data: high, id: 4, retry: 5000 },
          { event: 'a', data: `${low}4`, id: 5 },
          { event: 'c', data: low },
          `${low}5`,
          { event: 'b', data: `no half${high}`, id: 6 },
          { event: 'b', data: low, id: 7 },
        ] as AnySource),
      BARE,
    );
    await stream.until(() => stream.events.length === 9);
    expect(stream.text).toBe(
      [
        `${HEAD}id: 1\nevent: a\ndata: 1\n\n`,
        'id: 2\nevent: b\ndata: 2\n\n',
        'data: 3\n\n',
        'id: 3\nevent: b\ndata: {"not":"a text"}\n\n',
        'id: 5\nevent: a\ndata: 💥4\n\n',
        'id: 4\nevent: c\nretry: 5000\ndata: 💥\n\n',
        'data: 💥5\n\n',
        'id: 6\nevent: b\ndata: \uFFFDno half\n\n',
        'id: 7\nevent: b\ndata: 💥\n\n',
      ].join(''),
    );
  });

  test('half of a surrogate pair at the end of a source is sent, as U+FFFD', async () => {
    const [high] = units('💥') as [string];
    const source = [`a${high}`, { event: 'b', data: high, id: 1 }, ''];
    const { stream } = await opened((connection) => connection.pushAll(source as AnySource), BARE);
    await stream.until(() => stream.events.length === 3);
    expect(stream.text).toBe(`${HEAD}data: a\n\ndata: \uFFFD\n\nid: 1\nevent: b\ndata: \uFFFD\n\n`);
  });

  test('a line end of bytes that is cut between CR and LF is one line end', async () => {
    const chunks = ['a\r', '\nb\r', 'c\r\n', '\r', '\n', 'd\r'].map(bytes);
    const { stream } = await opened(async (connection) => {
      await connection.pushAll(slowly(...chunks));
      connection.push({ event: 'last' });
    }, BARE);
    await stream.until(() => stream.events.at(-1)?.event === 'last');
    const text = stream.events.slice(0, -1).map(({ data }) => data as string);
    expect(text.join('')).toBe('a\nb\nc\n\nd\n');
  });

  test('a message whose data is read only by encoding is read once', async () => {
    let reads = 0;
    const message = Object.defineProperty({ event: 'a' }, 'data', { get: () => `x${++reads}`, enumerable: true });
    const { stream } = await opened((connection) => connection.pushAll([message] as AnySource), BARE);
    expect((await stream.next()).data).toBe('x1');
  });

  test.each([undefined, null, 7, 'a string', {}, () => {}, true, Buffer.from('x')])(
    '%p is refused, because it cannot be iterated',
    async (source) => {
      const { conn } = await opened();
      const pushed = conn.pushAll(source as never);
      await expect(pushed).rejects.toMatchObject({ name: 'TypeError', code: 'ERR_SSE_SOURCE' });
    },
  );

  test.each<[string, unknown, string]>([
    ['whose iterator is none', { [Symbol.asyncIterator]: () => undefined }, 'received undefined'],
    ['whose iterator has no next()', { [Symbol.iterator]: () => ({}) }, 'received an object of Object'],
    ['whose next() returns a number', { [Symbol.iterator]: () => ({ next: () => 5 }) }, 'received the number 5'],
    ['whose next() returns nothing', { [Symbol.iterator]: () => ({ next: () => {} }) }, 'received undefined'],
    [
      'whose next() resolves with nothing',
      { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve() }) },
      'received undefined',
    ],
    [
      'whose reader gives nothing',
      { getReader: () => ({ read: () => Promise.resolve(), cancel: () => Promise.resolve() }) },
      'received undefined',
    ],
  ])('%s has failed', async (_case, source, received) => {
    const { conn } = await opened();
    const pushed = conn.pushAll(source as AnySource);
    await expect(pushed).rejects.toMatchObject({ name: 'TypeError', code: 'ERR_SSE_SOURCE' });
    await expect(pushed).rejects.toThrow(`; ${received}. Correct its`);
  });

  test('that fails so after its first items ends an answer without the end event, and is released', async () => {
    const errors: unknown[] = [];
    let released = 0;
    const gone = gate();
    const items = ['a', 'b'];
    const source = {
      [Symbol.asyncIterator]: () => ({
        next: async () => {
          if (items.length > 0) return { done: false, value: items.shift() };
          await gone.pass;
          return undefined;
        },
        return: async () => void released++,
      }),
    };
    const { stream } = await opened(() => source, { onError: (error) => void errors.push(error) });
    await stream.take(2); // the stream has opened
    gone.open();
    await stream.closed;
    expect(stream.events.map(({ event }) => event)).toEqual(['message', 'message']);
    expect(errors).toEqual([expect.objectContaining({ code: 'ERR_SSE_SOURCE' })]);
    expect(String(errors[0])).toContain('The result of the handler must be an iterable');
    expect(released).toBe(1);
  });

  test('that is a fallback of an undefined async iterator is read', async () => {
    const source = {
      [Symbol.asyncIterator]: undefined,
      *[Symbol.iterator]() {
        yield 'a';
      },
    };
    const { stream, conn } = await opened(() => {}, BARE);
    await conn.pushAll(source as AnySource);
    expect(await stream.next()).toMatchObject({ data: 'a' });
  });

  test('makes pushAll resolve at its end, and the stream stays open', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    expect(await conn.pushAll(['a', 'b'])).toBeUndefined();
    conn.push('c');
    expect((await stream.take(3)).map(({ data }) => data as string)).toEqual(['a', 'b', 'c']);
  });

  test('does not mix with another source inside an event', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    await Promise.all([conn.pushAll(slowly('a\n1', 'a\n2')), conn.pushAll(slowly('b\n1', 'b\n2'))]);
    const data = (await stream.take(4)).map((event) => event.data as string);
    expect(data.toSorted()).toEqual(['a\n1', 'a\n2', 'b\n1', 'b\n2']);
  });
});

describe('an error of a source', () => {
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
    '%s that fails: pushAll rejects with its error, and the stream stays open',
    async (_name, source) => {
      const { stream, conn } = await opened(() => {}, BARE);
      await expect(conn.pushAll(source() as AnySource)).rejects.toBe(boom);
      conn.push('after');
      await stream.until(() => stream.text.endsWith('data: after\n\n'));
      expect(conn.readyState).toBe('open');
    },
  );

  test('an item that cannot be sent: pushAll rejects, and the source is released', async () => {
    const released = jest.fn();
    const { stream, conn } = await opened(() => {}, BARE);
    const source = (function* () {
      try {
        yield 'a';
        yield { data: 1n };
        yield 'c';
      } finally {
        released();
      }
    })();
    await expect(conn.pushAll(source)).rejects.toMatchObject({ code: 'ERR_SSE_DATA' });
    expect(released).toHaveBeenCalledTimes(1);
    expect((await stream.next()).data).toBe('a');
  });

  test('a locked web stream, and a destroyed readable: pushAll rejects', async () => {
    const { conn } = await opened(() => {}, BARE);
    const locked = webOf('a');
    locked.getReader();
    await expect(conn.pushAll(locked as never)).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    const destroyed = new PassThrough();
    destroyed.destroy();
    await expect(conn.pushAll(destroyed)).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
  });
});

describe('the release of a source', () => {
  /** Sources that wait for ever, and call a function when they are released. */
  const pending: [name: string, make: (released: () => void) => unknown][] = [
    [
      'a Node readable',
      (released) =>
        new Readable({
          read() {},
          destroy(error, done) {
            released();
            done(error);
          },
        }),
    ],
    ['a web stream', (released) => new WebStream({ cancel: released })],
    [
      'an async iterator',
      (released) => ({
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise(() => {}),
          return: async () => {
            released();
            return { done: true, value: undefined };
          },
        }),
      }),
    ],
  ];

  test.each(pending)('%s is released when the client disconnects, and pushAll resolves', async (_name, make) => {
    const released = gate();
    const { stream, conn } = await opened(() => {}, BARE);
    const pushed = conn.pushAll(make(released.open) as AnySource);
    await stream.close();
    await released.pass;
    await pushed;
    expect(conn.signal.reason).toBe('client');
  });

  test.each(pending)('%s is released when the application closes the connection', async (_name, make) => {
    const released = gate();
    const { conn } = await opened(() => {}, BARE);
    const pushed = conn.pushAll(make(released.open) as AnySource);
    await tick();
    conn.close();
    await released.pass;
    await pushed;
  });

  test.each(pending)('%s is released at once if the connection is closed', async (_name, make) => {
    const released = gate();
    const { stream, conn } = await opened(() => {}, BARE);
    conn.close();
    await stream.closed;
    await conn.pushAll(make(released.open) as AnySource);
    await released.pass;
  });

  test('a readable that was never read may emit an error when it is released', async () => {
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
    await conn.pushAll(source); // without a listener, its error would end the process
    await destroyed.pass;
    await tick();
    expect(source.listenerCount('error')).toBeGreaterThan(0);
  });

  test('a generator that closes the connection itself is released after its next item', async () => {
    const released = gate();
    const { conn } = await opened(() => {}, BARE);
    await conn.pushAll(
      (function* () {
        try {
          yield 'a';
          conn.close();
          yield 'b';
        } finally {
          released.open();
        }
      })(),
    );
    await released.pass;
  });

  test('a source is not read after the connection has closed, not even after a wait for a slow client', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    stream.pause();
    await choke(conn);
    let reads = 0;
    const next = (): Promise<IteratorResult<string>> =>
      ++reads === 1 ? Promise.resolve({ value: 'y' }) : new Promise(() => {});
    const pushed = conn.pushAll({ [Symbol.asyncIterator]: () => ({ next }) });
    await tick();
    await stream.cut();
    await pushed;
    expect(reads).toBe(1);
  });

  test('an error of a source at its release is ignored', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    const unhandled = jest.fn();
    process.on('unhandledRejection', unhandled);
    const pushed = Promise.all([
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
    await pushed;
    await tick();
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  test('a source that fails because its client has disconnected does not make pushAll reject', async () => {
    const { stream, conn } = await opened(() => {}, BARE);
    const source = (async function* () {
      yield 'a';
      await overOf(conn);
      throw new Error('aborted');
    })();
    const pushed = conn.pushAll(source);
    await stream.next();
    await stream.close();
    await expect(pushed).resolves.toBeUndefined();
  });

  test('a source is released while pushAll waits for a client that does not read', async () => {
    const released = gate();
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 2 ** 28 });
    await stream.next();
    stream.pause();
    await choke(conn);
    let produced = 0;
    const pushed = conn.pushAll(
      (function* () {
        try {
          for (;;) {
            produced++;
            yield 'y';
          }
        } finally {
          released.open();
        }
      })(),
    );
    await tick();
    await tick();
    expect(produced).toBe(1); // pushAll waits for the client, and reads no further item
    const over = overOf(conn);
    await stream.cut();
    await released.pass;
    await pushed;
    expect(await over).toBe('client');
  });

  test('yielded items are not kept for the lifetime of the connection', async () => {
    const { conn } = await opened(() => {}, BARE);
    const yielded: WeakRef<object>[] = [];
    const more = gate();
    const source = (async function* () {
      for (let n = 0; n < 500; n++) {
        const message = { data: `${n}` };
        yielded.push(new WeakRef(message));
        yield message;
      }
      await tick();
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

describe('the speed of the client', () => {
  test('limits how fast a readable is read', async () => {
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
    const pushed = conn.pushAll(source as AnySource);
    let before = -1;
    while (before !== read) {
      before = read;
      for (let ticks = 0; ticks < 50; ticks++) await tick();
    }
    expect(read).toBeLessThan(2000);
    expect(conn.bufferedBytes).toBeLessThan(1_048_576);
    stream.resume();
    await pushed;
    await stream.until(() => stream.events.length === 2001, 10_000);
    expect(conn.readyState).toBe('open');
  });

  test('is no reason to block the event loop with many small items', async () => {
    const { conn } = await opened(() => {}, BARE);
    let ticks = 0;
    let over = false;
    const count = (): void => {
      ticks++;
      if (!over) setImmediate(count);
    };
    const items = Array.from({ length: 200_000 }, (_, n) => `${n} ${'x'.repeat(90)}`);
    setImmediate(count);
    await conn.pushAll(items);
    over = true;
    expect(ticks).toBeGreaterThan(5);
  });
});

test('thirty sources at once, and listeners of the application, exceed no limit of listeners', async () => {
  const { conn } = await opened(() => {}, BARE);
  await Promise.all(Array.from({ length: 30 }, () => conn.pushAll(slowly('a', 'b'))));
  // Jest does not show the warnings of Node's own event targets.
  expect(getMaxListeners(conn.signal)).toBe(Infinity);
});
