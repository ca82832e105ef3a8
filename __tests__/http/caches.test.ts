/*
 * Whether a shared cache may store an answer of a router. An answer that is not a stream is for one client or one moment.
 */
import type { RequestHandler } from 'express';
import { sse, type SseOptions } from '../../lib/index.ts';
import { inspector } from '../../lib/inspector/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { ask, eventually, serve, type Init } from '../fixtures/http.ts';
import { EXPRESSES, later } from '../fixtures/support.ts';
import { site } from '../runs/sites.ts';

const STREAM = 'private, no-cache, no-store, no-transform';
const ORIGIN = 'https://a.example';
const FOREIGN = { origin: 'https://b.example' };
const BODY = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"id":"r"}' };

describe.each(EXPRESSES)('%s: no cache stores', (_, make) => {
  async function answerOf(
    options: SseOptions,
    init: Init = {},
    ...before: RequestHandler[]
  ): Promise<[status: number, control: string | null]> {
    const events = sse(options);
    later(() => events.close());
    const { url } = await serve((app) => void app.use('/events', ...before, events), make);
    return inShort(await ask(`${url}/events`, init));
  }

  test.each<[what: string, status: number, options: SseOptions, init: Init]>([
    ['204 after the end', 204, {}, { headers: { 'last-event-id': 'sse-router:end' } }],
    ['405', 405, {}, { method: 'POST' }],
    ['406', 406, {}, { headers: { accept: 'application/json' } }],
    ['403 for a foreign origin', 403, { cors: { origin: ORIGIN } }, { headers: FOREIGN }],
    ['answer to OPTIONS', 204, { cors: { maxAge: 600 } }, { method: 'OPTIONS' }],
    ['answer to OPTIONS with a status', 200, { cors: { optionsSuccessStatus: 200 } }, { method: 'OPTIONS' }],
  ])('the %s', async (_what, status, options, init) => {
    expect(await answerOf(options, init)).toEqual([status, 'no-store']);
  });

  test('HEAD, which has the headers of a stream', async () => {
    expect(await answerOf({}, { method: 'HEAD' })).toEqual([200, STREAM]);
  });

  test.each<[what: string, headers: SseOptions['headers']]>([
    ['removes it', { 'Cache-Control': undefined }],
    ['lets caches store it', () => ({ 'cache-control': 'public, max-age=60' })],
  ])('a 204 after the end, if the option headers %s, because the option is for streams', async (_what, headers) => {
    expect(await answerOf({ headers }, { headers: { 'last-event-id': 'sse-router:end' } })).toEqual([204, 'no-store']);
  });

  test.each([
    ['public, max-age=60', 'no-store'],
    ['private, no-store', 'private, no-store'],
  ])('a 405 behind a middleware that sets %s', async (value, expected) => {
    const set: RequestHandler = (_req, res, next) => {
      res.set('Cache-Control', value);
      next();
    };
    expect(await answerOf({}, { method: 'PUT' }, set)).toEqual([405, expected]);
  });

  test.each<[what: string, options: SseOptions, init: Init, status: number, control: string]>([
    ['empty stream', {}, {}, 200, STREAM],
    ['empty stream with headers for a compressor', { headers: { 'Cache-Control': 'no-cache' } }, {}, 200, 'no-store'],
    ['empty stream without the header', { headers: { 'Cache-Control': undefined } }, {}, 200, 'no-store'],
    ['503', { limits: { whenFull: 'reject' } }, {}, 503, 'no-store'],
    ['503 to a POST', {}, { method: 'POST' }, 503, 'no-store'],
  ])('the %s of a full router', async (_what, options, init, status, control) => {
    const events = sse({ methods: ['GET', 'POST'], ...options, limits: { ...options.limits, connections: 1 } });
    later(() => events.close());
    const { url } = await serve((app) => void app.use('/events', events), make);
    const open = await connect(`${url}/events`);
    expect(inShort(await ask(`${url}/events`, init))).toEqual([status, control]);
    await open.close();
  });

  test('the 429 of a client with too many connections', async () => {
    const events = sse({ limits: { perClient: 1, whenFull: 'reject' } });
    later(() => events.close());
    const { url } = await serve((app) => void app.use('/events', events), make);
    const open = await connect(`${url}/events`);
    expect(inShort(await ask(`${url}/events`))).toEqual([429, 'no-store']);
    await open.close();
  });

  test('the answer to a POST whose handler is still running when the router closes', async () => {
    const events = sse(() => new Promise<void>(() => {}), { methods: ['POST'], heartbeat: false });
    const { url } = await serve((app) => void app.use('/events', events), make);
    const answer = ask(`${url}/events`, { method: 'POST' });
    await eventually(() => events.stats().connecting === 1);
    await events.close();
    expect(inShort(await answer)).toEqual([503, 'no-store']);
    expect(inShort(await ask(`${url}/events`, { method: 'POST' }))).toEqual([503, 'no-store']);
  });

  test('the answer of events.cors in front of other middleware', async () => {
    const events = sse({ cors: { origin: ORIGIN } });
    later(() => events.close());
    const { url } = await serve((app) => void app.use('/events', events.cors, events), make);
    expect(inShort(await ask(`${url}/events`, { headers: FOREIGN }))).toEqual([403, 'no-store']);
  });

  test('an answer of the inspector besides its files, which caches ask for again', async () => {
    const events = sse();
    later(() => events.close());
    const { url } = await serve((app) => void app.use('/inspector', inspector(events, { publish: true })), make);
    const json = { 'content-type': 'application/json', 'sec-fetch-site': 'same-origin' };
    const control = async (path: string, init: Init = {}): Promise<(string | number | null)[]> =>
      inShort(await ask(`${url}/inspector${path}`, { redirect: 'manual', ...init }));
    expect(await control('')).toEqual([308, 'no-store']);
    expect(await control('/')).toEqual([200, 'no-cache']);
    expect(await control('/feed', { headers: { ...FOREIGN, 'sec-fetch-site': 'cross-site' } })).toEqual([
      403,
      'no-store',
    ]);
    expect(await control('/publish', { method: 'POST' })).toEqual([403, 'no-store']);
    expect(await control('/publish', { method: 'POST', headers: json, body: '{' })).toEqual([400, 'no-store']);
    const post = { method: 'POST', headers: json, body: '{}' };
    expect(await control('/connections/none/close', post)).toEqual([404, 'no-store']);
    expect(await control('/connections/%E0/close', post)).toEqual([400, 'no-store']);
  });
});

test('no answer of a router of runs besides its streams may be stored', async () => {
  const {
    ask: request,
    models,
    post,
  } = await site({
    cors: { origin: ORIGIN },
    allow: (req) => req.get('x-deny') === undefined,
    again: 'reject',
  });
  const control = async (path: string, init?: Init): Promise<unknown[]> => inShort(await request(path, init));
  expect(await control('/r')).toEqual([204, 'no-store']);
  expect(await control('/r/status')).toEqual([404, 'no-store']);
  expect(await control('/r', { headers: { 'x-deny': '1' } })).toEqual([403, 'no-store']);
  expect(await control('/r', { headers: FOREIGN })).toEqual([403, 'no-store']);
  expect(await control('', { ...BODY, body: '{"id":""}' })).toEqual([400, 'no-store']);
  expect(await control('/%00')).toEqual([400, 'no-store']);
  expect(await control('/r/stop')).toEqual([405, 'no-store']);
  expect(await control('/r', { method: 'OPTIONS' })).toEqual([204, 'no-store']);
  expect(await control('/r', { headers: { accept: 'text/html' } })).toEqual([406, 'no-store']);
  const stream = await post('r');
  await eventually(() => models.calls.length === 1);
  expect(await control('', BODY)).toEqual([409, 'no-store']);
  expect(await control('/r/status')).toEqual([200, 'no-store']);
  expect(await control('/r', { method: 'DELETE' })).toEqual([202, 'no-store']);
  expect(await control('/r/stop', { method: 'POST' })).toEqual([204, 'no-store']);
  expect(await control('/r', { headers: { 'last-event-id': 'sse-router:end' } })).toEqual([200, STREAM]);
  await stream.close();
});

function inShort({ status, headers }: { status: number; headers: Headers }): [status: number, control: string | null] {
  return [status, headers.get('cache-control')];
}
