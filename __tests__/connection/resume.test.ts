/*
 * Resume over real sockets: no gap, no duplicate, and a `reset` where that is not possible.
 */

import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import express from 'express';
import { sse, type Connection, type SseOptions, type SseRouter } from '../../lib/index.ts';
import { connect, type TestStream } from '../../lib/testing/index.ts';
import { Random, seedFrom } from '../fixtures/random.ts';

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((close) => close()));
});

interface Site {
  events: SseRouter;
  url: string;
  /** The newest connection. */
  conn: () => Connection;
  visit: (query?: string, lastEventId?: string, headers?: Record<string, string>) => Promise<TestStream>;
}

/** Returns a site whose clients name the channels to join in the query. */
async function site(options: SseOptions = {}, onConnect: (conn: Connection) => void = () => {}): Promise<Site> {
  const conns: Connection[] = [];
  const events = sse((conn, req) => {
    conns.push(conn);
    const { join } = req.query as { join?: string };
    if (join) conn.join(...join.split(','));
    onConnect(conn);
  }, options);
  const server: Server = createServer(express().use('/events', events));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`;
  open.push(async () => {
    await events.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    events,
    url,
    conn: () => conns.at(-1)!,
    async visit(query = '', lastEventId = '', headers = {}) {
      const stream = await connect(`${url}${query}`, undefined, { lastEventId, headers, timeout: 10_000 });
      open.unshift(() => stream.close());
      return stream;
    },
  };
}

const texts = (stream: TestStream): string[] =>
  stream.events.filter(({ event }) => event === 'message').map(({ data }) => data);
const dataOf = (events: readonly { data: string }[]): string[] => events.map(({ data }) => data);

describe('30 clients whose connections are cut every 20 to 140 ms', () => {
  test('each client receives the log of its channels, every event once and in order', async () => {
    const random = new Random(seedFrom('RESUME_SEED'));
    const { events, visit } = await site();
    const log: { channel: string; data: string }[] = [];
    let running = true;
    const sets = ['a', 'b', 'c', 'a,b', 'b,c', 'a,b,c'];
    const pauses = Array.from({ length: 30 }, () => new Random(random.below(2 ** 30)));
    let ready = 0;
    let go!: () => void;
    const all = new Promise<void>((resolve) => (go = resolve));
    let cuts = 0;

    const client = async (set: string, pauses: Random): Promise<string[]> => {
      const received: string[] = [];
      let stream = await visit(`?join=${set}`);
      await stream.next(); // its first cursor
      if (++ready === 30) go();
      for (let taken = 1; ; taken = 0) {
        const last = !running;
        if (last)
          await stream.until(() => stream.events.some(({ data }) => data === 'end') || received.includes('end'));
        else await new Promise((resolve) => setTimeout(resolve, 20 + pauses.below(121)));
        await stream.cut();
        cuts++;
        received.push(...dataOf(stream.events.slice(taken)));
        if (last || received.includes('end')) return received;
        stream = await visit(`?join=${set}`, stream.lastEventId);
      }
    };
    const clients = pauses.map((own, index) => client(sets[index % sets.length]!, own));
    await all;
    for (let n = 0; n < 900; n++) {
      const channel = 'abc'[random.below(3)]!;
      const data = `${n} ${'.'.repeat(random.below(300))}`;
      log.push({ channel, data });
      await events.broadcast(data, { to: channel });
      if (n % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    running = false;
    await events.broadcast('end');
    const lists = await Promise.all(clients);
    for (const [index, list] of lists.entries()) {
      const set = sets[index % sets.length]!.split(',');
      expect(list).toEqual([...log.filter(({ channel }) => set.includes(channel)).map(({ data }) => data), 'end']);
    }
    expect(cuts).toBeGreaterThan(200);
  }, 60_000);

  test('replays during broadcasts have neither gap nor duplicate', async () => {
    const { events, visit } = await site();
    const first = await events.broadcast('0');
    for (let n = 1; n <= 100; n++) {
      const [stream] = await Promise.all([visit('', first), events.broadcast(String(n))]);
      expect(dataOf(await stream.take(n))).toEqual(Array.from({ length: n }, (_, index) => String(index + 1)));
      await stream.close();
    }
  });
});

describe('the last event id of a request', () => {
  test.each(['lastEventId', 'last_event_id', 'evs_last_event_id'])('is read from the query as %s', async (name) => {
    const { events, visit } = await site();
    const id = await events.broadcast('seen');
    await events.broadcast('missed');
    expect(await (await visit(`?${name}=${id}`)).next()).toMatchObject({ data: 'missed' });
  });

  test('is the header’s, if an old page has left another in the query', async () => {
    const { events, visit, conn } = await site();
    const old = await events.broadcast('1');
    const id = await events.broadcast('2');
    await events.broadcast('3');
    expect(await (await visit(`?lastEventId=${old}`, id)).next()).toMatchObject({ data: '3' });
    expect(conn().lastEventId).toBe(id);
    expect(await (await visit(`?lastEventId=${id}`, '')).next()).toMatchObject({ data: '3' });
  });

  // reconnecting-eventsource appends a parameter to a URL that already has one.
  test('is the last of several in the query; an empty one does not count', async () => {
    const { events, visit } = await site();
    const old = await events.broadcast('1');
    const id = await events.broadcast('2');
    await events.broadcast('3');
    for (const query of [`?lastEventId=${old}&lastEventId=${id}`, `?lastEventId=&evs_last_event_id=${id}`]) {
      expect(await (await visit(query)).next()).toMatchObject({ data: '3' });
    }
  });

  test.each([
    ['UTF-8', 'é…💥', Buffer.from('é…💥').toString('latin1')],
    ['Latin-1', 'é', '\xe9'],
    ['ASCII with a comma', 'a, b', 'a, b'],
  ])('is decoded from bytes of %s', async (_, text, header) => {
    const { visit, conn } = await site({ history: false });
    await visit('', '', { 'last-event-id': header });
    expect(conn().lastEventId).toBe(text);
  });

  test('is one unknown id if there are two headers: it is not split, and nothing is replayed', async () => {
    const { events, visit, conn } = await site();
    const id = await events.broadcast('seen');
    await events.broadcast('not for two ids');
    const stream = await visit('', '', { 'last-event-id': [id, id] as never });
    expect(conn().lastEventId).toBe(`${id}, ${id}`);
    expect((await stream.next()).json).toEqual({ reason: 'unknown', lastEventId: `${id}, ${id}` });
    await events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live' });
  });

  test('is never echoed, and is empty when it is too long or absent', async () => {
    const { events, visit, conn } = await site();
    const evil = await visit('?lastEventId=%00%0d%0adata:x%0a%0a');
    expect(conn().lastEventId).toBe('\0\r\ndata:x\n\n');
    await visit(`?lastEventId=${'x'.repeat(1025)}`);
    expect(conn().lastEventId).toBe('');
    await visit();
    expect(conn().lastEventId).toBe('');
    await events.broadcast('after');
    expect(await evil.next()).toMatchObject({ event: 'reset', json: { reason: 'unknown', lastEventId: '' } });
    expect(await evil.next()).toMatchObject({ data: 'after' });
    expect(evil.text).not.toContain('data:x');
  });

  test('is compared as a number: 9 is followed by 10, 11 and 12', async () => {
    const { events, visit } = await site();
    const ids: string[] = [];
    for (let n = 1; n <= 12; n++) ids.push(await events.broadcast(String(n)));
    for (const from of [1, 8, 9, 10]) {
      const stream = await visit('', ids[from - 1]);
      const missed = ids.map((_, index) => String(index + 1)).slice(from);
      expect(dataOf(await stream.take(12 - from))).toEqual(missed);
    }
    const upToDate = await visit('', ids[11]);
    await events.broadcast('13');
    expect(dataOf(await upToDate.take(1))).toEqual(['13']);
  });
});

describe('a client that cannot be resumed receives a reset', () => {
  test('lost: the last event of the client has been trimmed', async () => {
    const { events, visit } = await site({ history: { size: 3 } });
    const ids: string[] = [];
    for (let n = 1; n <= 6; n++) ids.push(await events.broadcast(String(n)));
    const stream = await visit('', ids[1]);
    const reset = await stream.next();
    expect(reset).toMatchObject({ event: 'reset', id: ids[5] });
    expect(reset.json).toEqual({ reason: 'lost', lastEventId: ids[1] });
    const kept = await visit('', ids[3]);
    expect(dataOf(await kept.take(2))).toEqual(['5', '6']);
    await events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live' });
    expect(await kept.next()).toMatchObject({ data: 'live' });
  });

  test('unknown: an id of another log, or an id that was never issued', async () => {
    const before = await site();
    const ids = [await before.events.broadcast('1'), await before.events.broadcast('2')];
    const { events, visit } = await site();
    await events.broadcast('new 1');
    const head = await events.broadcast('new 2');
    const forged = head.replace(/\d+$/, '999');
    for (const id of [...ids, forged]) {
      const stream = await visit('', id);
      const reset = await stream.next();
      expect(reset).toMatchObject({ event: 'reset', id: head });
      expect(reset.json).toEqual({ reason: 'unknown', lastEventId: id });
    }
    expect(events.stats().resumes.unknown).toBe(3);
  });

  test("unknown: an id that is not of the log's form", async () => {
    const { events, visit, conn } = await site({ heartbeat: 30 });
    const stream = await visit('', 'row 17');
    expect((await stream.next()).json).toEqual({ reason: 'unknown', lastEventId: 'row 17' });
    await stream.until(() => stream.comments.length > 2); // heartbeats, and no checkpoint
    const id = await events.broadcast('live');
    const event = await stream.next();
    expect(event).toMatchObject({ data: 'live', id });
    expect(conn().lastEventId).toBe('row 17');
  });

  test('lost: a client that stalls until its position has been trimmed', async () => {
    const { events, visit } = await site({ history: { size: 50 } });
    const stream = await visit();
    await stream.next();
    stream.pause();
    const ids: string[] = [];
    for (let n = 0; n < 400; n++) {
      ids.push(await events.broadcast(`${n} ${'.'.repeat(65_536)}`));
      if (n % 10 === 0) await new Promise(setImmediate);
    }
    expect(events.stats().behind).toBe(1);
    stream.resume();
    await stream.until(() => stream.events.some(({ event }) => event === 'reset'));
    const numbers = texts(stream).map((text) => Number.parseInt(text, 10));
    expect(numbers).toEqual(numbers.map((_, index) => index)); // a prefix without a gap
    expect(stream.events.at(-1)).toMatchObject({ event: 'reset', id: ids[399] });
    expect(stream.events.at(-1)!.json).toEqual({ reason: 'lost', lastEventId: ids[numbers.length - 1] });
    await events.broadcast('live');
    await stream.until(() => texts(stream).includes('live'));
    await stream.close();
  });
});

describe('the first position of a client', () => {
  test('is the id of the first push, or of a checkpoint if there is no push', async () => {
    const quiet = await site();
    const head = await quiet.events.broadcast('before');
    expect(await (await quiet.visit()).next()).toMatchObject({ event: 'checkpoint', data: '', id: head });
    const pushing = await site({}, (conn) => void conn.push({ data: 'one' }, { data: 'two' }));
    const position = await pushing.events.broadcast('before');
    const [one, two] = await (await pushing.visit()).take(2);
    expect(one).toMatchObject({ data: 'one', id: position });
    expect(two).toMatchObject({ data: 'two', id: undefined });
  });

  test('is valid for an empty log as well', async () => {
    const { events, visit } = await site();
    const stream = await visit();
    const { id } = await stream.next();
    await stream.cut();
    await events.broadcast('first');
    expect(dataOf(await (await visit('', id)).take(1))).toEqual(['first']);
  });

  test('is not sent to a returning client: a disconnect during the replay would lose the remaining entries', async () => {
    const { events, visit } = await site({}, (conn) => void conn.push('welcome'));
    const id = await events.broadcast('1');
    await events.broadcast('2');
    const [welcome, missed] = await (await visit('', id)).take(2);
    expect(welcome).toMatchObject({ data: 'welcome', id: undefined, lastEventId: id });
    expect(missed).toMatchObject({ data: '2' });
  });

  test('is taken at the admission: no event is lost while the handler waits', async () => {
    let go!: () => void;
    let admitted!: () => void;
    const waiting = new Promise<void>((resolve) => (admitted = resolve));
    const events = sse(async (conn) => {
      admitted();
      await new Promise<void>((resolve) => (go = resolve));
      conn.join('room');
    });
    open.push(() => events.close());
    const stream = connect(express().use(events), '/');
    await waiting;
    await events.broadcast('meanwhile', { to: 'room' });
    go();
    expect(dataOf(await (await stream).take(2))).toEqual(['', 'meanwhile']);
    await (await stream).close();
  });

  test('advances with the heartbeat if the channels are quiet', async () => {
    const { events, visit } = await site({ history: { size: 5 }, heartbeat: 40 });
    const stream = await visit('?join=quiet');
    await stream.next();
    let head = '';
    for (let n = 0; n < 20; n++) head = await events.broadcast('noise', { to: 'loud' });
    expect(await stream.next()).toMatchObject({ event: 'checkpoint', data: '', id: head });
    const { length } = stream.comments;
    await stream.until(() => stream.comments.length > length + 1); // one checkpoint, then comments
    expect(stream.events).toHaveLength(2);
    const returning = await stream.reconnect();
    await events.broadcast('at last', { to: 'quiet' });
    expect(dataOf(await returning.take(1))).toEqual(['at last']);
    await returning.close();
  });
});

describe('positions', () => {
  test('in a page that was rendered before its stream opened: no event between the two is missed', async () => {
    const { events, visit } = await site();
    await events.broadcast('in the state');
    const page = { position: events.position };
    await events.broadcast('after the state was loaded');
    const stream = await visit(`?lastEventId=${page.position}`);
    expect(dataOf(await stream.take(1))).toEqual(['after the state was loaded']);
  });

  test('are not written for a broadcast of a retry alone: the id would belong to the next event', async () => {
    const { events, visit } = await site();
    const stream = await visit();
    const { id } = await stream.next();
    await events.broadcast({ retry: 1234 });
    await stream.until(() => stream.retry === 1234);
    expect(stream.lastEventId).toBe(id);
    const next = await events.broadcast('next');
    expect(await stream.next()).toMatchObject({ data: 'next', id: next });
    const returning = await visit('', id);
    expect(await returning.next()).toMatchObject({ data: 'next', id: next });
    expect(returning.retry).toBe(1234);
  });

  test('are not sent to a connection with ids of the application, which receives broadcasts without ids', async () => {
    const { events, visit } = await site({ heartbeat: 30 }, (conn) => void conn.push({ id: 1, data: 'foo' }));
    const stream = await visit();
    expect(await stream.next()).toMatchObject({ data: 'foo', id: '1' });
    await events.broadcast('bar');
    expect(await stream.next()).toMatchObject({ data: 'bar', id: undefined, lastEventId: '1' });
    await events.broadcast('elsewhere', { to: 'nowhere' });
    const { length } = stream.comments;
    await stream.until(() => stream.comments.length > length + 1);
    expect(stream.events).toHaveLength(2);
  });

  test('put a push after the broadcasts before it, and before the broadcasts after it', async () => {
    const { events, visit, conn } = await site();
    const stream = await visit();
    await stream.next();
    await events.broadcast('a');
    conn().push('b');
    await events.broadcast('c');
    conn().push('d');
    conn().push('e');
    await events.broadcast('f');
    expect(dataOf(await stream.take(6))).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });

  test('do not apply to a channel that is joined after the opening: it is live from then on, and a process warning reports it once', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { events, visit, conn } = await site();
    const id = await events.broadcast('1', { to: 'room' });
    await events.broadcast('2', { to: 'room' });
    for (let n = 0; n < 2; n++) {
      const stream = await visit('', id);
      await stream.until(() => stream.comments.length > 0);
      conn().join('room');
      const last = `live ${n}`;
      await events.broadcast(last, { to: 'room' });
      expect(await stream.next()).toMatchObject({ data: last });
      await stream.close();
    }
    expect(
      warn.mock.calls.filter(([, options]) => (options as { code?: string })?.code === 'SSE_JOINED_LATE'),
    ).toHaveLength(1);
    warn.mockRestore();
  });
});

describe('long replays', () => {
  test('entries older than the ring reach all waiting connections', async () => {
    const { events, visit } = await site({ history: { size: 40_000 } });
    const first = await events.broadcast('0');
    for (let n = 1; n <= 20_000; n++) await events.broadcast(String(n), n % 3 === 0 ? { to: 'room' } : {});
    const everything = Array.from({ length: 20_001 }, (_, index) => String(index));
    const [all, some, late] = await Promise.all([
      visit('?join=room', first),
      visit('', first),
      visit('?join=room', first.replace(/\d+$/, '2000')),
    ]);
    await events.broadcast('20001');
    await Promise.all([all, some, late].map((stream) => stream.until(() => texts(stream).at(-1) === '20001')));
    expect(texts(all)).toEqual([...everything.slice(1), '20001']);
    expect(texts(some)).toEqual([...everything.slice(1).filter((n) => Number(n) % 3 !== 0), '20001']);
    expect(texts(late)).toEqual([...everything.slice(2000), '20001']);
    expect(events.stats().resumes).toMatchObject({ resumed: 3, lost: 0, unknown: 0 });
  });

  test('a connection that ends during its replay receives all of it first, and no later broadcast', async () => {
    const { events, visit, conn } = await site({ history: { size: 40_000 } });
    const first = await events.broadcast('0');
    for (let n = 1; n <= 20_000; n++) await events.broadcast(String(n));
    const stream = await visit('', first);
    conn().end();
    await events.broadcast('after');
    expect(await stream.closed).toBe('end');
    expect(texts(stream)).toEqual(Array.from({ length: 20_000 }, (_, index) => String(index + 1)));
    expect(stream.events.at(-1)!.event).toBe('end');
  });

  test('a client that stalls during its replay holds few bytes, and continues at its position', async () => {
    const { events, visit, conn } = await site({ history: { size: 1000, maxBytes: 100_000_000 } });
    const first = await events.broadcast('0');
    for (let n = 1; n <= 800; n++) await events.broadcast(`${n} ${'.'.repeat(65_000)}`);
    const stream = await visit('', first); // 50 MB, most of it older than the ring
    await stream.next();
    stream.pause();
    let sampled = 0;
    for (let n = 801; n <= 850; n++) {
      await events.broadcast(`${n} ${'.'.repeat(65_000)}`);
      await new Promise(setImmediate);
      sampled = Math.max(sampled, conn().bufferedBytes);
    }
    expect(events.stats().behind).toBe(1);
    expect(sampled).toBeLessThan(1_000_000);
    stream.resume();
    await stream.until(() => texts(stream).at(-1)?.startsWith('850 ') === true);
    expect(texts(stream).map((text) => Number.parseInt(text, 10))).toEqual(
      Array.from({ length: 850 }, (_, n) => n + 1),
    );
  });
});
