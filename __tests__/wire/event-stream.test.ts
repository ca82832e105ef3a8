/*
 * Message → text, byte for byte: design rules 2 and 3, cases WIRE-01 to WIRE-23 as far as one frame shows them.
 * Decided otherwise by the contract: `retry: 0` is refused (WIRE-20, 22), and `id` has no `null` byte to argue about (ASCII only).
 */
import {
  checkpointEvent,
  encodeMessage,
  encodeComment,
  encodeLines,
  endEvent,
  HEARTBEAT,
  resetEvent,
  serializeDefault,
} from '../../lib/wire/event-stream.ts';
import { lint } from './oracle.ts';
import { codeOf } from '../fixtures/support.ts';

function fail(error: Error): never {
  throw error;
}

/** The whole frame of a message. */
function frame(message: unknown): string {
  const { id, body } = encodeMessage(message, serializeDefault);
  return id === undefined ? body : `id: ${id}\n${body}`;
}

describe('lines', () => {
  test.each<[name: string, lines: (string | number)[], text: string]>([
    ['WIRE-01 one line', ['foo'], 'data: foo\n\n'],
    ['WIRE-02 the arguments are the lines of one event', ['foo', 'bar', 'baz'], 'data: foo\ndata: bar\ndata: baz\n\n'],
    ['WIRE-06 an empty line is an event with empty data', [''], 'data: \n\n'],
    ['WIRE-06 a line that is a line end', ['\n'], 'data: \ndata: \n\n'],
    ['WIRE-20 zero', [0], 'data: 0\n\n'],
    ['numbers, as they are written in JavaScript', [1.5, -0, 1e21], 'data: 1.5\ndata: 0\ndata: 1e+21\n\n'],
    ['breaks inside a line among others', ['a\r\nb', 'c'], 'data: a\ndata: b\ndata: c\n\n'],
  ])('%s', (_name, lines, text) => {
    expect(encodeLines(lines)).toBe(text);
    expect(lint(text)).toEqual([]);
  });
});

describe('data that is text', () => {
  test.each<[name: string, data: string, text: string]>([
    ['WIRE-05 LF', 'a\nb', 'data: a\ndata: b\n\n'],
    ['WIRE-05 CR', 'a\rb', 'data: a\ndata: b\n\n'],
    ['WIRE-05 CRLF', 'a\r\nb', 'data: a\ndata: b\n\n'],
    ['WIRE-05 LF CR is two', 'a\n\rb', 'data: a\ndata: \ndata: b\n\n'],
    ['WIRE-05 CR CR LF is two', 'a\r\r\nb', 'data: a\ndata: \ndata: b\n\n'],
    ['WIRE-05 mixed', 'a\nb\rc\r\nd', 'data: a\ndata: b\ndata: c\ndata: d\n\n'],
    ['WIRE-05 leading', '\r\na', 'data: \ndata: a\n\n'],
    ['WIRE-05 consecutive', 'a\n\nb', 'data: a\ndata: \ndata: b\n\n'],
    ['WIRE-07 one trailing break survives', 'a\n', 'data: a\ndata: \n\n'],
    ['WIRE-07 two trailing breaks survive', 'a\n\n', 'data: a\ndata: \ndata: \n\n'],
    ['WIRE-06 nothing', '', 'data: \n\n'],
    ['WIRE-08 a leading space', ' x', 'data:  x\n\n'],
    ['WIRE-08 two leading spaces', '  x', 'data:   x\n\n'],
    ['WIRE-08 a colon', ':x', 'data: :x\n\n'],
    ['WIRE-08 what looks like data', 'data: x', 'data: data: x\n\n'],
    ['WIRE-08 what looks like an id', 'id: 9', 'data: id: 9\n\n'],
    ['WIRE-08 what looks like a retry', 'retry: 1', 'data: retry: 1\n\n'],
    ['WIRE-08 what looks like a field, on a line of its own', 'x\nretry: 1', 'data: x\ndata: retry: 1\n\n'],
    ['WIRE-09 other breaks are text', 'a\u2028b\u0085c\vd\fe\u2029', 'data: a\u2028b\u0085c\vd\fe\u2029\n\n'],
    ['WIRE-12 a NUL', 'a\0b', 'data: a\0b\n\n'],
    ['WIRE-13 a byte order mark', '\uFEFFx', 'data: \uFEFFx\n\n'],
    ['SEC-05 CVE-2026-43968 a bare CR', 'legit\revent: evil', 'data: legit\ndata: event: evil\n\n'],
    [
      'SEC-05 GHSA-4hxc-9384-m385 two bare CRs',
      'first\r\rdata: injected',
      'data: first\ndata: \ndata: data: injected\n\n',
    ],
  ])('%s', (_name, data, text) => {
    expect(frame({ data })).toBe(text);
    expect(frame(data)).toBe(text);
    expect(encodeLines([data])).toBe(text);
    expect(lint(text)).toEqual([]);
  });
});

describe('messages', () => {
  test.each<[name: string, message: unknown, text: string]>([
    [
      'WIRE-03 all fields, in the order id, event, retry, data',
      { data: 'a\nb', retry: 5000, event: 'tick', id: '7' },
      'id: 7\nevent: tick\nretry: 5000\ndata: a\ndata: b\n\n',
    ],
    ['WIRE-17 an empty name is no name', { event: '', data: 'x' }, 'data: x\n\n'],
    ['WIRE-17 null is no name', { event: null, data: 'x' }, 'data: x\n\n'],
    ['WIRE-17 undefined is no name', { event: undefined, data: 'x' }, 'data: x\n\n'],
    ['WIRE-18 a name with a colon', { event: 'a:b', data: 'x' }, 'event: a:b\ndata: x\n\n'],
    ['WIRE-18 a name with spaces', { event: ' a  b ', data: 'x' }, 'event:  a  b \ndata: x\n\n'],
    ['WIRE-18 a name that is not ASCII', { event: 'größe✓', data: 'x' }, 'event: größe✓\ndata: x\n\n'],
    ['WIRE-19 an empty id is an id', { id: '', data: 'x' }, 'id: \ndata: x\n\n'],
    ['WIRE-19 null is no id', { id: null, data: 'x' }, 'data: x\n\n'],
    ['WIRE-20 an id of zero', { id: 0, data: 'x' }, 'id: 0\ndata: x\n\n'],
    ['an id with inner spaces', { id: 'a b', data: 'x' }, 'id: a b\ndata: x\n\n'],
    ['the longest id', { id: 'x'.repeat(1024), data: '' }, `id: ${'x'.repeat(1024)}\ndata: \n\n`],
    ['WIRE-20 empty data', { data: '' }, 'data: \n\n'],
    ['WIRE-20 data that is zero', { data: 0 }, 'data: 0\n\n'],
    ['WIRE-20 data that is false', { data: false }, 'data: false\n\n'],
    ['WIRE-21 the shortest retry', { data: 'x', retry: 1 }, 'retry: 1\ndata: x\n\n'],
    ['WIRE-21 the longest retry', { data: 'x', retry: 2147483647 }, 'retry: 2147483647\ndata: x\n\n'],
    ['WIRE-23 a name alone has empty data', { event: 'x' }, 'event: x\ndata: \n\n'],
    ['WIRE-23 a retry alone is a line, and no event', { retry: 5000 }, 'retry: 5000\n'],
    ['API-03 null', { data: null }, 'data: null\n\n'],
    ['API-03 NaN', { data: NaN }, 'data: null\n\n'],
    ['API-03 a date', { data: new Date(0) }, 'data: "1970-01-01T00:00:00.000Z"\n\n'],
    ['API-03 a map', { data: new Map([[1, 2]]) }, 'data: {}\n\n'],
    ['API-03 a buffer', { data: Buffer.from('a') }, 'data: {"type":"Buffer","data":[97]}\n\n'],
    ['API-03 an array', { data: ['a', 1] }, 'data: ["a",1]\n\n'],
    ['line ends inside JSON are escaped by JSON', { data: { a: '\r\n' } }, 'data: {"a":"\\r\\n"}\n\n'],
  ])('%s', (_name, message, text) => {
    expect(frame(message)).toBe(text);
    expect(lint(text)).toEqual([]);
  });

  test('only own properties are read', () => {
    expect(frame(Object.assign(Object.create({ event: 'inherited', retry: 7 }), { data: 'x' }))).toBe('data: x\n\n');
  });

  test('API-05 each property is read once', () => {
    const reads: Record<string, number> = { event: 0, id: 0, retry: 0, data: 0 };
    const fields: Record<string, unknown> = { event: 'e', id: '1', retry: 2, data: 'x' };
    const message = new Proxy(fields, {
      get: (target, field: string) => {
        reads[field]!++;
        return reads[field] === 1 ? target[field] : 'e\ndata: forged';
      },
    });
    expect(frame(message)).toBe('id: 1\nevent: e\nretry: 2\ndata: x\n\n');
    expect(reads).toEqual({ event: 1, id: 1, retry: 1, data: 1 });
  });

  test('a serializer decides what data becomes, and its own errors pass', () => {
    expect(encodeMessage({ data: 'a' }, (data) => `<${String(data)}>\n`)).toEqual({
      id: undefined,
      body: 'data: <a>\ndata: \n\n',
    });
    const own = new RangeError('mine');
    expect(() =>
      encodeMessage({ data: 'a' }, () => {
        throw own;
      }),
    ).toThrow(own);
    expect(codeOf(() => encodeMessage({ data: 'a' }, () => undefined as never))).toBe('ERR_SSE_DATA');
  });
});

const circular: Record<string, unknown> = {};
circular.self = circular;

describe('what is refused, with a code', () => {
  test.each<[name: string, message: unknown, code: string]>([
    ['API-01 undefined', undefined, 'ERR_SSE_MESSAGE'],
    ['API-01 a function', () => 1, 'ERR_SSE_MESSAGE'],
    ['API-01 a symbol', Symbol('s'), 'ERR_SSE_MESSAGE'],
    ['null', null, 'ERR_SSE_MESSAGE'],
    ['a number', 1, 'ERR_SSE_MESSAGE'],
    ['nothing in it', {}, 'ERR_SSE_MESSAGE'],
    ['an empty list', [], 'ERR_SSE_MESSAGE'],
    ['a map', new Map([['data', 'x']]), 'ERR_SSE_MESSAGE'],
    ['API-03 WIRE-16 a field that no message has', { foo: 1 }, 'ERR_SSE_FIELD'],
    ['WIRE-16 a prefix of a field', { eventName: 'x', data: 'y' }, 'ERR_SSE_FIELD'],
    ['SEC-07 a field that a polyfill obeys', { heartbeatTimeout: 1, data: 'x' }, 'ERR_SSE_FIELD'],
    ['a list', ['a'], 'ERR_SSE_FIELD'],
    ['API-01 data: undefined', { data: undefined }, 'ERR_SSE_DATA'],
    ['API-01 data: undefined beside a name', { event: 'x', data: undefined }, 'ERR_SSE_DATA'],
    ['API-01 data that is a function', { data: () => 1 }, 'ERR_SSE_DATA'],
    ['API-01 data that is a symbol', { data: Symbol('s') }, 'ERR_SSE_DATA'],
    ['API-02 data that is a bigint', { data: 1n }, 'ERR_SSE_DATA'],
    ['API-02 data with a bigint in it', { data: { n: 1n } }, 'ERR_SSE_DATA'],
    ['API-02 circular data', { data: circular }, 'ERR_SSE_DATA'],
    ['data whose toJSON gives nothing', { data: { toJSON: () => undefined } }, 'ERR_SSE_DATA'],
    ['WIRE-23 an id alone', { id: '7' }, 'ERR_SSE_ID'],
    ['WIRE-23 an id with nothing but a retry', { id: '7', retry: 5 }, 'ERR_SSE_ID'],
  ])('%s', (_name, message, code) => {
    expect(codeOf(() => frame(message))).toBe(code);
  });

  test.each([
    ['LF', 'a\nb'],
    ['CR', 'a\rb'],
    ['CRLF', 'a\r\nb'],
    ['NUL', 'a\0b'],
    ['SEC-08 error', 'error'],
    ['SEC-08 open', 'open'],
    ['a number', 1],
    ['a boolean', false],
    ['SEC-06 a list', ['a']],
    ['SEC-06 a String', Object('a')],
    ['SEC-06 an object with toString', { toString: () => 'a' }],
  ])('SEC-01 an event name: %s', (_name, event) => {
    expect(codeOf(() => frame({ event, data: 'x' }))).toBe('ERR_SSE_EVENT');
  });

  test.each([
    ['LF', '1\n'],
    ['CR', '1\r2'],
    ['NUL', '1\0'],
    ['a tab', '1\t2'],
    ['DEL', '1\x7f'],
    ['Latin-1', 'é'],
    ['a leading space', ' 1'],
    ['a trailing space', '1 '],
    ['only a space', ' '],
    ['over 1 KiB', 'x'.repeat(1025)],
    ['NaN', NaN],
    ['Infinity', Infinity],
    ['a bigint', 1n],
    ['a boolean', true],
    ['SEC-06 a list', ['1']],
    ['SEC-06 a String', Object('1')],
    ['the id of the goodbye', 'sse-router:end'],
  ])('RP-15, SEC-02 an id: %s', (_name, id) => {
    expect(codeOf(() => frame({ id, data: 'x' }))).toBe('ERR_SSE_ID');
  });

  test.each([
    ['WIRE-22 zero', 0],
    ['negative', -1],
    ['a fraction', 1.5],
    ['NaN', NaN],
    ['Infinity', Infinity],
    ['2^31', 2 ** 31],
    ['2^32', 2 ** 32],
    ['a bigint', 1n],
    ['null', null],
    ['a text', '5'],
    ['an exponent', '1e3'],
    ['a text with more', '10x'],
    ['a text with a space', ' 5'],
    ['SEC-03 CVE-2026-29085 a text with a forged field', '5\ndata: forged'],
  ])('WIRE-21 a retry: %s', (_name, retry) => {
    expect(codeOf(() => frame({ retry, data: 'x' }))).toBe('ERR_SSE_RETRY');
    expect(codeOf(() => frame({ retry }))).toBe('ERR_SSE_RETRY');
  });

  test.each<[name: string, line: unknown, code: string]>([
    ['undefined', undefined, 'ERR_SSE_DATA'],
    ['null', null, 'ERR_SSE_DATA'],
    ['a boolean', true, 'ERR_SSE_DATA'],
    ['a function', () => 1, 'ERR_SSE_DATA'],
    ['a symbol', Symbol('s'), 'ERR_SSE_DATA'],
    ['a bigint', 1n, 'ERR_SSE_DATA'],
    ['NaN', NaN, 'ERR_SSE_DATA'],
    ['Infinity', Infinity, 'ERR_SSE_DATA'],
    ['a message', { data: 'x' }, 'ERR_SSE_MESSAGE'],
  ])('API-01 a line: %s', (_name, line, code) => {
    expect(codeOf(() => encodeLines([line as string]))).toBe(code);
    expect(codeOf(() => encodeLines(['fine', line as string]))).toBe(code);
  });

  test('API-02 the error of a toJSON reaches the caller', () => {
    const own = new RangeError('mine');
    expect(() => frame({ data: { toJSON: () => fail(own) } })).toThrow(own);
    const type = new TypeError('mine'); // as JSON.stringify's own are: it gets a code, and stays the cause
    expect(() => frame({ data: { toJSON: () => fail(type) } })).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_DATA', cause: type }),
    );
  });

  test('API-05 a getter that throws', () => {
    const own = new RangeError('mine');
    const message = Object.defineProperty({ event: 'x' }, 'data', { enumerable: true, get: () => fail(own) });
    expect(() => frame(message)).toThrow(own);
  });

  test('the text tells the value, the cure, and no more of it than is needed', () => {
    expect(() => frame({ foo: 1 })).toThrow('A message has event, id, data and retry, and no field "foo"');
    expect(() => frame({ foo: 1 })).toThrow('wrap it: { data: … }');
    expect(() => frame({})).toThrow('wrap it: { data: … }');
    expect(() => frame({ event: 'error', data: '' })).toThrow("the page's onerror handler");
    expect(() => frame({ retry: 0 })).toThrow(
      'an integer from 1 to 2147483647 (milliseconds), and this is the number 0',
    );
    const long = () => frame({ id: 's'.repeat(5000), data: '' });
    expect(long).toThrow('s'.repeat(60));
    expect(long).not.toThrow('s'.repeat(61));
  });
});

describe('comments and our own frames', () => {
  test.each<[name: string, text: string | undefined, bytes: string]>([
    ['nothing', undefined, ':\n'],
    ['an empty text', '', ':\n'],
    ['a text', 'hi', ': hi\n'],
    ['SEC-04 LF', 'a\nb', ': a\n: b\n'],
    ['SEC-04 CVE-2026-33128 CR', 'x\rdata: injected', ': x\n: data: injected\n'],
    ['SEC-04 CRLF', 'a\r\nb', ': a\n: b\n'],
    ['SEC-04 blank lines', 'a\n\n\n', ': a\n: \n: \n: \n'],
  ])('a comment has no blank line after it: %s', (_name, text, bytes) => {
    expect(encodeComment(text)).toBe(bytes);
    expect(lint(bytes)).toEqual([]);
  });

  test.each([null, 0, {}, ['a']])('SEC-04 a comment is a text, not %p', (text) => {
    expect(codeOf(() => encodeComment(text))).toBe('ERR_SSE_COMMENT');
  });

  test('WIRE-23 the heartbeat, the checkpoint, the reset and the goodbye', () => {
    expect(HEARTBEAT).toBe(':\n');
    expect(checkpointEvent('a-1')).toBe('id: a-1\nevent: checkpoint\ndata: \n\n');
    expect(resetEvent('a-1', 'lost', 'b-"2\n')).toBe(
      'id: a-1\nevent: reset\ndata: {"reason":"lost","lastEventId":"b-\\"2\\n"}\n\n',
    );
    expect(resetEvent(undefined, 'unknown', '')).toBe('event: reset\ndata: {"reason":"unknown","lastEventId":""}\n\n');
    expect(endEvent()).toBe('id: sse-router:end\nevent: end\ndata: \n\n');
  });
});
