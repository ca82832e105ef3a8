/*
 * A journal that breaks its contract: the process lives, `onError` receives the fault, and requests are answered so that their clients
 * try again.
 */
import { memoryJournal, sse, type Journal } from '../../lib/index.ts';
import { another, appOf, later, opened, tick } from '../fixtures/support.ts';
import { clock, eventually } from '../fixtures/http.ts';

/** A journal in memory with some members replaced. */
function journalWith(members: Partial<Journal>, inner: Journal = memoryJournal()): Journal {
  return {
    open: () => inner.open(),
    append: (entry) => inner.append(entry),
    window: (max) => inner.window(max),
    read: (after, limit) => inner.read(after, limit),
    follow: (after, follower) => inner.follow(after, follower),
    compare: (a, b) => inner.compare(a, b),
    isId: (text) => inner.isId(text),
    close: () => inner.close(),
    ...members,
  };
}

const messagesOf = (errors: unknown[]): string[] => errors.map((error) => (error as Error).message);

const fault = (): never => {
  throw new Error('fault');
};
const CONTRACT = (thing: string) =>
  expect.stringMatching(`^The result of ${thing}\\(\\) must be .*; received .*conformance`);

test.each<[name: string, members: Partial<Journal>, message: unknown]>([
  ['open() throws', { open: fault }, 'fault'],
  ['open() rejects', { open: async () => fault() }, 'fault'],
  ['window() throws', { window: fault }, 'fault'],
  ['window() resolves with nothing', { window: async () => undefined as never }, CONTRACT('window')],
  ['window() returns null', { window: () => null as never }, CONTRACT('window')],
  ['window() has no entries', { window: async () => ({ floor: 'x' }) as never }, CONTRACT('window')],
  [
    'an entry of window() has no body',
    { window: async () => ({ floor: 'x', entries: [{ id: 'y' }] }) as never },
    expect.any(String),
  ],
  ['follow() throws', { follow: fault }, 'fault'],
])(
  '%s: onError receives it, the router tries again, and opens when the journal works',
  async (_name, members, message) => {
    const errors: unknown[] = [];
    const broken = { ...members };
    const inner = memoryJournal();
    const journal = journalWith({}, inner);
    const events = sse({
      history: Object.assign(journal, broken),
      onError: (error: unknown) => void errors.push(error),
    });
    later(() => events.close());
    await eventually(() => errors.length > 0);
    expect(messagesOf(errors)[0]).toEqual(message);
    expect(events.stats().journalUp).toBe(0);
    Object.assign(journal, journalWith({}, inner));
    const stream = await another(appOf(events));
    await events.broadcast('works');
    expect((await stream.next('message')).data).toBe('works');
  },
);

test('a request is answered with a retry delay when the router closes before follow() has succeeded', async () => {
  const events = sse({ history: journalWith({ follow: fault }), onError: () => {} });
  const app = appOf(events);
  const opening = another(app);
  await tick();
  await events.close();
  const stream = await opening;
  expect(stream.status).toBe(200);
  await stream.closed;
  expect(stream.text).toMatch(/retry: \d+\n$/);
});

test.each<[name: string, members: Partial<Journal>, message: unknown]>([
  ['the function of follow() throws', { follow: () => fault }, 'fault'],
  ['follow() returns no function', { follow: () => 5 as never }, CONTRACT('follow')],
  ['close() throws', { close: fault }, 'fault'],
  ['close() rejects', { close: async () => fault() }, 'fault'],
])('%s: onError receives it once, and close() of the router resolves', async (_name, members, message) => {
  const errors: unknown[] = [];
  const { events, stream } = await opened(() => {}, {
    history: journalWith(members),
    onError: (error: unknown) => void errors.push(error),
  });
  await events.close();
  expect(messagesOf(errors)).toEqual([message]);
  expect(await stream.closed).toBe('end');
});

test('close() of the router settles although that of the journal does not', async () => {
  const errors: unknown[] = [];
  const events = sse({
    history: journalWith({ close: () => new Promise(() => {}) }),
    onError: (error: unknown) => void errors.push(error),
  });
  await events.broadcast('x');
  jest.useFakeTimers();
  const closing = events.close();
  await jest.advanceTimersByTimeAsync(15_000);
  await closing;
  expect(errors).toEqual([
    expect.objectContaining({ code: 'ERR_SSE_TIMEOUT', message: expect.stringMatching(/^The journal did not close/) }),
  ]);
});

test('a compare() that throws rejects no broadcast, and the shutdown ends the streams', async () => {
  const errors: unknown[] = [];
  const inner = memoryJournal();
  let compare: Journal['compare'] = (a, b) => inner.compare(a, b);
  const { events, stream } = await opened((conn) => conn.open(), {
    history: journalWith({ compare: (a, b) => compare(a, b) }, inner),
    onError: (error: unknown) => void errors.push(error),
  });
  await events.broadcast('a', { key: 'a' });
  compare = fault;
  expect(await events.broadcast('b', { key: 'b' })).toMatch(/-2$/);
  await events.close();
  expect(await stream.closed).toBe('end');
  expect(new Set(messagesOf(errors))).toEqual(new Set(['fault']));
});

test('a request that waits for the journal at close() is answered and counted as any other during a shutdown', async () => {
  const events = sse(() => {}, { history: journalWith({ open: () => new Promise(() => {}) }) });
  const waiting = another(appOf(events));
  await eventually(() => events.stats().connecting === 1);
  await events.close();
  expect(await (await waiting).body()).toMatch(/^: closing\nretry: \d+\n$/);
  expect(events.stats().refused.shutdown).toBe(1);
});

test.each<[name: string, append: Journal['append'], message: unknown]>([
  ['throws', fault, 'fault'],
  ['rejects', async () => fault(), 'fault'],
  ['resolves with nothing', async () => undefined as never, CONTRACT('append')],
])('append() %s: the broadcast and the disconnect reject', async (_name, append, message) => {
  const { events } = await opened(() => {}, { history: journalWith({ append }) });
  await expect(events.broadcast('x')).rejects.toMatchObject({ message });
  await expect(events.disconnect({ to: 'x' })).rejects.toMatchObject({ message });
  const start = clock();
  await events.close();
  expect(clock() - start).toBeLessThan(500);
});

test.each<[name: string, read: Journal['read'], message: unknown]>([
  ['throws', fault, 'fault'],
  ['rejects', async () => fault(), 'fault'],
  ['resolves with nothing', async () => undefined as never, CONTRACT('read')],
  ['resolves without entries', async () => ({ ok: true }) as never, CONTRACT('read')],
])('read() %s: follow() reports it once, and continues when the journal works', async (_name, read, message) => {
  const errors: unknown[] = [];
  const inner = memoryJournal();
  const journal = journalWith({}, inner);
  await inner.open();
  const first = await inner.append({ body: Buffer.from('data: 1\n\n') });
  await inner.append({ body: Buffer.from('data: 2\n\n') });
  // The window is shorter than the log, so the entries before it are read.
  journal.window = () => inner.window(1);
  journal.read = read;
  const events = sse({ history: journal, onError: (error: unknown) => void errors.push(error) });
  later(() => events.close());
  const { floor } = await inner.window(2);
  const events_ = events.follow({ after: floor });
  const next = events_.next();
  await eventually(() => errors.length > 0);
  expect(messagesOf(errors)).toEqual([message]);
  journal.read = (after, limit) => inner.read(after, limit);
  expect((await next).value).toMatchObject({ id: first, data: '1' });
  expect(errors).toHaveLength(1);
});

test.each<[name: string, members: Partial<Journal>]>([
  ['compare() throws', { compare: fault }],
  ['read() resolves with entries that are none', { read: async () => ({ ok: true, entries: [{}] }) as never }],
])(
  '%s while the log is read for a client: its stream ends, onError receives it, and the others continue',
  async (_name, members) => {
    const errors: unknown[] = [];
    const inner = memoryJournal();
    await inner.open();
    const { floor } = await inner.window(0);
    await inner.append({ body: Buffer.from('data: 1\n\n') });
    const last = await inner.append({ body: Buffer.from('data: 2\n\n') });
    const journal = journalWith({}, inner);
    journal.window = () => inner.window(1);
    let isRead = false;
    journal.read = async (after, limit) => {
      isRead = true;
      Object.assign(journal, members);
      return members.read === undefined ? inner.read(after, limit) : members.read(after, limit);
    };
    const { app, events, stream } = await opened(() => {}, {
      history: journal,
      onError: (error) => void errors.push(error),
    });
    const behind = await another(app, `/events?lastEventId=${floor}`);
    await behind.closed;
    expect(isRead).toBe(true);
    expect(errors).toHaveLength(1);
    Object.assign(journal, journalWith({}, inner));
    expect(last).toBe(events.position);
    await events.broadcast('3');
    expect((await stream.next('message')).data).toBe('3');
  },
);

test.each<[name: string, members: Partial<Journal>]>([
  ['isId()', { isId: fault }],
  ['compare()', { compare: fault }],
])(
  '%s throws for the id of a client: onError receives it once, and the client tries again later',
  async (_name, members) => {
    const errors: unknown[] = [];
    const journal = journalWith({});
    const handler = jest.fn();
    const { app, events, stream } = await opened(handler, {
      history: journal,
      onError: (error: unknown) => void errors.push(error),
    });
    await events.broadcast('1');
    const id = await events.broadcast('2');
    Object.assign(journal, members);
    const refused = await another(app, `/events?lastEventId=${id}`);
    await refused.closed;
    expect([refused.status, messagesOf(errors), handler.mock.calls.length]).toEqual([200, ['fault'], 1]);
    expect(refused.text).toMatch(/retry: \d+\n$/);
    expect((await stream.next('message')).data).toBe('1');
  },
);
