/*
 * Attacks from the advisories of other packages: each as an application would pass it on, and what a client receives of it.
 * wire/event-stream.test.ts has every refused value of event, id and retry; options/options.test.ts has the headers.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { inspect } from 'node:util';
import express, { type Request, type Response, type NextFunction } from 'express';
import { sse, type Message } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { encodeMessage, encodeComment, serializeDefault } from '../../lib/wire/event-stream.ts';
import { lint, oracle } from '../wire/oracle.ts';
import { another, appOf, BARE, codeOf, gate, HEAD, later, opened, tick } from '../fixtures/support.ts';

const BREAKS: [name: string, eol: string][] = [
  ['LF', '\n'],
  ['CR', '\r'],
  ['CRLF', '\r\n'],
];

describe.each(BREAKS)('fields that contain a %s', (_name, eol) => {
  const forged = `event: admin${eol}data: FORGED${eol}${eol}`;
  const attacks: [name: string, message: Record<string, unknown>, code: string][] = [
    [
      'event (CVE-2026-33128 h3, CVE-2026-29085 hono, CVE-2026-35515 NestJS, CVE-2026-44214 eventsource-encoder, CVE-2026-44217 sse-channel)',
      { event: `m${eol}${forged}`, data: 'x' },
      'ERR_SSE_EVENT',
    ],
    ['id (the same)', { id: `1${eol}data: x${eol}${eol}retry: 1`, data: 'x' }, 'ERR_SSE_ID'],
    ['retry (CVE-2026-29085 hono)', { retry: `1000${eol}${eol}${forged}`, data: 'x' }, 'ERR_SSE_RETRY'],
    [
      'heartbeatTimeout (Yaffle’s polyfill obeys this field)',
      { event: `m${eol}heartbeatTimeout: 1`, data: 'x' },
      'ERR_SSE_EVENT',
    ],
  ];

  test.each(attacks)('%s: push throws, and no client receives a forged event', async (_case, message, code) => {
    const { stream, conn } = await opened((connection) => connection.push('before'), BARE);
    expect(codeOf(() => conn.push(message as unknown as Message))).toBe(code);
    conn.push('after');
    await stream.take(2);
    expect(stream.text).toBe(`${HEAD}data: before\n\ndata: after\n\n`);
  });

  test.each(attacks)('%s: broadcast rejects, and the history does not contain it', async (_case, message, code) => {
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
    '%s: a snapshot with it closes the stream, which contains nothing of it',
    async (_case, message, code) => {
      const onError = jest.fn();
      const { stream } = await opened(() => {}, { ...BARE, onError, snapshot: () => message as unknown as Message });
      expect(await stream.body()).toBe(HEAD);
      expect(onError.mock.calls).toMatchObject([[{ code }, { readyState: 'closed' }]]);
    },
  );

  test('a comment (CVE-2026-33128 h3) stays a comment', async () => {
    const { stream, conn } = await opened((connection) => connection.comment(`x${eol}${forged}id: 9${eol}`), BARE);
    conn.push('after');
    await stream.next();
    expect(stream.events).toMatchObject([{ event: 'message', data: 'after', lastEventId: '' }]);
    expect(lint(stream.text)).toEqual([]);
  });

  test('data (GHSA-4hxc-9384-m385 h3, CVE-2026-43968 cowlib, fastify-sse-v2#110) stays data', async () => {
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

  test('the result of a serializer is data as well', async () => {
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
])('the text that a client sends as %s never becomes a line of the stream', async (_name, path, lastEventId) => {
  const events = sse((conn) => conn.push('hello'));
  later(() => events.close());
  const stream = await another(appOf(events), path, { lastEventId });
  await stream.until(() => stream.events.at(-1)?.data === 'hello');
  expect(stream.events.filter(({ event }) => event === 'admin')).toEqual([]);
  expect(lint(stream.text)).toEqual([]);
  expect(stream.text).not.toMatch(/^(event: admin|data: FORGED)$/m);
});

test('a token in the URL or in Authorization does not appear in inspect, stats, errors or warnings', async () => {
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
  const texts = [conn, events.stats(), ...errors, ...warned.mock.calls].map((one) =>
    inspect(one, { depth: 5, showHidden: true }),
  );
  expect(errors).toHaveLength(1);
  expect(texts.join('\n')).not.toContain('s3cret');
  expect(JSON.stringify(events.stats())).not.toContain('s3cret');
});

test('an error of one connection neither reaches nor delays another connection', async () => {
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

describe('megabytes of line ends cost linear time', () => {
  test.each(BREAKS)('%s', (_name, eol) => {
    // CPU time, because other processes may use the core meanwhile.
    const time = (size: number): number => {
      const data = eol.repeat(size / eol.length);
      const start = process.cpuUsage();
      const { body } = encodeMessage({ data }, serializeDefault);
      encodeComment(data);
      const { user, system } = process.cpuUsage(start);
      expect(body).toHaveLength((size / eol.length) * 7 + 8); // the size that a broadcast and maxBuffered count
      return (user + system) / 1000;
    };
    time(2 ** 18);
    const small = Math.min(time(2 ** 18), time(2 ** 18));
    expect(time(2 ** 22)).toBeLessThan(Math.max(small, 20) * 64); // 16 times the size; quadratic would be 256 times the time
  });

  test('the expanded size counts towards maxBuffered of a slow client', async () => {
    const { stream, conn } = await opened((connection) => connection.push('x'), { ...BARE, maxBuffered: 1_000_000 });
    await stream.next();
    stream.pause();
    while (conn.readyState === 'open') {
      conn.push('\n'.repeat(100_000)); // 700 kB each on the wire
      await tick();
    }
    expect(conn.signal.reason).toBe('slow');
  });
});

test('an error after the opening appends neither a page nor its text to the stream', async () => {
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

test('a request that a middleware in front answers with 401 is never registered', async () => {
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

test('a cross-site image, script or form opens one counted connection at most, and there is no callback parameter', async () => {
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

test('no dependency runs a script when it is installed', () => {
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

test('loading the package extends no prototype and no global', () => {
  const shape = () =>
    [Object, Array, String, Function, Promise, Map, Set, Buffer, Error, URL].map((one) => [
      Reflect.ownKeys(one).length,
      Reflect.ownKeys(one.prototype as object).length,
    ]);
  const before = [shape(), Reflect.ownKeys(globalThis).length];
  jest.isolateModules(() => void require('../../lib/index.ts'));
  expect([shape(), Reflect.ownKeys(globalThis).length]).toEqual(before);
});
