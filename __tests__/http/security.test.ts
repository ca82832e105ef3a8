/*
 * Cases SEC, with the advisories of other packages that they come from: each attack as an application would pass it on, and what
 * a client sees of it. SEC-08 and SEC-06 are in frame.test.ts with every refused value, SEC-09 with the options.
 * SEC-15's memory is bounded by maxBuffered; here is its time.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { inspect } from 'node:util';
import express, { type Request, type Response, type NextFunction } from 'express';
import { sse, type Message } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { encodeMessage, encodeComment, serializeDefault } from '../../lib/wire/event-stream.ts';
import { lint, oracle } from '../wire/oracle.ts';
import { another, appOf, BARE, codeOf, gate, HEAD, later, opened, turn } from '../fixtures/support.ts';

const BREAKS: [name: string, eol: string][] = [
  ['LF', '\n'],
  ['CR', '\r'],
  ['CRLF', '\r\n'],
];

describe.each(BREAKS)('fields that carry a %s', (_name, eol) => {
  const forged = `event: admin${eol}data: FORGED${eol}${eol}`;
  const attacks: [name: string, message: Record<string, unknown>, code: string][] = [
    [
      'SEC-01 event (CVE-2026-33128 h3, CVE-2026-29085 hono, CVE-2026-35515 NestJS, CVE-2026-44214 eventsource-encoder, CVE-2026-44217 sse-channel)',
      { event: `m${eol}${forged}`, data: 'x' },
      'ERR_SSE_EVENT',
    ],
    ['SEC-02 id (the same)', { id: `1${eol}data: x${eol}${eol}retry: 1`, data: 'x' }, 'ERR_SSE_ID'],
    ['SEC-03 retry (CVE-2026-29085 hono)', { retry: `1000${eol}${eol}${forged}`, data: 'x' }, 'ERR_SSE_RETRY'],
    [
      'SEC-07 heartbeatTimeout (Yaffle’s polyfill obeys it)',
      { event: `m${eol}heartbeatTimeout: 1`, data: 'x' },
      'ERR_SSE_EVENT',
    ],
  ];

  test.each(attacks)('%s: refused by push, and no client sees a forged event', async (_case, message, code) => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    expect(codeOf(() => conn.push(message as unknown as Message))).toBe(code);
    conn.push('after');
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: before\n\ndata: after\n\n`);
  });

  test.each(attacks)('%s: refused by broadcast, and kept from the history', async (_case, message, code) => {
    for (const history of [undefined, false] as const) {
      const { stream, events } = await opened(() => {}, { history, retry: 1000 });
      await expect(events.broadcast(message as never)).rejects.toMatchObject({ code });
      await events.broadcast('after');
      await stream.until(() => stream.events.at(-1)?.data === 'after');
      expect(stream.text).not.toMatch(/FORGED|heartbeatTimeout/);
      const returning = await stream.reconnect({ lastEventId: stream.events[0]!.id });
      later(() => returning.close());
      await events.broadcast('end');
      await returning.until(() => returning.events.at(-1)?.data === 'end');
      expect(returning.text).not.toMatch(/FORGED|heartbeatTimeout/);
    }
  });

  test.each(attacks)(
    '%s: refused in a snapshot, which ends the stream and says nothing',
    async (_case, message, code) => {
      const onError = jest.fn();
      const { stream } = await opened(() => {}, { ...BARE, onError, snapshot: () => message as unknown as Message });
      expect(await stream.body()).toBe(HEAD);
      expect(onError.mock.calls).toMatchObject([[{ code }, { readyState: 'closed' }]]);
    },
  );

  test('SEC-04 a comment (CVE-2026-33128 h3) stays a comment', async () => {
    const { stream, conn } = await opened((connection) => connection.comment(`x${eol}${forged}id: 9${eol}`), BARE);
    conn.push('after');
    await stream.next();
    expect(stream.events).toMatchObject([{ event: 'message', data: 'after', lastEventId: '' }]);
    expect(lint(stream.text)).toEqual([]);
  });

  test('SEC-05 data (GHSA-4hxc-9384-m385 h3, CVE-2026-43968 cowlib, fastify-sse-v2#110) stays data', async () => {
    const data = `legit${eol}${eol}${forged}id: 9${eol}retry: 1${eol}heartbeatTimeout: 1`;
    const { stream, conn, events } = await opened(() => {}, BARE);
    conn.push(data);
    conn.push({ data });
    conn.push({ data: { data } });
    await events.broadcast(data);
    const text = data.replaceAll(eol, '\n');
    await stream.take(4);
    expect(oracle(stream.text).events).toEqual(
      [text, text, JSON.stringify({ data }), text].map((line) => ({ type: 'message', data: line, lastEventId: '' })),
    );
    expect(oracle(stream.text).retries).toEqual([1000]);
    expect(stream.text).not.toMatch(/^heartbeatTimeout/m);
  });

  test('what a serializer returns is data as well', async () => {
    const { stream } = await opened((conn) => conn.push({ data: 1 }), {
      ...BARE,
      serialize: () => `a${eol}${eol}${forged}`,
    });
    await stream.next();
    expect(stream.events).toHaveLength(1);
    expect(lint(stream.text)).toEqual([]);
  });
});

test.each([
  ['a Last-Event-ID', '/events', 'x"\u00e9,{}'],
  ['a query', `/events?lastEventId=${encodeURIComponent('aaaaaaaaaaaa-1\n\nevent: admin\ndata: FORGED\n\n')}`, ''],
  [
    'a query of the journal’s form with more behind it',
    `/events?lastEventId=${encodeURIComponent('aaaaaaaaaaaa-1\ndata: FORGED')}`,
    '',
  ],
])('what a client sends as %s is never taken for a line of the stream', async (_name, path, lastEventId) => {
  const events = sse((conn) => conn.push('hello'));
  later(() => events.close());
  const stream = await another(appOf(events), path, { lastEventId });
  await stream.until(() => stream.events.at(-1)?.data === 'hello');
  expect(stream.events.filter(({ event }) => event === 'admin')).toEqual([]);
  expect(lint(stream.text)).toEqual([]);
  expect(stream.text).not.toMatch(/^(event: admin|data: FORGED)$/m);
});

test('SEC-12 a token in the URL or in Authorization stays out of inspect, stats, errors and warnings', async () => {
  const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const errors: unknown[] = [];
  const events = sse((conn) => {
    conn.push('x');
    try {
      conn.push({ retry: 0 } as never);
    } catch (error) {
      errors.push(error);
    }
  });
  later(() => events.close());
  const stream = await connect(appOf(events), '/events?token=s3cret', { headers: { authorization: 'Bearer s3cret' } });
  later(() => stream.close());
  const [conn] = events.connections;
  const told = [conn, events.stats(), ...errors, ...warned.mock.calls].map((one) =>
    inspect(one, { depth: 5, showHidden: true }),
  );
  expect(errors).toHaveLength(1);
  expect(told.join('\n')).not.toContain('s3cret');
  expect(JSON.stringify(events.stats())).not.toContain('s3cret');
});

test('SEC-14 what one connection throws neither reaches nor delays another', async () => {
  const onError = jest.fn();
  const { pass, fail } = gate();
  let first = true;
  const events = sse(
    async (conn) => {
      conn.push('hello');
      if (!first) return;
      first = false;
      await pass;
    },
    { ...BARE, onError },
  );
  later(() => events.close());
  const app = appOf(events);
  const bad = await another(app);
  const good = await another(app);
  const sent = events.broadcast('all');
  fail(new Error('boom'));
  await sent;
  expect((await good.take(2)).map(({ data }) => data as string)).toEqual(['hello', 'all']);
  expect(await bad.closed).toBe('end');
  expect(onError).toHaveBeenCalledTimes(1);
  expect(events.size).toBe(1);
});

describe('SEC-15 megabytes of line ends cost linear time', () => {
  test.each(BREAKS)('%s', (_name, eol) => {
    const time = (size: number): number => {
      const data = eol.repeat(size / eol.length);
      const start = performance.now();
      const { body } = encodeMessage({ data }, serializeDefault);
      encodeComment(data);
      const took = performance.now() - start;
      expect(body).toHaveLength((size / eol.length) * 7 + 8); // what a broadcast and maxBuffered count
      return took;
    };
    time(2 ** 18);
    const small = Math.min(time(2 ** 18), time(2 ** 18));
    expect(time(2 ** 22)).toBeLessThan(Math.max(small, 20) * 64); // 16 times the size; quadratic would be 256 times the time
  });

  test('the expansion counts against what a slow reader may hold', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 1_000_000 });
    await stream.next();
    stream.pause();
    while (conn.readyState === 'open') {
      conn.push('\n'.repeat(100_000)); // 700 kB each on the wire
      await turn();
    }
    expect(conn.signal.reason).toBe('slow');
  });
});

test('SEC-17 an error after the opening never appends a page to the stream, nor a word of it', async () => {
  const { pass, fail } = gate();
  const events = sse(
    async (conn) => {
      conn.push('x');
      await pass;
    },
    { ...BARE, onError: () => {} },
  );
  later(() => events.close());
  const stream = await another(appOf(events));
  await stream.next();
  fail(Object.assign(new Error('s3cret'), { status: 418 }));
  expect(await stream.body()).toBe(`${HEAD}data: x\n\n`);
});

test('SEC-18 a middleware in front that answers 401 keeps everything from being registered', async () => {
  let handled = 0;
  const events = sse(() => void handled++, { limits: { connections: 1 } });
  later(() => events.close());
  const app = express();
  app.use((req: Request, res: Response, next: NextFunction) => {
    if (req.headers.authorization === 'Bearer good') next();
    else res.sendStatus(401);
  });
  app.use('/events', events);
  for (const authorization of [undefined, 'Bearer bad', 'Bearer worse']) {
    const stream = await another(app, '/events', { headers: { authorization } });
    expect(stream.status).toBe(401);
    await stream.close();
  }
  expect(handled).toBe(0);
  expect(events.stats()).toMatchObject({ connections: 0, connecting: 0, opened: 0 });
  expect((await another(app, '/events', { headers: { authorization: 'Bearer good' } })).status).toBe(200);
  expect(handled).toBe(1);
});

test('SEC-20 a cross-site image, script or form takes a counted place at most, and there is no callback parameter', async () => {
  const events = sse((conn) => conn.push('x'), { limits: { connections: 1 } });
  later(() => events.close());
  const app = appOf(events);
  const image = await another(app, '/events', {
    headers: { accept: 'image/avif,image/webp', 'sec-fetch-dest': 'image' },
  });
  expect(image.status).toBe(406);
  const form = await another(app, '/events', { method: 'POST', body: 'a=b' });
  expect(form.status).toBe(405);
  expect(events.stats().connecting + events.size).toBe(0);
  const script = await another(app, '/events?callback=alert&jsonp=alert', {
    headers: { accept: '*/*', 'sec-fetch-dest': 'script' },
  });
  expect(script.headers['content-type']).toBe('text/event-stream; charset=utf-8');
  await script.next();
  expect(script.text).not.toContain('alert');
  expect(events.size).toBe(1);
  await script.close();
  expect(events.size).toBe(0);
});

test('SEC-19 no dependency runs a script when it is installed', () => {
  const read = (path: string) =>
    JSON.parse(readFileSync(path, 'utf8')) as Record<string, Record<string, string> | undefined>;
  const seen = new Set<string>();
  const visit = (name: string, from: string): void => {
    const require = createRequire(from);
    const place = (require.resolve.paths(name) ?? []).map((folder) => `${folder}/${name}/package.json`);
    const path = place.find((file) => {
      try {
        return readFileSync(file) !== undefined;
      } catch {
        return false;
      }
    });
    if (path === undefined || seen.has(path)) return;
    seen.add(path);
    const { scripts = {}, dependencies = {} } = read(path);
    expect([name, Object.keys(scripts).filter((script) => /^(pre|post)?install$/.test(script))]).toEqual([name, []]);
    for (const dependency of Object.keys(dependencies)) visit(dependency, path);
  };
  const own = `${__dirname}/../../package.json`;
  for (const name of Object.keys(read(own).dependencies!)) visit(name, own);
  expect(seen.size).toBeGreaterThanOrEqual(4);
});

test('SEC-19 loading the package extends no prototype and no global', () => {
  const shape = () =>
    [Object, Array, String, Function, Promise, Map, Set, Buffer, Error, URL].map((one) => [
      Reflect.ownKeys(one).length,
      Reflect.ownKeys(one.prototype as object).length,
    ]);
  const before = [shape(), Reflect.ownKeys(globalThis).length];
  jest.isolateModules(() => void require('../../lib/index.ts'));
  expect([shape(), Reflect.ownKeys(globalThis).length]).toEqual(before);
});
