import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { run } from '../../lib/cli/command.ts';

const GOOD = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'private, no-cache, no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

/** A server for the time of a test; `[Symbol.asyncDispose]` would need a newer Node. */
async function serving<T>(
  listener: RequestListener,
  test: (url: string, seen: IncomingMessage[]) => Promise<T>,
): Promise<T> {
  const seen: IncomingMessage[] = [];
  const server = http.createServer((req, res) => {
    seen.push(req);
    listener(req, res);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  try {
    return await test(`http://127.0.0.1:${(server.address() as AddressInfo).port}/events`, seen);
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
}

interface Ran {
  code: number;
  out: string;
  err: string;
}

async function tail(
  args: string[],
  options: { tty?: boolean; env?: Record<string, string>; signal?: AbortSignal } = {},
): Promise<Ran> {
  const ran = { code: -1, out: '', err: '' };
  const isTTY = options.tty ?? false;
  ran.code = await run(args, {
    stdout: { isTTY, write: (text) => (ran.out += text) },
    stderr: { isTTY, write: (text) => (ran.err += text) },
    env: options.env ?? {},
    signal: options.signal ?? new AbortController().signal,
  });
  return ran;
}

const sends =
  (body: string, headers: http.OutgoingHttpHeaders = GOOD) =>
  (_req: IncomingMessage, res: ServerResponse): void => {
    res.writeHead(200, headers);
    res.write(body);
  };

const TIME = /^\d\d:\d\d:\d\d\.\d{3}/gm;

describe('what it prints', () => {
  const body = ':hi\nid: 7\nevent: tick\ndata: one\ndata: two\n\ndata: \u001B[2Jplain\n\ndata: too many\n\n';

  it('prints events with time, name and id, and stops after --until', async () => {
    await serving(sends(body), async (url) => {
      const { code, out, err } = await tail(['tail', url, '--until', '2']);
      expect(code).toBe(0);
      expect(out.replace(TIME, 'TIME')).toBe('TIME tick #7\n  one\n  two\nTIME message \\x1b[2Jplain\n');
      expect(err).toMatch(/^200 text\/event-stream; charset=utf-8, connected after \d+ ms, head after \d+ ms\n$/);
    });
  });

  it('shows heartbeats when asked', async () => {
    await serving(sends(body), async (url) => {
      const { out } = await tail(['tail', url, '--until', '1', '--heartbeats']);
      expect(out.replace(TIME, 'TIME')).toMatch(/^TIME :hi\nTIME tick #7/);
    });
  });

  it('writes one JSON object a line', async () => {
    await serving(sends(body), async (url) => {
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

  it('has colours on a terminal, unless NO_COLOR', async () => {
    await serving(sends(body), async (url) => {
      const args = ['tail', url, '--until', '1'];
      expect((await tail(args, { tty: true })).out).toContain('\u001B[36mtick\u001B[0m');
      expect((await tail(args, { tty: true, env: { NO_COLOR: '1' } })).out).not.toContain('\u001B');
      expect((await tail(args)).out).not.toContain('\u001B');
    });
  });

  it('reads compressed streams', async () => {
    const compressed = (_req: IncomingMessage, res: ServerResponse): void => {
      res.writeHead(200, { ...GOOD, 'Content-Encoding': 'gzip' });
      res.end(gzipSync('data: small\n\n'));
    };
    await serving(compressed, async (url, seen) => {
      expect((await tail(['tail', url, '--until', '1'])).out).toContain('message small');
      expect(seen[0]!.headers['accept-encoding']).toContain('gzip');
    });
  });
});

describe('what it asks', () => {
  it('sends headers, a body and an id', async () => {
    let body = '';
    const read = (req: IncomingMessage, res: ServerResponse): void => {
      req.on('data', (chunk) => (body += chunk)).on('end', () => sends('data: x\n\n')(req, res));
    };
    await serving(read, async (url, seen) => {
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
      expect(seen[0]!.method).toBe('POST');
      expect(seen[0]!.headers).toMatchObject({
        authorization: 'Bearer a:b',
        'x-two': '2',
        'content-type': 'application/json',
        'last-event-id': 'Ã©',
      });
      expect(body).toBe('{"q":1}');
    });
  });

  it('follows redirects, and keeps secrets from other origins', async () => {
    await serving(sends('data: there\n\n'), async (there, arrived) => {
      const redirect = (_req: IncomingMessage, res: ServerResponse): void =>
        void res.writeHead(307, { Location: there }).end();
      await serving(redirect, async (url) => {
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

describe('how it comes back', () => {
  it('with the last id, after the retry of the server and a little more, until a 204', async () => {
    const times: number[] = [];
    const answers = (req: IncomingMessage, res: ServerResponse): void => {
      times.push(performance.now());
      if (times.length === 3) return void res.writeHead(204).end();
      sends(`retry: 200\nid: ${times.length}\ndata: x\n\n`)(req, res);
      // Once in order, once not.
      if (times.length === 1) res.end();
      else setImmediate(() => req.socket.destroy());
    };
    await serving(answers, async (url, seen) => {
      const { code, out, err } = await tail(['tail', url]);
      expect(code).toBe(0);
      expect(out.match(/#\d x/g)).toEqual(['#1 x', '#2 x']);
      expect(seen.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '1', '2']);
      expect(times[1]! - times[0]!).toBeGreaterThan(195);
      expect(err).toMatch(/ended by the server; back in 2\d\d ms, after id 1\n/);
      expect(err).toMatch(/the connection broke; back in 2\d\d ms, after id 2\n/);
      expect(err).toContain('204: the server says that there will be no more');
    });
  });

  it('patiently when nobody is there for a while', async () => {
    const server = http.createServer((_req, res) => void res.writeHead(200, GOOD).end('retry: 100\ndata: x\n\n'));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const ran = { code: -1, err: '' };
    const signal = new AbortController().signal;
    const closed = new Promise<void>((done) => {
      const write = (text: string): void => {
        ran.err += text;
        if (text.includes('ended by the server')) server.close(() => done());
        if (text.includes('no connection') && !server.listening) server.listen(port, '127.0.0.1');
      };
      const args = ['tail', `localhost:${port}`, '--until', '2', '--timeout', '5'];
      void run(args, { stdout: { write: () => {} }, stderr: { write }, env: {}, signal }).then((code) => {
        ran.code = code;
        server.close();
      });
    });
    await closed;
    await once(server, 'close');
    expect(ran.code).toBe(0);
    expect(ran.err).toMatch(/no connection; back in 2\d\d ms/);
  });

  it('not with --no-reconnect', async () => {
    const ends = (req: IncomingMessage, res: ServerResponse): void => {
      sends('data: x\n\n')(req, res);
      res.end();
    };
    await serving(ends, async (url) => {
      expect((await tail(['tail', url, '--no-reconnect'])).code).toBe(0);
      expect((await tail(['tail', url, '--no-reconnect', '--until', '2'])).code).toBe(1);
    });
  });
});

describe('how it ends', () => {
  it.each([
    [[], 'No command was given.'],
    [['head', 'x'], 'Unknown command "head": there is only "tail".'],
    [['tail'], 'No URL was given.'],
    [['tail', 'a', 'b'], 'One URL at a time: "b" is one too many.'],
    [['tail', 'ftp://a'], 'The URL is http: or https:, not ftp:'],
    [['tail', 'http://'], '"http://" is not a URL.'],
    [['tail', 'a', '--jason'], "Unknown option '--jason'"],
    [['tail', 'a', '--until', '1.5'], '--until is a whole number, not 1.5.'],
    [['tail', 'a', '--timeout', 'soon'], '--timeout is a number above 0, not "soon".'],
    [['tail', 'a', '-H', 'nonsense'], `--header is 'Name: value', not "nonsense".`],
    [['tail', 'a', '-H', 'X: a\nb'], `--header is 'Name: value', not "X: a\\nb".`],
    [['tail', 'a', '-H', 'X: 漢'], 'The value of --header X has a character that no header can carry.'],
  ])('2 for %j', async (args, message) => {
    const { code, out, err } = await tail(args);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain(`sse-router: ${message}`);
    expect(err).toContain('Usage: sse-router tail [options] URL');
  });

  it('0 with the help', async () => {
    const { code, out } = await tail(['--help']);
    expect(code).toBe(0);
    expect(out).toContain('Exit codes');
  });

  it('3 when a browser would give up, and shows what came instead', async () => {
    const forbids = (_req: IncomingMessage, res: ServerResponse): void => {
      res.writeHead(403, { 'Content-Type': 'text/plain' });
      res.end('not you');
    };
    await serving(forbids, async (url) => {
      const { code, err } = await tail(['tail', url]);
      expect(code).toBe(3);
      expect(err).toContain('wrong: status 403: a browser gives up for good');
      expect(err).toContain('not you');
    });
    await serving(sends('<html>', { 'Content-Type': 'text/html' }), async (url) => {
      const { code, err } = await tail(['tail', url, '--doctor']);
      expect(code).toBe(3);
      expect(err).toContain('wrong: Content-Type: text/html');
    });
  });

  it('4 when there is nobody', async () => {
    const url = await serving(
      () => {},
      (address) => Promise.resolve(address),
    );
    const { code, err } = await tail(['tail', url]);
    expect(code).toBe(4);
    expect(err).toMatch(/no connection: connect ECONNREFUSED/);
  });

  it('1 when the time is up before the events have come, 0 when only time was asked for', async () => {
    await serving(sends('data: x\n\n'), async (url) => {
      expect((await tail(['tail', url, '--until', '2', '--timeout', '0.1'])).code).toBe(1);
      expect((await tail(['tail', url, '--timeout', '0.1'])).code).toBe(0);
    });
  });

  it('130 when interrupted, also while it waits to come back', async () => {
    const stop = new AbortController();
    const ends = (_req: IncomingMessage, res: ServerResponse): void => {
      res.writeHead(200, GOOD).end('retry: 60000\n');
      setTimeout(() => stop.abort('SIGINT'), 50);
    };
    await serving(ends, async (url) => {
      expect((await tail(['tail', url], { signal: stop.signal })).code).toBe(130);
    });
  });
});

describe('--doctor', () => {
  const doctor = (url: string, seconds = '0.2'): Promise<Ran> => tail(['tail', url, '--doctor', '--timeout', seconds]);

  it('has nothing to complain about', async () => {
    await serving(sends(':\nid: 1\ndata: x\n\n'), async (url) => {
      const { code, err } = await doctor(url);
      expect(code).toBe(0);
      expect(err).toMatch(/connected \d+ ms → head \d+ ms → first byte \d+ ms → first event \d+ ms/);
      expect(err).toContain('on the way: nobody that says its name');
      expect(err).toContain('nothing to complain about');
    });
  });

  it('names the hop when a gap comes as a burst', async () => {
    const buffers = (req: IncomingMessage, res: ServerResponse): void => {
      sends('id: 1\ndata: x\n\n', { ...GOOD, Via: '1.1 varnish (Varnish/7.1)' })(req, res);
      setTimeout(() => res.write('data: x\n\n'.repeat(4)), 1100);
    };
    await serving(buffers, async (url) => {
      const { code, err } = await doctor(url, '1.4');
      expect(code).toBe(5);
      expect(err).toMatch(/wrong: a gap came as a burst, once: 1\.\d s of nothing, then 4 events \(36 bytes\) at once/);
      expect(err).toContain('Varnish (via: 1.1 varnish (Varnish/7.1)): switch do_gzip off');
    });
  });

  it('says so when not even the head has come', async () => {
    await serving(
      () => {},
      async (url) => {
        const { code, err } = await doctor(url);
        expect(code).toBe(5);
        expect(err).toMatch(/wrong: no answer within 2\d\d ms/);
      },
    );
  });
});

it('runs as a command, and stops in order when it is told to', async () => {
  await serving(sends('data: x\n\n'), async (url) => {
    const cli = resolve('lib/cli/cli.ts');
    const child = spawn(process.execPath, ['--import', 'tsx', cli, 'tail', url, '--json'], { stdio: 'pipe' });
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
