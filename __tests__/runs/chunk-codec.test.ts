import type { Wire } from '../../lib/runs/api.ts';
import { chunkOf, encodeChunk, frameOf } from '../../lib/runs/chunk-codec.ts';
import { events, openai, uiMessages } from '../../lib/runs/wires.ts';
import { Random, seedFrom } from '../fixtures/random.ts';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** Returns the event of a chunk, the chunk that is read back, and how many bytes are stored in addition to the event. */
function coded<C>(chunk: C, wire: Wire<C> = events<C>()): { frame: string; chunk: unknown; extra: number } {
  const stored = encodeChunk(wire, chunk);
  const frame = frameOf(stored);
  return { frame: text(frame), chunk: chunkOf(stored), extra: stored.byteLength - frame.byteLength };
}

test.each([
  [
    'an object',
    { a: 1, b: ['ä€😀', null, { c: 'x\ny\r\nz' }] },
    'data: {"a":1,"b":["ä€😀",null,{"c":"x\\ny\\r\\nz"}]}\n\n',
  ],
  ['a string', 'token', 'data: token\n\n'],
  ['a string that looks like JSON', '{"a":1}', 'data: {"a":1}\n\n'],
  ['a string of several lines', 'a\n\nb\n', 'data: a\ndata: \ndata: b\ndata: \n\n'],
  ['an empty string', '', 'data: \n\n'],
  ['null', null, 'data: null\n\n'],
  ['a number', 1.5, 'data: 1.5\n\n'],
  ['an array', [1, 'x'], 'data: [1,"x"]\n\n'],
  ['a message', { event: 'token', data: { t: 'x' } }, 'event: token\ndata: {"t":"x"}\n\n'],
  ['a message whose data is a string', { event: 'token', data: 'a\nb' }, 'event: token\ndata: a\ndata: b\n\n'],
  ['a message in another order', { data: [1], event: 'token' }, 'event: token\ndata: [1]\n\n'],
])('the event of %s is stored once, with one byte more, and the chunk is read from it', (_, chunk, frame) => {
  expect(coded(chunk)).toEqual({ frame, chunk, extra: 1 });
});

test.each([
  ['a string with a CR', 'a\rb\r\nc', 'data: a\ndata: b\ndata: c\n\n'],
  ['a string with half a character', 'a\ud83d', 'data: a\ufffd\n\n'],
  ['a message whose data has half a character', { event: 'x', data: '\ude00' }, 'event: x\ndata: \ufffd\n\n'],
  ['a message whose name has half a character', { event: '\ud83d', data: 'y' }, 'event: \ufffd\ndata: y\n\n'],
  ['a message without a name', { data: { t: 1 } }, 'data: {"t":1}\n\n'],
  ['a message with a delay', { event: 'x', data: 1, retry: 5 }, 'event: x\nretry: 5\ndata: 1\n\n'],
  ['a message with an empty name', { event: '', data: 1 }, 'data: 1\n\n'],
])('of %s, the event and the chunk are stored', (_, chunk, frame) => {
  expect(coded(chunk)).toEqual({ frame, chunk, extra: 1 + 4 + JSON.stringify(chunk).length });
});

test('a chunk is read as its JSON was, whatever the wire makes of it', () => {
  const wire: Wire<{ at: Date; n?: number }> = {
    control: true,
    message: ({ at }) => ({ event: 'at', data: at.getTime() }),
  };
  expect(coded({ at: new Date(5), n: undefined }, wire)).toMatchObject({
    frame: 'event: at\ndata: 5\n\n',
    chunk: { at: '1970-01-01T00:00:00.005Z' },
  });
  const sent = { event: 'x', data: 'y', toJSON: () => ({ z: 1 }) };
  expect(coded(sent, events()).chunk).toEqual({ z: 1 });
});

test('random chunks are read back on each wire', () => {
  const random = new Random(seedFrom('CHUNK_SEED'));
  const value = (depth: number): unknown => {
    const kind = random.below(depth > 3 ? 5 : 8);
    if (kind < 2)
      return Array.from({ length: random.below(8) }, () =>
        random.of(['a', '\n', '\r', '"', 'data: ', '€', ':', ' ']),
      ).join('');
    if (kind === 2) return random.below(1000) / 7;
    if (kind === 3) return null;
    if (kind === 4) return random.below(2) === 0;
    if (kind === 5) return Array.from({ length: random.below(4) }, () => value(depth + 1));
    if (kind === 6) return { event: `e${random.below(3)}`, data: value(depth + 1) };
    return Object.fromEntries(Array.from({ length: random.below(4) }, (_, n) => [`k${n}`, value(depth + 1)]));
  };
  for (let round = 0; round < 3000; round++) {
    const chunk = value(0);
    for (const wire of [events(), uiMessages(), openai()]) {
      const stored = encodeChunk(wire, chunk);
      expect(chunkOf(stored)).toEqual(chunk);
      expect(chunkOf(Uint8Array.from(stored))).toEqual(chunk); // as a store returns it: no Buffer
      expect(text(frameOf(stored))).toMatch(/^(?:event: e\d\n)?(?:data: [^\r\n]*\n)+\n$/);
    }
  }
});

test('a wire without ids of the router may have its own', () => {
  const wire: Wire<number> = { control: false, message: (n) => ({ id: n, event: 'end', data: n }) };
  expect(coded(7, wire).frame).toBe('id: 7\nevent: end\ndata: 7\n\n');
});

test('a chunk is serialized once', () => {
  let calls = 0;
  const chunk = {
    toJSON: () => {
      calls++;
      return 'x';
    },
  };
  encodeChunk(events(), chunk);
  expect(calls).toBe(1);
});
