/*
 * The host of a shared stream and its tabs, in one process, on real sockets: late tabs, the second stream, numbers, headers.
 */
import type { ConnectOptions, Place, Status } from '../../lib/client/event-stream.ts';
import { makeLog } from '../../lib/client/frame-log.ts';
import { type Host, makeHost } from '../../lib/client/host.ts';
import { call } from '../../lib/client/messages.ts';
import type { Frame } from '../../lib/client/source.ts';
import { makeLink, type TabLink } from '../../lib/client/tab-link.ts';
import { eventually, pause } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';
import { fakePage } from './fixtures/page.ts';
import { type Exchange, scriptedServer } from './fixtures/scripted-server.ts';

/** Lines that no host of a test has opened. */
const [OLD, ANOTHER] = [0.25, 0.75];

beforeEach(() => void fakePage());

interface TestTab {
  readonly name: string;
  readonly place: Place;
  /** The data of the events; `reset` and the like by their name. */
  readonly seen: string[];
  /** Everything in the order in which it came: events and statuses. */
  readonly all: string[];
  readonly errors: string[];
  readonly link: TabLink;
  status: Status | undefined;
  /** Messages from the host are lost as long as this holds. */
  isDeaf: boolean;
  leave(): void;
}

class World {
  /** How the messages of the tabs reach the host. */
  post = (deliver: () => void): void => deliver();
  /** Called when a tab is shown a status. */
  onStatus = (_name: string): void => {};
  readonly tabs = new Map<string, TestTab>();
  readonly host: Host<string>;

  constructor(url: string, inherited?: ReturnType<typeof makeLog>) {
    this.host = makeHost<string>(
      url,
      { init: {}, retry: { min: 1, max: 10 } },
      (to, method, ...args) => {
        for (const [name, tab] of this.tabs) {
          if ((!to || to === name) && !tab.isDeaf) call(tab.link, method, ...structuredClone(args));
        }
      },
      inherited,
    );
    later(() => this.host.leave());
  }

  tab(name: string, place: Partial<Place> = {}, options: ConnectOptions = {}): TestTab {
    const own: Place = { id: '', n: 0, ...place };
    const seen: string[] = [];
    const all: string[] = [];
    const errors: string[] = [];
    const tab: TestTab = {
      name,
      place: own,
      seen,
      all,
      errors,
      status: undefined,
      isDeaf: false,
      link: makeLink(
        own,
        options,
        (method, ...args) => {
          const copy = structuredClone(args);
          this.post(() => call(this.host, method, name, ...copy));
        },
        [
          (frames: readonly Frame[]) => {
            for (const { event, data, id } of frames) {
              own.id = id;
              if (event) seen.push(event === 'message' ? data : event);
              if (event) all.push(data);
            }
          },
          (status) => {
            tab.status = status;
            this.onStatus(name);
            all.push(`(${status})`);
          },
          (code, status) => errors.push(`${code} ${status}`),
        ],
      ),
      leave: () => {
        this.tabs.delete(name);
        this.host.leave(name);
      },
    };
    this.tabs.set(name, tab);
    tab.link.join();
    return tab;
  }
}

const event = (n: number | string): string => `id: ${n}\ndata: ${n}\n\n`;
const events = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, n) => event(from + n)).join('');
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, n) => `${from + n}`);

async function open(text = ''): Promise<{
  world: World;
  first: TestTab;
  exchange: (n: number) => Promise<Exchange>;
  exchanges: readonly Exchange[];
}> {
  const server = await scriptedServer((one, number) => {
    if (number === 1) one.open(text);
  });
  const world = new World(server.url);
  const first = world.tab('first');
  await eventually(() => first.status === 'open');
  return { world, first, exchange: server.exchange, exchanges: server.exchanges };
}

describe('a late tab', () => {
  test('gets what came since the opening, then the status, then what is live', async () => {
    const { world, first, exchange, exchanges } = await open(`event: hello\nid: 1\ndata: h\n\n${events(2, 3)}`);
    await eventually(() => first.seen.length === 3);
    const late = world.tab('late');
    (await exchange(1)).write(event(4));
    await eventually(() => late.seen.length === 4);
    expect(late.all).toEqual(['h', '2', '3', '(open)', '4']);
    expect(first.seen).toEqual(late.seen);
    expect(exchanges).toHaveLength(1);
  });

  test('with `from` gets what came after it', async () => {
    const { world, first, exchanges } = await open(events(1, 5));
    await eventually(() => first.seen.length === 5);
    expect(world.tab('a', { id: '3' }).seen).toEqual(['4', '5']);
    expect(world.tab('b', { id: '5' }).seen).toEqual([]);
    expect(exchanges).toHaveLength(1);
  });

  test('with an id of the same frames twice, gets what came after the last of them', async () => {
    const { world, first } = await open('id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n');
    await eventually(() => first.seen.length === 3);
    expect(world.tab('late', { id: '1' }).seen).toEqual(['c']);
  });

  test('with the `from` with which the stream was opened, gets all', async () => {
    const server = await scriptedServer((one) => one.open('data: a\n\nid: 8\ndata: b\n\n'));
    const world = new World(server.url);
    const first = world.tab('first', { id: '7' });
    await eventually(() => first.seen.length === 2);
    expect(world.tab('late', { id: '7' }).seen).toEqual(['a', 'b']);
    expect(server.exchanges).toHaveLength(1);
    expect(server.exchanges[0]!.lastEventId).toBe('7');
  });

  test.each([1, 2, 1001])('without ids gets live events only, after %d events', async (count) => {
    const { world, first, exchange, exchanges } = await open('data: x\n\n'.repeat(count));
    await eventually(() => first.seen.length === count);
    const late = world.tab('late');
    (await exchange(1)).write('data: y\n\n');
    await eventually(() => late.seen.length === 1);
    expect(late.all).toEqual(['(open)', 'y']);
    expect(exchanges).toHaveLength(1);
  });

  test('gets all, if only the first events have no ids', async () => {
    const { world, first } = await open(`data: a\n\n${event(1)}`);
    await eventually(() => first.seen.length === 2);
    expect(world.tab('late').seen).toEqual(['a', '1']);
  });

  test('of a stream without ids gets nothing of an earlier opening', async () => {
    const { world, first, exchange } = await open('retry: 5\ndata: a\n\n');
    (await exchange(1)).end();
    (await exchange(2)).open(event(1));
    await eventually(() => first.seen.length === 2);
    expect(world.tab('late').seen).toEqual(['1']);
  });

  test('gets what the host keeps after a retry with an id', async () => {
    const { world, first, exchange } = await open(`retry: 5\n${event(1)}`);
    (await exchange(1)).end();
    (await exchange(2)).open(event(2));
    await eventually(() => first.seen.length === 2);
    expect((await exchange(2)).lastEventId).toBe('1');
    expect(world.tab('late').seen).toEqual(['1', '2']);
  });
});

describe('the second stream', () => {
  /** A first tab whose stream has overflown, and a late one for which a second stream has been opened. */
  async function overflown() {
    const all = await open(events(1, 1001));
    await eventually(() => all.first.seen.length === 1001);
    const late = all.world.tab('late');
    const second = await all.exchange(2);
    return { ...all, late, firstExchange: await all.exchange(1), second };
  }

  test('is opened with the newcomer’s own `from`', async () => {
    const { second, late, first } = await overflown();
    expect(second.lastEventId).toBeUndefined();
    expect(late.all).toEqual(['(connecting)']);
    expect(first.status).toBe('open');
    const { exchange, world } = await open(events(1, 5));
    await eventually(() => world.tabs.get('first')!.seen.length === 5);
    world.tab('other', { id: 'x' });
    expect((await exchange(2)).lastEventId).toBe('x');
  });

  test('takes over once an event after its opening has arrived on both; nothing is lost or shown twice', async () => {
    const { first, late, firstExchange, second, exchanges } = await overflown();
    second.open(`event: snapshot\nid: 1001\ndata: s\n\n`);
    await eventually(() => late.seen.length === 1);
    await pause(20);
    expect(firstExchange.isClosed).toBe(false); // its last id is that of the opening
    firstExchange.write(events(1002, 1003));
    await eventually(() => first.seen.length === 1003);
    expect(firstExchange.isClosed).toBe(false);
    second.write(event(1002));
    await eventually(() => late.seen.length === 2);
    second.write(events(1003, 1004));
    await eventually(() => late.seen.length === 4);
    await eventually(() => firstExchange.isClosed);
    second.write(event(1005));
    await eventually(() => first.seen.length === 1005);
    expect(first.seen).toEqual(numbers(1, 1005));
    expect(late.seen).toEqual(['snapshot', '1002', '1003', '1004', '1005']);
    expect(exchanges).toHaveLength(2);
  });

  test('takes over only if it is not refused', async () => {
    const { world, first, late, firstExchange, second, exchange } = await overflown();
    second.open(`retry: 1\n${events(1001, 1003)}`).end();
    (await exchange(3)).answer(403);
    await eventually(() => late.status === 'refused');
    firstExchange.write(event(1002));
    await eventually(() => first.seen.length === 1002);
    await pause(20);
    expect([first.status, first.errors, firstExchange.isClosed]).toEqual(['open', [], false]);
    world.host.act('late', 'reconnect', false);
    (await exchange(4)).open(event(1004));
    await eventually(() => first.seen.length === 1004 && firstExchange.isClosed);
    expect(first.seen).toEqual(numbers(1, 1004));
  });

  test('takes over where it is ahead as well', async () => {
    const { first, late, firstExchange, second } = await overflown();
    second.open(`id: 1001\ndata: s\n\n${events(1002, 1006)}`);
    await eventually(() => late.seen.length === 6);
    firstExchange.write(events(1002, 1003));
    await eventually(() => first.seen.length === 1006);
    await eventually(() => firstExchange.isClosed);
    expect(first.seen).toEqual(numbers(1, 1006));
  });

  test('a third newcomer is served from it, if it can be', async () => {
    const { world, late, second, exchanges } = await overflown();
    second.open('id: 1001\ndata: s\n\n');
    await eventually(() => late.seen.length === 1);
    const third = world.tab('third');
    expect(third.seen).toEqual(['s']);
    expect(exchanges).toHaveLength(2);
  });

  test('one that cannot be served waits until one of the two has closed', async () => {
    const { world, first, late, firstExchange, second, exchange, exchanges } = await overflown();
    const third = world.tab('third', { id: 'x' });
    await pause(20);
    expect(exchanges).toHaveLength(2);
    expect(third.status).toBeUndefined();
    second.open(`id: 1001\ndata: s\n\n${event(1002)}`);
    firstExchange.write(event(1002));
    const opened = await exchange(3);
    expect(opened.lastEventId).toBe('x');
    await eventually(() => firstExchange.isClosed);
    opened.open(events(1002, 1003));
    second.write(event(1003));
    await eventually(() => third.seen.length === 2 && second.isClosed);
    opened.write(event(1004));
    await eventually(() => first.seen.length === 1004);
    expect(late.seen).toEqual(['s', '1002', '1003', '1004']);
    expect(third.seen).toEqual(['1002', '1003', '1004']);
  });

  test.each(['first', 'late'])(
    'when its last tab leaves (%s), a stream is closed, and the other goes on',
    async (who) => {
      const { world, first, late, firstExchange, second } = await overflown();
      second.open('id: 1001\ndata: s\n\n');
      await eventually(() => late.seen.length === 1);
      const [gone, stays, closed, open] =
        who === 'first' ? [first, late, firstExchange, second] : [late, first, second, firstExchange];
      gone.leave();
      await eventually(() => closed.isClosed);
      open.write(event(1002));
      await eventually(() => stays.seen.at(-1) === '1002');
      world.tab('next', { id: '1002' });
      await pause(20);
      expect(world.host.members.size).toBe(2);
    },
  );
});

describe('numbers', () => {
  test('a tab that misses frames gets the rest by number', async () => {
    const { world, first, exchange } = await open('id: 1\ndata: a\n\n');
    const other = world.tab('other');
    await eventually(() => other.seen.length === 1);
    other.isDeaf = true;
    (await exchange(1)).write('data: b\n\ndata: c\n\n'); // without ids of their own
    await eventually(() => first.seen.length === 3);
    other.isDeaf = false;
    (await exchange(1)).write('data: d\n\n');
    await eventually(() => other.seen.length === 4);
    expect(other.seen).toEqual(['a', 'b', 'c', 'd']);
  });

  test('a tab that is ahead of a line drops what it has had', async () => {
    const { world, first, exchange } = await open(events(1, 2));
    await eventually(() => first.seen.length === 2);
    const [line] = [...world.host.members.values()].map(({ line }) => line!);
    first.link.frames(line!.term, 1, [
      { event: 'message', data: '2', id: '2', isEnd: false },
      { event: 'message', data: '3', id: '3', isEnd: false },
    ]);
    (await exchange(1)).write(events(3, 4));
    await eventually(() => first.seen.length === 4);
    expect(first.seen).toEqual(numbers(1, 4));
  });

  test('frames and moves of another line are ignored', async () => {
    const { first } = await open(event(1));
    await eventually(() => first.seen.length === 1);
    const frames = [{ event: 'message', data: 'x', id: 'x', isEnd: false }];
    first.link.frames(ANOTHER, first.place.n, frames);
    first.link.follow('yet another', ANOTHER, first.place.n, frames, 'waiting');
    first.link.follow(0.5, ANOTHER, first.place.n, frames, 'waiting');
    first.link.status(ANOTHER, 'waiting');
    first.link.error(ANOTHER, 'network');
    expect(first.seen).toEqual(['1']);
    expect([first.status, first.errors]).toEqual(['open', []]);
  });

  test('a tab that joins again keeps its stream; of several answers, the last one counts', async () => {
    const { world, first, exchange, exchanges } = await open(events(1, 2));
    await eventually(() => first.seen.length === 2);
    first.link.join();
    await pause(20);
    expect(exchanges).toHaveLength(1);
    // Two joins under way at once, of a tab that has a stream of its own.
    const late = world.tab('late', { id: 'x' });
    (await exchange(2)).open();
    const { post } = world;
    const held: (() => void)[] = [];
    world.post = (deliver) => void held.push(deliver);
    late.link.join();
    Object.assign(late.place, { id: 'y', term: 'gone' });
    late.link.join();
    world.post = post;
    held.forEach((deliver) => deliver());
    const last = await exchange(3);
    expect(last.lastEventId).toBe('y');
    last.open(event('z'));
    await eventually(() => late.seen.length === 1);
    expect((await exchange(2)).isClosed).toBe(true);
  });

  test('after a crash, tabs that had the same number go on together, and one that is behind is resumed by its id', async () => {
    const server = await scriptedServer((one) => one.open());
    const world = new World(server.url);
    const a = world.tab('a', { term: OLD, n: 5, id: '5' });
    const b = world.tab('b', { term: OLD, n: 5, id: '5' });
    const c = world.tab('c', { term: OLD, n: 4, id: '4' });
    const [one, two] = [await server.exchange(1), await server.exchange(2)];
    expect([one.lastEventId, two.lastEventId]).toEqual(['5', '4']);
    one.write(event(6));
    two.write(events(5, 6));
    await eventually(() => c.seen.length === 2 && one.isClosed);
    two.write(event(7));
    await eventually(() => a.seen.length === 2);
    expect([a.seen, b.seen, c.seen]).toEqual([
      ['6', '7'],
      ['6', '7'],
      ['5', '6', '7'],
    ]);
  });

  test('a host that inherits a log serves the tabs that are behind it by number, and late tabs', async () => {
    const server = await scriptedServer((one) => one.open(event(4)));
    const log = makeLog('', 0);
    const frame = (data: string, id: string): Frame => ({ event: 'message', data, id, isEnd: false });
    log.add([frame('reset', '3'), frame('snapshot', '3'), frame('3', '3')]);
    const world = new World(server.url, log);
    const leader = world.tab('leader', { term: OLD, n: 3, id: '3' });
    const behind = world.tab('behind', { term: OLD, n: 1, id: '3' });
    const ahead = world.tab('ahead', { term: OLD, n: 4, id: '4' });
    await eventually(() => leader.seen.length === 1);
    expect(server.exchanges[0]!.lastEventId).toBe('3');
    expect(behind.seen).toEqual(['snapshot', '3', '4']);
    expect(world.tab('late').seen).toEqual(['reset', 'snapshot', '3', '4']);
    await eventually(() => server.exchanges.length === 2); // for the tab ahead, whose id had not come again yet
    expect(server.exchanges[1]!.lastEventId).toBe('4');
    expect(ahead.seen).not.toContain('3');
  });

  test('the number of a tab that is ahead of its successors means nothing: its id counts', async () => {
    const server = await scriptedServer((one) => one.open(events(4, 6)));
    const log = makeLog('', 0);
    log.add([{ event: 'message', data: '3', id: '3', isEnd: false }]);
    const world = new World(server.url, log);
    const leader = world.tab('leader', { term: OLD, n: 1, id: '3' });
    await eventually(() => leader.seen.length === 3);
    // From the old line, this tab has had two frames more: one of its own connection, and event 4.
    expect(world.tab('ahead', { term: OLD, n: 3, id: '4' }).seen).toEqual(['5', '6']);
    expect(server.exchanges).toHaveLength(1);
  });
});

describe('headers', () => {
  const bearer = (text: string, log: string[]): ConnectOptions => ({
    headers: async () => {
      log.push(text);
      return { authorization: text };
    },
  });

  test('the newest tab is asked', async () => {
    const server = await scriptedServer((one) => one.open('retry: 5\n\n'));
    const world = new World(server.url);
    const asked: string[] = [];
    world.tab('a', {}, bearer('a', asked));
    await server.exchange(1);
    world.tab('b', {}, bearer('b', asked));
    server.exchanges[0]!.end();
    await server.exchange(2);
    expect(asked).toEqual(['a', 'b']);
    expect(server.exchanges.map(({ request }) => request.headers.authorization)).toEqual(['a', 'b']);
  });

  test('if it does not answer, all are asked after a second, and the first answer counts', async () => {
    const server = await scriptedServer((one) => one.open('retry: 5\n\n'));
    const world = new World(server.url);
    const asked: string[] = [];
    world.tab('a', {}, bearer('a', asked));
    const first = await server.exchange(1);
    world.tab('b', {}, { headers: () => new Promise(() => {}) });
    world.tab('c', {}, bearer('c', asked)).isDeaf = true;
    const at = performance.now();
    first.end();
    const second = await server.exchange(2);
    expect(performance.now() - at).toBeGreaterThan(950);
    expect(second.request.headers.authorization).toBe('a');
  });

  test('after a 401, renewable headers are asked for once more; then it is refused; a new tab triggers one attempt', async () => {
    const server = await scriptedServer((one) => one.answer(401));
    const world = new World(server.url);
    const asked: string[] = [];
    const first = world.tab('a', {}, bearer('a', asked));
    await eventually(() => first.status === 'refused');
    expect(server.exchanges).toHaveLength(2);
    expect(first.errors).toEqual(['refused 401']);
    const second = world.tab('b', {}, bearer('b', asked));
    await eventually(() => server.exchanges.length === 3 && second.status === 'refused');
    await pause(30);
    expect(server.exchanges).toHaveLength(3);
    expect(asked).toEqual(['a', 'a', 'b']);
    expect(first.errors).toEqual(['refused 401', 'refused 401']);
    expect(second.all).toEqual(['(connecting)', '(refused)']); // its own attempt, not the earlier one
    expect(second.errors).toEqual(['refused 401']);
  });

  test('a tab that joins after a refusal is never shown the refusal, if its attempt succeeds', async () => {
    const server = await scriptedServer((one, number) => (number === 1 ? one.answer(403) : one.open('data: a\n\n')));
    const world = new World(server.url);
    const first = world.tab('a');
    await eventually(() => first.status === 'refused');
    const second = world.tab('b');
    await eventually(() => second.seen.length === 1 && first.seen.length === 1);
    expect(second.all).toEqual(['(connecting)', '(open)', 'a']);
    expect(second.errors).toEqual([]);
  });

  test('without a function, a 401 is refused at once', async () => {
    const server = await scriptedServer((one) => one.answer(401));
    const first = new World(server.url).tab('a', {}, { headers: { authorization: 'x' } });
    await eventually(() => first.status === 'refused');
    expect(server.exchanges).toHaveLength(1);
    expect(server.exchanges[0]!.request.headers.authorization).toBe('x');
  });

  test('a function that throws is an error of every tab', async () => {
    const server = await scriptedServer((one) => one.open());
    const world = new World(server.url);
    let asked = 0;
    const headers = (): HeadersInit => {
      if (++asked === 1) throw new Error('no token');
      return {};
    };
    const first = world.tab('a', {}, { headers });
    await eventually(() => first.status === 'open');
    expect(first.errors).toEqual(['headers undefined']);
  });
});

describe('states', () => {
  test('an end is shown once in each tab; a late tab shows it after its replay; nothing is opened again', async () => {
    const { world, first, exchange, exchanges } = await open(`retry: 5\n${event(1)}`);
    (await exchange(1)).write('event: end\nid: sse-router:end\ndata\n\n').end();
    await eventually(() => first.status === 'ended');
    const late = world.tab('late');
    expect(late.all).toEqual(['1', '', '(ended)']);
    await pause(30);
    expect(exchanges).toHaveLength(1);
    expect(first.place.isOver).toBe(true);
    // A host that takes over does not open it either, until a tab reconnects.
    const next = new World(`http://127.0.0.1:${(await exchange(1)).request.socket.localPort}/events`);
    const heir = next.tab('heir', { ...first.place });
    expect(heir.all).toEqual(['(ended)']);
    await pause(30);
    expect(exchanges).toHaveLength(1);
    next.host.act('heir', 'reconnect', false);
    expect((await exchange(2)).lastEventId).toBe('1');
    expect(heir.place.isOver).toBe(false);
  });

  test.each([
    ['without ids', 'data: a\n\n', ''],
    ['without events', '', ''],
    ['at the position of the end', events(1, 3), '3'],
  ])('a late tab shows an end: %s', async (_what, text, id) => {
    const { world, first, exchange } = await open(text);
    (await exchange(1)).write('event: end\nid: sse-router:end\ndata\n\n').end();
    await eventually(() => first.status === 'ended');
    expect(world.tab('late', { id }).all).toEqual(['', '(ended)']);
  });

  test('reconnect and wake are for the stream of the tab', async () => {
    const { world, exchange, first } = await open(event(1));
    await eventually(() => first.seen.length === 1);
    world.host.act('first', 'wake', false);
    world.host.act('unknown', 'reconnect', false);
    world.host.act('first', 'reconnect', false);
    expect((await exchange(2)).lastEventId).toBe('1');
    await eventually(async () => (await exchange(1)).isClosed);
  });

  test('a tab that leaves while it is answered leaves no stream behind', async () => {
    const server = await scriptedServer((one) => one.open());
    const world = new World(server.url);
    world.onStatus = (name) => world.host.leave(name);
    world.tab('a');
    await pause(50);
    expect(world.host.members.size).toBe(0);
    await eventually(() => server.exchanges.every(({ isClosed }) => isClosed));
  });

  test('when the last tab leaves, the stream is closed; the next tab opens it afresh', async () => {
    const { world, first, exchange } = await open(event(1));
    await eventually(() => first.seen.length === 1);
    first.leave();
    await eventually(async () => (await exchange(1)).isClosed);
    world.tab('next');
    expect((await exchange(2)).lastEventId).toBeUndefined();
  });
});

describe('the log', () => {
  const frame = (id: string, data = 'x'): Frame => ({ event: 'message', data, id, isEnd: false });

  test('keeps at most 1,000 frames, and at most 1 MiB', () => {
    const log = makeLog('', 0);
    log.add(Array.from({ length: 1001 }, (_, n) => frame(`${n + 1}`)));
    expect([log.n, log.id, log.find(''), log.find('1'), log.find('0')]).toEqual([
      1001,
      '1001',
      undefined,
      1,
      undefined,
    ]);
    expect(log.after(0)).toBeUndefined();
    expect(log.after(1)).toHaveLength(1000);
    const large = makeLog('', 0);
    large.add([frame('1', 'x'.repeat(2 ** 19)), frame('2', 'x'.repeat(2 ** 19)), frame('3')]);
    expect(large.after(1)).toHaveLength(2);
    expect(large.after(0)).toBeUndefined();
    large.add([frame('4', 'x'.repeat(2 ** 20 + 1))]);
    expect(large.after(4)).toEqual([]);
    expect(large.find('4')).toBe(4);
  });

  test('is asked for numbers in it only', () => {
    const log = makeLog('7', 7);
    log.add([frame('8'), frame('9')]);
    expect(log.after(7)).toHaveLength(2);
    expect(log.after(9)).toEqual([]);
    expect([log.after(6), log.after(10), log.after(NaN)]).toEqual([undefined, undefined, undefined]);
    expect([log.find('7'), log.find('8'), log.find('9'), log.find('')]).toEqual([7, 8, 9, undefined]);
  });
});
