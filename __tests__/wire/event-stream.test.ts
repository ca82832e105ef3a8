/*
 * The text of messages, lines and comments, byte for byte, and what is refused.
 * The package is stricter than the standard: `retry: 0` is refused, and an id is printable ASCII, so it contains no NUL.
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

/** Returns the whole frame of a message. */
function frame(message: unknown): string {
  const { id, body } = encodeMessage(message, serializeDefault);
  return id === undefined ? body : `id: ${id}\n${body}`;
}

describe('lines', () => {
  test.each<[name: string, lines: (string | number)[], text: string]>([
    ['one line', ['foo'], 'data: foo\n\n'],
    ['the arguments are the lines of one event', ['foo', 'bar', 'baz'], 'data: foo\ndata: bar\ndata: baz\n\n'],
    ['an empty line is an event with empty data', [''], 'data: \n\n'],
    ['a line that is a line end', ['\n'], 'data: \ndata: \n\n'],
    ['zero', [0], 'data: 0\n\n'],
    ['numbers, as they are written in JavaScript', [1.5, -0, 1e21], 'data: 1.5\ndata: 0\ndata: 1e+21\n\n'],
    ['line breaks inside one of the lines', ['a\r\nb', 'c'], 'data: a\ndata: b\ndata: c\n\n'],
  ])('%s', (_name, lines, text) => {
    expect(encodeLines(lines)).toBe(text);
    expect(lint(text)).toEqual([]);
  });
});

describe('data that is a string', () => {
  test.each<[name: string, data: string, text: string]>([
    ['LF', 'a\nb', 'data: a\ndata: b\n\n'],
    ['CR', 'a\rb', 'data: a\ndata: b\n\n'],
    ['CRLF', 'a\r\nb', 'data: a\ndata: b\n\n'],
    ['LF CR is two', 'a\n\rb', 'data: a\ndata: \ndata: b\n\n'],
    ['CR CR LF is two', 'a\r\r\nb', 'data: a\ndata: \ndata: b\n\n'],
    ['mixed', 'a\nb\rc\r\nd', 'data: a\ndata: b\ndata: c\ndata: d\n\n'],
    ['leading', '\r\na', 'data: \ndata: a\n\n'],
    ['consecutive', 'a\n\nb', 'data: a\ndata: \ndata: b\n\n'],
    ['one trailing line break is kept', 'a\n', 'data: a\ndata: \n\n'],
    ['two trailing line breaks are kept', 'a\n\n', 'data: a\ndata: \ndata: \n\n'],
    ['an empty string', '', 'data: \n\n'],
    ['a leading space', ' x', 'data:  x\n\n'],
    ['two leading spaces', '  x', 'data:   x\n\n'],
    ['a colon', ':x', 'data: :x\n\n'],
    ['what looks like data', 'data: x', 'data: data: x\n\n'],
    ['what looks like an id', 'id: 9', 'data: id: 9\n\n'],
    ['what looks like a retry', 'retry: 1', 'data: retry: 1\n\n'],
    ['what looks like a field, on a line of its own', 'x\nretry: 1', 'data: x\ndata: retry: 1\n\n'],
    ['other line breaks of Unicode are text', 'a\u2028b\u0085c\vd\fe\u2029', 'data: a\u2028b\u0085c\vd\fe\u2029\n\n'],
    ['a NUL', 'a\0b', 'data: a\0b\n\n'],
    ['a byte order mark', '\uFEFFx', 'data: \uFEFFx\n\n'],
    ['a bare CR: CVE-2026-43968', 'legit\revent: evil', 'data: legit\ndata: event: evil\n\n'],
    ['two bare CRs: GHSA-4hxc-9384-m385', 'first\r\rdata: injected', 'data: first\ndata: \ndata: data: injected\n\n'],
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
      'all fields, in the order id, event, retry, data',
      { data: 'a\nb', retry: 5000, event: 'tick', id: '7' },
      'id: 7\nevent: tick\nretry: 5000\ndata: a\ndata: b\n\n',
    ],
    ['an empty event name is left out', { event: '', data: 'x' }, 'data: x\n\n'],
    ['an event name of null is left out', { event: null, data: 'x' }, 'data: x\n\n'],
    ['an event name of undefined is left out', { event: undefined, data: 'x' }, 'data: x\n\n'],
    ['a name with a colon', { event: 'a:b', data: 'x' }, 'event: a:b\ndata: x\n\n'],
    ['a name with spaces', { event: ' a  b ', data: 'x' }, 'event:  a  b \ndata: x\n\n'],
    ['a name that is not ASCII', { event: 'größe✓', data: 'x' }, 'event: größe✓\ndata: x\n\n'],
    ['an empty id is sent', { id: '', data: 'x' }, 'id: \ndata: x\n\n'],
    ['an id of null is left out', { id: null, data: 'x' }, 'data: x\n\n'],
    ['an id of zero', { id: 0, data: 'x' }, 'id: 0\ndata: x\n\n'],
    ['an id with inner spaces', { id: 'a b', data: 'x' }, 'id: a b\ndata: x\n\n'],
    ['the longest id', { id: 'x'.repeat(1024), data: '' }, `id: ${'x'.repeat(1024)}\ndata: \n\n`],
    ['empty data', { data: '' }, 'data: \n\n'],
    ['data that is zero', { data: 0 }, 'data: 0\n\n'],
    ['data that is false', { data: false }, 'data: false\n\n'],
    ['the shortest retry', { data: 'x', retry: 1 }, 'retry: 1\ndata: x\n\n'],
    ['the longest retry', { data: 'x', retry: 2147483647 }, 'retry: 2147483647\ndata: x\n\n'],
    ['an event name alone has empty data', { event: 'x' }, 'event: x\ndata: \n\n'],
    ['a retry alone is a line, and no event', { retry: 5000 }, 'retry: 5000\n'],
    ['null', { data: null }, 'data: null\n\n'],
    ['NaN', { data: NaN }, 'data: null\n\n'],
    ['a date', { data: new Date(0) }, 'data: "1970-01-01T00:00:00.000Z"\n\n'],
    ['a map', { data: new Map([[1, 2]]) }, 'data: {}\n\n'],
    ['a buffer', { data: Buffer.from('a') }, 'data: {"type":"Buffer","data":[97]}\n\n'],
    ['an array', { data: ['a', 1] }, 'data: ["a",1]\n\n'],
    ['line ends inside JSON are escaped by JSON', { data: { a: '\r\n' } }, 'data: {"a":"\\r\\n"}\n\n'],
  ])('%s', (_name, message, text) => {
    expect(frame(message)).toBe(text);
    expect(lint(text)).toEqual([]);
  });

  test('only own properties are read', () => {
    expect(frame(Object.assign(Object.create({ event: 'inherited', retry: 7 }), { data: 'x' }))).toBe('data: x\n\n');
  });

  test('each property is read once', () => {
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

  test('serialize turns data into text, and its errors are thrown unchanged', () => {
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

describe('a message that is refused, with a code', () => {
  test.each<[name: string, message: unknown, code: string]>([
    ['undefined', undefined, 'ERR_SSE_MESSAGE'],
    ['a function', () => 1, 'ERR_SSE_MESSAGE'],
    ['a symbol', Symbol('s'), 'ERR_SSE_MESSAGE'],
    ['null', null, 'ERR_SSE_MESSAGE'],
    ['a number', 1, 'ERR_SSE_MESSAGE'],
    ['an empty object', {}, 'ERR_SSE_MESSAGE'],
    ['an empty list', [], 'ERR_SSE_MESSAGE'],
    ['a map', new Map([['data', 'x']]), 'ERR_SSE_MESSAGE'],
    ['a field that no message has', { foo: 1 }, 'ERR_SSE_FIELD'],
    ['a field whose name starts with a known one', { eventName: 'x', data: 'y' }, 'ERR_SSE_FIELD'],
    ['a field that a polyfill obeys', { heartbeatTimeout: 1, data: 'x' }, 'ERR_SSE_FIELD'],
    ['a list', ['a'], 'ERR_SSE_FIELD'],
    ['data: undefined', { data: undefined }, 'ERR_SSE_DATA'],
    ['data: undefined beside a name', { event: 'x', data: undefined }, 'ERR_SSE_DATA'],
    ['data that is a function', { data: () => 1 }, 'ERR_SSE_DATA'],
    ['data that is a symbol', { data: Symbol('s') }, 'ERR_SSE_DATA'],
    ['data that is a bigint', { data: 1n }, 'ERR_SSE_DATA'],
    ['data with a bigint in it', { data: { n: 1n } }, 'ERR_SSE_DATA'],
    ['circular data', { data: circular }, 'ERR_SSE_DATA'],
    ['data whose toJSON returns undefined', { data: { toJSON: () => undefined } }, 'ERR_SSE_DATA'],
    ['an id alone', { id: '7' }, 'ERR_SSE_ID'],
    ['an id with only a retry', { id: '7', retry: 5 }, 'ERR_SSE_ID'],
  ])('%s', (_name, message, code) => {
    expect(codeOf(() => frame(message))).toBe(code);
  });

  test.each([
    ['LF', 'a\nb'],
    ['CR', 'a\rb'],
    ['CRLF', 'a\r\nb'],
    ['NUL', 'a\0b'],
    ['error', 'error'],
    ['open', 'open'],
    ['end', 'end'],
    ['reset', 'reset'],
    ['checkpoint', 'checkpoint'],
    ['a number', 1],
    ['a boolean', false],
    ['a list', ['a']],
    ['a String', Object('a')],
    ['an object with toString', { toString: () => 'a' }],
  ])('an event name: %s', (_name, event) => {
    expect(codeOf(() => frame({ event, data: 'x' }))).toBe('ERR_SSE_EVENT');
  });

  test.each(['error', 'open', 'end', 'reset', 'checkpoint'])('the event name %s only with control events', (event) => {
    const { body } = encodeMessage({ event, data: 'x' }, serializeDefault, false);
    expect(body).toBe(`event: ${event}\ndata: x\n\n`);
    expect(() => encodeMessage({ event }, serializeDefault)).toThrow(/received the string ".*controlEvents: false/);
  });

  test.each(['a\nb', 'a\rb', 'a\0b', 1])('the event name %j without control events as well', (event) => {
    expect(codeOf(() => encodeMessage({ event }, serializeDefault, false))).toBe('ERR_SSE_EVENT');
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
    ['a list', ['1']],
    ['a String', Object('1')],
    ['the id of the end event', 'sse-router:end'],
  ])('an id: %s', (_name, id) => {
    expect(codeOf(() => frame({ id, data: 'x' }))).toBe('ERR_SSE_ID');
  });

  test.each([
    ['zero', 0],
    ['negative', -1],
    ['a fraction', 1.5],
    ['NaN', NaN],
    ['Infinity', Infinity],
    ['2^31', 2 ** 31],
    ['2^32', 2 ** 32],
    ['a bigint', 1n],
    ['null', null],
    ['a string', '5'],
    ['an exponent', '1e3'],
    ['a number followed by a letter', '10x'],
    ['a number after a space', ' 5'],
    ['a forged field: CVE-2026-29085', '5\ndata: forged'],
  ])('a retry: %s', (_name, retry) => {
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
  ])('a line: %s', (_name, line, code) => {
    expect(codeOf(() => encodeLines([line as string]))).toBe(code);
    expect(codeOf(() => encodeLines(['fine', line as string]))).toBe(code);
  });

  test('the error of a toJSON reaches the caller', () => {
    const own = new RangeError('mine');
    expect(() => frame({ data: { toJSON: () => fail(own) } })).toThrow(own);
    const type = new TypeError('mine'); // looks like an error of JSON.stringify, so it becomes the cause of an error with a code
    expect(() => frame({ data: { toJSON: () => fail(type) } })).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_DATA', cause: type }),
    );
  });

  test('the error of a getter reaches the caller', () => {
    const own = new RangeError('mine');
    const message = Object.defineProperty({ event: 'x' }, 'data', { enumerable: true, get: () => fail(own) });
    expect(() => frame(message)).toThrow(own);
  });

  test('the message contains the expectation, the value, shortened to 60 characters, and the cure', () => {
    expect(() => frame({ foo: 1 })).toThrow(
      'A field of a message must be event, id, data or retry; received the string "foo".',
    );
    expect(() => frame({ foo: 1 })).toThrow('wrap it: { data: … }');
    expect(() => frame({})).toThrow('wrap it: { data: … }');
    expect(() => frame({ event: 'error', data: '' })).toThrow("the page's onerror handler");
    expect(() => frame({ retry: 0 })).toThrow(
      'retry must be an integer from 1 to 2147483647 (milliseconds); received the number 0.',
    );
    const long = () => frame({ id: 's'.repeat(5000), data: '' });
    expect(long).toThrow('s'.repeat(60));
    expect(long).not.toThrow('s'.repeat(61));
  });
});

describe('comments and the router’s own events', () => {
  test.each<[name: string, text: string | undefined, bytes: string]>([
    ['no text', undefined, ':\n'],
    ['an empty string', '', ':\n'],
    ['one line', 'hi', ': hi\n'],
    ['LF', 'a\nb', ': a\n: b\n'],
    ['CR: CVE-2026-33128', 'x\rdata: injected', ': x\n: data: injected\n'],
    ['CRLF', 'a\r\nb', ': a\n: b\n'],
    ['blank lines', 'a\n\n\n', ': a\n: \n: \n: \n'],
  ])('a comment has no blank line after it: %s', (_name, text, bytes) => {
    expect(encodeComment(text)).toBe(bytes);
    expect(lint(bytes)).toEqual([]);
  });

  test.each([null, 0, {}, ['a']])('a comment must be a string, not %p', (text) => {
    expect(codeOf(() => encodeComment(text))).toBe('ERR_SSE_COMMENT');
  });

  test('the heartbeat, the checkpoint, the reset and the end event', () => {
    expect(HEARTBEAT).toBe(':\n');
    expect(checkpointEvent('a-1')).toBe('id: a-1\nevent: checkpoint\ndata: \n\n');
    expect(resetEvent('a-1', 'lost', 'b-"2\n')).toBe(
      'id: a-1\nevent: reset\ndata: {"reason":"lost","lastEventId":"b-\\"2\\n"}\n\n',
    );
    expect(resetEvent(undefined, 'unknown', '')).toBe('event: reset\ndata: {"reason":"unknown","lastEventId":""}\n\n');
    expect(endEvent()).toBe('id: sse-router:end\nevent: end\ndata: \n\n');
  });
});
