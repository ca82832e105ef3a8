/*
 * The readers of one run on real sockets, over a feed that the test controls: what they receive, and how they end.
 */
import type { SseOptions } from '../../lib/index.ts';
import { Admission } from '../../lib/http/admission.ts';
import { checkOptions, HEADERS } from '../../lib/options/options.ts';
import { RunReaders } from '../../lib/runs/run-readers.ts';
import type { RunState } from '../../lib/runs/run-store.ts';
import { connect, type ConnectOptions, type TestStream } from '../../lib/testing/index.ts';
import { eventually, serve, type Site } from '../fixtures/http.ts';
import { Random, seedFrom } from '../fixtures/random.ts';
import { fakeClock, gate, later, tick } from '../fixtures/support.ts';
import { FakeFeed } from './fake-feed.ts';

const HEAD = ':\n';
const END = 'event: end\ndata: done\n\n';
const frame = (n: number): string => `data: ${n}\n\n`;
const frames = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => frame(from + i));
/** The text of chunks with their ids. */
const withIds = (from: number, to: number): string =>
  frames(from, to)
    .map((text, i) => `id: r~g~${from + i}\n${text}`)
    .join('');

interface Setup {
  /** The end event; '' for a wire without one. @defaultValue the event `end` with the status */
  end?: (state: RunState) => string;
  sendsIds?: boolean;
  options?: Pick<SseOptions, 'heartbeat' | 'slowTimeout' | 'compress' | 'maxAge' | 'onError'>;
}

interface Run extends Site {
  readonly readers: RunReaders;
  /** Opens a stream that begins after the chunk `after`. */
  readonly read: (after?: number, how?: ConnectOptions) => Promise<TestStream>;
}

async function run(feed: FakeFeed, { end, sendsIds = true, options }: Setup = {}): Promise<Run> {
  const settings = {
    ...checkOptions({ controlEvents: false, retry: false, heartbeat: false, ...options }),
    sendsPositions: true,
  };
  const endOf = (state: RunState): Buffer | undefined => {
    const text = end === undefined ? `event: end\ndata: ${state.status}\n\n` : end(state);
    return text === '' ? undefined : Buffer.from(text);
  };
  const readers = new RunReaders(settings, { frameOf: (chunk) => chunk, endOf }, sendsIds, {});
  const admission = new Admission(readers, settings, HEADERS);
  const site = await serve((app) => {
    app.use('/:after', (req, res, next) => {
      const stream = admission.prepare(req, res, next)!;
      const admitted = admission.admit(stream);
      if (admitted === undefined) return;
      const after = Number((req.params as { after: string }).after);
      admission.connect(stream, admitted, '', (transport, request) => readers.admit(feed, after, transport, request));
    });
  });
  later(() => readers.close(0));
  const read = async (after = 0, how: ConnectOptions = {}): Promise<TestStream> => {
    const stream = await connect(`${site.url}/${after}`, undefined, { timeout: 10_000, ...how });
    later(() => stream.close());
    return stream;
  };
  return { ...site, readers, read };
}

describe('a run with an end event', () => {
  test('a reader receives every chunk from its position on, with ids, then the end; then its response ends', async () => {
    const feed = new FakeFeed();
    const { read, readers } = await run(feed);
    const first = await read();
    feed.append(...frames(1, 3));
    await first.take(3);
    const second = await read(2);
    const third = await read(0);
    await third.take(3);
    feed.append(...frames(4, 5));
    feed.end();
    const all = `${HEAD}${withIds(1, 5)}id: r~g~end\n${END}`;
    expect(await first.body()).toBe(all);
    expect(await third.body()).toBe(all);
    expect(await second.body()).toBe(`${HEAD}${withIds(3, 5)}id: r~g~end\n${END}`);
    expect(readers.stats()).toMatchObject({ opened: 3, connections: 0, closed: { end: 3 }, resumes: { resumed: 1 } });
  });

  test('a reader of a run that has ended gets everything that is left, and the end', async () => {
    const feed = new FakeFeed();
    feed.append(...frames(1, 2500));
    feed.end('stopped');
    const { read } = await run(feed);
    const end = 'id: r~g~end\nevent: end\ndata: stopped\n\n';
    expect(await (await read()).body()).toBe(`${HEAD}${withIds(1, 2500)}${end}`);
    expect(await (await read(1200)).body()).toBe(`${HEAD}${withIds(1201, 2500)}${end}`);
    expect(await (await read(2500)).body()).toBe(`${HEAD}${end}`);
  });

  test('a reader that is ahead of the log, which has lost an append, gets only what follows its position', async () => {
    const feed = new FakeFeed();
    feed.append(...frames(1, 3));
    const { read, readers } = await run(feed);
    const [level, ahead, further] = [await read(3), await read(5), await read(7)];
    feed.append(...frames(4, 6)); // of one append, one client has received two chunks, and another one all of a later one
    feed.append(frame(7));
    await level.take(4);
    await ahead.take(2);
    feed.append(frame(8));
    feed.end();
    expect(await level.body()).toBe(`${HEAD}${withIds(4, 8)}id: r~g~end\n${END}`);
    expect(await ahead.body()).toBe(`${HEAD}${withIds(6, 8)}id: r~g~end\n${END}`);
    expect(await further.body()).toBe(`${HEAD}${withIds(8, 8)}id: r~g~end\n${END}`);
    expect([...readers.logs()]).toEqual([]);
  });

  test('a reader that is ahead of the log of a run that ends gets the end', async () => {
    const feed = new FakeFeed();
    feed.append(...frames(1, 3));
    const { read } = await run(feed);
    const ahead = await read(4);
    feed.end('lost');
    expect(await ahead.body()).toBe(`${HEAD}id: r~g~end\n${END.replace('done', 'lost')}`);
    expect(await (await read(4)).body()).toBe(`${HEAD}id: r~g~end\n${END.replace('done', 'lost')}`);
  });

  test('a reader whose position is newer than what this process has received waits for it', async () => {
    const feed = new FakeFeed();
    feed.append(frame(1));
    const { read } = await run(feed);
    const early = await read();
    feed.store(...frames(2, 4));
    const ahead = await read(3);
    await early.next();
    await tick();
    expect(ahead.events).toEqual([]);
    feed.deliver();
    feed.append(frame(5));
    feed.end();
    expect(await ahead.body()).toBe(`${HEAD}${withIds(4, 5)}id: r~g~end\n${END}`);
    await early.body();
  });

  test('without readers, the feed has no subscriber, and with many it has one', async () => {
    const feed = new FakeFeed();
    const { read } = await run(feed);
    expect(feed.followers.size).toBe(0);
    const [a, b] = [await read(), await read()];
    expect(feed.followers.size).toBe(1);
    await a.close();
    await b.close();
    await eventually(() => feed.followers.size === 0);
    const again = await read();
    expect(feed.followers.size).toBe(1);
    feed.append(frame(1));
    feed.end();
    await again.body();
    expect(feed.followers.size).toBe(0);
  });

  test('a reader that disconnects ends nothing', async () => {
    const feed = new FakeFeed();
    const { read } = await run(feed);
    const [first, other] = [await read(), await read()];
    feed.append(frame(1));
    await first.next();
    await first.cut();
    feed.append(frame(2));
    feed.end();
    expect(await other.body()).toBe(`${HEAD}${withIds(1, 2)}id: r~g~end\n${END}`);
  });
});

describe('a run whose wire has no end event', () => {
  const NO_END: Setup = { end: () => '', sendsIds: false };

  test('the body of a run that is done ends, and has no ids', async () => {
    const feed = new FakeFeed();
    const { read } = await run(feed, NO_END);
    const live = await read();
    feed.append(...frames(1, 3));
    await live.take(3);
    feed.end();
    expect(await live.body()).toBe(HEAD + frames(1, 3).join(''));
    expect(await (await read()).body()).toBe(HEAD + frames(1, 3).join(''));
  });

  test.each(['stopped', 'failed', 'lost'] as const)('the body of a run that is %s is cut off', async (status) => {
    const feed = new FakeFeed();
    const { read } = await run(feed, NO_END);
    const live = await read();
    feed.append(...frames(1, 3));
    await live.take(3);
    feed.end(status);
    expect(await live.closed).toBe('cut');
    expect(live.text).toBe(HEAD + frames(1, 3).join(''));
    const late = await read();
    expect(await late.closed).toBe('cut');
    expect(late.text).toBe(live.text);
  });

  test('the end of a run without chunks ends the body', async () => {
    const feed = new FakeFeed();
    const { read } = await run(feed, NO_END);
    const stream = await read();
    feed.end();
    expect(await stream.body()).toBe(HEAD);
  });
});

describe('slow readers', () => {
  const BIG = Array.from(
    { length: 10_240 },
    (_, i) => `data: ${String(i + 1).padStart(6, '0')}${'x'.repeat(1010)}\n\n`,
  );

  test.each<[what: string, setup: Setup]>([
    ['with ids', {}],
    ['without ids', { sendsIds: false }],
    ['compressed', { options: { compress: true } }],
  ])(
    'gets all of an ended run of 10 MB, although it pauses for longer than a close may take: %s',
    async (_, setup) => {
      const feed = new FakeFeed();
      feed.append(...BIG);
      feed.end();
      const { read, readers } = await run(feed, setup);
      const compress = setup.options?.compress === true;
      const stream = await read(0, { headers: compress ? { 'accept-encoding': 'gzip' } : {} });
      stream.pause();
      if (!compress) await eventually(() => readers.stats().behind === 1, 10_000);
      await new Promise((resolve) => setTimeout(resolve, 1500));
      stream.resume();
      const text = await stream.body(60_000);
      const expected = BIG.map((body, i) => (setup.sendsIds === false ? body : `id: r~g~${i + 1}\n${body}`)).join('');
      const end = setup.sendsIds === false ? END : `id: r~g~end\n${END}`;
      expect(text === `${HEAD}${expected}${end}`).toBe(true);
      expect(readers.stats().closed).toMatchObject({ end: 1, slow: 0 });
    },
    90_000,
  );

  test('a reader that pauses while the run is produced holds none of it in memory, and gets all of it', async () => {
    const feed = new FakeFeed();
    const { read, readers } = await run(feed);
    const [slow, fast] = [await read(), await read()];
    slow.pause();
    for (let i = 0; i < BIG.length; i += 64) {
      feed.append(...BIG.slice(i, i + 64));
      await tick();
    }
    feed.end();
    await fast.body(60_000);
    const { ringBytes, bufferedBytes } = readers.stats();
    expect(ringBytes).toBeLessThan(600_000);
    expect(bufferedBytes).toBeLessThan(600_000);
    await new Promise((resolve) => setTimeout(resolve, 1500)); // longer than a close may take
    slow.resume();
    expect((await slow.body(60_000)) === fast.text).toBe(true);
  }, 90_000);

  test('a reader that stops to read at the end is disconnected after slowTimeout', async () => {
    const feed = new FakeFeed();
    feed.append(...BIG);
    feed.end();
    const { read, readers } = await run(feed, { options: { slowTimeout: 300 } });
    const stream = await read();
    stream.pause();
    await eventually(() => readers.stats().closed.slow === 1, 10_000);
    stream.resume();
    expect(await stream.closed).toBe('cut');
  }, 30_000);
});

describe('ends that are not the end of the run', () => {
  test('at a shutdown a reader of a running run is broken off, so that no client takes its part for the answer', async () => {
    const feed = new FakeFeed();
    const { read, readers } = await run(feed);
    const stream = await read();
    feed.append(frame(1));
    await stream.next();
    await readers.close(0);
    expect(await stream.closed).toBe('cut');
    expect(stream.events).toHaveLength(1);
  });

  test('maxAge breaks a reader off', async () => {
    const feed = new FakeFeed();
    const { read } = await run(feed, { options: { maxAge: 50 } });
    const stream = await read();
    feed.append(frame(1));
    expect(await stream.closed).toBe('cut');
  });

  test('if the log is no longer there, a reader that needs it is broken off', async () => {
    const feed = new FakeFeed();
    feed.append(...frames(1, 10));
    feed.isThere = false;
    const { read } = await run(feed);
    const stream = await read(3);
    expect(await stream.closed).toBe('cut');
    expect(stream.events).toEqual([]);
  });

  test('if the engine has lost chunks that this process has, a reader that lacks them is broken off, with what is left', async () => {
    const feed = new FakeFeed();
    feed.append(...frames(1, 5));
    const { read } = await run(feed);
    await read(5); // from now on, this process keeps what follows
    feed.append(frame(6));
    feed.chunks.length = 3;
    const stream = await read(0);
    expect(await stream.closed).toBe('cut');
    expect(stream.events.map(({ data }) => data)).toEqual(['1', '2', '3']);
  });

  test('a client of a log that is no longer there gets the end `lost`', async () => {
    const feed = new FakeFeed();
    const { readers, server } = await run(feed);
    const admission = new Admission(readers, checkOptions({}), HEADERS);
    const site = await serve((app) => {
      app.use((req, res, next) => {
        const stream = admission.prepare(req, res, next)!;
        const admitted = admission.admit(stream)!;
        admission.connect(stream, admitted, '', (...args) => readers.admitToLost(feed.run, ...args));
      });
    });
    expect(server).toBeDefined();
    const stream = await connect(site.server);
    expect(await stream.body()).toBe(`${HEAD}id: r~g~end\nevent: end\ndata: lost\n\n`);
  });
});

test('a silent reader gets heartbeats, and no checkpoint after an event without an id', async () => {
  fakeClock();
  const feed = new FakeFeed();
  const { read } = await run(feed, { options: { heartbeat: 1000 } });
  const stream = await read();
  feed.append(frame(1), 'retry: 5\n');
  await stream.next();
  for (let i = 0; i < 3; i++) {
    await jest.advanceTimersByTimeAsync(1000);
    await tick();
  }
  await stream.until(() => stream.comments.length >= 3);
  expect(stream.text).toBe(`${HEAD}${withIds(1, 1)}retry: 5\n${':\n'.repeat(stream.comments.length - 1)}`);
});

test('while the engine of the store does not answer, a reader of earlier chunks waits, with heartbeats, and then gets them', async () => {
  fakeClock();
  const feed = new FakeFeed();
  feed.append(...frames(1, 5));
  const answers = gate();
  feed.engine = answers.pass;
  const { read, readers } = await run(feed, { options: { heartbeat: 15_000 } });
  const stream = await read();
  for (let seconds = 0; seconds < 120; seconds += 15) {
    await jest.advanceTimersByTimeAsync(15_000);
    await tick();
  }
  await stream.until(({ comments }) => comments.length >= 8);
  expect([stream.ended, stream.events, readers.stats().closed.error]).toEqual([false, [], 0]);
  answers.open();
  await stream.take(5);
  feed.end();
  await stream.next('end');
  await jest.advanceTimersByTimeAsync(1000); // a response through a wrapper is looked at again before it ends
  await stream.body();
  expect(stream.events).toHaveLength(6);
});

test('random runs: every reader receives exactly what follows its position, whatever it and the others do', async () => {
  const seed = seedFrom('RUN_LOG_SEED');
  const random = new Random(seed);
  for (let round = 0; round < 25; round++) {
    const feed = new FakeFeed('r', 'g', random.of([1, 7, Infinity]));
    const hasEnd = random.next() < 0.5;
    const status = random.of(['done', 'failed'] as const)!;
    const sendsIds = random.next() < 0.5;
    const { read, readers } = await run(feed, { sendsIds, ...(hasEnd ? {} : { end: () => '' }) });
    const size = random.of([1, 100, 20_000])!;
    const chunk = (n: number): string => `data: ${n} ${'x'.repeat(random.below(size))}\n\n`;
    const opened: { after: number; stream: Promise<TestStream>; isCut: boolean }[] = [];
    for (let step = 0; step < 60; step++) {
      const what = random.below(10);
      if (what < 5) {
        const batch = Array.from({ length: 1 + random.below(20) }, (_, i) => chunk(feed.chunks.length + 1 + i));
        if (random.next() < 0.2) feed.store(...batch);
        else feed.append(...batch);
      } else if (what < 7 && opened.length < 12) {
        const after = random.below(feed.chunks.length + 1);
        const stream = read(after);
        opened.push({ after, stream, isCut: false });
        if (random.next() < 0.3) void stream.then((one) => one.pause());
      } else if (what === 7) {
        const one = random.of(opened);
        if (one !== undefined) {
          one.isCut = true;
          await (await one.stream).close();
        }
      } else if (what === 8) for (const { stream } of opened) (await stream).resume();
      else await tick();
    }
    feed.deliver();
    feed.end(status);
    for (const { after, stream, isCut } of opened) {
      const one = await stream;
      one.resume();
      const isWhole = hasEnd || status === 'done';
      if (!isCut) expect(await one.closed).toBe(isWhole ? 'end' : 'cut');
      const texts = feed.chunks.slice(after).map((bytes, i) => {
        const id = sendsIds ? `id: r~g~${after + 1 + i}\n` : '';
        return id + Buffer.from(bytes).toString();
      });
      const end = hasEnd ? `${sendsIds ? 'id: r~g~end\n' : ''}event: end\ndata: ${status}\n\n` : '';
      const expected = HEAD + texts.join('') + end;
      const isEqual = isCut ? expected.startsWith(one.text) || one.text === '' : one.text === expected;
      if (!isEqual) throw new Error(`Round ${round}: the reader after ${after} has received something else.`);
    }
    await eventually(() => readers.stats().connections === 0);
  }
}, 120_000);
