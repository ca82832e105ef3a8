import type { IncomingHttpHeaders } from 'node:http';
import { diagnose, diagnoseHead } from '../../lib/cli/diagnosis.ts';
import { hopsOf } from '../../lib/cli/proxies.ts';
import { Watch } from '../../lib/cli/arrival-log.ts';

const GOOD: IncomingHttpHeaders = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'private, no-cache, no-store, no-transform',
  'x-accel-buffering': 'no',
};

/** The findings as `level: what`, the shortest form that still tells them apart. */
function heads(headers: IncomingHttpHeaders, status = 200): string[] {
  return diagnoseHead({ status, headers: { ...GOOD, ...headers } }).map(({ level, what }) => `${level}: ${what}`);
}

describe('a head', () => {
  it('that is right', () => expect(heads({})).toEqual([]));

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
    ['nginx unaware', { 'x-accel-buffering': undefined }, 'warning: no X-Accel-Buffering: no'],
  ])('with %s', (_name, headers, finding) => expect(heads(headers)).toEqual([finding]));

  it.each([
    [undefined, 'no Cache-Control'],
    ['public, max-age=60', 'Cache-Control: public, max-age=60'],
  ])('that is cacheable: %s', (control, shown) => {
    expect(heads({ 'cache-control': control })[0]).toBe(
      `wrong: cacheable (${shown}): a cache may give one client's stream to all others`,
    );
  });

  it('does not miss what nginx takes away', () => {
    expect(heads({ 'x-accel-buffering': undefined, server: 'nginx/1.22.1' })).toEqual([]);
  });

  it('of another status', () => {
    expect(heads({ 'content-type': undefined }, 503)).toEqual(['wrong: status 503: a browser gives up for good']);
    expect(heads({ 'content-type': undefined }, 204)).toEqual([expect.stringMatching(/^note: 204/)]);
  });
});

/** A connection whose head came after 10 ms, and then these: [time, events, comments]. */
function watched(...arrivals: Array<[number, number, number?]>): Watch {
  const watch = new Watch();
  watch.at.head = 10;
  for (const [now, events, comments = 0] of arrivals) {
    watch.chunk(now, 10 * events + comments);
    for (let n = 0; n < events; n++) watch.event(now, true);
    for (let n = 0; n < comments; n++) watch.comment('');
  }
  return watch;
}

function findings(watch: Watch, now: number, headers: IncomingHttpHeaders = {}): string[] {
  watch.end(now);
  return diagnose({ status: 200, headers: { ...GOOD, ...headers } }, watch, now).map(
    ({ level, what }) => `${level}: ${what}`,
  );
}

describe('arrivals', () => {
  it('one by one are right, and so is a replay at the opening', () => {
    expect(findings(watched([11, 50, 1], [2000, 1], [4000, 2], [4500, 5], [19_500, 0, 1]), 20_000)).toEqual([]);
  });

  it('as bursts after gaps are not, in one chunk or in several', () => {
    const bursts = watched([11, 0, 1], [3000, 8], [6000, 4], [6010, 4], [6020, 1]);
    expect(findings(bursts, 7000)).toEqual([
      'wrong: a gap came as a burst, 2 times: 3.0 s of nothing, then 9 events (90 bytes) at once',
    ]);
  });

  it('all with a late opening are not', () => {
    expect(findings(watched([5000, 9]), 6000)).toEqual([
      'wrong: nothing for 5.0 s, then 9 events (90 bytes) with the opening',
      'warning: the first byte came 5.0 s after the head',
    ]);
  });

  it('of several heartbeats at once are not', () => {
    expect(findings(watched([11, 0, 1], [30_000, 0, 2]), 31_000)).toEqual(['wrong: heartbeats came several at once']);
  });

  it('that leave a minute of silence are not, the one that lasts included', () => {
    expect(findings(watched([11, 1], [61_000, 1]), 62_000)).toEqual(['wrong: no byte for 61.0 s']);
    expect(findings(watched([11, 1]), 70_011)).toEqual(['wrong: no byte for 70.0 s']);
  });

  it('compressed: with and without a flush', () => {
    const gzip = { 'content-encoding': 'gzip' };
    expect(findings(watched([11, 1], [2000, 1]), 3000, gzip)).toEqual(['note: compressed (gzip), and flushed']);
    expect(findings(watched(), 3000, gzip)).toEqual([
      'wrong: compressed (gzip) without a flush',
      'warning: no byte has come yet',
    ]);
  });

  it('without ids are worth a note', () => {
    const watch = watched([11, 0]);
    watch.event(12, false);
    expect(findings(watch, 13)).toEqual(['note: no event had an id']);
  });
});

it('finds the hops, each once, in the order of the way', () => {
  const headers = {
    via: '1.1 varnish, 1.1 squid-host (squid/6)',
    server: 'nginx',
    'x-varnish': '32770',
    'cf-ray': '8a',
  };
  expect(hopsOf(headers as IncomingHttpHeaders).map(({ name }) => name)).toEqual(['Varnish', 'nginx', 'Cloudflare']);
  expect(hopsOf({ via: '1.1 proxy.example' })).toMatchObject([{ name: 'a proxy', from: 'via: 1.1 proxy.example' }]);
  expect(hopsOf({ server: 'something' })).toEqual([]);
});
