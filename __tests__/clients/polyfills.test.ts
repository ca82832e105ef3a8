import { sse } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { another, appOf, BARE, gate, HEAD, later, listening, opened } from '../fixtures/support.ts';
import { ask, Raw } from '../fixtures/http.ts';

describe('padding is sent first, in the piece that opens the stream, to who asks for it', () => {
  test.each([
    ['PF-01 Yaffle', '?padding=true'],
    ['PF-01 Yaffle', '?padding'],
    ['PF-01 Yaffle', '?token=x&padding=1'],
    ['PF-02 amvtek', '?evs_preamble=2056'],
    ['PF-02 amvtek, with a size that nobody gets', '?evs_preamble=99999999'],
    ['PF-02 amvtek, with nonsense', '?evs_preamble=%0d%0adata:x'],
    ['both', '?padding=true&evs_preamble=2056'],
  ])('%s: %s', async (_who, query) => {
    const { app, stream } = await opened((conn) => void conn.push('first'), BARE);
    await stream.close();
    const { port } = await listening(app);
    const raw = new Raw(port).get(`/events${query}`);
    await raw.until('first\n\n');
    const [, body] = /\r\n\r\n[0-9a-f]+\r\n([^]*)\r\n/.exec(raw.chunks[0]!)!;
    expect(body).toMatch(/^: {2056}\n:\nretry: 1000\n/);
    expect(raw.text.length).toBeLessThan(3000);
  });

  test.each([
    ['PF-03 who does not ask', ''],
    ['PF-03 who asks for none', '?padding=false'],
    ['PF-03 who asks for none', '?padding=0'],
    ['PF-03 who asks for something else', '?paddings=true&preamble=2056'],
    ['PF-04 amvtek’s and jQuery’s parameters', '?evs_buffer_size_limit=262144&_=1700000000000'],
  ])('%s gets none: %s', async (_who, query) => {
    const { app, conn: first } = await opened((conn) => void conn.push('first'), BARE);
    const stream = await another(app, `/events${query}`);
    await stream.next();
    expect(stream.text).toBe(`${HEAD}data: first\n\n`);
    expect(first.readyState).toBe('open');
  });

  test('PF-01 a refusal and HEAD have none', async () => {
    const events = sse({ limits: { connections: 1 }, ...BARE });
    later(() => events.close());
    const app = (await import('express')).default().use('/events', events);
    const { url } = await listening(app);
    const holder = await connect(url);
    expect((await ask(`${url}?padding=true`)).text).not.toMatch(/ {9}/);
    expect((await ask(`${url}?padding=true`, { method: 'HEAD' })).text).toBe('');
    await holder.close();
  });
});

test('PF-05 clients that need an answer that ends: push and close, again and again', async () => {
  let count = 0;
  const { app, stream } = await opened((conn) => {
    conn.push({ id: String(++count), data: `event ${count}` });
    conn.close({ retry: 1 });
  }, BARE);
  expect(await stream.body()).toBe(`${HEAD}id: 1\ndata: event 1\n\nretry: 1\n`);
  const { url } = await listening(app);
  for (let round = 2; round <= 5; round++) {
    const answer = await ask(`${url}?_=${round}`);
    expect(answer.text).toBe(`${HEAD}id: ${round}\ndata: event ${round}\n\nretry: 1\n`);
  }
});

test('PF-05 such a client is told as well when what it missed is gone, and goes on from there', async () => {
  const events = sse(
    (conn) => {
      conn.push('own');
      conn.close();
    },
    { history: { size: 2 } },
  );
  later(() => events.close());
  const app = appOf(events);
  const lost = await events.broadcast('1');
  for (const data of ['2', '3', '4']) await events.broadcast(data);
  for (const [lastEventId, reason] of [
    [lost, 'lost'],
    ['0123456789ab-1', 'unknown'],
    ['0123456789ab-99', 'unknown'],
  ] as const) {
    const stream = await another(app, '/events', { lastEventId });
    expect(await stream.take(2)).toMatchObject([
      { event: 'reset', id: events.position, data: JSON.stringify({ reason, lastEventId }) },
      { event: 'message', data: 'own' },
    ]);
    expect(await stream.closed).toBe('end');
  }
});

test('PF-05 and gets the snapshot, although that takes its time', async () => {
  const state = gate();
  const events = sse(
    (conn) => {
      conn.push('own');
      conn.close();
    },
    { snapshot: () => state.pass.then(() => 'state') },
  );
  later(() => events.close());
  const stream = await another(appOf(events));
  state.open();
  expect(await stream.take(2)).toMatchObject([{ data: 'state', id: events.position }, { data: 'own' }]);
  expect(await stream.closed).toBe('end');
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0 });
});

test('PF-05 a snapshot that takes longer than a second is not waited for: what was pushed leaves, and a normal end', async () => {
  const events = sse(
    (conn) => {
      conn.push('own');
      conn.end();
    },
    { retry: 1000, snapshot: () => new Promise<string>(() => {}) },
  );
  later(() => events.close());
  const stream = await another(appOf(events));
  expect(await stream.take(2)).toMatchObject([{ data: 'own' }, { event: 'end' }]);
  expect(await stream.closed).toBe('end');
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, closed: { end: 1 } });
});

test('PF-05 a broken or missing polyfill’s parameter never gets onto the wire', async () => {
  const { app } = await opened(() => {}, BARE);
  const stream = await another(app, '/events?lastEventId=%00%0d%0adata:x&padding=%0d%0adata:y');
  await stream.until(() => stream.retry !== undefined);
  expect(stream.text).not.toMatch(/data|\r|\0/);
});
