import type { IncomingHttpHeaders } from 'node:http';
import { diagnose, diagnoseHead } from '../../lib/cli/diagnosis.ts';
import { detectProxies } from '../../lib/cli/proxies.ts';
import { ArrivalLog } from '../../lib/cli/arrival-log.ts';
import { EventBoundary } from '../../lib/cli/event-boundary.ts';

const GOOD: IncomingHttpHeaders = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'private, no-cache, no-store, no-transform',
  'x-accel-buffering': 'no',
};

/** The findings as `level: text`, without the cures. */
function heads(headers: IncomingHttpHeaders, status = 200): string[] {
  return diagnoseHead({ status, headers: { ...GOOD, ...headers } }).map(({ level, text }) => `${level}: ${text}`);
}

describe('the head of a response', () => {
  it('has no findings if it is correct', () => expect(heads({})).toEqual([]));

  it.each<[string, IncomingHttpHeaders, string]>([
    ['no type', { 'content-type': undefined }, 'wrong: no Content-Type'],
    ['another type', { 'content-type': 'text/html' }, 'wrong: Content-Type: text/html'],
    [
      'the type twice',
      { 'content-type': 'text/event-stream, text/event-stream' },
      'wrong: Content-Type: text/event-stream, text/event-stream',
    ],
    ['another charset', { 'content-type': 'text/event-stream;charset=latin1' }, 'wrong: charset=latin1'],
    ['upper case', { 'content-type': 'Text/Event-Stream' }, 'warning: Content-Type: Text/Event-Stream'],
    [
      'a space',
      { 'content-type': 'text/event-stream ;charset=utf-8' },
      'warning: Content-Type: text/event-stream ;charset=utf-8',
    ],
    ['a length', { 'content-length': '12' }, 'wrong: Content-Length: 12: this is not a stream'],
    [
      'a cached answer',
      { age: '3', 'x-cache': 'HIT' },
      'wrong: this stream came out of a cache (Age: 3, X-Cache: HIT)',
    ],
    [
      'transformable',
      { 'cache-control': 'no-store' },
      'warning: no-transform is missing: a proxy may compress the stream and hold events back',
    ],
    ['no header for nginx', { 'x-accel-buffering': undefined }, 'warning: no X-Accel-Buffering: no'],
  ])('is diagnosed with %s', (_name, headers, finding) => expect(heads(headers)).toEqual([finding]));

  it.each([
    [undefined, 'no Cache-Control'],
    ['public, max-age=60', 'Cache-Control: public, max-age=60'],
  ])('is cacheable with Cache-Control: %s', (control, shown) => {
    expect(heads({ 'cache-control': control })[0]).toBe(
      `wrong: cacheable (${shown}): a cache may give one client's stream to all others`,
    );
  });

  it('may lack X-Accel-Buffering behind nginx, which removes it', () => {
    expect(heads({ 'x-accel-buffering': undefined, server: 'nginx/1.22.1' })).toEqual([]);
  });

  it('is diagnosed by its status alone if that is not 200', () => {
    expect(heads({ 'content-type': undefined }, 503)).toEqual(['wrong: status 503: a browser gives up for good']);
    expect(heads({ 'content-type': undefined }, 204)).toEqual([expect.stringMatching(/^note: 204/)]);
  });
});

/** The log of a connection whose head came after 10 ms, and then these arrivals: [time, events, comments]. */
function arrivalsOf(...arrivals: Array<[number, number, number?]>): ArrivalLog {
  const log = new ArrivalLog();
  log.milestones.head = 10;
  for (const [now, events, comments = 0] of arrivals) {
    log.chunk(now, Buffer.from('data: xx\n\n'.repeat(events) + '\n'.repeat(comments)));
    for (let n = 0; n < events; n++) log.event(now, true);
    for (let n = 0; n < comments; n++) log.comment('');
  }
  return log;
}

function findings(log: ArrivalLog, now: number, headers: IncomingHttpHeaders = {}): string[] {
  log.end(now);
  return diagnose({ status: 200, headers: { ...GOOD, ...headers } }, log, now).map(
    ({ level, text }) => `${level}: ${text}`,
  );
}

describe('arrivals', () => {
  it('have no findings one by one, nor as a replay at the opening', () => {
    expect(findings(arrivalsOf([11, 50, 1], [2000, 1], [4000, 2], [4500, 5], [19_500, 0, 1]), 20_000)).toEqual([]);
  });

  it('give a hint as bursts after silences, in one chunk or in several: the application may broadcast them in one tick', () => {
    const bursts = arrivalsOf([11, 0, 1], [3000, 8], [6000, 4], [6010, 4], [6020, 1]);
    expect(findings(bursts, 7000)).toEqual([
      'note: a burst after a silence, 2 times: no byte for 3.0 s, then 9 events (90 bytes) at once',
    ]);
  });

  it('give a hint if all come with a late opening: the handler may have loaded them', () => {
    expect(findings(arrivalsOf([5000, 9]), 6000)).toEqual([
      'note: no byte for 5.0 s, then 9 events (90 bytes) with the opening',
      'warning: the first byte came 5.0 s after the head',
    ]);
  });

  it('are wrong if several heartbeats come at once', () => {
    expect(findings(arrivalsOf([11, 0, 1], [30_000, 0, 2]), 31_000)).toEqual([
      'wrong: several heartbeats came at once',
    ]);
  });

  it('may have several comments at once at the opening, and in the midst of events', () => {
    expect(findings(arrivalsOf([11, 0, 2], [2000, 1, 1], [2100, 1, 2]), 3000)).toEqual([]);
  });

  it('are wrong if events come in pieces again and again, but not as bursts of whole events', () => {
    const inPieces = (times: number, piece: string): string[] => {
      const log = new ArrivalLog();
      log.milestones.head = 10;
      for (let n = 0; n <= times; n++) {
        log.chunk(11 + 2000 * n, Buffer.from(piece));
        for (let event = 0; event < 3; event++) log.event(11 + 2000 * n, true);
      }
      return findings(log, 2000 * times + 20).filter((finding) => finding.startsWith('wrong'));
    };
    expect(inPieces(2, 'data: 1\n\n:\ndata: 2\n\ndata: 3\n\n:\nda')).toEqual([
      'wrong: events came in pieces, 2 times: several events and a part of one, then the rest of it after a silence',
    ]);
    expect(inPieces(1, 'data: 1\n\ndata: 2\n\ndata: 3\n\nda')).toEqual([]); // a lost packet
    expect(inPieces(9, 'data: 1\n\ndata: 2\n\ndata: 3\n\n:\n')).toEqual([]);
  });

  it('prove nothing about the way if the reader has paused', () => {
    const log = arrivalsOf([11, 0, 1]);
    log.pause();
    expect(log.longestSilence(90_000)).toBe(1);
    log.resume(89_990);
    log.chunk(90_000, Buffer.from(':\n:\ndata: x\n\n'));
    for (const text of ['', '']) log.comment(text);
    for (let n = 0; n < 5; n++) log.event(90_000, true);
    expect(log.longestSilence(90_010)).toBe(10);
    expect(findings(log, 90_010)).toEqual([]);
  });

  it('are wrong with a minute of silence, which may still last', () => {
    expect(findings(arrivalsOf([11, 1], [61_000, 1]), 62_000)).toEqual(['wrong: no byte for 61.0 s']);
    expect(findings(arrivalsOf([11, 1]), 70_011)).toEqual(['wrong: no byte for 70.0 s']);
  });

  it('show whether compression is flushed', () => {
    const gzip = { 'content-encoding': 'gzip' };
    expect(findings(arrivalsOf([11, 1], [2000, 1]), 3000, gzip)).toEqual(['note: compressed (gzip), and flushed']);
    expect(findings(arrivalsOf(), 3000, gzip)).toEqual([
      'wrong: compressed (gzip) without a flush',
      'warning: no byte has come yet',
    ]);
  });

  it('without ids give a note', () => {
    const log = arrivalsOf([11, 0]);
    log.event(12, false);
    expect(findings(log, 13)).toEqual(['note: no event had an id']);
  });
});

it('the position within an event is the same however the bytes are split', () => {
  const positions = (text: string, size: number): boolean => {
    const boundary = new EventBoundary();
    const bytes = Buffer.from(text);
    for (let start = 0; start < bytes.length; start += size) boundary.feed(bytes.subarray(start, start + size));
    return boundary.isWithinEvent;
  };
  for (const lineEnd of ['\n', '\r', '\r\n']) {
    for (const [text, isWithin] of [
      ['', false],
      [':', false],
      [':x\n', false],
      ['data: é\n\n', false],
      ['data: é\n\n:', false],
      ['data: é\n\n:\n', false],
      ['id', true],
      ['id: 1\n', true],
      ['id: 1\n:x', true],
      ['id: 1\n:x\n', true],
      ['id: 1\n:x\n\n', false],
      [':x\nid: 1\n\ndata: 2\nd', true],
    ] as const) {
      for (const size of [1, 2, 3, 100])
        expect([text, lineEnd, size, positions(text.replaceAll('\n', lineEnd), size)]).toEqual([
          text,
          lineEnd,
          size,
          isWithin,
        ]);
    }
  }
});

it('finds the proxies, each once, in the order of the headers', () => {
  const headers = {
    via: '1.1 varnish, 1.1 squid-host (squid/6)',
    server: 'nginx',
    'x-varnish': '32770',
    'cf-ray': '8a',
  };
  expect(detectProxies(headers as IncomingHttpHeaders).map(({ name }) => name)).toEqual([
    'Varnish',
    'nginx',
    'Cloudflare',
  ]);
  expect(detectProxies({ via: '1.1 proxy.example' })).toMatchObject([
    { name: 'a proxy', header: 'via: 1.1 proxy.example' },
  ]);
  expect(detectProxies({ server: 'something' })).toEqual([]);
});
