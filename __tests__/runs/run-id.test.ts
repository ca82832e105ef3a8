import {
  END_NUMBER,
  decodeRunId,
  encodeRunId,
  formEventId,
  isRunId,
  newGeneration,
  parseEventId,
} from '../../lib/runs/run-id.ts';
import { Random, seedFrom } from '../fixtures/random.ts';

describe('a run id', () => {
  test.each(['a', 'x'.repeat(256), '€'.repeat(100), 'a b/c?d#e', '~', 'a~b~3', '__proto__', '😀', '%', '...', "it's"])(
    'can be %j',
    (id) => {
      expect(isRunId(id)).toBe(true);
      expect(encodeRunId(id)).toMatch(/^[!-~]{1,900}$/);
      expect(decodeRunId(encodeRunId(id))).toBe(id);
    },
  );

  test.each([
    ['', undefined, null, 7, {}, ['a'], 'x'.repeat(257), '€'.repeat(101)],
    ['a\n', '\0', 'a\u007f', '\u0085', '\ud83d', 'x\udc00', '.', '..'],
  ])('cannot be empty, too long, of another type, or of text that a URL or a header cannot contain', (...values) => {
    for (const value of values) expect([value, isRunId(value)]).toEqual([value, false]);
  });

  test('that is not encoded correctly is no run id', () => {
    for (const text of ['%', '%E2%82', '%00', '%2E%2E', '']) expect(decodeRunId(text)).toBeUndefined();
  });
});

describe('an event id', () => {
  test('of every run id, generation and number is parsed as it was formed, and fits into a header', () => {
    const random = new Random(seedFrom('RUN_ID_SEED'));
    const letters = ['a', '~', '%', '/', 'end', '0', '-', '€', '😀', ' ', '.', '!'];
    for (let round = 0; round < 2000; round++) {
      const id = Array.from({ length: 1 + random.below(40) }, () => random.of(letters)).join('');
      if (!isRunId(id)) continue;
      const position = { id, generation: newGeneration(), n: random.below(3) ? random.below(1e9) : END_NUMBER };
      const text = formEventId(position, position.n);
      expect(text).toMatch(/^[!-~]{1,1024}$/);
      expect(parseEventId(text)).toEqual(position);
    }
  });

  test('has the form <encoded run>~<generation>~<number or end>', () => {
    expect(formEventId({ id: 'a b~c', generation: 'g_1' }, 12)).toBe('a%20b~c~g_1~12');
    expect(formEventId({ id: 'a', generation: 'g' }, END_NUMBER)).toBe('a~g~end');
    expect(parseEventId('a~g~0')).toEqual({ id: 'a', generation: 'g', n: 0 });
  });

  test.each([
    ['', '~', '~~', 'a', 'a~g', 'a~g~', '~g~1', 'a~~1', 'a~g~01', 'a~g~-1', 'a~g~1.5', 'a~g~1e3', 'a~g~end '],
    ['a~g~END', 'a~g h~1', 'a~g~9007199254740993', 'a~g~1\n', '%~g~1', '%61~g~1', 'a b~g~1', '..~g~1', '%00~g~1'],
    ['0-1', 'sse-router:end', 'lx3k-15', `a~${'g'.repeat(33)}~1`, 'x'.repeat(100_000)],
  ])('of any other form is none', (...texts) => {
    for (const text of texts) expect([text, parseEventId(text)]).toEqual([text, undefined]);
  });

  test('of two generations of a run is never the same', () => {
    const names = new Set(Array.from({ length: 10_000 }, newGeneration));
    expect(names.size).toBe(10_000);
    for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{12}$/);
  });
});
