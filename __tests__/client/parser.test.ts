/*
 * The client's parser: by the standard in whatever pieces the text arrives, and the control events of the router.
 */
import fc from 'fast-check';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { makeParser } from '../../lib/client/parser.ts';
import type { Frame } from '../../lib/client/source.ts';
import { seedFrom } from '../fixtures/random.ts';

function parsed(texts: readonly string[], position = '') {
  const hints: (number | undefined)[] = [];
  const parse = makeParser(position, (hint) => hints.push(hint));
  return { frames: texts.flatMap((text): Frame[] => parse(text)), hints };
}

const shown = (frames: readonly Frame[]) =>
  frames.filter(({ event }) => event).map(({ event, data, id }) => [event, data, id]);

test.each([
  ['a message', 'data: a\n\n', [['message', 'a', '']]],
  ['several lines', 'data: a\ndata\ndata:  b\n\n', [['message', 'a\n\n b', '']]],
  ['a name and an id', 'event: x\nid: 1\ndata: a\n\n', [['x', 'a', '1']]],
  [
    'an id that stays',
    'id: 1\ndata: a\n\ndata: b\n\n',
    [
      ['message', 'a', '1'],
      ['message', 'b', '1'],
    ],
  ],
  [
    'an empty id',
    'id: 1\ndata: a\n\nid\ndata: b\n\n',
    [
      ['message', 'a', '1'],
      ['message', 'b', ''],
    ],
  ],
  [
    'an id with NUL',
    'id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n',
    [
      ['message', 'a', '1'],
      ['message', 'b', '1'],
    ],
  ],
  ['no data', 'event: x\n\ndata: a\n\n', [['message', 'a', '']]],
  ['empty data', 'data\n\n', [['message', '', '']]],
  ['CR', 'data: a\rdata: b\r\r', [['message', 'a\nb', '']]],
  ['CR LF', 'data: a\r\ndata: b\r\n\r\n', [['message', 'a\nb', '']]],
  ['other separators, which end no line', 'data: a\u2028b\u0085c\vd\n\n', [['message', 'a\u2028b\u0085c\vd', '']]],
  ['colons', 'data:a:b: c\n\n', [['message', 'a:b: c', '']]],
  ['unknown fields', 'datax: a\n__proto__: b\ndata: c\n\n', [['message', 'c', '']]],
  ['what is cut off', 'data: a\n\ndata: b\n', [['message', 'a', '']]],
])('reads %s, in one piece and in characters', (_what, text, expected) => {
  expect(shown(parsed([text]).frames)).toEqual(expected);
  expect(shown(parsed(text.split('')).frames)).toEqual(expected);
  expect(shown(parsed(text.split('').flatMap((char) => ['', char, ''])).frames)).toEqual(expected);
});

test('retry and comments are hints, at once', () => {
  expect(parsed([': c\nretry: 50\nretry: 5x\nretry: -1\nretry:\n:\n']).hints).toEqual([undefined, 50, undefined]);
});

test('a block that only sets the id moves the position, and shows nothing', () => {
  expect(parsed(['id: 7\n\n', 'id: 7\n\n']).frames).toEqual([{ event: '', data: '', id: '7', isEnd: false }]);
});

describe('control events', () => {
  const read = (text: string, position?: string) =>
    parsed([text], position).frames.map(({ event, data, id, isEnd }) => [event, data, id, isEnd]);

  test('a checkpoint has an id and empty data', () => {
    expect(read('event: checkpoint\nid: 3\ndata\n\n')).toEqual([['', '', '3', false]]);
    expect(read('event: checkpoint\ndata\n\n', '3')).toEqual([['checkpoint', '', '3', false]]);
    expect(read('event: checkpoint\nid: 3\ndata: x\n\n')).toEqual([['checkpoint', 'x', '3', false]]);
  });

  test('an end has the id of an end, is the last event, and leaves the position', () => {
    expect(read('event: end\nid: sse-router:end\ndata\n\ndata: x\n\n', '3')).toEqual([['end', '', '3', true]]);
    expect(read('event: end\nid: 12~end\ndata: done\n\n', '11')).toEqual([['end', 'done', '11', true]]);
    expect(read('event: end\nid: 12\ndata: done\n\n')).toEqual([['end', 'done', '12', false]]);
    expect(read('event: end\ndata: done\n\n', '12~end')).toEqual([['end', 'done', '12~end', false]]);
    expect(read('event: x\nid: sse-router:end\ndata\n\n')).toEqual([['x', '', 'sse-router:end', false]]);
  });
});

test('agrees with eventsource-parser on random streams in random pieces', () => {
  const piece = fc.constantFrom(
    'data',
    'event',
    'id',
    'x',
    ':',
    ': ',
    ' ',
    'a',
    'é',
    '\n',
    '\n',
    '\n\n',
    '\r',
    '\r\n',
    '1',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (pieces, size) => {
      const text = pieces.join('');
      const theirs: EventSourceMessage[] = [];
      const parser = createParser({ onEvent: (event) => theirs.push(event) });
      // It holds a CR back until the next character comes.
      parser.feed(`${text}\n`);
      const cut = Array.from({ length: Math.ceil(text.length / size) }, (_, n) => text.slice(n * size, (n + 1) * size));
      const ours = parsed([...cut, '\n']).frames.filter(({ event }) => event);
      expect(ours.map(({ event, data }) => [event, data])).toEqual(
        theirs.map(({ event, data }) => [event ?? 'message', data]),
      );
    }),
    { numRuns: 2000, seed: seedFrom('PARSER_SEED') },
  );
});

test('a line of 5 MB in small pieces costs one search', () => {
  const piece = 'x'.repeat(1024);
  const begun = performance.now();
  const { frames } = parsed(['data: ', ...Array.from({ length: 5000 }, () => piece), '\n\n']);
  expect(frames[0]!.data.length).toBe(5000 * 1024);
  expect(performance.now() - begun).toBeLessThan(1000);
});
