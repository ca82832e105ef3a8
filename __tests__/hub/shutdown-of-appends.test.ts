/*
 * What the shutdown does with the broadcasts and disconnects that were called before it.
 */
import { memoryJournal, sse, type Entry, type Journal } from '../../lib/index.ts';
import { later, opened, tick } from '../fixtures/support.ts';
import { clock, pause } from '../fixtures/http.ts';

/** A journal in memory that acts as one behind a connection: the reply to an append, and the delivery, wait for the test. */
function remoteJournal(): {
  journal: Journal;
  reply: () => void;
  deliver: () => void;
  open: () => void;
  appended: number;
} {
  const inner = memoryJournal();
  const replies: (() => void)[] = [];
  const deliveries: (() => void)[] = [];
  let openIt!: () => void;
  const gate = new Promise<void>((resolve) => (openIt = resolve));
  const remote = {
    appended: 0,
    open: () => openIt(),
    reply: () => replies.splice(0).forEach((each) => each()),
    deliver: () => deliveries.splice(0).forEach((each) => each()),
    journal: {
      open: async () => gate.then(() => inner.open()),
      async append(entry) {
        remote.appended++;
        await new Promise<void>((resolve) => replies.push(resolve));
        return inner.append(entry);
      },
      window: (max) => inner.window(max),
      read: (after, limit) => inner.read(after, limit),
      follow: (after, follower) =>
        inner.follow(after, {
          entries: (batch: readonly Entry[]) => void deliveries.push(() => follower.entries(batch)),
          known: () => follower.known(),
          rewind: (id) => follower.rewind(id),
          restart: (window, reason) => follower.restart(window, reason),
        }),
      compare: (a, b) => inner.compare(a, b),
      isId: (text) => inner.isId(text),
      close: () => inner.close(),
    } satisfies Journal,
  };
  return remote;
}

test('a broadcast in the tick of close() reaches the open streams, and then they end', async () => {
  const { events, stream } = await opened();
  const goodbye = events.broadcast('goodbye');
  await events.close();
  expect(await stream.closed).toBe('end');
  expect(stream.text).toContain(`id: ${await goodbye}\ndata: goodbye\n\nretry: `);
});

test('a disconnect in the tick of close() ends its connections as a disconnect', async () => {
  const { events, conn } = await opened((one) => one.join('a'));
  const disconnected = events.disconnect({ to: 'a', end: true });
  await events.close();
  await disconnected;
  expect(conn.signal.reason).toBe('disconnect');
});

test('the streams end when the engine has replied, and the journal has delivered what was appended before', async () => {
  const remote = remoteJournal();
  remote.open();
  const { events, stream, conn } = await opened(() => {}, { history: remote.journal });
  const goodbye = events.broadcast('goodbye');
  const closing = events.close();
  await tick();
  expect([remote.appended, conn.readyState]).toEqual([1, 'open']);
  remote.reply();
  await goodbye;
  await tick();
  expect(conn.readyState).toBe('open');
  remote.deliver();
  await closing;
  expect(await stream.closed).toBe('end');
  expect(stream.text).toContain('data: goodbye\n');
});

/** A router with a stream, and an entry that is stored and not delivered. */
async function openedWithStored() {
  const remote = remoteJournal();
  remote.open();
  const { events, stream } = await opened(() => {}, { history: remote.journal });
  const stored = events.broadcast('stored');
  await tick();
  remote.reply();
  await stored;
  return { remote, events, stream };
}

test('an entry that an append has stored before close() is waited for as well', async () => {
  const { remote, events, stream } = await openedWithStored();
  const closing = events.close();
  await tick();
  remote.deliver();
  await closing;
  await stream.closed;
  expect(stream.text).toContain('data: stored\n');
});

test('without a delivery the streams end after a second', async () => {
  const { events, stream } = await openedWithStored();
  const start = clock();
  await events.close();
  expect(clock() - start).toBeGreaterThan(900);
  expect(clock() - start).toBeLessThan(2500);
  expect(await stream.closed).toBe('end');
});

test.each([
  ['without streams', false],
  ['with a stream', true],
])('a broadcast before close() of a router %s is stored, and counted', async (_name, hasStream) => {
  const remote = remoteJournal();
  remote.open();
  const { events, stream } = await opened(() => {}, { history: remote.journal });
  if (!hasStream) {
    await stream.close();
    await tick();
  }
  const appends = [events.broadcast('a'), events.broadcast('b', { key: 'k' }), events.disconnect({ to: 'x' })];
  const closing = events.close();
  const answer = setInterval(() => {
    remote.reply();
    remote.deliver();
  }, 5);
  later(() => clearInterval(answer));
  await closing;
  expect((await Promise.all(appends)).map((id) => typeof id)).toEqual(['string', 'string', 'string']);
  expect(events.stats().broadcasts).toBe(2);
});

test('a broadcast while the streams end is stored as well', async () => {
  const remote = remoteJournal();
  remote.open();
  const { events, conn } = await opened(() => {}, { history: remote.journal });
  let late: Promise<string> | undefined;
  conn.signal.addEventListener('abort', () => (late = events.broadcast('late')));
  const closing = events.close();
  await tick();
  remote.reply();
  await closing;
  expect(typeof (await late)).toBe('string');
});

test('a broadcast before the journal is open is stored if it opens within a second', async () => {
  const remote = remoteJournal();
  const events = sse({ history: remote.journal });
  const early = events.broadcast('early');
  const closing = events.close();
  await tick();
  remote.open();
  await pause(20);
  remote.reply();
  await closing;
  expect(typeof (await early)).toBe('string');
});

test('a broadcast before a journal that does not open rejects after a second, and its error is no claim of a late call', async () => {
  const remote = remoteJournal();
  const events = sse({ history: remote.journal });
  const calls = { broadcast: events.broadcast('early'), disconnect: events.disconnect({ to: 'x' }) };
  const outcomes = Promise.allSettled(Object.values(calls));
  const start = clock();
  await events.close();
  expect(await outcomes).toEqual(
    Object.keys(calls).map((name) => ({
      status: 'rejected',
      reason: expect.objectContaining({
        code: 'ERR_SSE_CLOSED',
        message: expect.stringContaining(
          `The router was closed before its journal was open, so ${name}() has stored nothing.`,
        ),
      }),
    })),
  );
  expect(clock() - start).toBeGreaterThan(900);
  expect(clock() - start).toBeLessThan(2500);
});

test('entries that the log has lost are not waited for', async () => {
  let follower!: Parameters<Journal['follow']>[1];
  const { journal } = remoteJournal();
  const inner = memoryJournal();
  const { events } = await opened(() => {}, {
    history: {
      ...journal,
      open: () => inner.open(),
      append: async () => 'zzzzzzzzzzzz-9',
      window: (max) => inner.window(max),
      follow(_after, one) {
        follower = one;
        return () => {};
      },
    },
  });
  await events.broadcast('lost');
  const { floor } = await inner.window(0);
  follower.rewind(floor);
  const start = clock();
  await events.close();
  expect(clock() - start).toBeLessThan(500);
});
