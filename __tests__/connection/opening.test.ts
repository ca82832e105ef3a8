/*
 * The opening of a stream: when it happens, its first bytes and their order, and the position where delivery starts.
 */
import { memoryJournal, sse, type SseRouter } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { another, appOf, BARE, dialled, gate, HEAD, later, listening, opened } from '../fixtures/support.ts';

describe('the opening', () => {
  test('is written in one piece: the head, a comment, the retry', async () => {
    const events = sse(BARE);
    later(() => events.close());
    const { port } = await listening(appOf(events));
    const socket = await dialled(port);
    const first = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
    const [head, body] = first.toString().split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(head).toContain('\r\nContent-Type: text/event-stream; charset=utf-8');
    expect(body).toBe('e\r\n:\nretry: 1000\n\r\n'); // chunked: 14 bytes
  });

  test('continues with the pushes of the handler in order; the first event has the position', async () => {
    const { stream, events } = await opened(
      (conn) => {
        conn.comment('c');
        conn.push('a');
        conn.push({ event: 'b' }, { retry: 9 }, { data: 'd' });
      },
      { retry: 1000 },
    );
    await stream.take(3);
    expect(stream.text).toBe(
      `${HEAD}: c\nid: ${events.position}\ndata: a\n\nevent: b\ndata: \n\nretry: 9\ndata: d\n\n`,
    );
  });

  test('without a push, contains a checkpoint with the position', async () => {
    const { stream, events } = await opened(() => {}, { retry: 1000 });
    await stream.next();
    expect(stream.text).toBe(`${HEAD}id: ${events.position}\nevent: checkpoint\ndata: \n\n`);
  });

  test('with comments only, contains a checkpoint as well', async () => {
    const { stream, events } = await opened((conn) => conn.comment('c'), { retry: 1000 });
    await stream.next();
    expect(stream.text).toBe(`${HEAD}: c\nid: ${events.position}\nevent: checkpoint\ndata: \n\n`);
  });

  test('of a returning client contains the pushes without an id, the missed entries, the live entries', async () => {
    const { stream, events } = await opened((conn) => void conn.push('own'), { retry: 1000 });
    await stream.next();
    await stream.close();
    const missed = [await events.broadcast('missed 1'), await events.broadcast('missed 2')];
    const returning = await stream.reconnect();
    later(() => returning.close());
    await returning.take(3);
    const live = await events.broadcast('live');
    await returning.next();
    expect(returning.text).toBe(
      `${HEAD}data: own\n\nid: ${missed[0]}\ndata: missed 1\n\nid: ${missed[1]}\ndata: missed 2\n\nid: ${live}\ndata: live\n\n`,
    );
  });

  test('of a client that cannot be resumed contains the reset, the snapshot, the pushes, the live entries', async () => {
    const { stream, events } = await opened(
      (conn) => void conn.push('own'),
      { retry: 1000, snapshot: () => ({ event: 'state', data: 1 }) },
      { lastEventId: 'aaaaaaaaaaaa-1' },
    );
    const at = events.position;
    await stream.take(3);
    const live = await events.broadcast('live');
    await stream.next();
    expect(stream.text.replace(/"reason":"(lost|unknown)"/, '"reason":"…"')).toBe(
      `${HEAD}id: ${at}\nevent: reset\ndata: {"reason":"…","lastEventId":"aaaaaaaaaaaa-1"}\n\n` +
        `id: ${at}\nevent: state\ndata: 1\n\ndata: own\n\nid: ${live}\ndata: live\n\n`,
    );
  });

  test('happens at the end of a tick, with the position of the admission', async () => {
    const { pass, open } = gate();
    const entered = gate();
    const events = sse(async (conn) => {
      entered.open();
      await pass;
      conn.push('hi');
      conn.join('room');
    });
    later(() => events.close());
    const answer = connect(appOf(events), '/events');
    await entered.pass;
    expect(events.stats()).toMatchObject({ connections: 0, connecting: 1 });
    const before = events.position;
    await events.broadcast('for the room', { to: 'room' });
    await events.broadcast('for others', { to: 'other' });
    await events.broadcast('for all');
    open();
    const stream = await answer;
    later(() => stream.close());
    expect((await stream.take(3)).map(({ data, id }) => [data, id])).toEqual([
      ['hi', before],
      ['for the room', expect.any(String)],
      ['for all', events.position],
    ]);
    expect(stream.text).not.toContain('for others');
  });

  test('happens at open(), although the handler has not settled', async () => {
    const { pass, open } = gate();
    const events = sse(async (conn) => {
      conn.open();
      await pass;
      conn.push('later');
    }, BARE);
    later(() => events.close());
    const stream = await another(appOf(events));
    expect(stream.status).toBe(200);
    expect(events.size).toBe(1);
    open();
    expect((await stream.next()).data).toBe('later');
  });

  test('includes a join in the same tick: a returning client receives what it missed in this channel', async () => {
    const { stream, app, events } = await opened((conn) => {
      conn.push('hi');
      conn.join('room');
    });
    await stream.next();
    await stream.close();
    await events.broadcast('missed', { to: 'room' });
    const returning = await another(app, '/events', { lastEventId: stream.lastEventId });
    expect((await returning.take(2)).map(({ data, id }) => [data, id])).toEqual([
      ['hi', undefined],
      ['missed', events.position],
    ]);
  });

  test.each([
    ['one large broadcast', [300_000]],
    ['many broadcasts', Array<number>(1500).fill(1)],
  ])('does not happen before the end of the tick, even with %s in it', async (_what, sizes) => {
    let refuses = false;
    const events: SseRouter = sse(
      (conn, _req, res) => {
        conn.push('hi');
        for (const size of sizes) void events.broadcast('x'.repeat(size), { to: 'loud' });
        conn.join('room');
        if (refuses) res.sendStatus(403);
      },
      { history: { size: 10_000 } },
    );
    later(() => events.close());
    const app = appOf(events);
    const stream = await another(app);
    await stream.next();
    await events.broadcast('missed', { to: 'room' });
    const { lastEventId } = stream;
    const returning = await another(app, '/events', { lastEventId });
    expect((await returning.take(2)).map(({ data }) => data as string)).toEqual(['hi', 'missed']);
    refuses = true;
    expect((await another(app)).status).toBe(403);
  });

  test('is followed by live entries only for a later join; a process warning reports a late join of a returning client once', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { stream, app, conn, events } = await opened((connection) => connection.push('hi'));
    conn.join('room'); // a fresh client has nothing to miss
    await events.broadcast('first', { to: 'room' });
    expect((await stream.take(2)).map(({ data }) => data as string)).toEqual(['hi', 'first']);
    expect(warned).not.toHaveBeenCalled();
    await stream.close();
    await events.broadcast('missed', { to: 'room' });
    for (const times of [1, 2]) {
      const returning = await another(app, '/events', { lastEventId: stream.lastEventId });
      await returning.next();
      const [late] = [...events.connections].slice(-1);
      late!.join('room');
      await events.broadcast(`live ${times}`, { to: 'room' });
      expect((await returning.next()).data).toBe(`live ${times}`);
      expect(warned).toHaveBeenCalledTimes(1);
    }
    expect(warned).toHaveBeenCalledWith(
      expect.stringContaining('joined'),
      expect.objectContaining({ code: expect.any(String) }),
    );
  });
});

test('a router that is closed while its journal opens reports no error', async () => {
  const { pass, fail } = gate();
  const onError = jest.fn();
  const history = Object.assign(memoryJournal(), { open: () => pass, close: async () => fail(new Error('closed')) });
  const events = sse({ history, onError });
  expect(events.stats().journalUp).toBe(0);
  await events.close();
  await expect(pass).rejects.toThrow('closed');
  await new Promise(setImmediate);
  expect(onError).not.toHaveBeenCalled();
});
