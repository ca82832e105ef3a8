import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Entry, Follower, Journal, ResetReason, JournalWindow } from '../../../lib/journal/journal.ts';
import { lmdbJournal, type LmdbJournalOptions } from '../../../lib/journal/lmdb/index.ts';
import { AppendQueue } from '../../../lib/journal/lmdb/append-queue.ts';
import { type EncodedEntry, encodeEntry } from '../../../lib/journal/lmdb/entry-codec.ts';
import { Store } from '../../../lib/journal/lmdb/store.ts';
import { sse } from '../../../lib/index.ts';
import { eventually } from '../../fixtures/http.ts';
import { another, appOf, later } from '../../fixtures/support.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const text = ({ body }: Entry) => new TextDecoder().decode(body);
const texts = async (journal: Journal) => (await journal.window(Infinity)).entries.map(text);

let path: string;
const open: Journal[] = [];

beforeEach(async () => {
  path = join(await mkdtemp(join(tmpdir(), 'sse-router-lmdb-')), 'log');
});
afterEach(async () => {
  for (const journal of open.splice(0)) await journal.close();
  await rm(join(path, '..'), { recursive: true, force: true });
});

function make(options: LmdbJournalOptions = {}, at = path): Journal {
  const journal = lmdbJournal(at, { sync: false, ...options });
  open.push(journal);
  return journal;
}

const fill = (journal: Journal, count: number) =>
  Promise.all(Array.from({ length: count }, (_, n) => journal.append({ body: bytes(`${n + 1}`) })));

/** Fakes the timers, except those that real threads and processes need. */
const fakeClock = () => void jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });

/** The code of a process that takes the write lock of a log, writes `held`, and blocks. Its argument is the path of the log. */
const HOLD_THE_LOCK = `
  const lock = require('lmdb').open(require('node:path').join(process.argv[1], 'turn.mdb'),
    { noSubdir: true, noSync: true, eventTurnBatching: false });
  lock.transactionSync(() => {
    require('node:fs').writeSync(1, 'held');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });
`;

class Recorder implements Follower {
  readonly received: string[] = [];
  readonly restarts: { readonly window: JournalWindow; readonly reason: ResetReason }[] = [];
  readonly status: (up: boolean, error?: Error) => void;
  readonly states: (string | true)[] = [];
  #onChange: () => void = () => {};
  constructor() {
    this.status = (up, error) => this.#record(() => this.states.push(up || error!.message));
  }
  entries(batch: readonly Entry[]): void {
    this.#record(() => this.received.push(...batch.map(text)));
  }
  known(): Iterable<string> {
    return [];
  }
  rewind(): void {}
  restart(window: JournalWindow, reason: ResetReason): void {
    this.#record(() => this.restarts.push({ window, reason }));
  }
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#onChange = () => void (condition() && resolve());
      this.#onChange();
    });
  }
  #record(record: () => void): void {
    record();
    this.#onChange();
  }
}

test('after a quiet time in which all entries have expired, a follower that received them continues and an older position is lost', async () => {
  const journal = make({ maxAge: 50 });
  const { floor } = await journal.window(0);
  const follower = new Recorder();
  journal.follow(floor, follower);
  const [early, last] = [await journal.append({ body: bytes('a') }), await journal.append({ body: bytes('b') })];
  while ((await journal.window(9)).entries.length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await journal.read(last, 9)).toEqual({ ok: true, entries: [] });
  await journal.append({ body: bytes('c') });
  await follower.until(() => follower.received.length === 3);
  expect([follower.received, follower.restarts]).toEqual([['a', 'b', 'c'], []]);
  expect(await journal.read(early, 9)).toEqual({ ok: false, reason: 'lost' });
});

describe('a restart', () => {
  test('continues the same log: ids, entries, keys and order', async () => {
    const before = make({ sync: true });
    const { floor } = await before.window(0);
    const id = await before.append({ body: bytes('a'), to: ['x'], key: 'k' });
    await before.close();
    const after = make({ sync: true });
    expect((await after.window(9)).floor).toBe(floor);
    expect(await after.append({ body: bytes('again'), key: 'k' })).toBe(id);
    expect(await after.append({ body: bytes('b') })).toBe(id.replace(/1$/, '2'));
    expect(await after.read(floor, 9)).toMatchObject({
      ok: true,
      entries: [{ id, to: ['x'] }, { body: Buffer.from('b') }],
    });
  });

  test('another log has another name', async () => {
    const names = await Promise.all(
      [make(), make({}, `${path}-2`)].map(async (journal) => (await journal.window(0)).floor),
    );
    expect(names[0]).toMatch(/^[0-9a-z]{12}-0$/);
    expect(names[0]).not.toBe(names[1]);
  });

  test('smaller limits apply after the next appends, in steps', async () => {
    const before = make();
    await fill(before, 2500);
    await before.close();
    const after = make({ maxLength: 10 });
    const lengths: number[] = [];
    for (let n = 0; n < 3; n++) {
      await after.append({ body: bytes('x') });
      lengths.push((await after.window(Infinity)).entries.length);
    }
    expect(lengths).toEqual([1500, 500, 10]);
  });
});

describe('the limits apply to the clients of a running router, too', () => {
  /** Returns a router on the log, and a way to return to it with an id, as long as the test lasts. */
  function running(options: LmdbJournalOptions) {
    const events = sse((conn) => conn.join('a'), { history: lmdbJournal(path, { sync: false, ...options }) });
    later(() => events.close());
    const app = appOf(events);
    const broadcast = async (count: number) => {
      const ids: string[] = [];
      for (let n = 1; n <= count; n++) ids.push(await events.broadcast(`${n}`, { to: 'a' }));
      return ids;
    };
    /** The events that a client with this id receives: of a `reset`, only the reason. */
    const returnWith = async (lastEventId: string, count: number) => {
      const stream = await another(app, '/events', { lastEventId });
      const received = await stream.take(count);
      await stream.close();
      return received.map((one) => (one.event === 'reset' ? `reset ${one.json.reason}` : one.data));
    };
    return { events, broadcast, returnWith };
  }

  test('`maxLength`: a client with a trimmed id gets a reset, one with the last valid id gets the rest', async () => {
    const { broadcast, returnWith } = running({ maxLength: 5 });
    const ids = await broadcast(10);
    expect(await returnWith(ids[0]!, 1)).toEqual(['reset lost']);
    expect(await returnWith(ids[3]!, 1)).toEqual(['reset lost']);
    expect(await returnWith(ids[4]!, 5)).toEqual(['6', '7', '8', '9', '10']); // the position before the oldest entry
    expect(await returnWith(ids[8]!, 1)).toEqual(['10']);
  });

  test('`maxBytes`', async () => {
    const { broadcast, returnWith } = running({ maxBytes: 50 }); // an entry takes 9 or 10 bytes
    const ids = await broadcast(10);
    expect(await returnWith(ids[0]!, 1)).toEqual(['reset lost']);
    expect(await returnWith(ids[8]!, 1)).toEqual(['10']);
  });

  test('`maxAge`, without an append, and for the trimming of another process', async () => {
    const { events, broadcast, returnWith } = running({ maxAge: Infinity });
    const ids = await broadcast(3);
    const other = make({ maxAge: 100 });
    await other.open();
    while ((await other.window(9)).entries.length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
    await eventually(() => events.stats().ringEntries <= 1);
    expect(await returnWith(ids[0]!, 1)).toEqual(['reset lost']);
    await events.broadcast('new');
    expect(await returnWith(ids[2]!, 1)).toEqual(['new']);
  });

  test('`follow()` of the router does not yield trimmed events either', async () => {
    const { events, broadcast } = running({ maxLength: 5 });
    const ids = await broadcast(10);
    const [first] = [await events.follow({ after: ids[0]! }).next()];
    expect(first!.value).toMatchObject({ type: 'reset', reason: 'lost' });
  });
});

describe('a system clock that was wrong', () => {
  const DAY_MS = 86_400_000;
  const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  /** Appends while the system clock is wrong by this much. */
  async function appendAt(journal: Journal, offset: number, count: number): Promise<string[]> {
    const now = Date.now.bind(Date);
    const clock = jest.spyOn(Date, 'now').mockImplementation(() => now() + offset);
    try {
      return await fill(journal, count);
    } finally {
      clock.mockRestore();
    }
  }

  test.each([
    ['a day ahead', DAY_MS],
    ['two seconds ahead', 2000],
  ])('by %s, then corrected: entries are removed after `maxAge`', async (_by, offset) => {
    const journal = make({ maxAge: 1000 });
    const right = await fill(journal, 2);
    const wrong = await appendAt(journal, offset, 3);
    expect(await texts(journal)).toEqual(offset > 1000 ? ['1', '2', '3'] : expect.anything()); // by that clock, two had expired
    const start = performance.now();
    const [last] = await fill(journal, 1);
    expect(await journal.read(wrong[0]!, 9)).toMatchObject({ ok: true });
    while ((await texts(journal)).length > 0) await sleep(20);
    expect(performance.now() - start).toBeGreaterThan(990);
    expect(performance.now() - start).toBeLessThan(1900);
    for (const id of [...right, ...wrong]) expect(await journal.read(id, 9)).toEqual({ ok: false, reason: 'lost' });
    expect(await journal.read(last!, 9)).toMatchObject({ ok: true });
  });

  test('entries from the future are removed although nothing is appended after them', async () => {
    const journal = make({ maxAge: 300 });
    await appendAt(journal, DAY_MS, 3);
    while ((await texts(journal)).length > 0) await sleep(20);
  });

  test('the correction survives a restart, and several corrections apply together', async () => {
    const before = make({ maxAge: 1000 });
    for (const days of [3, 2, 1]) await appendAt(before, days * DAY_MS, 2);
    await fill(before, 1);
    await before.close();
    const after = make({ maxAge: 1000 });
    expect((await texts(after)).length).toBe(7);
    while ((await texts(after)).length > 0) await sleep(20);
    expect(await fill(after, 2)).toHaveLength(2);
    expect(await texts(after)).toEqual(['1', '2']);
  });
});

describe('limits', () => {
  test('count and bytes apply at the same time', async () => {
    const journal = make({ maxLength: 4, maxBytes: 100 });
    const sizes = async () => (await journal.window(Infinity)).entries.map(({ body }) => body.byteLength);
    for (const size of [50, 50, 1]) await journal.append({ body: new Uint8Array(size) });
    expect(await sizes()).toEqual([50, 1]);
    for (let n = 0; n < 3; n++) await journal.append({ body: new Uint8Array(0) });
    expect(await sizes()).toEqual([1, 0, 0, 0]);
  });

  test('a key is removed with its entry', async () => {
    const journal = make({ maxLength: 2 });
    const id = await journal.append({ body: bytes('a'), key: 'k' });
    await fill(journal, 2);
    expect(await journal.append({ body: bytes('b'), key: 'k' })).not.toBe(id);
    expect(await texts(journal)).toEqual(['2', 'b']);
  });

  test('an expired entry is removed without an append', async () => {
    const journal = make({ maxAge: 300 });
    const ids = await fill(journal, 3);
    expect(await texts(journal)).toEqual(['1', '2', '3']);
    while ((await texts(journal)).length > 0) await new Promise(setImmediate);
    expect(await journal.read(ids[0]!, 0)).toEqual({ ok: false, reason: 'lost' });
    expect(await journal.read(ids[2]!, 0)).toEqual({ ok: true, entries: [] });
  });

  test('a body that the log could not keep is rejected', async () => {
    const journal = make({ maxBytes: 10 });
    await expect(journal.append({ body: new Uint8Array(11) })).rejects.toMatchObject({ code: 'ERR_SSE_TOO_LARGE' });
    await journal.append({ body: new Uint8Array(10) });
    await expect(journal.append({ body: 'x' as never })).rejects.toMatchObject({ code: 'ERR_SSE_DATA' });
  });

  test('the file does not grow while as many entries are removed as are added', async () => {
    const journal = make({ maxLength: 500 });
    const round = async () => {
      for (let n = 0; n < 20; n++) {
        await Promise.all(
          Array.from({ length: 200 }, (_, i) => journal.append({ body: new Uint8Array((i * 37) % 3000) })),
        );
      }
      return (await stat(join(path, 'data.mdb'))).size;
    };
    const first = await round();
    for (let n = 0; n < 4; n++) await round();
    expect(await round()).toBeLessThan(first * 2);
    expect((await stat(join(path, 'wake'))).size).toBe(1);
  });

  test('appends beyond the limit of pending appends are rejected and not stored', async () => {
    const journal = make();
    const waiting = Array.from({ length: 10_005 }, () => journal.append({ body: bytes('x') }));
    const results = await Promise.allSettled(waiting);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(10_000);
    expect(results.at(-1)).toMatchObject({ reason: { code: 'ERR_SSE_QUEUE_FULL' } });
    expect((await journal.window(Infinity)).entries).toHaveLength(10_000);
  });
});

describe('a commit that does not finish', () => {
  beforeEach(fakeClock);
  afterEach(() => void jest.useRealTimers());

  interface Commit {
    readonly take: () => readonly EncodedEntry[];
    readonly finish: (ids: string[]) => void;
  }

  /** Creates a queue on a store whose commits finish only when the test calls `finish`. */
  function stalledQueue(): { queue: AppendQueue; commits: Commit[] } {
    const commits: Commit[] = [];
    const commit: Store['commit'] = (take) => new Promise((finish) => commits.push({ take, finish }));
    const store = { isCurrent: true, commit } as unknown as Store;
    return {
      queue: new AppendQueue(
        () => store,
        () => {},
      ),
      commits,
    };
  }

  /** Appends. Returns an object that gets the outcome, and the ms after which an append was rejected. */
  function appendTo(queue: AppendQueue): { code?: string; message?: string; after?: number; id?: string } {
    const outcome = {};
    const since = performance.now();
    queue.append(encodeEntry({ body: bytes('x') })).then(
      (id) => Object.assign(outcome, { id }),
      ({ code, message }) => Object.assign(outcome, { code, message, after: performance.now() - since }),
    );
    return outcome;
  }

  const timeout = (text: string) => ({ code: 'ERR_SSE_TIMEOUT', message: expect.stringContaining(text) });

  test('each append is rejected when it has waited for 10 s, whenever it was made', async () => {
    const { queue } = stalledQueue();
    const outcomes = [appendTo(queue)];
    for (const gap of [5000, 6000]) {
      await jest.advanceTimersByTimeAsync(gap);
      outcomes.push(appendTo(queue));
    }
    await jest.advanceTimersByTimeAsync(12_000);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject(timeout('the entry was not stored'));
      expect(outcome.after).toBeGreaterThan(9000);
      expect(outcome.after).toBeLessThan(12_000);
    }
  });

  test('a transaction that has finished while the process was stopped is no timeout', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    const { queue, commits } = stalledQueue();
    const outcome = appendTo(queue);
    await new Promise(setImmediate);
    expect(commits[0]!.take()).toHaveLength(1);
    // When a process continues, timers run before the results that have arrived.
    jest.advanceTimersByTime(12_000);
    commits[0]!.finish(['1']);
    for (let i = 0; i < 3; i++) await new Promise(setImmediate);
    expect(outcome).toEqual({ id: '1' });
  });

  test('an append that has expired when its transaction begins is not stored', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] });
    const { queue, commits } = stalledQueue();
    const outcome = appendTo(queue);
    await new Promise(setImmediate);
    jest.advanceTimersByTime(12_000);
    expect(commits[0]!.take()).toEqual([]);
    await new Promise(setImmediate);
    expect(outcome).toMatchObject(timeout('the entry was not stored'));
  });

  test('the appends of one transaction are rejected together, with an unknown outcome; if it finishes after all, the next one runs', async () => {
    const { queue, commits } = stalledQueue();
    const taken = [appendTo(queue)];
    await jest.advanceTimersByTimeAsync(4000);
    taken.push(appendTo(queue));
    expect(commits[0]!.take()).toHaveLength(2); // the lock is held
    await jest.advanceTimersByTimeAsync(5000);
    const waiting = appendTo(queue);
    expect(taken).toEqual([{}, {}]);
    await jest.advanceTimersByTimeAsync(2000);
    expect(taken).toMatchObject([timeout('the outcome is unknown'), timeout('the outcome is unknown')]);
    expect(waiting).toEqual({});
    commits[0]!.finish(['1', '2']);
    await jest.advanceTimersByTimeAsync(0);
    expect(commits[1]!.take()).toHaveLength(1);
    commits[1]!.finish(['3']);
    await jest.advanceTimersByTimeAsync(0);
    expect(waiting).toEqual({ id: '3' });
  });
});

describe('the directory', () => {
  test('is removed while the log is open: followers are restarted, and a new log is started', async () => {
    const journal = make();
    const recorder = new Recorder();
    const [id] = await fill(journal, 3);
    journal.follow(id!, recorder);
    renameSync(path, `${path}-removed`);
    await recorder.until(() => recorder.restarts.length > 0);
    expect(recorder.restarts).toMatchObject([{ reason: 'unknown', window: { entries: [] } }]);
    const next = await journal.append({ body: bytes('new') });
    expect(next.slice(0, 12)).not.toBe(id!.slice(0, 12));
    expect(recorder.received).toEqual(['2', '3', 'new']);
    expect(await journal.read(id!, 0)).toEqual({ ok: false, reason: 'unknown' });
  });

  test('is replaced by another log: followers receive the window of that log', async () => {
    const other = make({}, `${path}-other`);
    await fill(other, 2);
    await other.close();
    const journal = make();
    const recorder = new Recorder();
    journal.follow((await journal.window(0)).floor, recorder);
    await rename(path, `${path}-removed`);
    await rename(`${path}-other`, path);
    await recorder.until(() => recorder.restarts.length > 0);
    expect(recorder.restarts[0]!.window.entries.map(text)).toEqual(['1', '2']);
    await journal.append({ body: bytes('3') });
    expect(recorder.received).toEqual(['3']);
  });

  test('an append into a file that has just been removed is stored again, in the new file', async () => {
    const journal = make();
    await fill(journal, 1);
    const appended = journal.append({ body: bytes('kept') });
    renameSync(path, `${path}-removed`); // before the transaction has begun
    await appended;
    expect(await texts(journal)).toEqual(['kept']);
  });

  test('is unusable for a while: followers get down, then up, and no restart', async () => {
    const journal = make();
    const recorder = new Recorder();
    const ids = await fill(journal, 1);
    journal.follow(ids[0]!, recorder);
    renameSync(path, `${path}-aside`);
    writeFileSync(path, 'a file where the directory was'); // synchronously, or a new log is created there
    await recorder.until(() => recorder.states.length > 0);
    expect(recorder.states).toEqual([expect.stringMatching(/must be a directory/)]);
    await expect(journal.append({ body: bytes('x') })).rejects.toMatchObject({ code: 'ERR_SSE_JOURNAL' });
    rmSync(path);
    renameSync(`${path}-aside`, path);
    await recorder.until(() => recorder.states.length > 1);
    await journal.append({ body: bytes('back') });
    expect(recorder.states).toEqual([expect.any(String), true]);
    expect([recorder.received, recorder.restarts]).toEqual([['back'], []]);
  });
});

describe('a file that cannot be used is rejected with a reason', () => {
  const expectRejection = async (message: RegExp) => {
    const error = expect.objectContaining({
      name: 'SseError',
      code: 'ERR_SSE_JOURNAL',
      message: expect.stringMatching(message),
    });
    await expect(make().open()).rejects.toEqual(error);
    await expect(make().append({ body: bytes('x') })).rejects.toEqual(error);
  };

  test('it is not an LMDB file', async () => {
    await mkdir(path);
    await writeFile(join(path, 'data.mdb'), Buffer.alloc(20_000, 7));
    await expectRejection(/damaged: it is not an LMDB file.*Move the directory away/);
  });

  test.each([
    ['in the middle of a page', 5000],
    ['before its pages', 8192],
    ['within its header', 100],
  ])('it is truncated %s', async (_where, size) => {
    const journal = make();
    for (let n = 0; n < 5; n++) await fill(journal, 100);
    await journal.close();
    await truncate(join(path, 'data.mdb'), size);
    await expectRejection(/damaged: it is/);
  });

  test('a file with an incomplete page of a killed process is accepted', async () => {
    const journal = make();
    const id = await journal.append({ body: bytes('x') });
    await journal.close();
    await appendFile(join(path, 'data.mdb'), Buffer.alloc(1000));
    expect((await make().window(1)).entries.map((entry) => entry.id)).toEqual([id]);
  });

  test('its header is overwritten', async () => {
    const journal = make();
    await fill(journal, 100);
    await journal.close();
    const file = await readFile(join(path, 'data.mdb'));
    file.fill(255, 32, 4096);
    await writeFile(join(path, 'data.mdb'), file);
    await expectRejection(/damaged: its header is invalid/);
  });

  test('it is the database of another program', async () => {
    const { open: openDatabase } = await import('lmdb');
    const database = openDatabase(path, { noSubdir: false });
    await database.put('theirs', 1);
    await database.close();
    await expectRejection(/damaged: it contains the key theirs of another program/);
  });

  test('the path is a file', async () => {
    await writeFile(path, '');
    await expectRejection(/must be a directory/);
  });
});

describe('close', () => {
  test('stores the appends that were called before it, in as many transactions as they need', async () => {
    const journal = make();
    await journal.open();
    const appended = Promise.allSettled(Array.from({ length: 3000 }, () => journal.append({ body: bytes('x') })));
    await journal.close();
    expect((await appended).filter(({ status }) => status === 'rejected')).toEqual([]);
    expect((await make().window(Infinity)).entries).toHaveLength(3000);
    await expect(journal.read('000000000000-0', 0)).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
    expect(journal.follow('000000000000-0', new Recorder())).toBeInstanceOf(Function);
  });

  test('waits 10 s for a process that holds the write lock, and closes the store when that process has ended', async () => {
    fakeClock();
    const storeClose = jest.spyOn(Store.prototype, 'close');
    const journal = make();
    await journal.open();
    const holder = spawn(process.execPath, ['-e', HOLD_THE_LOCK, path], {
      cwd: __dirname,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(holder, 'exit');
    try {
      await once(holder.stdout, 'data');
      const append = journal.append({ body: bytes('x') });
      let closed = false;
      void journal.close().then(() => (closed = true));
      const outcome = append.catch((error: unknown) => error);
      await jest.advanceTimersByTimeAsync(9999);
      expect(closed).toBe(false);
      await jest.advanceTimersByTimeAsync(1);
      expect(closed).toBe(true);
      expect(await outcome).toMatchObject({
        code: 'ERR_SSE_TIMEOUT',
        message: expect.stringContaining('the entry was not stored'),
      });
      expect(storeClose).not.toHaveBeenCalled();
    } finally {
      jest.useRealTimers();
      holder.kill('SIGKILL');
      await ended;
    }
    while (storeClose.mock.calls.length === 0) await new Promise(setImmediate);
    await storeClose.mock.results[0]!.value;
    storeClose.mockRestore();
    expect(await texts(make())).toEqual([]);
  });

  test('before the log was opened does nothing', async () => {
    const journal = make();
    await journal.close();
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

test.each([
  ['', {}, /path must be a non-empty string; received the string ""\. Pass the path of a directory/],
  [5, {}, /path must be a non-empty string; received the number 5/],
  ['x', { maxLength: 0 }, /maxLength must be a positive integer/],
  ['x', { maxlenght: 5 }, /lmdbJournal\(\) must be .*"maxlenght"\. Did you mean maxLength\?/],
  ['x', { size: 5 }, /lmdbJournal\(\) must be one of maxLength, maxAge, maxBytes, sync; received the string "size"/],
  ['x', { sync: 1 }, /sync must be true or false; received the number 1/],
])('lmdbJournal(%j, %j) is rejected', (at, options, message) => {
  const create = () => lmdbJournal(at as string, options as LmdbJournalOptions);
  expect(create).toThrow(expect.objectContaining({ code: 'ERR_SSE_OPTION', message: expect.stringMatching(message) }));
});
