/*
 * The routes of a router of runs, on real sockets: statuses, headers, ids, and what each reader receives.
 */
import { once } from 'node:events';
import { connect as dial } from 'node:net';
import { Readable } from 'node:stream';
import compression from 'compression';
import express from 'express';
import express4 from 'express4';
import { memoryRuns, openai, uiMessages, type Wire } from '../../lib/runs/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { eventually, pause, Raw, serve } from '../fixtures/http.ts';
import { codeOf, gate, later } from '../fixtures/support.ts';
import { site, until } from './sites.ts';

/** The data of events: values of JSON, and the statuses of ends. */
const dataOf = (events: readonly { data: unknown }[]): unknown[] =>
  events.map(({ data }) => (/^[a-z ]/i.test(String(data)) ? data : JSON.parse(String(data))));
const json = { 'content-type': 'application/json' };

describe('POST /', () => {
  test('starts the run and streams it from its first chunk, with ids, then the end', async () => {
    const { post, models, chat } = await site();
    const stream = await post('a b');
    expect(stream.status).toBe(200);
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'x-run-id': 'a%20b',
      location: './chat/a%20b',
    });
    expect(models.last.id).toBe('a b');
    models.last.emit('one', 'two');
    await stream.take(2);
    models.last.emit({ n: 3 });
    models.last.finish();
    await stream.body();
    expect(stream.events.map(({ event }) => event)).toEqual(['message', 'message', 'message', 'end']);
    expect(dataOf(stream.events)).toEqual(['one', 'two', { n: 3 }, 'done']);
    const ids = stream.events.map(({ id }) => id);
    expect(ids[0]).toMatch(/^a%20b~[\w-]{1,32}~1$/);
    const prefix = ids[0]!.slice(0, -1);
    expect(ids).toEqual([`${prefix}1`, `${prefix}2`, `${prefix}3`, `${prefix}end`]);
    expect(await chat.status('a b')).toMatchObject({ id: 'a b', status: 'done', chunks: 3 });
  });

  test('sets its headers before the first chunk', async () => {
    const { post, models } = await site();
    const stream = await post('r'); // resolves with the head
    expect(models.calls).toHaveLength(1);
    expect(stream.events).toEqual([]);
  });

  test.each([
    ['/chat', './chat/r'],
    ['/chat?x=1', './chat/r'],
    ['/chat/', './r'],
    ['/chat/?x=/y', './r'],
  ])('Location is relative to the path of the request: %s', async (path, location) => {
    const { server } = await site();
    const stream = await connect(server, path, { body: { id: 'r' } });
    expect(stream.headers['location']).toBe(location);
    const { href } = new URL(location, `http://x/prefix${path}`);
    expect(href).toBe('http://x/prefix/chat/r');
    await stream.close();
  });

  test('without the option id, each run has an id of its own, which Location names', async () => {
    const { open, models, ask } = await site({ id: undefined as never });
    const [a, b] = [await open('', { body: {} }), await open('', { body: {} })];
    expect(a.headers['x-run-id']).toMatch(/^[\w-]{20,40}$/);
    expect(b.headers['x-run-id']).not.toBe(a.headers['x-run-id']);
    expect(models.calls.map(({ id }) => id)).toEqual([a.headers['x-run-id'], b.headers['x-run-id']]);
    expect((await ask(`/${String(a.headers['x-run-id'])}/status`)).status).toBe(200);
  });

  test.each<[what: string, id: unknown]>([
    ['undefined', undefined],
    ['an empty string', ''],
    ['a number', 7],
    ['a promise', Promise.resolve('r')],
    ['too long', 'x'.repeat(257)],
    ['too long when it is encoded', '€'.repeat(256)],
    ['with a control character', 'a\nb'],
    ['with half of a character', 'a\ud800'],
    ['a segment that URLs drop', '..'],
  ])('an id that is %s is answered 400, and starts no run', async (_what, id) => {
    const onError = jest.fn();
    const { ask, models } = await site({ id: () => id as string, onError });
    const { status, headers, text } = await ask('', { method: 'POST', body: '{}', headers: json });
    expect(status).toBe(400);
    expect(headers.get('x-run-id')).toBeNull();
    expect(models.calls).toEqual([]);
    expect(onError).not.toHaveBeenCalled(); // a client has caused it
    expect(text).toMatch(/must be a string of 1 to 256 characters/);
  });

  test('an error of id() goes to Express', async () => {
    const { ask, models } = await site({
      id: () => {
        throw Object.assign(new Error('secret'), { status: 422 });
      },
    });
    expect(await ask('', { method: 'POST' })).toMatchObject({ status: 422 });
    expect(models.calls).toEqual([]);
  });

  test('with `join`, a second POST reads the same run from its first chunk', async () => {
    const { post, models } = await site();
    const first = await post('r');
    models.last.emit(1);
    await first.next();
    const second = await post('r');
    expect(models.calls).toHaveLength(1);
    models.last.emit(2);
    models.last.finish();
    await first.body();
    await second.body();
    expect(dataOf(second.events)).toEqual([1, 2, 'done']);
    const third = await post('r'); // it has ended: a new generation
    expect(models.calls).toHaveLength(2);
    models.last.finish();
    await third.body();
    expect(dataOf(third.events)).toEqual(['done']);
  });

  test('with `join`, POSTs of the same moment are one run', async () => {
    const { post, models } = await site();
    const streams = await Promise.all(Array.from({ length: 10 }, () => post('r')));
    expect(models.calls).toHaveLength(1);
    models.last.emit('x');
    models.last.finish();
    for (const stream of streams) {
      await stream.body();
      expect(dataOf(stream.events)).toEqual(['x', 'done']);
    }
  });

  test('with `reject`, a second POST gets 409 with the place of the run', async () => {
    const { post, ask, models } = await site({ again: 'reject' });
    await post('r');
    const second = await ask('', { method: 'POST', body: '{"id":"r"}', headers: json });
    expect(second).toMatchObject({ status: 409 });
    expect(second.headers.get('location')).toBe('./chat/r');
    expect(models.calls).toHaveLength(1);
  });

  test('with `replace`, a second POST stops the first generation; each POST reads only its own', async () => {
    const { post, models } = await site({ again: 'replace' });
    const first = await post('r');
    models.last.emit(1);
    await first.next();
    const second = await post('r');
    expect(models.calls).toHaveLength(2);
    expect(models.calls[0]!.signal.aborted).toBe(true);
    await first.body();
    expect(dataOf(first.events)).toEqual([1, 'stopped']);
    models.last.emit(2);
    models.last.finish();
    await second.body();
    expect(dataOf(second.events)).toEqual([2, 'done']);
  });

  test('with `replace`, of POSTs of the same moment one wins, and every reader has an end', async () => {
    const { post, models } = await site({ again: 'replace' });
    const streams = await Promise.all(Array.from({ length: 8 }, () => post('r')));
    await eventually(() => models.calls.filter(({ signal }) => !signal.aborted).length === 1);
    const winner = models.calls.find(({ signal }) => !signal.aborted)!;
    winner.emit('won');
    winner.finish();
    const ends: unknown[] = [];
    for (const stream of streams) {
      await stream.body();
      ends.push(stream.events.at(-1)!.data);
    }
    expect(ends.filter((end) => end === 'done')).toHaveLength(1);
    expect(ends.filter((end) => end === 'stopped')).toHaveLength(7);
  });

  test('with uiMessages(), `replace` is the default', async () => {
    const { post, models } = await site({ wire: uiMessages() });
    await post('r');
    await post('r');
    expect(models.calls).toHaveLength(2);
  });

  test('a run continues when all of its readers have left', async () => {
    const { post, models, ask, open } = await site();
    const stream = await post('r');
    models.last.emit(1);
    await stream.next();
    await stream.cut();
    models.last.emit(2);
    await pause(20);
    expect(models.last.signal.aborted).toBe(false);
    models.last.finish();
    await until(async () => JSON.parse((await ask('/r/status')).text).status === 'done');
    const again = await open('/r');
    await again.body();
    expect(dataOf(again.events)).toEqual([1, 2, 'done']);
  });

  test('a client that disconnects before the run has begun gets no connection, and the run is not leaked', async () => {
    const passes = gate();
    const { server, models, chat, ask } = await site({ allow: () => passes.pass.then(() => true) });
    const raw = dial((server.address() as { port: number }).port, '127.0.0.1');
    await once(raw, 'connect');
    const body = '{"id":"r"}';
    raw.write(
      `POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await pause(50);
    raw.destroy();
    await pause(20);
    passes.open();
    await pause(20);
    expect(models.calls).toEqual([]);
    expect(chat.stats()).toMatchObject({ connections: 0, connecting: 0 });
    expect((await ask('/r/status')).status).toBe(404);
  });
});

describe('GET /:id and GET /:id/stream', () => {
  test.each(['/r', '/r/stream', '/r/'])('%s joins from the first chunk', async (path) => {
    const { post, models, open } = await site();
    await post('r');
    models.last.emit('a', 'b');
    const joined = await open(path);
    expect(joined.headers).toMatchObject({ 'x-run-id': 'r' });
    await joined.take(2);
    models.last.emit('c');
    models.last.finish();
    await joined.body();
    expect(dataOf(joined.events)).toEqual(['a', 'b', 'c', 'done']);
  });

  test.each(['header', 'query'])('with a last event id in the %s, it sends only the rest', async (where) => {
    const { post, models, open } = await site();
    const first = await post('r');
    models.last.emit('a', 'b', 'c');
    const [, { id }] = (await first.take(2)) as [unknown, { id: string }];
    const query = `/r?lastEventId=${encodeURIComponent(id)}`;
    const rest = where === 'query' ? await open(query) : await open('/r', { lastEventId: id });
    models.last.finish();
    await rest.body();
    expect(dataOf(rest.events)).toEqual(['c', 'done']);
  });

  test.each([
    ['an unknown run', '/unknown'],
    ['a run that was never started, with an id of another one', '/unknown?lastEventId=r~g~5'],
  ])('%s is answered 204', async (_what, path) => {
    const { ask } = await site();
    expect(await ask(path)).toMatchObject({ status: 204, text: '' });
  });

  test('a client that has received the end is answered 204, also when the next generation runs', async () => {
    const { post, models, ask } = await site();
    const stream = await post('r');
    models.last.finish();
    await stream.body();
    const headers = { 'last-event-id': stream.lastEventId };
    expect((await ask('/r', { headers })).status).toBe(204);
    await post('r');
    expect((await ask('/r', { headers })).status).toBe(204);
    expect((await ask('', { method: 'POST', headers: { ...headers, ...json }, body: '{"id":"r"}' })).status).toBe(204);
    expect(models.calls).toHaveLength(2);
  });

  test('an id of an older generation continues with that generation; without an id it is the newest one', async () => {
    const { post, models, open } = await site();
    const first = await post('r');
    models.last.emit('old 1', 'old 2');
    const id = (await first.next()).id!;
    models.last.finish();
    await first.body();
    await post('r');
    models.last.emit('new');
    const rest = await open('/r', { lastEventId: id });
    await rest.body();
    expect(dataOf(rest.events)).toEqual(['old 2', 'done']);
    const newest = await open('/r');
    expect(await newest.next()).toMatchObject({ data: 'new' });
  });

  test('if the generation of an id is not kept any more, the client gets the end `lost`', async () => {
    const { post, models, open, ask } = await site({ keep: 50 });
    const first = await post('r');
    models.last.emit('a', 'b');
    const id = (await first.next()).id!;
    models.last.finish();
    await first.body();
    await until(async () => (await ask('/r')).status === 204);
    for (const how of [{ lastEventId: id }, { lastEventId: id.replace(/1$/, '2') }]) {
      const late = await open('/r', how);
      await late.body();
      expect(dataOf(late.events)).toEqual(['lost']);
      expect(late.lastEventId).toBe(id.replace(/1$/, 'end'));
    }
    expect((await ask('/r', { headers: { 'last-event-id': id.replace(/1$/, 'end') } })).status).toBe(204);
  });

  test('an id of another run, and text that is no id, are ignored', async () => {
    const { post, models, open } = await site();
    await post('r');
    models.last.emit('a', 'b');
    for (const lastEventId of ['other~g~1', '1', 'r~g', 'r~g~x', 'r~g~-1', '~~~', 'r~ü~1']) {
      const stream = await open('/r', { lastEventId });
      expect(dataOf(await stream.take(2))).toEqual(['a', 'b']);
      await stream.close();
    }
  });

  test('a position beyond the log is that of its newest chunk', async () => {
    const { post, models, open } = await site();
    const first = await post('r');
    models.last.emit('a');
    const id = (await first.next()).id!;
    const beyond = await open('/r', { lastEventId: id.replace(/1$/, '999999') });
    models.last.emit('b');
    models.last.finish();
    await beyond.body();
    expect(dataOf(beyond.events)).toEqual(['b', 'done']);
  });

  test('run ids with any character work in the path, in the headers and in event ids', async () => {
    const { post, models, open, chat } = await site();
    for (const id of ['a/b?c#d', 'x~y~1', '%41', 'größe €', '~', '...', "a'b(c)!*", 'stream', 'status']) {
      const first = await post(id);
      const path = `/${encodeURIComponent(id)}`;
      expect(first.headers['x-run-id']).toBe(encodeURIComponent(id));
      expect(new URL(String(first.headers['location']), 'http://x/chat').pathname).toBe(`/chat${path}`);
      models.last.emit('a', 'b');
      const lastEventId = (await first.next()).id!;
      const rest = await open(path, { lastEventId });
      expect(await rest.next()).toMatchObject({ data: 'b' });
      await rest.close();
      expect((await open(`${path}/stream`)).headers['x-run-id']).toBe(encodeURIComponent(id));
      expect(await chat.status(id)).toMatchObject({ id, status: 'running' });
    }
  });

  test.each(['/%', '/%ff', '/%0a', '/%ed%a0%80', `/${'x'.repeat(257)}`])(
    '%s is answered 400 in every route',
    async (path) => {
      const { ask, models } = await site({
        allow: () => {
          throw new Error('it was called');
        },
      });
      for (const [method, suffix] of [
        ['GET', ''],
        ['GET', '/stream'],
        ['GET', '/status'],
        ['DELETE', ''],
        ['POST', '/stop'],
      ] as const) {
        expect(await ask(path + suffix, { method })).toMatchObject({ status: 400 });
      }
      expect(models.calls).toEqual([]);
    },
  );

  test('HEAD answers with the headers of the stream, and counts in no limit', async () => {
    const { ask, post, chat } = await site({ limits: { connections: 1 } });
    await post('r');
    const { status, headers, text } = await ask('/r', { method: 'HEAD' });
    expect([status, headers.get('content-type'), text]).toEqual([200, 'text/event-stream; charset=utf-8', '']);
    expect(chat.stats()).toMatchObject({ connections: 1, connecting: 0, opened: 1 });
  });

  describe.each(['/running', '/done', '/unknown', '/%00'])('HEAD agrees with GET: %s', (path) => {
    test.each<[what: string, headers: Record<string, string>]>([
      ['without more', {}],
      ['without permission', { 'x-deny': '1' }],
      ['with a function allow that throws', { 'x-deny': 'throw' }],
      ['from a foreign origin', { origin: 'https://b.example' }],
      ['that accepts no stream', { accept: 'application/json' }],
      ['with the id of a lost generation', { 'last-event-id': `${path.slice(1)}~g~1` }],
      ['with the id of an end', { 'last-event-id': `${path.slice(1)}~g~end` }],
    ])('%s', async (_what, headers) => {
      const { url, post, models } = await site({
        cors: { origin: 'https://a.example' },
        allow: (req) => {
          if (req.get('x-deny') === 'throw') throw new Error('no');
          return req.method === 'POST' || req.get('x-deny') === undefined;
        },
      });
      const done = await post('done');
      models.last.finish();
      await done.body();
      await post('running');
      for (const route of [path, `${path}/stream`, `${path}/status`]) {
        const [head, get] = await Promise.all(
          ['HEAD', 'GET'].map(async (method) => {
            const response = await fetch(`${url}/chat${route}`, {
              method,
              headers: { connection: 'close', ...headers },
            });
            await response.body?.cancel();
            const {
              date: _date,
              'transfer-encoding': _encoding,
              'content-length': _length,
              ...rest
            } = Object.fromEntries(response.headers);
            return [response.status, rest];
          }),
        );
        expect([route, head]).toEqual([route, get]);
      }
      expect(models.calls).toHaveLength(2);
    });
  });

  test('the answer to HEAD of a run whose end the client has is the 204 of GET', async () => {
    const { ask, post, models } = await site();
    const stream = await post('r');
    models.last.finish();
    await stream.body();
    expect((await ask('/r', { method: 'HEAD', headers: { 'last-event-id': stream.lastEventId } })).status).toBe(204);
  });

  test('a client that accepts no stream is answered 406', async () => {
    const { ask } = await site();
    expect(await ask('/r', { headers: { accept: 'application/json' } })).toMatchObject({ status: 406 });
  });
});

describe('DELETE /:id and POST /:id/stop', () => {
  test.each([
    ['DELETE', '/r'],
    ['POST', '/r/stop'],
  ])('%s %s stops the run: 202, then 204', async (method, path) => {
    const { post, models, ask } = await site();
    const stream = await post('r');
    models.last.emit('kept');
    await stream.next();
    expect(await ask(path, { method })).toMatchObject({ status: 202, text: '' });
    await stream.body();
    expect(dataOf(stream.events)).toEqual(['kept', 'stopped']);
    expect(models.last.signal.aborted).toBe(true);
    expect(await ask(path, { method })).toMatchObject({ status: 204 });
    expect(await ask(path.replace('r', 'unknown'), { method })).toMatchObject({ status: 204 });
  });

  test('with a last event id, only the generation of the id is stopped', async () => {
    const { post, models, ask } = await site();
    const first = await post('r');
    models.last.emit('a');
    const id = (await first.next()).id!;
    models.last.finish();
    await first.body();
    const second = await post('r');
    models.last.emit('b');
    const event = await second.next();
    expect(await ask('/r', { method: 'DELETE', headers: { 'last-event-id': id } })).toMatchObject({ status: 204 });
    expect(await ask('/r', { method: 'DELETE', headers: { 'last-event-id': first.lastEventId } })).toMatchObject({
      status: 204,
    });
    expect(models.last.signal.aborted).toBe(false);
    expect(await ask('/r', { method: 'DELETE', headers: { 'last-event-id': event.id! } })).toMatchObject({
      status: 202,
    });
    await second.body();
    expect(dataOf(second.events)).toEqual(['b', 'stopped']);
  });
});

describe('GET /:id/status', () => {
  test('answers what is known as JSON, or 404', async () => {
    const { post, models, ask } = await site();
    const stream = await post('r');
    models.last.emit('a', 'b');
    await stream.take(2);
    const { status, headers, text } = await ask('/r/status', { headers: { accept: 'application/json' } });
    expect([status, headers.get('content-type'), headers.get('cache-control')]).toEqual([
      200,
      'application/json; charset=utf-8',
      'no-store',
    ]);
    const running = JSON.parse(text);
    expect(Object.keys(running).sort()).toEqual(['bytes', 'chunks', 'id', 'startedAt', 'status']);
    expect(running).toMatchObject({ id: 'r', status: 'running', chunks: 2 });
    expect(Math.abs(running.startedAt - Date.now())).toBeLessThan(60_000);
    models.last.fail(new Error('secret'));
    await stream.body();
    const ended = JSON.parse((await ask('/r/status')).text);
    expect(ended).toMatchObject({ id: 'r', status: 'failed', chunks: 2 });
    expect(ended.endedAt).toBeGreaterThanOrEqual(ended.startedAt);
    expect((await ask('/unknown/status')).status).toBe(404);
  });
});

describe('other requests', () => {
  test.each([
    ['GET', '', 'POST, OPTIONS'],
    ['PUT', '', 'POST, OPTIONS'],
    ['POST', '/r', 'GET, HEAD, DELETE, OPTIONS'],
    ['DELETE', '/r/stream', 'GET, HEAD, OPTIONS'],
    ['POST', '/r/status', 'GET, HEAD, OPTIONS'],
    ['GET', '/r/stop', 'POST, OPTIONS'],
  ])('%s %s is answered 405', async (method, path, allow) => {
    const { ask } = await site();
    const { status, headers, text } = await ask(path, { method });
    expect([status, headers.get('allow')]).toEqual([405, allow]);
    expect(text).toBe(`${method} is not allowed here. The allowed methods are ${allow}.\n`);
    expect((await ask(path, { method: 'OPTIONS' })).headers.get('allow')).toBe(allow);
  });

  test.each(['/r/other', '/r/stream/x', '/r/s/t/u'])('%s goes on to the application', async (path) => {
    const { ask } = await site({}, (app, chat) => {
      app.use('/chat', chat);
      app.use((_req, res) => void res.status(418).end());
    });
    expect(await ask(path)).toMatchObject({ status: 418 });
  });

  test('a response that was sent already is reported to Express', async () => {
    const errors: unknown[] = [];
    const { ask } = await site({}, (app, chat) => {
      app.use('/chat', (_req, res, next) => (res.send('sent'), next()), chat);
      app.use(((error, _req, _res, _next) => void errors.push(error.code)) as express.ErrorRequestHandler);
    });
    expect(await ask('/r')).toMatchObject({ text: 'sent' });
    expect(errors).toEqual(['ERR_SSE_HEADERS_SENT']);
  });
});

describe('allow', () => {
  test('decides for each run what a request may do; false is 403, and starts nothing', async () => {
    const seen: [string, string][] = [];
    const { ask, post, models } = await site({
      allow: (req, id, what) => {
        seen.push([id, what]);
        return req.headers['x-user'] === 'alice';
      },
    });
    const alice = { 'x-user': 'alice' };
    const refused = { method: 'POST', body: '{"id":"r"}', headers: json };
    expect(await ask('', refused)).toMatchObject({ status: 403 });
    expect(models.calls).toEqual([]);
    await post('r', { headers: alice });
    for (const [method, path] of [
      ['GET', '/r'],
      ['GET', '/r/stream'],
      ['GET', '/r/status'],
      ['DELETE', '/r'],
      ['POST', '/r/stop'],
    ] as const) {
      const { status, text, headers } = await ask(path, { method });
      expect([path, status, text.includes('r"')]).toEqual([path, 403, false]);
      expect(headers.get('x-run-id')).toBeNull();
    }
    expect(await ask('', refused)).toMatchObject({ status: 403 }); // it would join
    expect(models.last.signal.aborted).toBe(false);
    expect(await ask('/r', { method: 'DELETE', headers: alice })).toMatchObject({ status: 202 });
    expect(new Set(seen.map(String))).toEqual(new Set(['r,start', 'r,read', 'r,stop']));
  });

  test.each<[what: string, allow: () => unknown]>([
    ['nothing', () => undefined],
    ['an object', () => ({})],
    ['a promise of nothing', async () => {}],
  ])('a function that returns %s allows nothing', async (_what, allow) => {
    const { ask } = await site({ allow: allow as () => boolean });
    expect(await ask('/r/status')).toMatchObject({ status: 403 });
  });

  test.each<[what: string, allow: () => boolean | Promise<boolean>]>([
    [
      'throws',
      () => {
        throw Object.assign(new Error('no'), { status: 422 });
      },
    ],
    ['rejects', () => Promise.reject(Object.assign(new Error('no'), { status: 422 }))],
  ])('an error of a function that %s goes to Express', async (_what, allow) => {
    const { ask, models } = await site({ allow });
    expect(await ask('/r')).toMatchObject({ status: 422 });
    expect(await ask('', { method: 'POST', body: '{"id":"r"}', headers: json })).toMatchObject({ status: 422 });
    expect(models.calls).toEqual([]);
  });

  test('a function that answers itself decides', async () => {
    const { server } = await site({}, (app, chat) => void app.use('/chat', chat));
    expect(server).toBeDefined();
    const own = await site({
      allow: (req) => {
        req.res!.status(401).send('log in');
        return true;
      },
    });
    expect(await own.ask('/r')).toMatchObject({ status: 401, text: 'log in' });
  });
});

describe('limits', () => {
  test('a POST over the limit is answered 503 with Retry-After, and starts no run', async () => {
    const { post, ask, models, chat } = await site({ limits: { connections: 2 } });
    const first = await post('a');
    await post('b');
    const { status, headers } = await ask('', { method: 'POST', body: '{"id":"c"}', headers: json });
    expect(status).toBe(503);
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
    expect(models.calls).toHaveLength(2);
    expect(chat.stats().refused.connections).toBe(1);
    await first.close();
    await eventually(() => chat.stats().connections === 1);
    expect((await post('c')).status).toBe(200);
  });

  test('POSTs of the same moment cost no more calls than the limit allows', async () => {
    const all = gate();
    let waiting = 0;
    const { ask, models, chat } = await site({
      limits: { connections: 3 },
      allow: async () => {
        if (++waiting === 12) all.open();
        await all.pass;
        return true;
      },
    });
    const controller = new AbortController();
    const statuses: number[] = [];
    for (let i = 0; i < 12; i++) {
      void ask('', { method: 'POST', body: `{"id":"${i}"}`, headers: json, signal: controller.signal }).then(
        ({ status }) => statuses.push(status),
        () => {},
      );
    }
    await eventually(() => statuses.length === 9);
    expect(new Set(statuses)).toEqual(new Set([503]));
    expect(models.calls).toHaveLength(3);
    controller.abort();
    await eventually(() => chat.stats().connections === 0);
  });

  test('perClient counts readers of all runs; a GET gets an empty stream with a retry, or 429', async () => {
    const { post, ask } = await site({ limits: { perClient: 1 } });
    await post('a');
    expect(await ask('', { method: 'POST', body: '{"id":"b"}', headers: json })).toMatchObject({ status: 429 });
    const get = await ask('/a');
    expect([get.status, /\nretry: \d+\n$/.test(get.text)]).toEqual([200, true]);
    const strict = await site({ limits: { perClient: 1, whenFull: 'reject' } });
    await strict.post('a');
    expect((await strict.ask('/a')).status).toBe(429);
  });

  test('a client of a wire without control events always gets a status', async () => {
    const { post, ask, chat } = await site({ wire: openai(), limits: { connections: 1 } });
    const stream = await post('a');
    expect((await ask('/a')).status).toBe(503);
    await stream.close();
    await eventually(() => chat.stats().connections === 0);
    await chat.close();
    expect((await ask('/a')).status).toBe(503);
  });

  test('a request that starts nothing gives its place back', async () => {
    const { ask, post, chat } = await site({ limits: { connections: 1 }, again: 'reject' });
    const stream = await post('a');
    await stream.close();
    await eventually(() => chat.stats().connections === 0);
    for (let i = 0; i < 3; i++) {
      expect((await ask('', { method: 'POST', body: '{"id":"a"}', headers: json })).status).toBe(409);
    }
  });
});

describe('CORS', () => {
  const origin = 'https://app.example';
  const foreign = 'https://evil.example';

  test('applies to every route, allows DELETE, and exposes the headers that a page needs', async () => {
    const { ask, post, models } = await site({ cors: { origin, credentials: true, exposedHeaders: ['X-Own'] } });
    const stream = await post('r', { headers: { origin } });
    const exposed = 'X-Own,X-Run-Id,Location,Retry-After';
    expect(stream.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': exposed,
    });
    for (const [method, path, status] of [
      ['GET', '/unknown', 204],
      ['GET', '/r/status', 200],
      ['GET', '/unknown/status', 404],
      ['GET', '/%ff', 400],
      ['PUT', '', 405],
      ['DELETE', '/r', 202],
    ] as const) {
      const own = await ask(path, { method, headers: { origin } });
      expect([path, own.status, own.headers.get('access-control-allow-origin')]).toEqual([path, status, origin]);
      expect(own.headers.get('access-control-expose-headers')).toBe(exposed);
      const other = await ask(path, { method, headers: { origin: foreign } });
      expect([other.status, other.headers.get('access-control-allow-origin')]).toEqual([403, null]);
    }
    expect(models.calls).toHaveLength(1);
    const preflight = await ask('/r', {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'DELETE' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-methods')).toBe('GET,HEAD,POST,DELETE');
  });

  test('a POST of a foreign origin starts no run', async () => {
    const { ask, models } = await site({ cors: { origin } });
    const init = { method: 'POST', body: '{"id":"r"}', headers: { ...json, origin: foreign } };
    expect((await ask('', init)).status).toBe(403);
    expect(models.calls).toEqual([]);
  });

  test('`true` allows every origin', async () => {
    const { ask } = await site({ cors: true });
    const { headers } = await ask('/r/status', { headers: { origin: foreign } });
    expect(headers.get('access-control-allow-origin')).toBe('*');
    expect(headers.get('access-control-expose-headers')).toBe('X-Run-Id,Location,Retry-After');
  });

  test('in front of authentication, `cors` answers preflights and sets the headers of a 401', async () => {
    const { ask } = await site({ cors: { origin } }, (app, chat) =>
      app.use(
        '/chat',
        chat.cors,
        (req, res, next) => (req.headers['x-user'] ? next() : void res.sendStatus(401)),
        chat,
      ),
    );
    const denied = await ask('/r', { headers: { origin } });
    expect([denied.status, denied.headers.get('access-control-allow-origin')]).toEqual([401, origin]);
    const preflight = { origin, 'access-control-request-method': 'DELETE' };
    expect((await ask('/r', { method: 'OPTIONS', headers: preflight })).status).toBe(204);
    expect((await ask('/r', { headers: { origin, 'x-user': 'a' } })).status).toBe(204);
    expect((await ask('/r', { headers: { origin: foreign } })).status).toBe(403);
  });
});

describe('the stream', () => {
  test('is compressed for clients that accept gzip, as it is for sse()', async () => {
    const { post, open, models } = await site({ compress: true });
    const gzip = { headers: { 'accept-encoding': 'gzip' } };
    const first = await post('r', gzip);
    expect(first.headers['content-encoding']).toBe('gzip');
    for (let i = 0; i < 50; i++) models.last.emit(`chunk ${i} ${'x'.repeat(500)}`);
    await first.take(50);
    const [late, plain] = [await open('/r', gzip), await open('/r')];
    models.last.finish();
    for (const stream of [first, late, plain]) await stream.body();
    const bodies = [first, late, plain].map(({ text }) => text.replace(/^:\nretry: \d+\n/, ''));
    expect(new Set(bodies).size).toBe(1);
    expect(late.headers['content-encoding']).toBe('gzip');
    expect(plain.headers['content-encoding']).toBeUndefined();
    expect(plain.headers['vary']).toMatch(/accept-encoding/i);
  });

  test('has the headers of the wire and of the application', async () => {
    const { post } = await site({
      wire: { message: (chunk: string) => chunk, control: true, headers: { 'X-Wire': 'w', 'X-Both': 'wire' } },
      headers: (req) => ({ 'X-Own': String(req.headers['x-ask']), 'X-Both': 'own' }),
    });
    const { headers } = await post('r', { headers: { 'x-ask': 'yes' } });
    expect(headers).toMatchObject({ 'x-wire': 'w', 'x-own': 'yes', 'x-both': 'own' });
    const ui = await site({ wire: uiMessages() });
    expect((await ui.post('r')).headers).toMatchObject({ 'x-vercel-ai-ui-message-stream': 'v1' });
  });

  test('of a wire without control events has no ids, no retry and no events of the router', async () => {
    const wire: Wire<string> = { message: (chunk) => `<${chunk}>`, control: false };
    const { post, models, open } = await site({ wire });
    const stream = await post('r');
    models.last.emit('a', 'b');
    models.last.finish();
    expect(await stream.body()).toBe(':\ndata: <a>\n\ndata: <b>\n\n');
    expect(await (await open('/r')).body()).toBe(stream.text);
    // An id is ignored, because these clients bring none.
    expect(await (await open('/r', { lastEventId: 'r~g~1' })).body()).toBe(stream.text);
  });

  test('of a wire without an end is cut off if the run is not done', async () => {
    const wire: Wire<string> = { message: (chunk) => chunk, control: true };
    const { post, models, ask, open } = await site({ wire, onError: () => {} });
    const stream = await post('r');
    models.last.emit('a');
    const id = (await stream.next()).id!;
    models.last.fail(new Error('secret'));
    expect(await stream.closed).toBe('cut');
    expect(stream.text).not.toContain('secret');
    expect((await ask('/r', { headers: { 'last-event-id': id } })).status).toBe(204); // there is nothing to send
    const again = await open('/r');
    expect(await again.closed).toBe('cut');
    expect(dataOf(again.events)).toEqual(['a']);
  });

  test('of a wire without an end is answered 204 if the generation is not kept: its client does not try for ever', async () => {
    const wire: Wire<string> = { message: (chunk) => chunk, control: true };
    const { ask } = await site({ wire });
    expect((await ask('/r', { headers: { 'last-event-id': 'r~gone~1' } })).status).toBe(204);
  });

  test('silence is ended by heartbeats', async () => {
    const { post } = await site({ heartbeat: 20 });
    const stream = await post('r');
    await stream.until(({ comments }) => comments.length >= 4);
    expect(stream.events).toEqual([]);
  });

  test('maxAge breaks it off, and its client continues', async () => {
    const { post, models, open } = await site({ maxAge: 100 });
    const stream = await post('r');
    models.last.emit('a');
    await stream.next();
    expect(await stream.closed).toBe('cut');
    const rest = await open('/r', { lastEventId: stream.lastEventId });
    models.last.emit('b');
    models.last.finish();
    await rest.body();
    expect(dataOf(rest.events)).toEqual(['b', 'done']);
  });

  test('works on Express 4, and below parameters', async () => {
    const { chat, models } = await site();
    const made = await serve(
      (app) => {
        app.use('/u/:user/chat', express.json(), chat);
      },
      express4 as unknown as typeof express,
    );
    const stream = await connect(made.server, '/u/7/chat', { body: { id: 'r' } });
    later(() => stream.close());
    expect(stream.headers['location']).toBe('./chat/r');
    models.last.emit('a');
    models.last.finish();
    await stream.body();
    expect(dataOf(stream.events)).toEqual(['a', 'done']);
  });
});

test.each<[what: string, options: Parameters<typeof compression>[0]]>([
  ['that does not compress it', {}],
  ['that compresses it', { threshold: 0, filter: () => true }],
])('behind compression() %s, every chunk arrives at once, and the end after it', async (_what, options) => {
  const { post, models } = await site({ headers: { 'Cache-Control': 'no-cache' } }, (app, chat) =>
    app.use(compression(options), express.json()).use('/chat', chat),
  );
  const stream = await post('r', { headers: { 'accept-encoding': 'gzip' } });
  for (const chunk of ['a', 'b', 'c']) {
    models.last.emit(chunk);
    expect(await stream.next()).toMatchObject({ data: chunk });
  }
  models.last.finish();
  await stream.body();
  expect(dataOf(stream.events)).toEqual(['a', 'b', 'c', 'done']);
});

describe('a POST that is sent again', () => {
  test('with a last event id of its run, it resumes the run', async () => {
    const { post, models } = await site();
    const first = await post('r');
    models.last.emit('a', 'b');
    const id = (await first.next()).id!;
    await first.cut();
    const again = await post('r', { lastEventId: id });
    expect(again.headers).toMatchObject({ 'x-run-id': 'r', location: './chat/r' });
    models.last.finish();
    await again.body();
    expect(dataOf(again.events)).toEqual(['b', 'done']);
    expect(models.calls).toHaveLength(1);
  });

  test('it resumes also if the run has ended, or its generation is not the newest', async () => {
    const { post, models } = await site();
    const first = await post('r');
    models.last.emit('a', 'b');
    const id = (await first.next()).id!;
    models.last.finish();
    await first.body();
    const again = await post('r', { lastEventId: id });
    await again.body();
    expect(dataOf(again.events)).toEqual(['b', 'done']);
    expect(models.calls).toHaveLength(1);
  });

  test('without the option id, the last event id names the run', async () => {
    const { open, models } = await site({ id: undefined as never });
    const first = await open('', { body: {} });
    models.last.emit('a', 'b');
    const id = (await first.next()).id!;
    await first.cut();
    const again = await open('', { body: {}, lastEventId: id });
    models.last.finish();
    await again.body();
    expect(dataOf(again.events)).toEqual(['b', 'done']);
    expect(models.calls).toHaveLength(1);
  });
});

describe('close()', () => {
  test('new POSTs get 503, running runs have their time, then they end as `lost`', async () => {
    const { post, ask, models, chat } = await site();
    const [a, b] = [await post('a'), await post('b')];
    models.calls[0]!.emit('a1');
    const closed = chat.close({ wait: 300 });
    const { status, headers } = await ask('', { method: 'POST', body: '{"id":"c"}', headers: json });
    expect([status, Number(headers.get('retry-after')) > 0]).toEqual([503, true]);
    models.calls[0]!.finish();
    await a.body();
    expect(dataOf(a.events)).toEqual(['a1', 'done']);
    await b.body();
    expect(dataOf(b.events)).toEqual(['lost']);
    expect(models.calls[1]!.signal.aborted).toBe(true);
    await closed;
    expect(chat.stats()).toMatchObject({ connections: 0, refused: { shutdown: 1 } });
  });

  test('is idempotent, and ends at once without runs', async () => {
    const { chat } = await site();
    expect(chat.close()).toBe(chat.close({ wait: 5 }));
    await chat.close();
    await expect(chat.start('r', ['x'])).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
    expect(() => chat.close({ over: 1 } as never)).toThrow(/wait/);
    expect(() => chat.close({ wait: -1 })).toThrow(/wait/);
  });

  test('a client that does not read delays it for a second at most', async () => {
    const { post, models, chat } = await site({ maxBytes: 32 * 2 ** 20 });
    const stream = await post('r');
    stream.pause();
    for (let i = 0; i < 200; i++) models.last.emit('x'.repeat(65_536));
    await eventually(() => chat.stats().behind === 1, 5000);
    const start = performance.now();
    await chat.close();
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

describe('the router in code', () => {
  test('start() produces without a request; readers join it', async () => {
    const { chat, open } = await site();
    const { status } = await chat.start('job', async function* () {
      yield 'a';
      yield 'b';
    });
    expect(status).toBe('running');
    const stream = await open('/job');
    await stream.body();
    expect(dataOf(stream.events)).toEqual(['a', 'b', 'done']);
    expect(await chat.start('list', ['x'])).toMatchObject({ id: 'list' });
    const steps: unknown[] = [];
    for await (const step of chat.follow('list')) steps.push(step.type === 'chunk' ? step.chunk : step.status);
    expect(steps).toEqual(['x', 'done']);
    expect(await chat.stop('list')).toBe(false);
    expect(await chat.status('unknown')).toBeUndefined();
  });

  test('an id that is none rejects', async () => {
    const { chat } = await site();
    for (const id of ['', 7, undefined, 'x'.repeat(257)]) {
      await expect(chat.stop(id as string)).rejects.toMatchObject({ code: 'ERR_SSE_ID' });
      await expect(chat.status(id as string)).rejects.toMatchObject({ code: 'ERR_SSE_ID' });
      await expect(chat.start(id as string, [])).rejects.toMatchObject({ code: 'ERR_SSE_ID' });
    }
  });

  const SOURCES: [string, (log: string[]) => { source: any; isReleased: () => boolean }][] = [
    [
      'Node readable',
      () => {
        const source = new Readable({ objectMode: true, read() {} });
        return { source, isReleased: () => source.destroyed };
      },
    ],
    [
      'promise of a Node readable',
      () => {
        const source = new Readable({ objectMode: true, read() {} });
        return { source: pause(5).then(() => source), isReleased: () => source.destroyed };
      },
    ],
    [
      'web stream',
      (log) => ({
        source: new ReadableStream({ cancel: () => void log.push('cancel') }),
        isReleased: () => log.includes('cancel'),
      }),
    ],
    [
      'iterator',
      (log) => {
        const source = {
          next: async () => new Promise<never>(() => {}),
          return: async () => (log.push('return'), { done: true, value: undefined }),
          [Symbol.asyncIterator]: () => source,
        };
        return { source, isReleased: () => log.includes('return') };
      },
    ],
  ];

  describe.each(SOURCES)('start() with a %s', (_name, make) => {
    test('that joins a run releases it', async () => {
      const { chat, post, models } = await site();
      await post('r');
      const { source, isReleased } = make([]);
      expect(await chat.start('r', source)).toMatchObject({ status: 'running' });
      await eventually(isReleased);
      models.last.emit('x');
      models.last.finish();
      await until(async () => (await chat.status('r'))?.status === 'done');
    });

    test('that rejects, because the id is none, the store fails or the router is closed, releases it', async () => {
      const { chat } = await site();
      const bad = make([]);
      await expect(chat.start('', bad.source)).rejects.toMatchObject({ code: 'ERR_SSE_ID' });
      await eventually(bad.isReleased);
      await chat.close();
      const late = make([]);
      await expect(chat.start('r', late.source)).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' });
      await eventually(late.isReleased);
      const store = Object.assign(memoryRuns(), { begin: async () => Promise.reject(new Error('no disk')) });
      const failing = await site({ store });
      const unstored = make([]);
      await expect(failing.chat.start('r', unstored.source)).rejects.toThrow('no disk');
      await eventually(unstored.isReleased);
    });

    test('that begins a run which is stopped before its source is asked releases it', async () => {
      const { chat } = await site();
      const { source, isReleased } = make([]);
      const started = chat.start('r', source);
      await Promise.all([started, chat.stop('r'), started.then(async () => chat.stop('r'))]);
      await eventually(isReleased);
    });

    test('that a run iterates over does not release it, if it is passed again', async () => {
      const { chat } = await site();
      const { source, isReleased } = make([]);
      await chat.start('r', source);
      expect(await chat.start('r', source)).toMatchObject({ status: 'running' });
      await expect(chat.start('', source)).rejects.toMatchObject({ code: 'ERR_SSE_ID' });
      await pause(20);
      expect(isReleased()).toBe(false);
      await chat.stop('r');
      await eventually(isReleased);
    });
  });

  test('start() that joins a run calls no function, ignores what is no source, and handles a rejection', async () => {
    const { chat, post } = await site();
    await post('r');
    const produce = jest.fn();
    for (const source of [produce, undefined, 'text', 7, {}, Promise.reject(new Error('late'))])
      expect(await chat.start('r', source as any)).toMatchObject({ status: 'running' });
    await pause(20); // a rejection without a handler would fail this test
    expect(produce).not.toHaveBeenCalled();
  });

  test('follow() yields the chunks of a run, and its end', async () => {
    const { chat, models, post } = await site();
    await post('r');
    models.last.emit('a', { b: 1 });
    const seen: unknown[] = [];
    for await (const step of chat.follow('r')) {
      seen.push(step.type === 'chunk' ? step.chunk : step.status);
      if (seen.length === 2) models.last.finish();
    }
    expect(seen).toEqual(['a', { b: 1 }, 'done']);
    expect(codeOf(() => chat.follow(''))).toBe('ERR_SSE_ID');
  });

  test('routers have runs of their own', async () => {
    const [a, b] = [await site(), await site()];
    await a.post('r');
    expect(await b.chat.status('r')).toBeUndefined();
  });
});

test('readers of one run with raw sockets receive the same bytes in the same pieces', async () => {
  const { server, models, post } = await site();
  const { port } = server.address() as { port: number };
  await post('r');
  const raws = [new Raw(port).get('/chat/r'), new Raw(port).get('/chat/r')];
  for (const raw of raws) await raw.until('\r\n\r\n');
  models.last.emit('one');
  for (const raw of raws) await raw.until('one');
  models.last.finish();
  for (const raw of raws) await raw.until('0\r\n\r\n');
  const [a, b] = raws.map(({ text }) => text.slice(text.indexOf('id: ')));
  expect(a).toBe(b);
});
