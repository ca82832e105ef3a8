import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { run } from '../../lib/cli/command.ts';
import { TYPESCRIPT } from '../fixtures/typescript.ts';

const GOOD = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'private, no-cache, no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

/** Runs a test with a server; `[Symbol.asyncDispose]` would need a newer Node. */
async function withServer<T>(
  listener: RequestListener,
  test: (url: string, requests: IncomingMessage[]) => Promise<T>,
): Promise<T> {
  const requests: IncomingMessage[] = [];
  const server = http.createServer((req, res) => {
    requests.push(req);
    listener(req, res);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  try {
    return await test(`http://127.0.0.1:${(server.address() as AddressInfo).port}/events`, requests);
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
}

interface Result {
  code: number;
  out: string;
  err: string;
}

async function tail(
  args: string[],
  options: { tty?: boolean; env?: Record<string, string>; signal?: AbortSignal } = {},
): Promise<Result> {
  const result = { code: -1, out: '', err: '' };
  const isTTY = options.tty ?? false;
  result.code = await run(args, {
    stdout: { isTTY, write: (text) => (result.out += text) },
    stderr: { isTTY, write: (text) => (result.err += text) },
    env: options.env ?? {},
    signal: options.signal ?? new AbortController().signal,
  });
  return result;
}

const sends =
  (body: string, headers: http.OutgoingHttpHeaders = GOOD) =>
  (_req: IncomingMessage, res: ServerResponse): void => {
    res.writeHead(200, headers);
    res.write(body);
  };

const TIME = /^\d\d:\d\d:\d\d\.\d{3}/gm;

describe('the output', () => {
  const body = ':hi\nid: 7\nevent: tick\ndata: one\ndata: two\n\ndata: \u001B[2Jplain\n\ndata: too many\n\n';

  it('contains events with time, name and id, and ends after --until', async () => {
    await withServer(sends(body), async (url) => {
      const { code, out, err } = await tail(['tail', url, '--until', '2']);
      expect(code).toBe(0);
      expect(out.replace(TIME, 'TIME')).toBe('TIME tick #7\n  one\n  two\nTIME message \\x1b[2Jplain\n');
      expect(err).toMatch(/^200 text\/event-stream; charset=utf-8, connected after \d+ ms, head after \d+ ms\n$/);
    });
  });

  it('contains no character that controls a terminal or changes the direction of text, with --json neither', async () => {
    const controls = '\u0007\u007F\u009B2J\u061C\u200E\u202E\u2028\u2066';
    const isRaw = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/; // oxlint-disable-line no-control-regex
    await withServer(sends(`event: e${controls}\nid: i${controls}\ndata: ${controls}\n\n`), async (url) => {
      const text = await tail(['tail', url, '--until', '1']);
      expect(text.out).not.toMatch(isRaw);
      expect(text.out).toContain(' \\x07\\x7f\\x9b2J\\u061c\\u200e\\u202e\\u2028\\u2066\n');
      const { out } = await tail(['tail', url, '--until', '1', '--json']);
      expect(out).not.toMatch(isRaw);
      expect(JSON.parse(out)).toMatchObject({ event: `e${controls}`, id: `i${controls}`, data: controls });
    });
  });

  it('contains heartbeats with --heartbeats', async () => {
    await withServer(sends(body), async (url) => {
      const { out } = await tail(['tail', url, '--until', '1', '--heartbeats']);
      expect(out.replace(TIME, 'TIME')).toMatch(/^TIME :hi\nTIME tick #7/);
    });
  });

  it('is one JSON object a line with --json', async () => {
    await withServer(sends(body), async (url) => {
      const { out } = await tail(['tail', url, '--until', '2', '--json', '--heartbeats']);
      const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string;
      expect(
        out
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line) as unknown),
      ).toEqual([
        { time, comment: 'hi' },
        { time, event: 'tick', id: '7', lastEventId: '7', data: 'one\ntwo' },
        { time, event: 'message', lastEventId: '7', data: '\u001B[2Jplain' },
      ]);
    });
  });

  it('has colours on a terminal, unless NO_COLOR is set', async () => {
    await withServer(sends(body), async (url) => {
      const args = ['tail', url, '--until', '1'];
      expect((await tail(args, { tty: true })).out).toContain('\u001B[36mtick\u001B[0m');
      expect((await tail(args, { tty: true, env: { NO_COLOR: '1' } })).out).not.toContain('\u001B');
      expect((await tail(args)).out).not.toContain('\u001B');
    });
  });

  it('contains the events of a compressed stream', async () => {
    const compressed = (_req: IncomingMessage, res: ServerResponse): void => {
      res.writeHead(200, { ...GOOD, 'Content-Encoding': 'gzip' });
      res.end(gzipSync('data: small\n\n'));
    };
    await withServer(compressed, async (url, requests) => {
      expect((await tail(['tail', url, '--until', '1'])).out).toContain('message small');
      expect(requests[0]!.headers['accept-encoding']).toContain('gzip');
    });
  });
});

it('reads no more while the reader of the output does not, and continues later', async () => {
  const EVENTS = 20_000;
  const event = `data: ${'x'.repeat(1000)}\n\n`;
  await withServer(sends(event.repeat(EVENTS)), async (url) => {
    const output = new EventEmitter();
    let [printed, printedWhileFull] = [0, 0];
    const write = (): boolean => {
      printed++;
      if (printed === 1) {
        setTimeout(() => {
          printedWhileFull = printed;
          output.emit('drain');
        }, 100);
      }
      return printed > 1;
    };
    const stdout = Object.assign(output, { write });
    const stderr = { write: () => true };
    const { signal } = new AbortController();
    expect(await run(['tail', url, '--until', String(EVENTS)], { stdout, stderr, env: {}, signal })).toBe(0);
    expect(printed).toBe(EVENTS);
    expect(printedWhileFull).toBeLessThan(200); // the events of one chunk
  });
});

it('ends at a signal although the reader of the output does not read, and the server has ended the stream', async () => {
  const answer = (_req: IncomingMessage, res: ServerResponse): void => {
    res.writeHead(200, GOOD).write('data: x\n\n');
    setTimeout(() => res.end('data: y\n\n'), 100); // while the response is paused
  };
  await withServer(answer, async (url) => {
    const stdout = Object.assign(new EventEmitter(), { write: () => false });
    const controller = new AbortController();
    setTimeout(() => controller.abort('SIGINT'), 300);
    const io = { stdout, stderr: { write: () => true }, env: {}, signal: controller.signal };
    expect(await run(['tail', url], io)).toBe(130);
  });
});

it('prints no password of a URL, whatever else the URL has', async () => {
  for (const args of [['http://user:p/w@host/e'], ['http://u:p/w@host/e', 'x']]) {
    const { err, code } = await tail(['tail', ...args]);
    expect([code, err.includes('p/w')]).toEqual([2, false]);
  }
});

describe('the request', () => {
  it('has headers, a body and an id', async () => {
    let body = '';
    const read = (req: IncomingMessage, res: ServerResponse): void => {
      req.on('data', (chunk) => (body += chunk)).on('end', () => sends('data: x\n\n')(req, res));
    };
    await withServer(read, async (url, requests) => {
      const args = [
        'tail',
        url,
        '--until',
        '1',
        '-H',
        'Authorization: Bearer a:b',
        '--header',
        'X-Two: 2',
        '--post',
        '{"q":1}',
      ];
      expect((await tail([...args, '--last-event-id', 'é'])).code).toBe(0);
      expect(requests[0]!.method).toBe('POST');
      expect(requests[0]!.headers).toMatchObject({
        authorization: 'Bearer a:b',
        'x-two': '2',
        'content-type': 'application/json',
        'last-event-id': 'Ã©',
      });
      expect(body).toBe('{"q":1}');
    });
  });

  it('follows redirects, and sends no secrets to another origin', async () => {
    await withServer(sends('data: there\n\n'), async (there, arrived) => {
      const redirect = (_req: IncomingMessage, res: ServerResponse): void =>
        void res.writeHead(307, { Location: there }).end();
      await withServer(redirect, async (url) => {
        const { out, err } = await tail([
          'tail',
          url,
          '--until',
          '1',
          '-H',
          'Authorization: secret',
          '-H',
          'X-Kept: 1',
        ]);
        expect(out).toContain('there');
        expect(err).toContain(`redirected to ${there}`);
        expect(arrived[0]!.headers).toMatchObject({ 'x-kept': '1' });
        expect(arrived[0]!.headers).not.toHaveProperty('authorization');
      });
    });
  });
});

describe('a redirect', () => {
  it('is printed without the password of the address', async () => {
    const redirects = (req: IncomingMessage, res: ServerResponse): void => {
      if (req.url === '/events') res.writeHead(302, { Location: '/there' }).end();
      else sends('data: x\n\n')(req, res);
    };
    await withServer(redirects, async (url, requests) => {
      const address = url.replace('//', '//joe:secret@');
      const { code, err } = await tail(['tail', address, '--until', '1']);
      expect(code).toBe(0);
      expect(err).toContain(`redirected to ${url.replace('/events', '/there')}\n`);
      expect(err).not.toContain('secret');
      expect(requests[1]!.headers.authorization).toMatch(/^Basic /);
    });
  });

  it.each([[undefined], [''], ['ftp://a/b'], ['http://us%ZZer@a/'], ['http://']])(
    'is none with the Location %j: the response is shown, and a POST is sent once',
    async (location) => {
      const answers = (_req: IncomingMessage, res: ServerResponse): void =>
        void res.writeHead(308, location === undefined ? {} : { Location: location }).end('moved');
      await withServer(answers, async (url, requests) => {
        const { code, err } = await tail(['tail', url, '--post', '{}']);
        expect(code).toBe(3);
        expect(err).not.toContain('redirected');
        expect(err).toContain('wrong: status 308');
        expect(requests).toHaveLength(1);
      });
    },
  );
});

describe('reconnecting', () => {
  it('sends the last id, after the retry of the server and a jitter, until a 204', async () => {
    const times: number[] = [];
    const answers = (req: IncomingMessage, res: ServerResponse): void => {
      times.push(performance.now());
      if (times.length === 3) return void res.writeHead(204).end();
      sends(`retry: 200\nid: ${times.length}\ndata: x\n\n`)(req, res);
      // One connection ends in order, the other breaks.
      if (times.length === 1) res.end();
      else setImmediate(() => req.socket.destroy());
    };
    await withServer(answers, async (url, requests) => {
      const { code, out, err } = await tail(['tail', url]);
      expect(code).toBe(0);
      expect(out.match(/#\d x/g)).toEqual(['#1 x', '#2 x']);
      expect(requests.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '1', '2']);
      expect(times[1]! - times[0]!).toBeGreaterThan(195);
      expect(err).toMatch(/ended by the server; reconnecting in 2\d\d ms, after id 1\n/);
      expect(err).toMatch(/the connection broke; reconnecting in 2\d\d ms, after id 2\n/);
      expect(err).toContain('204: the server ends the stream for good');
    });
  });

  it('goes on while the server is down', async () => {
    const server = http.createServer((_req, res) => void res.writeHead(200, GOOD).end('retry: 100\ndata: x\n\n'));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const result = { code: -1, err: '' };
    const signal = new AbortController().signal;
    const closed = new Promise<void>((done) => {
      const write = (text: string): void => {
        result.err += text;
        if (text.includes('ended by the server')) server.close(() => done());
        if (text.includes('no connection') && !server.listening) server.listen(port, '127.0.0.1');
      };
      const args = ['tail', `localhost:${port}`, '--until', '2', '--timeout', '5'];
      void run(args, { stdout: { write: () => {} }, stderr: { write }, env: {}, signal }).then((code) => {
        result.code = code;
        server.close();
      });
    });
    await closed;
    await once(server, 'close');
    expect(result.code).toBe(0);
    expect(result.err).toMatch(/no connection; reconnecting in 2\d\d ms/);
  });

  it('does not happen with --no-reconnect', async () => {
    const ends = (req: IncomingMessage, res: ServerResponse): void => {
      sends('data: x\n\n')(req, res);
      res.end();
    };
    await withServer(ends, async (url) => {
      expect((await tail(['tail', url, '--no-reconnect'])).code).toBe(0);
      expect((await tail(['tail', url, '--no-reconnect', '--until', '2'])).code).toBe(1);
    });
  });

  it('does not happen after a POST, which is sent once', async () => {
    const answers = (req: IncomingMessage, res: ServerResponse): void => {
      sends('retry: 10\ndata: x\n\n')(req, res);
      if (req.url === '/events') res.end();
      else setImmediate(() => req.socket.destroy());
    };
    await withServer(answers, async (url, requests) => {
      const ended = await tail(['tail', url, '--post', '{}', '--timeout', '5']);
      expect(ended.code).toBe(0);
      expect(ended.err).toContain('ended by the server; a POST is not sent again\n');
      const broken = await tail(['tail', `${url}/broken`, '--post', '', '--until', '2', '--timeout', '5']);
      expect(broken.code).toBe(1);
      expect(broken.err).toContain('the connection broke; a POST is not sent again\n');
      expect(requests.map(({ method }) => method)).toEqual(['POST', 'POST']);
    });
  });
});

describe('the exit code', () => {
  it.each([
    [[], 'No command was given.'],
    [['head', 'x'], 'The command must be tail; received "head".'],
    [['tail'], 'No URL was given.'],
    [['tail', 'a', 'b'], 'The argument of tail must be one URL; received "a b".'],
    [['tail', 'ftp://a'], 'The URL must be http: or https:; received "ftp://a".'],
    [['tail', 'http://'], 'The URL must be valid, as in http://localhost:3000/events; received "http://".'],
    [['tail', 'a', '--jason'], "Unknown option '--jason'"],
    [['tail', 'a', '--until', '1.5'], '--until must be a whole number; received "1.5".'],
    [['tail', 'a', '--timeout', 'soon'], '--timeout must be a number above 0; received "soon".'],
    [['tail', 'a', '-H', 'nonsense'], `--header must be 'Name: value'; received "nonsense".`],
    [['tail', 'a', '-H', 'X: a\nb'], `--header must be 'Name: value'; received "X: a\\nb".`],
    [
      ['tail', 'a', '-H', 'X: 漢'],
      'The value of --header X must be Latin-1 text without control characters; received "漢".',
    ],
    [
      ['tail', 'a', '--last-event-id', 'a\nb'],
      '--last-event-id must be text without control characters; received "a\\nb".',
    ],
    [
      ['tail', 'http://us%ZZer:secret@a'],
      'The user and password of the URL must be percent-encoded UTF-8, in which % itself is %25; received "http://***@a".',
    ],
    [['tail', 'ftp://joe:secret@a'], 'The URL must be http: or https:; received "ftp://***@a".'],
    [['tail', 'joe:se cret@a b'], 'The URL must be valid, as in http://localhost:3000/events; received "***@a b".'],
  ])('is 2 for the arguments %j', async (args, message) => {
    const { code, out, err } = await tail(args);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain(`sse-router: ${message}`);
    expect(err).toContain('Usage: sse-router tail [options] URL');
  });

  it('is 0 with the help', async () => {
    const { code, out } = await tail(['--help']);
    expect(code).toBe(0);
    expect(out).toContain('Exit codes');
  });

  it('is 0 with the version', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(await tail(['--version'])).toEqual({ code: 0, out: `${version}\n`, err: '' });
  });

  it('is 4 if no response has come before the time is up', async () => {
    await withServer(
      () => {},
      async (url) => {
        const { code, err } = await tail(['tail', url, '--timeout', '0.1']);
        expect(code).toBe(4);
        expect(err).toContain('no response');
        expect((await tail(['tail', url, '--timeout', '0.1', '--until', '1'])).code).toBe(4);
      },
    );
  });

  it('is 3 if a browser would give up, and the output shows the response', async () => {
    const forbids = (_req: IncomingMessage, res: ServerResponse): void => {
      res.writeHead(403, { 'Content-Type': 'text/plain' });
      res.end('not you');
    };
    await withServer(forbids, async (url) => {
      const { code, err } = await tail(['tail', url]);
      expect(code).toBe(3);
      expect(err).toContain('wrong: status 403: a browser gives up for good');
      expect(err).toContain('not you');
    });
    await withServer(sends('<html>', { 'Content-Type': 'text/html' }), async (url) => {
      const { code, err } = await tail(['tail', url, '--doctor']);
      expect(code).toBe(3);
      expect(err).toContain('wrong: Content-Type: text/html');
    });
  });

  it('is 4 without a server', async () => {
    const url = await withServer(
      () => {},
      (address) => Promise.resolve(address),
    );
    const { code, err } = await tail(['tail', url]);
    expect(code).toBe(4);
    expect(err).toMatch(/no connection: connect ECONNREFUSED/);
  });

  it('is 1 if the time is up before --until is reached, 0 without --until', async () => {
    await withServer(sends('data: x\n\n'), async (url) => {
      expect((await tail(['tail', url, '--until', '2', '--timeout', '0.1'])).code).toBe(1);
      expect((await tail(['tail', url, '--timeout', '0.1'])).code).toBe(0);
    });
  });

  it('is 130 after an interrupt, also while the command waits to reconnect', async () => {
    const stop = new AbortController();
    const ends = (_req: IncomingMessage, res: ServerResponse): void => {
      res.writeHead(200, GOOD).end('retry: 60000\n');
      setTimeout(() => stop.abort('SIGINT'), 50);
    };
    await withServer(ends, async (url) => {
      expect((await tail(['tail', url], { signal: stop.signal })).code).toBe(130);
    });
  });
});

describe('--doctor', () => {
  const doctor = (url: string, seconds = '0.2'): Promise<Result> =>
    tail(['tail', url, '--doctor', '--timeout', seconds]);

  it('finds no problems in a good stream', async () => {
    await withServer(sends(':\nid: 1\ndata: x\n\n'), async (url) => {
      const { code, err } = await doctor(url);
      expect(code).toBe(0);
      expect(err).toMatch(/connected \d+ ms → head \d+ ms → first byte \d+ ms → first event \d+ ms/);
      expect(err).toContain('on the way: no proxy that names itself');
      expect(err).toContain('no problems found');
    });
  });

  it('gives a hint about a burst that comes after a silence, and reports no fault: the events may be those of one tick', async () => {
    const broadcasts = (req: IncomingMessage, res: ServerResponse): void => {
      sends('id: 1\ndata: x\n\n')(req, res);
      setTimeout(() => res.write('data: x\n\n'.repeat(4)), 1100);
    };
    await withServer(broadcasts, async (url) => {
      const { code, err } = await doctor(url, '1.4');
      expect(code).toBe(0);
      expect(err).toMatch(
        /note: a burst after a silence, once: no byte for 1\.\d s, then 4 events \(36 bytes\) at once\n {2}If the application does not send/,
      );
    });
  });

  it('names the proxy if heartbeats arrive together', async () => {
    const buffers = (req: IncomingMessage, res: ServerResponse): void => {
      sends('id: 1\ndata: x\n\n', { ...GOOD, Via: '1.1 varnish (Varnish/7.1)' })(req, res);
      setTimeout(() => res.write('data: x\n\n:\n:\ndata: x\n\n'), 1100);
    };
    await withServer(buffers, async (url) => {
      const { code, err } = await doctor(url, '1.4');
      expect(code).toBe(5);
      expect(err).toContain('wrong: several heartbeats came at once');
      expect(err).toContain('Varnish (via: 1.1 varnish (Varnish/7.1)): switch do_gzip off');
    });
  });

  it('reports that the head has not come', async () => {
    await withServer(
      () => {},
      async (url) => {
        const { code, err } = await doctor(url);
        expect(code).toBe(5);
        expect(err).toMatch(/wrong: no answer within 2\d\d ms/);
      },
    );
  });
});

it('runs as a command, and stops in order on SIGTERM', async () => {
  await withServer(sends('data: x\n\n'), async (url) => {
    const cli = resolve('lib/cli/cli.ts');
    const child = spawn(process.execPath, [...TYPESCRIPT, cli, 'tail', url, '--json'], { stdio: 'pipe' });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
      child.kill('SIGTERM');
    });
    const [code] = (await once(child, 'exit')) as [number];
    expect(JSON.parse(out)).toMatchObject({ data: 'x' });
    expect(code).toBe(143);
  });
});
