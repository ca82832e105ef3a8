/*
 * Resume over real sockets: no gap, no duplicate, and a client that is told when that cannot be.
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

/** A site whose clients say in the query what they join. */
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

describe('30 clients that are cut every 20 to 140 ms', () => {
  test('each has the log of its channels in the end, every event once and in order', async () => {
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
      const has: string[] = [];
      let stream = await visit(`?join=${set}`);
      await stream.next(); // its first cursor
      if (++ready === 30) go();
      for (let taken = 1; ; taken = 0) {
        const last = !running;
        if (last) await stream.until(() => stream.events.some(({ data }) => data === 'end') || has.includes('end'));
        else await new Promise((resolve) => setTimeout(resolve, 20 + pauses.below(121)));
        await stream.cut();
        cuts++;
        has.push(...dataOf(stream.events.slice(taken)));
        if (last || has.includes('end')) return has;
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

  test('RP-09 replays that race with broadcasts have neither gap nor duplicate', async () => {
    const { events, visit } = await site();
    const first = await events.broadcast('0');
    for (let n = 1; n <= 100; n++) {
      const [stream] = await Promise.all([visit('', first), events.broadcast(String(n))]);
      expect(dataOf(await stream.take(n))).toEqual(Array.from({ length: n }, (_, index) => String(index + 1)));
      await stream.close();
    }
  });
});

describe('what the client says it has seen', () => {
  test.each(['lastEventId', 'last_event_id', 'evs_last_event_id'])(
    'RP-03 is read from the query as %s',
    async (name) => {
      const { events, visit } = await site();
      const id = await events.broadcast('seen');
      await events.broadcast('missed');
      expect(await (await visit(`?${name}=${id}`)).next()).toMatchObject({ data: 'missed' });
    },
  );

  test('RP-04 the header wins over a query that an old page has left', async () => {
    const { events, visit, conn } = await site();
    const old = await events.broadcast('1');
    const id = await events.broadcast('2');
    await events.broadcast('3');
    expect(await (await visit(`?lastEventId=${old}`, id)).next()).toMatchObject({ data: '3' });
    expect(conn().lastEventId).toBe(id);
    expect(await (await visit(`?lastEventId=${id}`, '')).next()).toMatchObject({ data: '3' });
  });

  // reconnecting-eventsource adds its own to a url that has one already.
  test('of several in the query the last counts, and an empty one is none', async () => {
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
  ])('RP-02 as bytes of %s', async (_, text, header) => {
    const { visit, conn } = await site({ history: false });
    await visit('', '', { 'last-event-id': header });
    expect(conn().lastEventId).toBe(text);
  });

  test('RP-08 two headers are one id, that nobody gave: it is not split, and brings no past', async () => {
    const { events, visit, conn } = await site();
    const id = await events.broadcast('seen');
    await events.broadcast('not for two ids');
    const stream = await visit('', '', { 'last-event-id': [id, id] as never });
    expect(conn().lastEventId).toBe(`${id}, ${id}`);
    expect((await stream.next()).json).toEqual({ reason: 'unknown', lastEventId: `${id}, ${id}` });
    await events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live' });
  });

  test('RP-01, RP-06, RP-07 is not echoed, and nothing when it is too long or not there', async () => {
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

  test('RP-13 numbers are compared as numbers: after the ninth come the tenth, the eleventh, the twelfth', async () => {
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

describe('a client that cannot be resumed is told', () => {
  test('RP-10 lost: what it has seen last has been trimmed', async () => {
    const { events, visit } = await site({ history: { size: 3 } });
    const ids: string[] = [];
    for (let n = 1; n <= 6; n++) ids.push(await events.broadcast(String(n)));
    const stream = await visit('', ids[1]);
    const told = await stream.next();
    expect(told).toMatchObject({ event: 'reset', id: ids[5] });
    expect(told.json).toEqual({ reason: 'lost', lastEventId: ids[1] });
    const kept = await visit('', ids[3]);
    expect(dataOf(await kept.take(2))).toEqual(['5', '6']);
    await events.broadcast('live');
    expect(await stream.next()).toMatchObject({ data: 'live' });
    expect(await kept.next()).toMatchObject({ data: 'live' });
  });

  test('RP-10 unknown: an id of another life of the log, or one that was never handed out', async () => {
    const before = await site();
    const ids = [await before.events.broadcast('1'), await before.events.broadcast('2')];
    const { events, visit } = await site();
    await events.broadcast('new 1');
    const head = await events.broadcast('new 2');
    const forged = head.replace(/\d+$/, '999');
    for (const id of [...ids, forged]) {
      const stream = await visit('', id);
      const told = await stream.next();
      expect(told).toMatchObject({ event: 'reset', id: head });
      expect(told.json).toEqual({ reason: 'unknown', lastEventId: id });
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

  test('lost: a reader that stalls until the end of the log has passed it', async () => {
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
    expect(numbers).toEqual(numbers.map((_, index) => index)); // a prefix, whole
    expect(stream.events.at(-1)).toMatchObject({ event: 'reset', id: ids[399] });
    expect(stream.events.at(-1)!.json).toEqual({ reason: 'lost', lastEventId: ids[numbers.length - 1] });
    await events.broadcast('live');
    await stream.until(() => texts(stream).includes('live'));
    await stream.close();
  });
});

describe('the first cursor', () => {
  test('comes with the first push, or as a checkpoint when nothing is pushed', async () => {
    const quiet = await site();
    const head = await quiet.events.broadcast('before');
    expect(await (await quiet.visit()).next()).toMatchObject({ event: 'checkpoint', data: '', id: head });
    const pushing = await site({}, (conn) => void conn.push({ data: 'one' }, { data: 'two' }));
    const position = await pushing.events.broadcast('before');
    const [one, two] = await (await pushing.visit()).take(2);
    expect(one).toMatchObject({ data: 'one', id: position });
    expect(two).toMatchObject({ data: 'two', id: undefined });
  });

  test('of a log that is empty is good as well', async () => {
    const { events, visit } = await site();
    const stream = await visit();
    const { id } = await stream.next();
    await stream.cut();
    await events.broadcast('first');
    expect(dataOf(await (await visit('', id)).take(1))).toEqual(['first']);
  });

  test('is not sent to who comes back: a cut during the replay would lose the rest', async () => {
    const { events, visit } = await site({}, (conn) => void conn.push('welcome'));
    const id = await events.broadcast('1');
    await events.broadcast('2');
    const [welcome, missed] = await (await visit('', id)).take(2);
    expect(welcome).toMatchObject({ data: 'welcome', id: undefined, lastEventId: id });
    expect(missed).toMatchObject({ data: '2' });
  });

  test('is that of the admission: nothing is lost while the handler waits', async () => {
    let go!: () => void;
    let came!: () => void;
    const waiting = new Promise<void>((resolve) => (came = resolve));
    const events = sse(async (conn) => {
      came();
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

  test('moves on with the heartbeat where the channels are quiet', async () => {
    const { events, visit } = await site({ history: { size: 5 }, heartbeat: 40 });
    const stream = await visit('?join=quiet');
    await stream.next();
    let head = '';
    for (let n = 0; n < 20; n++) head = await events.broadcast('noise', { to: 'loud' });
    expect(await stream.next()).toMatchObject({ event: 'checkpoint', data: '', id: head });
    const { length } = stream.comments;
    await stream.until(() => stream.comments.length > length + 1); // once only, then comments
    expect(stream.events).toHaveLength(2);
    const back = await stream.reconnect();
    await events.broadcast('at last', { to: 'quiet' });
    expect(dataOf(await back.take(1))).toEqual(['at last']);
    await back.close();
  });
});

describe('positions', () => {
  test('of a page that was rendered before its stream opened: nothing is missed between', async () => {
    const { events, visit } = await site();
    await events.broadcast('in the state');
    const page = { position: events.position };
    await events.broadcast('after the state was loaded');
    const stream = await visit(`?lastEventId=${page.position}`);
    expect(dataOf(await stream.take(1))).toEqual(['after the state was loaded']);
  });

  test("a broadcast that is only a retry has none: the id in front would be the next event's", async () => {
    const { events, visit } = await site();
    const stream = await visit();
    const { id } = await stream.next();
    await events.broadcast({ retry: 1234 });
    await stream.until(() => stream.retry === 1234);
    expect(stream.lastEventId).toBe(id);
    const next = await events.broadcast('next');
    expect(await stream.next()).toMatchObject({ data: 'next', id: next });
    const back = await visit('', id);
    expect(await back.next()).toMatchObject({ data: 'next', id: next });
    expect(back.retry).toBe(1234);
  });

  test('are not sent to a connection with ids of its own, which gets broadcasts without ids', async () => {
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

  test('a push comes after what was broadcast before it, and before what is broadcast after it', async () => {
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

  test('a channel joined after the opening is live from then on; that is told once to who comes back', async () => {
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
  test('a log that is longer than the ring is gone through once for all who wait', async () => {
    const { events, visit } = await site({ history: { size: 40_000 } });
    const first = await events.broadcast('0');
    for (let n = 1; n <= 20_000; n++) await events.broadcast(String(n), n % 3 === 0 ? { to: 'room' } : {});
    const everything = Array.from({ length: 20_001 }, (_, index) => String(index));
    const [all, some, later] = await Promise.all([
      visit('?join=room', first),
      visit('', first),
      visit('?join=room', first.replace(/\d+$/, '2000')),
    ]);
    await events.broadcast('20001');
    await Promise.all([all, some, later].map((stream) => stream.until(() => texts(stream).at(-1) === '20001')));
    expect(texts(all)).toEqual([...everything.slice(1), '20001']);
    expect(texts(some)).toEqual([...everything.slice(1).filter((n) => Number(n) % 3 !== 0), '20001']);
    expect(texts(later)).toEqual([...everything.slice(2000), '20001']);
    expect(events.stats().resumes).toMatchObject({ resumed: 3, lost: 0, unknown: 0 });
  });

  test('who is ended on the way gets all of it first, and nothing of what comes after', async () => {
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

  test('a client that stalls in the middle of one costs little, and goes on where it stood', async () => {
    const { events, visit, conn } = await site({ history: { size: 1000, maxBytes: 100_000_000 } });
    const first = await events.broadcast('0');
    for (let n = 1; n <= 800; n++) await events.broadcast(`${n} ${'.'.repeat(65_000)}`);
    const stream = await visit('', first); // 50 MB, most of them older than the ring
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
