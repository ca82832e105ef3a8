import { heapInUse } from '../fixtures/garbage.ts';
import { memoryJournal, type MemoryJournalOptions } from '../../lib/journal/memory-journal.ts';
import type { Entry, Follower, Journal, ResetReason, JournalWindow } from '../../lib/journal/journal.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (entry: Entry) => new TextDecoder().decode(entry.body);
const body = (size: number) => new Uint8Array(size);

/** A follower that records the calls of all its methods, in order. */
class Recorder implements Follower {
  readonly calls: string[] = [];
  readonly batches: (readonly Entry[])[] = [];
  readonly restarts: { window: JournalWindow; reason: ResetReason }[] = [];
  onEntry: (entry: Entry) => void = () => {};
  entries(batch: readonly Entry[]): void {
    this.batches.push(batch);
    for (const entry of batch) {
      this.calls.push(text(entry));
      this.onEntry(entry);
    }
  }
  known(): Iterable<string> {
    return [];
  }
  rewind(): void {
    throw new Error('a log in memory never rewinds');
  }
  restart(window: JournalWindow, reason: ResetReason): void {
    this.restarts.push({ window, reason });
    this.calls.push(`restart:${reason}`);
  }
  trim(id: string): void {
    this.calls.push(`trim:${numberOf(id)}`);
  }
}

const numberOf = (id: string) => Number(id.split('-')[1]);
const head = async (journal: Journal) => (await journal.window(0)).floor;
const fill = async (journal: Journal, count: number, from = 1) => {
  const ids: string[] = [];
  for (let n = from; n < from + count; n++) ids.push(await journal.append({ body: bytes(`${n}`) }));
  return ids;
};
const texts = async (journal: Journal) => (await journal.window(Infinity)).entries.map(text);

describe('ids', () => {
  test('are a random name of 12 characters and a number that counts from 1', async () => {
    const journal = memoryJournal();
    const start = await head(journal);
    expect(start).toMatch(/^[0-9a-z]{12}-0$/);
    const ids = await fill(journal, 11);
    expect(ids.map(numberOf)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(new Set(ids.map((id) => id.slice(0, 12)))).toEqual(new Set([start.slice(0, 12)]));
    expect(await head(memoryJournal())).not.toBe(await head(memoryJournal()));
  });

  test.each([
    ['0123456789ab-0', true],
    ['zzzzzzzzzzzz-999999999999999', true],
    ['zzzzzzzzzzzz-1000000000000000', false],
    ['0123456789ab-01', false],
    ['0123456789ab-', false],
    ['0123456789ab--1', false],
    ['0123456789ab-1.5', false],
    ['0123456789ab-1\n', false],
    [' 0123456789ab-1', false],
    ['0123456789aB-1', false],
    ['0123456789a-1', false],
    ['0123456789abc-1', false],
    ['1526919030474-0', false],
    ['', false],
  ])('isId(%j) is %j', (id, expected) => {
    expect(memoryJournal().isId(id)).toBe(expected);
  });

  test('are compared by number, and are equal only if they are the same text', () => {
    const journal = memoryJournal();
    const compare = (a: string, b: string) => journal.compare(a, b);
    expect(compare('aaaaaaaaaaaa-9', 'aaaaaaaaaaaa-10')).toBeLessThan(0);
    expect(compare('aaaaaaaaaaaa-10', 'aaaaaaaaaaaa-9')).toBeGreaterThan(0);
    expect(compare('zzzzzzzzzzzz-9', 'aaaaaaaaaaaa-10')).toBeLessThan(0);
    expect(compare('aaaaaaaaaaaa-10', 'aaaaaaaaaaaa-10')).toBe(0);
    expect(compare('aaaaaaaaaaaa-10', 'bbbbbbbbbbbb-10')).toBeLessThan(0);
  });
});

describe('read', () => {
  test('returns the entries after a position, at most `limit`', async () => {
    const journal = memoryJournal();
    const start = await head(journal);
    const ids = await fill(journal, 5);
    const after = async (id: string, limit: number) => {
      const result = await journal.read(id, limit);
      return result.ok ? result.entries.map(text) : result.reason;
    };
    expect(await after(start, 100)).toEqual(['1', '2', '3', '4', '5']);
    expect(await after(ids[1]!, 2)).toEqual(['3', '4']);
    expect(await after(ids[1]!, 0)).toEqual([]);
    expect(await after(ids[4]!, 9)).toEqual([]);
  });

  test('distinguishes a trimmed position from an unknown one; the head is always valid', async () => {
    const journal = memoryJournal({ size: 2 });
    const start = await head(journal);
    const ids = await fill(journal, 4);
    const validity = async (id: string) => {
      const result = await journal.read(id, 0);
      return result.ok ? 'ok' : result.reason;
    };
    expect(await Promise.all(ids.map(validity))).toEqual(['lost', 'lost', 'ok', 'ok']);
    expect(await validity(start)).toBe('lost');
    expect(await validity(start.replace(/0$/, '5'))).toBe('unknown');
    expect(await validity(await head(memoryJournal()))).toBe('unknown');
    expect(await validity('not an id')).toBe('unknown');
    const { floor } = await journal.window(Infinity);
    expect([floor, await validity(floor)]).toEqual([ids[1], 'lost']);
  });

  test('the head is valid when all entries have been trimmed', async () => {
    const journal = memoryJournal({ maxBytes: 10 });
    const id = await journal.append({ body: body(11) });
    expect(await journal.window(9)).toEqual({ floor: id, entries: [] });
    expect(await journal.read(id, 9)).toEqual({ ok: true, entries: [] });
    expect(await journal.read(id.replace(/1$/, '0'), 9)).toEqual({ ok: false, reason: 'lost' });
  });
});

describe('entries', () => {
  test('keep the body that was passed, and a copy of the channels', async () => {
    const journal = memoryJournal();
    const recorder = new Recorder();
    journal.follow(await head(journal), recorder);
    const to = ['a'];
    const except: string[] = [];
    const bodyBytes = bytes('x');
    await journal.append({ to, except, body: bodyBytes });
    to.push('b');
    except.push('c');
    const [entry] = (await journal.window(1)).entries;
    expect(entry).toMatchObject({ to: ['a'], except: [] });
    expect(entry!.body).toBe(bodyBytes);
    expect(recorder.batches[0]![0]).toBe(entry);
    await journal.append({ body: bodyBytes });
    expect((await journal.window(1)).entries[0]!.to).toBeUndefined();
  });

  test('an entry with a key is stored once, for as long as the entry is in the log', async () => {
    const journal = memoryJournal({ size: 2 });
    const id = await journal.append({ body: bytes('a'), key: 'k' });
    expect(await journal.append({ body: bytes('b'), key: 'k' })).toBe(id);
    expect(await texts(journal)).toEqual(['a']);
    await fill(journal, 2);
    expect(await journal.append({ body: bytes('c'), key: 'k' })).not.toBe(id);
    expect(await texts(journal)).toEqual(['2', 'c']);
    expect(await journal.append({ body: bytes('d'), key: '' })).toBe(
      await journal.append({ body: bytes('e'), key: '' }),
    );
  });

  test('a body that is not a Uint8Array is rejected', async () => {
    await expect(memoryJournal().append({ body: 'x' as never })).rejects.toMatchObject({ code: 'ERR_SSE_DATA' });
  });
});

describe('follow', () => {
  test('delivers past entries at once, and a new one before append returns', async () => {
    const journal = memoryJournal();
    const ids = await fill(journal, 3);
    const recorder = new Recorder();
    journal.follow(ids[0]!, recorder);
    expect(recorder.calls).toEqual(['2', '3']);
    expect(recorder.batches).toHaveLength(1);
    const appended = journal.append({ body: bytes('4') });
    expect(recorder.calls).toEqual(['2', '3', '4']);
    await appended;
  });

  test('an append from within a follower reaches all of them in the log’s order', async () => {
    const journal = memoryJournal({ size: 4 });
    const start = await head(journal);
    const [first, second] = [new Recorder(), new Recorder()];
    first.onEntry = (entry) => {
      if (text(entry) !== '1') return;
      void fill(journal, 8, 2); // only the first of them in this tick
      for (let n = 3; n < 9; n++) void journal.append({ body: bytes(`again ${n}`) });
    };
    journal.follow(start, first);
    journal.follow(start, second);
    await journal.append({ body: bytes('1') });
    const entries = (calls: string[]) => calls.filter((line) => !line.startsWith('trim'));
    expect(entries(first.calls)).toEqual(entries(second.calls));
    expect(entries(first.calls).slice(0, 4)).toEqual(['1', '2', 'again 3', 'again 4']);
    const numbers = first.batches.flat().map((entry) => numberOf(entry.id));
    expect(numbers).toEqual(numbers.map((_, i) => i + 1));
  });

  test('restarts a follower on an invalid position, and continues from there', async () => {
    const journal = memoryJournal({ size: 2 });
    const ids = await fill(journal, 4);
    const [lost, unknown] = [new Recorder(), new Recorder()];
    journal.follow(ids[0]!, lost);
    journal.follow('000000000000-1', unknown);
    expect(lost.restarts[0]!.window.entries.map(text)).toEqual(['3', '4']);
    expect(lost.restarts[0]!.window.floor).toBe(ids[1]);
    await fill(journal, 1, 5);
    expect(lost.calls).toEqual(['restart:lost', '5', 'trim:3']);
    expect(unknown.calls).toEqual(['restart:unknown', '5', 'trim:3']);
  });

  test('a follower receives nothing after unfollow, even during a delivery', async () => {
    const journal = memoryJournal();
    const start = await head(journal);
    const [first, second] = [new Recorder(), new Recorder()];
    first.onEntry = () => unfollow();
    journal.follow(start, first);
    const unfollow = journal.follow(start, second);
    await fill(journal, 2);
    expect([first.calls, second.calls]).toEqual([['1', '2'], []]);
  });
});

describe('limits', () => {
  test('count and bytes apply at the same time, to the byte', async () => {
    const journal = memoryJournal({ size: 4, maxBytes: 100 });
    const recorder = new Recorder();
    journal.follow(await head(journal), recorder);
    const sizes = async () => (await journal.window(Infinity)).entries.map((entry) => entry.body.byteLength);
    for (const size of [50, 50]) await journal.append({ body: body(size) });
    expect(await sizes()).toEqual([50, 50]);
    await journal.append({ body: body(1) });
    expect(await sizes()).toEqual([50, 1]);
    for (let n = 0; n < 3; n++) await journal.append({ body: body(0) });
    expect(await sizes()).toEqual([1, 0, 0, 0]);
    await journal.append({ body: new Uint8Array(new ArrayBuffer(4096), 0, 99) });
    expect(await sizes()).toEqual([0, 0, 0, 99]);
    expect(recorder.calls.filter((line) => line.startsWith('trim'))).toEqual(['trim:1', 'trim:2', 'trim:3']);
  });

  test('an entry larger than maxBytes is delivered, then trimmed', async () => {
    const journal = memoryJournal({ maxBytes: 3 });
    const recorder = new Recorder();
    journal.follow(await head(journal), recorder);
    await journal.append({ body: bytes('abc') });
    await journal.append({ body: bytes('abcd') });
    expect(recorder.calls).toEqual(['abc', 'abcd', 'trim:2']);
    expect(await texts(journal)).toEqual([]);
    await journal.append({ body: bytes('x') });
    expect(await texts(journal)).toEqual(['x']);
  });

  test('memory does not grow over a million appends', async () => {
    const journal = memoryJournal({ size: 1000, maxAge: Infinity });
    const shared = body(100);
    let received = 0;
    const counter = new Recorder();
    counter.entries = (batch) => void (received += batch.length);
    journal.follow(await head(journal), counter);
    counter.trim = () => {};
    const run = async (count: number) => {
      for (let n = 0; n < count; n++) {
        const appended = journal.append({ body: shared, key: `k${received}` });
        if (n % 1000 === 0) await appended;
      }
      await new Promise(setImmediate);
    };
    await run(200_000);
    const before = await heapInUse();
    await run(800_000);
    const growth = (await heapInUse()) - before;
    expect(received).toBe(1_000_000);
    expect((await journal.window(Infinity)).entries).toHaveLength(1000);
    expect(growth).toBeLessThan(4 * 1024 * 1024); // 800,000 entries would be more than 100 MiB
  }, 60_000);
});

describe('age', () => {
  beforeEach(() => jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] }));
  afterEach(() => jest.useRealTimers());

  test('without traffic, one timer removes entries and reports it to followers', async () => {
    const journal = memoryJournal({ maxAge: 1600 });
    const recorder = new Recorder();
    journal.follow(await head(journal), recorder);
    await fill(journal, 2);
    jest.advanceTimersByTime(1000);
    await fill(journal, 1, 3);
    expect(jest.getTimerCount()).toBe(1);
    jest.advanceTimersByTime(599);
    expect(recorder.calls).toEqual(['1', '2', '3']);
    jest.advanceTimersByTime(1);
    expect(recorder.calls).toEqual(['1', '2', '3', 'trim:2']);
    jest.advanceTimersByTime(1000);
    expect(recorder.calls.at(-1)).toBe('trim:3');
    expect(jest.getTimerCount()).toBe(0);
    expect(await texts(journal)).toEqual([]);
    await fill(journal, 1, 4);
    expect(jest.getTimerCount()).toBe(1);
    await journal.close();
    expect(jest.getTimerCount()).toBe(0);
  });

  test('a log with steady traffic sets few timers', async () => {
    const journal = memoryJournal({ maxAge: 1600 });
    const set = jest.spyOn(globalThis, 'setTimeout');
    for (let n = 0; n < 1000; n++) {
      await fill(journal, 1, n);
      jest.advanceTimersByTime(10);
    }
    expect((await journal.window(Infinity)).entries.length).toBeLessThanOrEqual(160);
    expect(set.mock.calls.length).toBeLessThanOrEqual(1 + 10_000 / 100);
    set.mockRestore();
  });

  test('an expired entry is not read and its key is free, even before the timer fires', async () => {
    const journal = memoryJournal({ maxAge: 100 });
    const id = await journal.append({ body: bytes('a'), key: 'k' });
    const next = await journal.append({ body: bytes('b') });
    jest.spyOn(performance, 'now').mockReturnValue(performance.now() + 100);
    expect(await journal.read(id, 9)).toEqual({ ok: false, reason: 'lost' });
    expect(await journal.read(next, 9)).toEqual({ ok: true, entries: [] });
    expect(await journal.append({ body: bytes('c'), key: 'k' })).not.toBe(id);
    jest.restoreAllMocks();
  });

  test('a change of the system time has no effect', async () => {
    const journal = memoryJournal({ maxAge: 1000 });
    await fill(journal, 2);
    jest.setSystemTime(Date.now() + 86_400_000);
    await fill(journal, 1, 3);
    expect(await texts(journal)).toEqual(['1', '2', '3']);
    jest.setSystemTime(0);
    expect(await texts(journal)).toEqual(['1', '2', '3']);
    jest.advanceTimersByTime(1100);
    expect(await texts(journal)).toEqual([]);
  });

  test('an age longer than the longest timer does not fire timers at once', async () => {
    const journal = memoryJournal({ maxAge: 2 ** 40 });
    await fill(journal, 1);
    jest.advanceTimersByTime(1000);
    expect(await texts(journal)).toEqual(['1']);
    const unbounded = memoryJournal({ maxAge: Infinity });
    const timers = jest.getTimerCount();
    await fill(unbounded, 1);
    expect(jest.getTimerCount()).toBe(timers);
  });
});

describe('close', () => {
  test('is idempotent; afterwards appends, reads and follows get nothing', async () => {
    const journal = memoryJournal();
    const recorder = new Recorder();
    const [id] = await fill(journal, 1);
    journal.follow(id!, recorder);
    await journal.close();
    await journal.close();
    const closed = { name: 'SseError', code: 'ERR_SSE_CLOSED' };
    await expect(journal.append({ body: bytes('2') })).rejects.toMatchObject(closed);
    await expect(journal.read(id!, 1)).rejects.toMatchObject(closed);
    await expect(journal.window(1)).rejects.toMatchObject(closed);
    await expect(journal.open()).rejects.toMatchObject(closed);
    journal.follow('000000000000-1', recorder)();
    expect(recorder.calls).toEqual([]);
  });

  test('from within a follower ends the delivery', async () => {
    const journal = memoryJournal();
    const start = await head(journal);
    const [first, second] = [new Recorder(), new Recorder()];
    first.onEntry = () => void journal.close();
    journal.follow(start, first);
    journal.follow(start, second);
    expect(numberOf(await journal.append({ body: bytes('1') }))).toBe(1);
    expect([first.calls, second.calls]).toEqual([['1'], []]);
  });
});

describe('options', () => {
  test.each([
    [{ size: 0 }, /size must be a positive integer.*received the number 0\. Leave it out for the default, 1024\./],
    [{ size: 1.5 }, /size/],
    [{ size: '5' }, /size .*received the string "5"/],
    [{ size: NaN }, /size/],
    [{ size: null }, /size .*received null/],
    [{ maxBytes: -1 }, /maxBytes/],
    [{ maxBytes: 0.5 }, /maxBytes/],
    [{ maxAge: 0 }, /maxAge must be a positive number of milliseconds/],
    [{ maxAge: -Infinity }, /maxAge/],
    [{ maxage: 5 }, /memoryJournal\(\) must be .*"maxage"\. Did you mean maxAge\?/],
    [{ keep: 5 }, /memoryJournal\(\) must be one of size, maxAge, maxBytes; received the string "keep"/],
    [[], /option of memoryJournal\(\) must be in a plain object.*received an array/],
    [null, /option of memoryJournal\(\) must be in a plain object.*received null/],
    [5, /option of memoryJournal\(\) must be in a plain object.*received the number 5/],
  ])('%j is rejected', (options, message) => {
    const make = () => memoryJournal(options as MemoryJournalOptions);
    expect(make).toThrow(TypeError);
    expect(make).toThrow(message);
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_SSE_OPTION' }));
  });

  test.each([
    {},
    undefined,
    { size: undefined },
    { size: Infinity, maxAge: Infinity, maxBytes: Infinity },
    { maxAge: 0.5 },
  ])('%j is accepted', (options) => {
    expect(() => memoryJournal(options)).not.toThrow();
  });
});
