/*
 * The appends that wait for an engine: which of them are sent, and how each is settled.
 */
import { collectGarbage } from '../fixtures/garbage.ts';
import { SseError } from '../../lib/errors.ts';
import { type PendingAppend, PendingAppends, type PendingLimits } from '../../lib/journal/pending-appends.ts';

type Append = PendingAppend<string>;

const LIMITS: PendingLimits = { wait: 100, maxPending: 100, maxPendingBytes: 1000 };
const UNKNOWN =
  'append: no reply from Engine within 100 ms. The outcome is unknown, the entry may be in the log. With a key, it is safe to append it again.';
const NOT_STORED = 'append: no reply from Engine within 100 ms. The entry was not stored. Append it again.';
const CLOSED = new SseError('ERR_SSE_CLOSED', 'closed');

/** Returns the pending appends of a producer, and their outcomes so far, in the order in which they were settled. */
function producer(limits: Partial<PendingLimits> = {}, downReason: () => Error | undefined = () => undefined) {
  const pending = new PendingAppends<string>('Engine', { ...LIMITS, ...limits }, downReason);
  const outcomes: unknown[][] = [];
  const add = (entry: string): void => {
    pending.add(entry, entry.length).then(
      (id) => outcomes.push([entry, id]),
      (error: SseError) => outcomes.push([entry, error.code, error.message]),
    );
  };
  /** Takes an append as a producer does that sends it. */
  const send = (): Append => {
    const append = pending.take()!;
    append.maybeStored = true;
    return append;
  };
  return { pending, outcomes, add, send };
}

/** Runs what is due at the end of this tick, and then what waits for promises. */
const nextTick = (): Promise<void> => new Promise(setImmediate);

async function advance(ms: number): Promise<void> {
  jest.advanceTimersByTime(ms);
  await nextTick();
  await nextTick();
}

beforeEach(() => jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] }));
afterEach(() => jest.useRealTimers());

describe('the queue', () => {
  test('returns appends in their order, and each of them once', () => {
    const { pending, add } = producer();
    for (const entry of ['a', 'b', 'c']) add(entry);
    expect([pending.take()?.entry, pending.take()?.entry, pending.take()?.entry]).toEqual(['a', 'b', 'c']);
    expect(pending.take()).toBeUndefined();
  });

  test('returns requeued appends first, in their order', () => {
    const { pending, add } = producer();
    for (const entry of ['a', 'b', 'c']) add(entry);
    pending.requeue([pending.take()!, pending.take()!]);
    add('d');
    expect([1, 2, 3, 4].map(() => pending.take()?.entry)).toEqual(['a', 'b', 'c', 'd']);
  });

  test('keeps an entry that is larger than the producer accepts now', () => {
    const { pending, add } = producer();
    add('large');
    add('x');
    expect(pending.take(4)).toBeUndefined();
    expect(pending.take(5)?.entry).toBe('large');
    expect(pending.take(1)?.entry).toBe('x');
  });

  test('returns no append that was settled after the producer had requeued it', async () => {
    const { pending, add, send, outcomes } = producer();
    add('a');
    add('b');
    const sent = send();
    pending.requeue([sent]);
    pending.reject(sent, CLOSED);
    expect(pending.take()?.entry).toBe('b');
    await nextTick();
    expect(outcomes).toEqual([['a', 'ERR_SSE_CLOSED', 'closed']]);
  });
});

describe('a deadline', () => {
  test('each append has its own, and the error states whether the entry may be in the log', async () => {
    const { add, send, outcomes } = producer();
    add('sent');
    send();
    await advance(30);
    add('queued');
    await advance(69);
    expect(outcomes).toEqual([]);
    await advance(1);
    expect(outcomes).toEqual([['sent', 'ERR_SSE_TIMEOUT', UNKNOWN]]);
    await advance(29);
    expect(outcomes).toHaveLength(1);
    await advance(1);
    expect(outcomes.slice(1)).toEqual([['queued', 'ERR_SSE_TIMEOUT', NOT_STORED]]);
  });

  test('a sent entry that the engine has not stored counts as never sent', async () => {
    const { pending, add, send, outcomes } = producer();
    add('a');
    const sent = send();
    sent.maybeStored = false;
    pending.requeue([sent]);
    await advance(100);
    expect(outcomes).toEqual([['a', 'ERR_SSE_TIMEOUT', NOT_STORED]]);
  });

  test('a reply that arrives in the tick of the deadline is read before the append expires', async () => {
    const { pending, add, send, outcomes } = producer();
    add('a');
    const sent = send();
    jest.advanceTimersByTime(1000); // the timer of the deadline runs, as after a pause of this process
    pending.resolve(sent, '1-1'); // Node reads the sockets after the timers
    await advance(0);
    expect(outcomes).toEqual([['a', '1-1']]);
  });

  test('an append that has expired is not sent, also before its timer runs', async () => {
    const { pending, add, outcomes } = producer();
    add('a');
    add('b');
    const clock = jest.spyOn(performance, 'now').mockReturnValue(performance.now() + 100); // no timer runs meanwhile
    add('c');
    expect(pending.take()?.entry).toBe('c');
    clock.mockRestore();
    await nextTick();
    expect(outcomes).toEqual(['a', 'b'].map((entry) => [entry, 'ERR_SSE_TIMEOUT', NOT_STORED]));
  });

  test('a reply after the error changes nothing, and is not counted twice', async () => {
    const { pending, add, send, outcomes } = producer({ maxPendingBytes: 1 });
    add('a');
    const sent = send();
    await advance(100);
    pending.resolve(sent, '1-1');
    pending.reject(sent, CLOSED);
    await nextTick();
    expect(outcomes).toEqual([['a', 'ERR_SSE_TIMEOUT', UNKNOWN]]);
    add('b');
    expect(() => pending.add('c', 1)).toThrow('1 entries of 1 bytes already wait');
  });

  test('an append after all others have expired expires, too', async () => {
    const { add, outcomes } = producer();
    add('a');
    await advance(100);
    add('b');
    await advance(100);
    expect(outcomes).toEqual(['a', 'b'].map((entry) => [entry, 'ERR_SSE_TIMEOUT', NOT_STORED]));
  });

  test('without a connection, the error contains the reason, as its cause too', async () => {
    const reason = new Error('connection refused');
    const pending = new PendingAppends<string>('Engine', LIMITS, () => reason);
    const error = pending.add('a', 1).catch((rejection: unknown) => rejection);
    await advance(100);
    expect(await error).toMatchObject({
      message:
        'append: no reply from Engine within 100 ms (connection refused). The entry was not stored. Append it again.',
      cause: reason,
    });
  });

  test.each([Infinity, 2 ** 40])(
    '`wait: %d` is longer than a timer can be: the longest ones follow each other',
    async (wait) => {
      const setTimer = jest.spyOn(globalThis, 'setTimeout');
      const { add, outcomes } = producer({ wait });
      add('a');
      await advance(2 ** 31);
      expect(setTimer.mock.calls.map(([, ms]) => ms)).toEqual([2 ** 31 - 1, 2 ** 31 - 1]);
      expect(outcomes).toEqual([]);
    },
  );
});

describe('the limits', () => {
  test('an append beyond maxPending is refused at once, until one is settled', () => {
    const { pending, add, send } = producer({ maxPending: 2 }, () => new Error('down'));
    add('a');
    add('b');
    const sent = send();
    expect(() => pending.add('c', 1)).toThrow(
      'append: pending entries must be at most 2 (maxPending) and 1000 bytes (maxPendingBytes); ' +
        '2 entries of 2 bytes already wait for Engine (down). The entry was not stored. Append less often, or await earlier appends first.',
    );
    pending.resolve(sent, '1-1');
    expect(() => add('c')).not.toThrow();
  });

  test('an append beyond maxPendingBytes is refused at once, until others are settled', () => {
    const { pending, add, send } = producer({ maxPendingBytes: 4 });
    add('abc');
    expect(() => pending.add('de', 2)).toThrow(expect.objectContaining({ code: 'ERR_SSE_QUEUE_FULL' }));
    pending.reject(send(), CLOSED);
    expect(() => add('de')).not.toThrow();
  });
});

describe('close()', () => {
  test('waits for the replies to sent entries, and for unsent ones, which the producer still sends', async () => {
    const { pending, add, send, outcomes } = producer();
    add('sent');
    add('unsent');
    const sent = send();
    let isClosed = false;
    const closed = pending.close('before the end').then(() => (isClosed = true));
    await nextTick();
    expect([isClosed, outcomes]).toEqual([false, []]);
    pending.resolve(sent, '1-1');
    pending.resolve(send(), '1-2');
    await closed;
    expect(outcomes).toEqual([
      ['sent', '1-1'],
      ['unsent', '1-2'],
    ]);
    expect(jest.getTimerCount()).toBe(0);
  });

  test('waits for an entry that the producer has not sent yet', async () => {
    const { pending, add, send, outcomes } = producer();
    add('unsent');
    const closed = pending.close('before the end');
    await nextTick();
    pending.resolve(send(), '1-1');
    await closed;
    expect(outcomes).toEqual([['unsent', '1-1']]);
  });

  test('ends after a second, and each error states whether the entry may be in the log', async () => {
    const { pending, add, send, outcomes } = producer({ wait: 5000 });
    add('no reply');
    add('not stored');
    add('unsent');
    send();
    const sent = send();
    const closed = pending.close('before the end');
    sent.maybeStored = false; // the engine has reported it meanwhile
    await advance(999);
    expect(outcomes).toEqual([]);
    await advance(1);
    await closed;
    expect(outcomes).toEqual([
      ['no reply', 'ERR_SSE_TIMEOUT', UNKNOWN.replace('within 100 ms', 'before the end')],
      ['not stored', 'ERR_SSE_TIMEOUT', NOT_STORED.replace('within 100 ms', 'before the end')],
      ['unsent', 'ERR_SSE_TIMEOUT', NOT_STORED.replace('within 100 ms', 'before the end')],
    ]);
    expect(jest.getTimerCount()).toBe(0);
    expect(pending.take()).toBeUndefined();
  });

  test('ends at once if no append is pending', async () => {
    const { pending } = producer();
    await pending.close('before the end');
    expect(jest.getTimerCount()).toBe(0);
  });
});

test('an append that expires in the queue is no longer referenced, although none is taken', async () => {
  const pending = new PendingAppends<string>('Engine', LIMITS, () => undefined);
  const references: WeakRef<Promise<string>>[] = [];
  const rejections = Array.from({ length: 100 }, () => {
    const appended = pending.add('x', 1);
    references.push(new WeakRef(appended));
    return appended.catch(() => {});
  });
  await advance(100);
  await Promise.all(rejections);
  jest.useRealTimers();
  await collectGarbage();
  expect(references.filter((reference) => reference.deref() !== undefined)).toEqual([]);
  expect(pending.take()).toBeUndefined();
});

test('a settled append that the producer still refers to keeps no entry in memory', async () => {
  const pending = new PendingAppends<object>('Engine', LIMITS, () => undefined);
  const entries: WeakRef<object>[] = [];
  const outcomes = Array.from({ length: 3 }, () => {
    const entry = { text: 'x' };
    entries.push(new WeakRef(entry));
    return pending.add(entry, 1).catch((error: SseError) => error.code);
  });
  const [stored, refused, expired] = [1, 2, 3].map(() => pending.take()!);
  pending.resolve(stored!, '1-1');
  pending.reject(refused!, CLOSED);
  await advance(100);
  expect(await Promise.all(outcomes)).toEqual(['1-1', 'ERR_SSE_CLOSED', 'ERR_SSE_TIMEOUT']);
  jest.useRealTimers();
  await collectGarbage();
  expect(entries.map((entry) => entry.deref())).toEqual([undefined, undefined, undefined]);
  expect([stored, refused, expired].map((append) => append!.settled)).toEqual([true, true, true]);
});
