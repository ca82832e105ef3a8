import express from 'express';
import { sse } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';
import { ask, serve } from '../fixtures/http.ts';

/** Returns the error that a call throws; fails if it throws none. */
function thrownBy(call: () => unknown): Error & { code?: string } {
  try {
    call();
  } catch (error) {
    return error as Error;
  }
  throw new Error('The call threw nothing.');
}

const journal = { append() {}, open() {}, window() {}, read() {}, follow() {}, compare() {}, isId() {} };

/** Each row: the options, the code, the value as the message prints it, and another part of the message. */
const invalidOptions: [options: unknown, code: string, value: string, part: string][] = [
  // names
  [{ heartbeet: 5 }, 'ERR_SSE_OPTION', '"heartbeet"', 'Did you mean heartbeat?'],
  [{ Headers: {} }, 'ERR_SSE_OPTION', '"Headers"', 'Did you mean headers?'],
  [{ maxbuffered: 5 }, 'ERR_SSE_OPTION', '"maxbuffered"', 'Did you mean maxBuffered?'],
  [{ slowTimeOut: 5 }, 'ERR_SSE_OPTION', '"slowTimeOut"', 'Did you mean slowTimeout?'],
  [{ onerror() {} }, 'ERR_SSE_OPTION', '"onerror"', 'Did you mean onError?'],
  [{ path: '/events' }, 'ERR_SSE_OPTION', '"path"', 'heartbeat'],
  [{ limits: { conections: 5 } }, 'ERR_SSE_OPTION', '"conections"', 'Did you mean connections?'],
  [{ limits: { perClients: 5 } }, 'ERR_SSE_OPTION', '"perClients"', 'Did you mean perClient?'],
  [{ limits: { something: 5 } }, 'ERR_SSE_OPTION', '"something"', 'whenFull'],
  [{ retry: { min: 1, max: 2, mean: 1 } }, 'ERR_SSE_OPTION', '"mean"', 'min'],
  [{ history: { sizes: 5 } }, 'ERR_SSE_OPTION', '"sizes"', 'Did you mean size?'],
  [
    { history: { path: './log' } },
    'ERR_SSE_OPTION',
    'The name of each limit in history must be one of size, maxAge, maxBytes; received the string "path". ',
    'Pass such limits of the log in memory, or a journal such as lmdbJournal(path).',
  ],
  [{ cors: { orgin: 'https://a.example' } }, 'ERR_SSE_CORS', '"orgin"', 'origin'],
  // milliseconds, bytes and counts
  ...(['retry', 'heartbeat', 'maxAge', 'maxBuffered', 'slowTimeout'] as const).flatMap((name) =>
    [0, -1, 1.5, NaN, Infinity, 2 ** 31].map((value): (typeof invalidOptions)[number] => [
      { [name]: value },
      'ERR_SSE_OPTION',
      `the number ${value}`,
      `${name} must be an integer from 1 to 2147483647`,
    ]),
  ),
  [{ retry: '2000' }, 'ERR_SSE_OPTION', 'the string "2000"', 'retry must be an integer'],
  [{ retry: true }, 'ERR_SSE_OPTION', 'the boolean true', '{ min, max } or false'],
  [{ retry: 5n }, 'ERR_SSE_OPTION', 'the bigint 5n', 'retry must be an integer'],
  [{ retry: [1, 2] }, 'ERR_SSE_OPTION', '', 'retry'],
  [{ retry: {} }, 'ERR_SSE_OPTION', 'undefined', 'retry.min must be an integer'],
  [{ retry: { min: 5 } }, 'ERR_SSE_OPTION', 'undefined', 'retry.max must be an integer'],
  [{ retry: { min: 5, max: '9' } }, 'ERR_SSE_OPTION', 'the string "9"', 'retry.max must be an integer'],
  [{ retry: { min: 9, max: 5 } }, 'ERR_SSE_OPTION', 'the number 9', 'at most retry.max, which is 5'],
  [{ maxAge: { min: 9, max: 5 } }, 'ERR_SSE_OPTION', 'the number 9', 'at most maxAge.max, which is 5'],
  [{ heartbeat: '15s' }, 'ERR_SSE_OPTION', 'the string "15s"', '(milliseconds) or false'],
  [{ heartbeat: true }, 'ERR_SSE_OPTION', 'the boolean true', '(milliseconds) or false'],
  [{ heartbeat: { min: 1, max: 2 } }, 'ERR_SSE_OPTION', 'an object of Object', 'heartbeat must be an integer'],
  [{ maxBuffered: false }, 'ERR_SSE_OPTION', 'the boolean false', 'bytes'],
  [{ maxBuffered: '1MiB' }, 'ERR_SSE_OPTION', 'the string "1MiB"', 'bytes'],
  [{ slowTimeout: false }, 'ERR_SSE_OPTION', 'the boolean false', 'milliseconds'],
  [{ limits: { connections: 0 } }, 'ERR_SSE_OPTION', 'the number 0', 'limits.connections must be an integer from 1'],
  [{ limits: { connections: '9' } }, 'ERR_SSE_OPTION', 'the string "9"', 'limits.connections must be an integer'],
  [{ limits: { perClient: -1 } }, 'ERR_SSE_OPTION', 'the number -1', 'limits.perClient must be an integer'],
  [{ history: { size: 0 } }, 'ERR_SSE_OPTION', 'history.size must be', 'the number 0'],
  [{ history: { size: 0 } }, 'ERR_SSE_OPTION', 'the number 0', 'a positive integer'],
  [{ history: { size: 1.5 } }, 'ERR_SSE_OPTION', 'the number 1.5', 'a positive integer'],
  [{ history: { maxAge: '5m' } }, 'ERR_SSE_OPTION', 'the string "5m"', 'milliseconds'],
  [{ history: { maxBytes: -1 } }, 'ERR_SSE_OPTION', 'the number -1', 'a positive integer'],
  // everything else
  [{ limits: 5 }, 'ERR_SSE_OPTION', 'the number 5', 'limits must be a plain object such as { connections: … }'],
  [{ limits: { clientKey: 'ip' } }, 'ERR_SSE_OPTION', 'the string "ip"', 'limits.clientKey must be a function'],
  [{ limits: { whenFull: 'wait' } }, 'ERR_SSE_OPTION', 'the string "wait"', "'retry' or 'reject'"],
  [{ methods: [] }, 'ERR_SSE_OPTION', 'an array', "a list of 'GET' and 'POST'"],
  [{ methods: ['GET', 'PUT'] }, 'ERR_SSE_OPTION', 'the string "PUT"', "Each of methods must be 'GET' or 'POST'"],
  [{ methods: ['get'] }, 'ERR_SSE_OPTION', 'the string "get"', "Each of methods must be 'GET' or 'POST'"],
  [{ methods: 'GET' }, 'ERR_SSE_OPTION', 'the string "GET"', "a list of 'GET' and 'POST'"],
  [
    { history: true },
    'ERR_SSE_OPTION',
    'the boolean true',
    'false, an object of limits such as { size: 1024 }, or a journal',
  ],
  [
    { history: 1024 },
    'ERR_SSE_OPTION',
    'the number 1024',
    'false, an object of limits such as { size: 1024 }, or a journal',
  ],
  [{ history: [] }, 'ERR_SSE_OPTION', 'an array', 'object'],
  [{ history: journal }, 'ERR_SSE_OPTION', 'undefined', 'history.close must be a function'],
  [{ snapshot: { data: 'x' } }, 'ERR_SSE_OPTION', 'an object of Object', 'snapshot must be a function'],
  [{ compress: 'gzip' }, 'ERR_SSE_OPTION', 'the string "gzip"', 'true or false'],
  [{ controlEvents: 'none' }, 'ERR_SSE_OPTION', 'the string "none"', 'true or false'],
  [{ controlEvents: null }, 'ERR_SSE_OPTION', 'null', 'controlEvents must be true or false'],
  [{ serialize: 'json' }, 'ERR_SSE_OPTION', 'the string "json"', 'serialize must be a function'],
  [{ onError: true }, 'ERR_SSE_OPTION', 'the boolean true', 'onError must be a function'],
  [{ headers: 'X-A: 1' }, 'ERR_SSE_OPTION', 'the string "X-A: 1"', 'an object of names and values'],
  [{ headers: ['X-A'] }, 'ERR_SSE_OPTION', 'an array', 'an object of names and values'],
  [{ headers: new Headers({ 'X-A': '1' }) }, 'ERR_SSE_OPTION', 'an object of Headers', 'an object of names and values'],
  [{ headers: new Map([['X-A', '1']]) }, 'ERR_SSE_OPTION', 'an object of Map', 'an object of names and values'],
  [{ limits: new Map([['connections', 1]]) }, 'ERR_SSE_OPTION', 'an object of Map', '{ connections: … }'],
  [new Map([['retry', 1]]), 'ERR_SSE_OPTION', 'an object of Map', '{ headers: … }'],
  [{ headers: { 'X A': '1' } }, 'ERR_SSE_HEADER', '"X A"', 'valid HTTP token'],
  [{ headers: { '': '1' } }, 'ERR_SSE_HEADER', '""', 'valid HTTP token'],
  [{ headers: { 'X-A': 'a\r\nX-B: b' } }, 'ERR_SSE_HEADER', 'a\\r\\nX-B: b', 'Invalid character'],
  [{ headers: { 'X-A': 'a\u2028' } }, 'ERR_SSE_HEADER', '"X-A"', 'Invalid character'],
  [{ headers: { 'X-A': ['a', 'b\n'] } }, 'ERR_SSE_HEADER', '"X-A"', 'Invalid character'],
  [{ headers: { 'X-A': 5 } }, 'ERR_SSE_HEADER', 'the number 5', 'a string or a list of strings'],
  [{ headers: { 'X-A': null } }, 'ERR_SSE_HEADER', 'null', 'a string or a list of strings'],
  [{ headers: { 'content-length': '5' } }, 'ERR_SSE_HEADER', '"content-length"', 'leave it out'],
  [{ headers: { 'Transfer-Encoding': 'gzip' } }, 'ERR_SSE_HEADER', '"Transfer-Encoding"', 'leave it out'],
  [{ cors: 'https://a.example' }, 'ERR_SSE_CORS', 'the string "https://a.example"', "the cors package's options"],
  [{ cors: ['https://a.example'] }, 'ERR_SSE_CORS', 'an array', "the cors package's options"],
  [{ cors: { origin: 5 } }, 'ERR_SSE_CORS', 'the number 5', 'a string, a pattern, a list, a function or true'],
  [{ cors: { origin: ['https://a.example', 5] } }, 'ERR_SSE_CORS', 'the number 5', 'a string, a pattern'],
  [{ cors: { origin: 'a.example' } }, 'ERR_SSE_CORS', 'the string "a.example"', 'a scheme, a host and a port'],
  [{ cors: { origin: 'https://a.example/' } }, 'ERR_SSE_CORS', '"https://a.example/"', "'https://a.example'"],
  [{ cors: { origin: 'https://A.example' } }, 'ERR_SSE_CORS', '"https://A.example"', "'https://a.example'"],
  [{ cors: { origin: 'https://a.example:443' } }, 'ERR_SSE_CORS', 'a.example:443"', "'https://a.example'"],
  [{ cors: { methods: 5 } }, 'ERR_SSE_CORS', 'the number 5', 'cors.methods must be a list of names'],
  [{ cors: { methods: ['GET\n'] } }, 'ERR_SSE_CORS', '"GET\\n"', 'cors.methods must be a list of names'],
  [
    { cors: { allowedHeaders: ['X-A', 'X B'] } },
    'ERR_SSE_CORS',
    '"X B"',
    'cors.allowedHeaders must be a list of names',
  ],
  [
    { cors: { exposedHeaders: 'X-A\r\nX-B: 1' } },
    'ERR_SSE_CORS',
    'X-B: 1"',
    'cors.exposedHeaders must be a list of names',
  ],
  [
    { cors: { preflightContinue: 'yes' } },
    'ERR_SSE_CORS',
    'the string "yes"',
    'cors.preflightContinue must be true or false',
  ],
  [
    { cors: { optionsSuccessStatus: 404 } },
    'ERR_SSE_CORS',
    'the number 404',
    'cors.optionsSuccessStatus must be an integer from 200 to 299',
  ],
  [{ cors: { origin: 'https://a.example', credentials: 'yes' } }, 'ERR_SSE_CORS', 'the string "yes"', 'credentials'],
];

describe('an invalid option', () => {
  test.each(invalidOptions)('%j throws %s', (options, code, value, part) => {
    const error = thrownBy(() => sse(options as never));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.code).toBe(code);
    expect(error.message).toContain(value);
    expect(error.message).toContain(part);
  });

  test.each(invalidOptions.slice(0, 3))('%j also throws after a handler', (options, code) => {
    expect(thrownBy(() => sse(() => {}, options as never)).code).toBe(code);
  });

  test.each([
    'headers',
    'cors',
    'methods',
    'controlEvents',
    'retry',
    'heartbeat',
    'history',
    'snapshot',
    'maxBuffered',
    'slowTimeout',
    'maxAge',
    'limits',
    'compress',
    'serialize',
    'onError',
  ])('%s: null throws, and undefined means that the option is left out', (name) => {
    const error = thrownBy(() => sse({ [name]: null } as never));
    expect(error.code).toMatch(/^ERR_SSE_(OPTION|CORS)$/);
    expect(error.message).toContain('null');
    expect(error.message).toContain(name);
    expect(() => sse({ [name]: undefined } as never)).not.toThrow();
  });

  test.each(['connections', 'perClient', 'clientKey', 'whenFull'])(
    'limits.%s: null throws, and undefined means that the limit is left out',
    (name) => {
      expect(thrownBy(() => sse({ limits: { [name]: null } })).message).toMatch(new RegExp(`limits\\.${name}.*null`));
      expect(() => sse({ limits: { [name]: undefined } })).not.toThrow();
    },
  );
});

describe('the name of an option that does not exist', () => {
  const NAMES =
    'headers, cors, methods, controlEvents, retry, heartbeat, history, snapshot, maxBuffered, slowTimeout, maxAge, recheck, limits, compress, serialize, onError';

  test.each<[name: string, cure: string]>([
    ['heartbeet', 'Did you mean heartbeat?'],
    ['path', 'Correct the name, or leave it out.'],
    ['constructor', 'Correct the name, or leave it out.'],
    ['keepAlive', 'Use heartbeat: it is the counterpart of keepAlive in better-sse.'],
  ])('%s is answered with all names and a cure', (name, cure) => {
    const { message } = thrownBy(() => sse({ [name]: 5 } as never));
    expect(message).toBe(
      `The name of each option of sse() must be one of ${NAMES}; received the string "${name}". ${cure}`,
    );
  });

  test.each<[name: string, counterpart: string]>([
    ['serializer', 'Use serialize:'],
    ['sanitizer', 'Leave it out:'],
    ['trustClientEventId', 'Leave it out:'],
    ['statusCode', 'res.sendStatus()'],
    ['state', 'conn.state'],
    ['isSerialized', 'snapshot'],
    ['initialEvent', 'Use snapshot:'],
    ['isCompressed', 'Use compress:'],
    ['pingInterval', 'Use heartbeat:'],
    ['pingTimeout', 'Use slowTimeout:'],
    ['heartbeatInterval', 'Use heartbeat:'],
    ['historySize', 'Use history: { size: … }.'],
    ['retryTimeout', 'Use retry:'],
    ['jsonEncode', 'Use serialize:'],
    ['connectionStateRecovery', 'history'],
  ])('%s, which another package has, is answered with what to do here', (name, counterpart) => {
    const { message } = thrownBy(() => sse({ [name]: 5 } as never));
    expect(message.split(`; received the string "${name}". `)[1]).toContain(counterpart);
  });

  test.each<[name: string, cure: string]>([
    ['event', 'It is a field of the message: broadcast({ event, data, retry }, { to }).'],
    ['eventId', 'the log gives the id'],
    ['filter', 'Let the handler join channels'],
    ['too', 'Did you mean to?'],
  ])('broadcast() answers %s with a cure', async (name, cure) => {
    const events = sse();
    const error = await events.broadcast('x', { [name]: 'y' } as never).catch((reason: Error) => reason);
    expect((error as Error).message).toContain(
      `The name of each option of broadcast() must be one of to, except, key; received the string "${name}". `,
    );
    expect((error as Error).message).toContain(cure);
    await events.close();
  });
});

test('a short name that resembles a known one only by its length is answered without a guess', async () => {
  const events = sse();
  const { message } = thrownBy(() => sse({ retry: { min: 1, max: 2, x: 1 } } as never));
  expect(message).toBe(
    'The name of each part of retry must be min or max; received the string "x". Correct the name, or leave it out.',
  );
  expect(thrownBy(() => events.follow({ x: 1 } as never)).message).not.toContain('Did you mean');
  expect(thrownBy(() => events.follow({ singal: 1 } as never)).message).toContain('Did you mean signal?');
  await expect(events.disconnect({ x: 1 } as never)).rejects.toThrow('Correct the name, or leave it out.');
  await expect(events.disconnect(undefined as never)).rejects.toThrow(/received undefined\. Pass such an object\.$/);
  await events.close();
});

test('broadcast() answers the name of an event as its second argument with the form of a message', async () => {
  const events = sse();
  const error = await events.broadcast('x', 'order' as never).catch((reason: Error) => reason);
  expect((error as Error).message).toBe(
    `The second argument of broadcast() must be an object of options such as { to: … }; received the string "order". The name belongs to the message: { event: 'order', data: … }.`,
  );
  const multiline = await events.broadcast('x', 'a\nb' as never).catch((reason: Error) => reason);
  expect((multiline as Error).message).toContain('{ event: …, data: … }.');
  await events.close();
});

test('push() answers the name of an event after a message with the form of a message', async () => {
  let error: unknown;
  const events = sse((conn) => {
    try {
      conn.push({ data: 1 }, 'order' as never);
    } catch (reason) {
      error = reason;
    }
  });
  const stream = await connect(events);
  expect((error as Error).message).toBe(
    'Every argument of push() after a message must be a message; received the string "order". The name of an event is a field of its message: { event, data }. Push lines in a call of their own.',
  );
  await stream.close();
  await events.close();
});

describe('an invalid call', () => {
  test.each<[what: string, call: () => unknown, cure: string]>([
    [
      'a string for a handler',
      () => sse('handler' as never),
      'The handler of sse(handler, options) must be a function',
    ],
    ['null for a handler', () => sse(null as never), 'The handler of sse(handler, options) must be a function'],
    ['an array for options', () => sse([] as never), 'The handler of sse(handler, options) must be a function'],
    ['options twice', () => sse({} as never, {}), 'must be left out'],
    [
      'two functions',
      () => sse(() => {}, (() => {}) as never),
      'The options of sse(handler, options) must be a plain object',
    ],
    [
      'null for options',
      () => sse(() => {}, null as never),
      'The options of sse(handler, options) must be a plain object',
    ],
    [
      'an array for options after a handler',
      () => sse(() => {}, [] as never),
      'The options of sse(handler, options) must be a plain object',
    ],
  ])('%s throws', (_, call, cure) => {
    const error = thrownBy(call);
    expect(error.code).toBe('ERR_SSE_OPTION');
    expect(error.message).toContain(cure);
  });

  test('app.use(sse) instead of app.use(sse()) is an error at the first request', async () => {
    const onError = jest.fn();
    const { url } = await serve((app) => {
      app.use(sse as unknown as express.RequestHandler);
      app.use(((error, _req, res, _next) => {
        onError(error.message);
        res.sendStatus(500);
      }) as express.ErrorRequestHandler);
    });
    expect((await ask(url)).status).toBe(500);
    expect(onError).toHaveBeenCalledWith(
      'The first argument of sse() must be a handler or options; received an object of IncomingMessage. Mount the router that sse() returns: app.use(sse(…)).',
    );
  });
});

describe('valid options', () => {
  test.each<[object]>([
    [{}],
    [{ retry: false, heartbeat: false, history: false, maxAge: false, cors: false }],
    [{ retry: 1, heartbeat: 1, maxAge: 1, maxBuffered: 1, slowTimeout: 1 }],
    [{ retry: { min: 5, max: 5 }, maxAge: { min: 1, max: 2_147_483_647 } }],
    [{ cors: { methods: 'GET, POST', allowedHeaders: ['*'], exposedHeaders: '', optionsSuccessStatus: 200 } }],
    [{ limits: { connections: Infinity, perClient: 1, clientKey: () => 'x', whenFull: 'reject' } }],
    [{ history: { size: 1, maxAge: 1, maxBytes: 1 } }],
    [{ history: { ...journal, close() {} } }],
    [{ methods: ['POST'], compress: true, cors: true }],
    [{ headers: () => ({}) }],
    [{ headers: { 'X-Accel-Buffering': undefined, 'X-A': ['1', '2'] } }],
    [Object.create(null) as object],
    [Object.freeze({ retry: Object.freeze({ min: 1, max: 2 }) })],
  ])('%j is accepted', (options) => {
    expect(() => sse({ onError() {}, ...options })).not.toThrow();
  });

  test('stay unchanged, and a later change of them changes nothing', async () => {
    const headers: Record<string, string> = { 'X-A': '1' };
    const options = { headers, cors: { origin: 'https://a.example' }, retry: 1234 };
    const before = structuredClone(options);
    const events = sse((conn) => conn.close(), options);
    expect(options).toEqual(before);
    headers['X-A'] = '2';
    options.cors.origin = 'https://b.example';
    options.retry = 5;
    const { url } = await serve((app) => app.use(events));
    const answer = await ask(url, { headers: { origin: 'https://a.example' } });
    expect(answer.headers.get('x-a')).toBe('1');
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://a.example');
    expect(answer.text).toContain('retry: 1234\n');
  });
});
