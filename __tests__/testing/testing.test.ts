import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createGzip, gzipSync } from 'node:zlib';
import express from 'express';
import express4 from 'express4';
import { sse } from '../../lib/index.ts';
import { connect } from '../../lib/testing/index.ts';

/** A listener that opens an event stream, writes each of these texts with one write, and keeps the stream open. */
function sends(...texts: Array<string | Buffer>) {
  return (_req: IncomingMessage, res: ServerResponse): void => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    res.flushHeaders();
    for (const text of texts) res.write(text);
  };
}

describe('received events', () => {
  it('returns events in order with name, data, id and last event id', async () => {
    const body = 'retry: 1234\nid: 1\ndata: a\n\n:hi\nevent: named\ndata: b\ndata: c\n\nid: 3\nid\ndata\n\n';
    const stream = await connect(sends(body));
    expect(stream.status).toBe(200);
    expect(stream.headers['content-type']).toBe('text/event-stream');
    expect(await stream.take(3)).toEqual([
      { event: 'message', data: 'a', id: '1', lastEventId: '1' },
      { event: 'named', data: 'b\nc', id: undefined, lastEventId: '1' },
      { event: 'message', data: '', id: '', lastEventId: '' },
    ]);
    expect(stream.retry).toBe(1234);
    expect(stream.comments).toEqual(['hi']);
    expect(stream.text).toBe(body);
    await stream.close();
  });

  it.each([
    ['LF', '\n'],
    ['CR', '\r'],
    ['CRLF', '\r\n'],
  ])('reads %s line ends byte by byte, and characters of several bytes', async (_name, eol) => {
    const text = ['\uFEFFid: é1', 'event: größe', 'data: 🦄', 'data: zwei', '', ': c', 'data: last', '', ''].join(eol);
    const stream = await connect((_req: IncomingMessage, res: ServerResponse) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream' });
      const bytes = [...Buffer.from(text)];
      const one = (): void =>
        void (bytes.length > 0 && res.write(Buffer.from([bytes.shift()!]), () => setImmediate(one)));
      one();
    });
    expect(await stream.next()).toEqual({ event: 'größe', data: '🦄\nzwei', id: 'é1', lastEventId: 'é1' });
    expect(await stream.next()).toMatchObject({ event: 'message', data: 'last' });
    expect(stream.comments).toEqual(['c']);
    await stream.until(() => stream.text === text);
    await stream.close();
  });

  it('treats a CR and an LF in separate chunks as one line end', async () => {
    const stream = await connect(sends('data: a\r', '\ndata: b\r', '\n\r', '\n', '\ndata: c\r\r'));
    expect((await stream.take(2)).map((event) => event.data)).toEqual(['a\nb', 'c']);
    await stream.close();
  });

  it('parses JSON on request, and shows data that is not JSON', async () => {
    const stream = await connect<{ tick: { n: number } }>(
      sends('event: tick\ndata: {"n":1}\n\nevent: tick\ndata: {oops\n\n'),
    );
    expect((await stream.next()).json.n).toBe(1);
    const event = await stream.next();
    expect(() => event.json).toThrow('The data of this tick event must be JSON; received {oops');
    await stream.close();
  });

  it('waits for the next event of a name, and skips the events before it', async () => {
    const events = sse((conn) => conn.join('orders'));
    const stream = await connect<{ order: { n: number }; other: number }>(express().use(events));
    await stream.until(({ events: [first] }) => first !== undefined);
    const order = stream.next('order');
    await events.broadcast({ event: 'other', data: 0 }, { to: 'orders' });
    await events.broadcast({ event: 'order', data: { n: 1 } }, { to: 'orders' });
    await events.broadcast({ event: 'other', data: 2 }, { to: 'orders' });
    expect((await order).json.n).toBe(1);
    expect((await stream.next()).json).toBe(2);
    expect(stream.events.map(({ event }) => event as string)).toEqual(['checkpoint', 'other', 'order', 'other']);
    await expect(stream.next('order', 20)).rejects.toThrow(
      /^Waited for an event "order": not within 20 ms[^]*checkpoint/,
    );
    // @ts-expect-error a name that is not in the map
    const misspelt = stream.next('ordr', 20);
    await expect(misspelt).rejects.toThrow('Waited for an event "ordr"');
    await events.broadcast('x', { to: 'orders' });
    await events.close();
    await expect(stream.next('order')).rejects.toThrow('the stream is over');
    await stream.close();
  });

  it('is iterable until the server ends the stream', async () => {
    const stream = await connect((_req: IncomingMessage, res: ServerResponse) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream' });
      res.end('data: 1\n\ndata: 2\n\ndata: unfinished');
    });
    const seen: string[] = [];
    for await (const event of stream) seen.push(event.data);
    expect(seen).toEqual(['1', '2']);
    expect(await stream.closed).toBe('end');
    expect(stream.ended).toBe(true);
  });

  it('decodes everything that arrived of a compressed stream before it reports the end', async () => {
    const all = Array.from({ length: 2000 }, (_, n) => `data: ${n}\n\n`).join('');
    const stream = await connect((_req: IncomingMessage, res: ServerResponse) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Content-Encoding': 'gzip' });
      const gzip = createGzip();
      gzip.on('data', (bytes: Buffer) => res.write(bytes));
      gzip.write(all);
      gzip.flush(() => setImmediate(() => res.write('', () => res.socket!.end())));
    });
    expect(await stream.closed).toBe('cut');
    expect(stream.text).toBe(all);
    await stream.close();
  });

  it.each([
    ['a HEAD', 'HEAD', 200],
    ['a 204', 'GET', 204],
  ])('ends after %s, which has nothing to decode', async (_what, method, status) => {
    const stream = await connect(
      (_req: IncomingMessage, res: ServerResponse) => void res.writeHead(status, { 'Content-Encoding': 'br' }).end(),
      undefined,
      { method },
    );
    expect([stream.status, await stream.closed]).toEqual([status, 'end']);
  });

  it('rejects if the connection is closed without a response, as after a change of protocol', async () => {
    const switches = (_req: IncomingMessage, res: ServerResponse): void => {
      res.socket!.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n');
    };
    await expect(connect(switches)).rejects.toThrow('without an answer');
  });

  it('decompresses a stream', async () => {
    const stream = await connect((_req: IncomingMessage, res: ServerResponse) => {
      res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Content-Encoding': 'gzip' });
      res.end(gzipSync('data: small\n\n'));
    });
    expect((await stream.next()).data).toBe('small');
    expect(await stream.body()).toBe('data: small\n\n');
    expect(await stream.closed).toBe('end');
  });

  it('waits for any condition', async () => {
    const stream = await connect((_req: IncomingMessage, res: ServerResponse) => {
      sends(':\n')(_req, res);
      setImmediate(() => res.write(':\n'));
    });
    await stream.until(({ comments }) => comments.length === 2);
    expect(stream.comments).toEqual(['', '']);
    await expect(stream.until(() => JSON.parse('{'))).rejects.toThrow(SyntaxError);
    await stream.close();
  });

  it('gives each event to one waiting call, in the order of the calls', async () => {
    let send!: (text: string) => void;
    const stream = await connect((req: IncomingMessage, res: ServerResponse) => {
      sends()(req, res);
      send = (text) => void res.write(text);
    });
    const waiting = [stream.next(), stream.next(), stream.next()];
    send('data: 1\n\ndata: 2\n\n');
    send('data: 3\n\n');
    expect((await Promise.all(waiting)).map(({ data }) => data)).toEqual(['1', '2', '3']);
    await stream.close();
  });
});

describe('missing events', () => {
  it('fails with everything that was received, and its stack contains the test file', async () => {
    const stream = await connect(sends('retry: 5\nid: 7\nevent: tick\ndata: x\n\n:beat\ndata: half'), '/events?a=1');
    await stream.next();
    const error: Error = await stream.next(50).then(
      () => Promise.reject(new Error('came')),
      (reason: Error) => reason,
    );
    expect(error.message.replace(/:\d{4,5}\//, ':PORT/')).toMatchInlineSnapshot(`
"Waited for an event: not within 50 ms
  answer    200 text/event-stream, to GET http://127.0.0.1:PORT/events?a=1
  stream    open; last event id "7", retry 5
  events    1:
              tick (id "7") "x"
  comments  1:
              "beat"
  raw text  52 characters:
              "retry: 5\\nid: 7\\nevent: tick\\ndata: x\\n\\n:beat\\ndata: half""
`);
    expect(error.stack).toContain('testing.test.ts');
    await stream.close();
  });

  it('fails at once when the stream is over', async () => {
    const stream = await connect((_req: IncomingMessage, res: ServerResponse) => {
      res.writeHead(403, { 'Content-Type': 'text/plain' });
      res.end('Forbidden');
    });
    expect(stream.status).toBe(403);
    await expect(stream.next(60_000)).rejects.toThrow(/ended by the server[^]*403 text\/plain[^]*"Forbidden"/);
    expect(await stream.body()).toBe('Forbidden');
  });

  it('reads no events from a response that is not an event stream', async () => {
    const stream = await connect((_req: IncomingMessage, res: ServerResponse) => {
      res.writeHead(500, { 'Content-Type': 'text/event-stream' });
      res.end('data: x\n\n');
    });
    expect(await stream.body()).toBe('data: x\n\n');
    expect(stream.events).toEqual([]);
  });

  it('fails without a response, and without a server', async () => {
    await expect(connect(() => {}, '/', { timeout: 50 })).rejects.toThrow(/GET http:.*: no answer within 50 ms/);
    const closed = http.createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    await expect(connect(`http://127.0.0.1:${port}`)).rejects.toThrow('ECONNREFUSED');
  });

  it.each([
    [
      'options for the path',
      [{ headers: { cookie: 'a=1' } }],
      'The second argument of connect() must be a path; received an object of Object. Pass options third: connect(target, path, options).',
    ],
    [
      'a URL for the path',
      [new URL('http://localhost/')],
      'The second argument of connect() must be a path; received an object of URL. ',
    ],
    [
      'a position for the options',
      ['/', '7'],
      'Every option of connect() must be in a plain object such as { method: … }; received the string "7".',
    ],
    [
      'an unknown option',
      ['/', { header: {} }],
      'The name of each option of connect() must be one of method, headers, body, lastEventId, timeout; received the string "header". Did you mean headers?',
    ],
    [
      'a timeout that is no number',
      ['/', { timeout: '5' }],
      'timeout must be a number of milliseconds that is not negative; received the string "5".',
    ],
    ['a negative timeout', ['/', { timeout: -1 }], 'received the number -1. Leave it out for the default.'],
    [
      'Headers',
      ['/', { headers: new Headers({ cookie: 'a=1' }) }],
      'headers must be a plain object such as { cookie: … }; received an object of Headers. Convert Headers with Object.fromEntries(headers).',
    ],
    [
      'null for the headers',
      ['/', { headers: null }],
      'headers must be a plain object such as { cookie: … }; received null.',
    ],
    [
      'a last event id that is no text',
      ['/', { lastEventId: 7 }],
      'lastEventId must be a string; received the number 7.',
    ],
    ['a method that is no text', ['/', { method: 7 }], 'method must be a string; received the number 7.'],
    [
      'form fields as the body',
      ['/', { body: new URLSearchParams('a=1') }],
      "body must be text, a Uint8Array, or a value that JSON represents; received an object of URLSearchParams. Pass String(body), with the header 'content-type'",
    ],
    ...[
      new FormData(),
      new Map(),
      new ArrayBuffer(1),
      new DataView(new ArrayBuffer(1)),
      new Blob(['x']),
      Promise.resolve(),
      () => {},
      1n,
    ].map((body): [string, unknown[], string] => [
      `${Object.prototype.toString.call(body)} as the body`,
      ['/', { body }],
      'Pass text or bytes, with their content type in headers.',
    ]),
  ])('refuses %s', async (_what, args, message) => {
    let requests = 0;
    const call = connect(() => requests++, ...(args as [string]));
    await expect(call).rejects.toThrow(message);
    await expect(call).rejects.toMatchObject({ name: 'TypeError', code: 'ERR_SSE_OPTION' });
    expect(requests).toBe(0);
  });

  it.each([
    [undefined, 'http(s) URL as text; received undefined. Pass the app itself'],
    [null, 'received null. Pass the app itself'],
    [{}, 'received an object of Object. Pass the app itself'],
    [new URL('http://localhost/'), 'received an object of URL. Pass its href.'],
    ['localhost:3000', 'received the string "localhost:3000". Did you mean http://localhost:3000?'],
    ['localhost:3000/events', 'Did you mean http://localhost:3000/events?'],
    ['http://', 'received the string "http://".'],
    ['/events', 'received the string "/events".'],
  ])('refuses the target %p', async (target, message) => {
    const call = connect(target as never);
    await expect(call).rejects.toThrow(message);
    await expect(call).rejects.toThrow(
      'The first argument of connect() must be an app, a router, a listener, a server',
    );
    await expect(call).rejects.toMatchObject({ name: 'TypeError', code: 'ERR_SSE_OPTION' });
  });

  it('refuses waits that would pass, or fail, without a check', async () => {
    const stream = await connect(sends('data: 1\n\n'));
    await stream.next();
    await expect(stream.until((async () => false) as never)).rejects.toThrow(
      'The result of the condition of until() must be true or false; received an object of Promise. Pass a function without async',
    );
    await expect(stream.until('x' as never)).rejects.toThrow(
      'The condition of until() must be a function; received the string "x".',
    );
    for (const count of ['x', NaN, -1, 1.5, undefined]) {
      await expect(stream.take(count as never)).rejects.toThrow(
        'The first argument of take() must be a whole number of events that is not negative; received',
      );
    }
    expect(await stream.take(0)).toEqual([]);
    for (const name of [null, /x/, ['a']])
      await expect(stream.next(name as never)).rejects.toThrow(
        'The first argument of next() must be the name of an event',
      );
    const waits = [
      stream.next('a', 'x' as never),
      stream.next(NaN),
      stream.take(1, -1),
      stream.until(() => false, null as never),
      stream.body('x' as never),
    ];
    for (const wait of await Promise.allSettled(waits))
      expect(wait).toMatchObject({
        reason: { code: 'ERR_SSE_OPTION', message: expect.stringMatching(/^timeout must be/) },
      });
    await expect(stream.reconnect({ headers: new Headers() } as never)).rejects.toThrow(
      'received an object of Headers',
    );
  });

  it('refuses to reconnect with a position for the options', async () => {
    const stream = await connect(sends('data: 1\n\n'));
    await expect(stream.reconnect('7' as never)).rejects.toThrow('Every option of connect() must be in a plain object');
    await expect(stream.reconnect({ lastEventID: '7' } as never)).rejects.toThrow('Did you mean lastEventId?');
  });

  it('gives an event to the next call after one has timed out', async () => {
    let send!: (text: string) => void;
    const stream = await connect((req: IncomingMessage, res: ServerResponse) => {
      sends()(req, res);
      send = (text) => void res.write(text);
    });
    await expect(stream.next(10)).rejects.toThrow('not within 10 ms');
    const next = stream.next();
    send('data: late\n\n');
    expect((await next).data).toBe('late');
    await stream.close();
  });

  it('keeps its deadlines under fake timers', async () => {
    jest.useFakeTimers();
    try {
      const stream = await connect(sends('data: x\n\n'));
      expect((await stream.next()).data).toBe('x');
      await expect(stream.next(50)).rejects.toThrow('not within 50 ms; fake timers hold back setImmediate');
      await stream.close();
    } finally {
      jest.useRealTimers();
    }
  });

  it('explains which fake timers keep the server from answering, and the suggested options work', async () => {
    const greeting = () => express().use(sse((conn) => void conn.push('hello'), { heartbeat: 15_000 }));
    try {
      jest.useFakeTimers();
      await expect(connect(greeting(), '/', { timeout: 50 })).rejects.toThrow('doNotFake: ["setImmediate"]');
      jest.useFakeTimers({ doNotFake: ['setImmediate'] });
      const stream = await connect(greeting());
      expect((await stream.next()).data).toBe('hello');
      const before = stream.comments.length;
      await jest.advanceTimersByTimeAsync(15_000);
      await stream.until(({ comments }) => comments.length > before);
      await expect(stream.next(50)).rejects.toThrow(/not within 50 ms\n/);
      await stream.close();
    } finally {
      jest.useRealTimers();
    }
  });
});

describe('targets', () => {
  const events = (req: { url: string }, res: ServerResponse): void => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    res.write(`data: ${req.url}\n\n`);
  };

  it.each([
    ['5', express],
    ['4', express4 as unknown as typeof express],
  ])('connects to an app of Express %s', async (_version, make) => {
    const app = make();
    app.get('/events', events);
    const stream = await connect(app, '/events?x=1');
    expect((await stream.next()).data).toBe('/events?x=1');
    await stream.close();
    const missing = await connect(app, '/missing');
    expect(missing.status).toBe(404);
    expect(await missing.body()).toContain('Cannot GET /missing');
  });

  it('connects to a bare router, and answers what its next() and errors leave open', async () => {
    const router = express.Router();
    router.get('/', events);
    router.get('/broken', () => {
      throw new Error('no luck');
    });
    router.get('/teapot', (_req, _res, next) => next(Object.assign(new Error('short and stout'), { status: 418 })));
    const stream = await connect(router);
    expect((await stream.next()).data).toBe('/');
    await stream.close();
    const broken = await connect(router, '/broken');
    expect([broken.status, await broken.body()]).toEqual([500, expect.stringContaining('no luck')]);
    expect((await connect(router, 'teapot')).status).toBe(418);
    expect((await connect(router, '/missing')).status).toBe(404);
  });

  it('connects several streams to a server that does not listen, and does not make it listen', async () => {
    const server = http.createServer(events as never);
    const [one, two] = await Promise.all([connect(server, '/1'), connect(server, '/2')]);
    expect(server.listening).toBe(false);
    await one.close();
    expect((await two.next()).data).toBe('/2');
    await two.close();
    expect(server.listenerCount('connection')).toBe(1);
  });

  it('connects to a server that listens, and does not close it', async () => {
    const server = http.createServer(events as never).listen(0);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    for (const target of [server, `http://localhost:${port}`]) {
      const stream = await connect(target, '/x');
      expect((await stream.next()).data).toBe('/x');
      await stream.close();
      expect(server.listening).toBe(true);
    }
    const whole = await connect(`http://localhost:${port}/a/b?c`);
    expect((await whole.next()).data).toBe('/a/b?c');
    await whole.close();
    await new Promise((resolve) => server.close(resolve));
  });

  it('reads a response in HTTP/1.0, which ends with the connection', async () => {
    const server = http.createServer();
    server.on('connection', (socket) => {
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: old\n\n'));
    });
    const stream = await connect(server);
    expect((await stream.next()).data).toBe('old');
    expect(await stream.closed).toBe('end');
  });
});

describe('the request', () => {
  const echo = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    let body = '';
    for await (const chunk of req.setEncoding('latin1')) body += chunk;
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    res.end(`data: ${JSON.stringify({ method: req.method, headers: req.headers, body })}\n\n`);
  };

  it('has the headers of a browser, unless options replace them', async () => {
    const plain = await connect(echo);
    expect((await plain.next()).json).toMatchObject({
      method: 'GET',
      headers: { accept: 'text/event-stream', 'cache-control': 'no-cache' },
    });
    const other = await connect(echo, '/', { headers: { Accept: '*/*', 'Cache-Control': undefined, Cookie: 'a=b' } });
    const { headers } = (await other.next()).json;
    expect(headers).toMatchObject({ accept: '*/*', cookie: 'a=b' });
    expect(headers).not.toHaveProperty('cache-control');
    expect(headers).not.toHaveProperty('last-event-id');
  });

  it('posts JSON and bytes', async () => {
    const json = await connect(echo, '/', { body: { question: 1 } });
    expect((await json.next()).json).toMatchObject({
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"question":1}',
    });
    const bytes = await connect(echo, '/', { method: 'PUT', body: Buffer.from([1, 0xff]) });
    expect((await bytes.next()).json).toMatchObject({ method: 'PUT', body: '\u0001ÿ' });
  });

  it('sends the last event id in UTF-8, as browsers do', async () => {
    const stream = await connect(echo, '/', { lastEventId: 'é1' });
    expect((await stream.next()).json.headers['last-event-id']).toBe(Buffer.from('é1').toString('latin1'));
    expect(stream.lastEventId).toBe('é1');
    const post = await connect(echo, '/', { lastEventId: 'é1', body: 'text' });
    expect((await post.next()).json.headers['last-event-id']).toBe(Buffer.from('é1').toString('latin1'));
  });
});

describe('the end of a stream', () => {
  it('distinguishes an end, a broken connection and close()', async () => {
    let response!: ServerResponse;
    const open = (req: IncomingMessage, res: ServerResponse): void => {
      sends('data: x\n\n')(req, res);
      response = res;
    };
    const ended = await connect(open);
    response.end();
    expect(await ended.closed).toBe('end');

    const cut = await connect(open);
    await cut.next();
    response.socket!.destroy();
    await expect(cut.next()).rejects.toThrow('the connection broke');
    expect(await cut.closed).toBe('cut');
    await expect(cut.body()).rejects.toThrow('the connection broke');

    const closed = await connect(open);
    await closed.close();
    await closed.close();
    expect(await closed.closed).toBe('close');
    expect((await closed.next()).data).toBe('x');
    await expect(closed.next()).rejects.toThrow('closed by this test');
  });

  it('cut() resets the connection, close() does not, and both wait until the server has closed its end', async () => {
    const seen: string[] = [];
    const server = http.createServer((req, res) => {
      sends('data: x\n\n')(req, res);
      res.once('close', () => seen.push('closed'));
      req.socket.once('error', (error: NodeJS.ErrnoException) => seen.push(error.code!));
    });
    const one = await connect(server);
    await one.next();
    await one.cut();
    expect(seen.splice(0)).toEqual(['ECONNRESET', 'closed']);
    expect(await one.closed).toBe('cut');
    const two = await one.reconnect();
    await two.next();
    await two.close();
    expect(seen).toEqual(['closed']);
  });

  it('reconnects with the last id and with merged options', async () => {
    const asked: http.IncomingHttpHeaders[] = [];
    const server = http.createServer((req, res) => {
      asked.push(req.headers);
      sends(`id: ${asked.length}\ndata: x\n\n`)(req, res);
    });
    const first = await connect(server, '/', { headers: { 'X-One': '1' } });
    await first.next();
    const second = await first.reconnect({ headers: { 'X-Two': '2' } });
    expect(await first.closed).toBe('close');
    await second.next();
    const third = await second.reconnect({ lastEventId: '' });
    await third.close();
    expect(asked).toMatchObject([
      { 'x-one': '1' },
      { 'x-one': '1', 'x-two': '2', 'last-event-id': '1' },
      { 'x-two': '2' },
    ]);
    expect(asked[0]).not.toHaveProperty('last-event-id');
    expect(asked[2]).not.toHaveProperty('last-event-id');
  });

  it('pause() stops reading, so that the server has to buffer; resume() receives everything', async () => {
    const event = `data: ${'x'.repeat(65_536)}\n\n`;
    let written = 0;
    let response!: ServerResponse;
    const stream = await connect((req: IncomingMessage, res: ServerResponse) => {
      sends()(req, res);
      response = res;
    });
    stream.pause();
    // Until the kernel's buffers are full as well: then a written chunk stays in the process.
    for (let stuck = false; !stuck;) {
      response.write(event);
      written++;
      // oxlint-disable-next-line no-await-in-loop
      await new Promise((resolve) => setImmediate(resolve));
      stuck = response.writableLength > 16 * event.length;
    }
    expect(stream.events).toEqual([]);
    expect(stream.text).toBe('');
    stream.resume();
    expect(await stream.take(written)).toHaveLength(written);
    expect(response.writableNeedDrain).toBe(false);
    await stream.close();
  });

  it('leaves nothing open', async () => {
    const open = (): string[] => process.getActiveResourcesInfo().filter((name) => name.startsWith('TCP'));
    const before = open();
    const app = express().get('/', sends('data: x\n\n') as never);
    const streams = await Promise.all(Array.from({ length: 20 }, () => connect(app)));
    await Promise.all(streams.map((stream) => stream.next()));
    await Promise.all(streams.map((stream, n) => (n % 2 === 0 ? stream.close() : stream.cut())));
    await new Promise((resolve) => setImmediate(resolve)); // libuv drops a closed handle at the end of the tick
    expect(open()).toEqual(before);
  });
});
