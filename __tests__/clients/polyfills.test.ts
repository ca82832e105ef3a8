import { sse } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { another, appOf, BARE, gate, HEAD, later, listening, opened } from '../fixtures/support.ts';
import { ask, Raw } from '../fixtures/http.ts';

describe('padding is sent first, in the piece that opens the stream, if the query requests it', () => {
  test.each([
    ['Yaffle', '?padding=true'],
    ['Yaffle', '?padding'],
    ['Yaffle', '?token=x&padding=1'],
    ['amvtek', '?evs_preamble=2056'],
    ['amvtek, with another size, which is ignored', '?evs_preamble=99999999'],
    ['amvtek, with an invalid size', '?evs_preamble=%0d%0adata:x'],
    ['both', '?padding=true&evs_preamble=2056'],
  ])('%s: %s', async (_name, query) => {
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
    ['a query without a parameter', ''],
    ['a query that refuses padding', '?padding=false'],
    ['a query that refuses padding', '?padding=0'],
    ['a query with other parameters', '?paddings=true&preamble=2056'],
    ['a query with other parameters of amvtek and jQuery', '?evs_buffer_size_limit=262144&_=1700000000000'],
  ])('%s gets no padding: %s', async (_name, query) => {
    const { app, conn: first } = await opened((conn) => void conn.push('first'), BARE);
    const stream = await another(app, `/events${query}`);
    await stream.next();
    expect(stream.text).toBe(`${HEAD}data: first\n\n`);
    expect(first.readyState).toBe('open');
  });

  test('a refusal and an answer to HEAD have no padding', async () => {
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

test('clients that need complete answers: the handler pushes and closes, for each request', async () => {
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

test('a client of complete answers receives a reset if the log has lost what it missed', async () => {
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

test('a client of complete answers receives an asynchronous snapshot', async () => {
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

test('the router waits one second for a snapshot: then it sends the pushes, and no end event, because the state is missing', async () => {
  const events = sse(
    (conn) => {
      conn.push('own');
      conn.end();
    },
    { retry: 1000, snapshot: () => new Promise<string>(() => {}) },
  );
  later(() => events.close());
  const stream = await another(appOf(events));
  expect(await stream.next()).toMatchObject({ data: 'own' });
  expect(await stream.closed).toBe('end');
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, closed: { end: 1 } });
});

test('the value of a query parameter never appears on the wire', async () => {
  const { app } = await opened(() => {}, BARE);
  const stream = await another(app, '/events?lastEventId=%00%0d%0adata:x&padding=%0d%0adata:y');
  await stream.until(() => stream.retry !== undefined);
  expect(stream.text).not.toMatch(/data|\r|\0/);
});
