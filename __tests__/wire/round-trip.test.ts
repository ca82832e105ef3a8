/*
 * Every message is either read back unchanged, or `push` throws and writes nothing. Checked with 10,000 random messages over an
 * alphabet of everything that is special in the grammar, and with parsers that share no code.
 * The seed is printed: `WIRE_SEED=… npx jest round-trip` repeats a run.
 */
import { EventSource } from 'eventsource';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { sse, type Message } from '../../lib/index.ts';
import { encodeMessage, encodeComment, encodeLines, serializeDefault } from '../../lib/wire/event-stream.ts';
import { lint, oracle, type OracleEvent } from './oracle.ts';
import { seedFrom } from '../fixtures/random.ts';
import { appOf, BARE, HEAD, later, listening, opened } from '../fixtures/support.ts';

const SEED = seedFrom('WIRE_SEED');
const RUNS = 10_000;

const nasty = fc.constantFrom(
  ...Array.from('\r\n: \0\u2028\u2029\u0085\v\f\ufeffé€💥adeirtvn019-'),
  '\ud83d',
  '\ude00',
  '\r\n',
  'data',
  'event: x',
  'id: 1',
  'retry: 1',
);
const text = fc.array(nasty, { maxLength: 12 }).map((parts) => parts.join(''));
const tame = fc.array(fc.constantFrom(...Array.from('ab:é €9')), { maxLength: 8 }).map((parts) => parts.join(''));
const asciiId = fc.array(fc.constantFrom(...Array.from('az09-: ~!')), { maxLength: 8 }).map((parts) => parts.join(''));

/** Generates mostly valid values, sometimes invalid ones, and often none. */
const maybe = (good: fc.Arbitrary<unknown>, bad: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof(
    { weight: 8, arbitrary: good },
    { weight: 1, arbitrary: bad },
    { weight: 6, arbitrary: fc.constant(undefined) },
  );
const message = fc
  .record({
    event: maybe(
      fc.oneof(tame, fc.constant(null)),
      fc.oneof(text, fc.constantFrom('error', 'open', 1, ['a'], Object('a'))),
    ),
    id: maybe(
      fc.oneof(asciiId, fc.nat(), fc.constant(null)),
      fc.oneof(text, fc.constantFrom(NaN, -0, true, ['1'], 1n, Object('1'))),
    ),
    retry: maybe(
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      fc.constantFrom(0, -1, 1.5, NaN, '5', 2 ** 31, '1\ndata: x', 1n),
    ),
    data: maybe(
      fc.oneof(text, text, text, fc.jsonValue()),
      fc.constantFrom(Symbol('s'), 1n, () => 1),
    ),
    more: maybe(fc.constant(undefined), fc.constant('x')),
  })
  .map((fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)));

/** [spec] Returns a text as UTF-8 and the grammar transmit it: half of a surrogate pair becomes U+FFFD, every line break an LF. */
function asReceived(data: unknown): string {
  const sent = typeof data === 'string' ? data : JSON.stringify(data);
  return Buffer.from(sent)
    .toString()
    .replace(/\r\n|\r/g, '\n');
}

interface Pushed {
  event?: string | null;
  id?: string | number | null;
  retry?: number;
  data?: unknown;
}

/** Returns the event that a client receives for an accepted message; `undefined` if it is only a retry. */
function expected({ event, id, data, retry }: Pushed, lastEventId: string): OracleEvent | undefined {
  if (data === undefined && (event === undefined || event === null) && retry !== undefined) return undefined;
  return {
    type: event === undefined || event === null || event === '' ? 'message' : Buffer.from(event).toString(),
    data: data === undefined ? '' : asReceived(data),
    lastEventId: id === undefined || id === null ? lastEventId : String(id),
  };
}

/** Parses a stream with eventsource-parser. */
function parsed(stream: string): OracleEvent[] {
  const events: OracleEvent[] = [];
  let lastEventId = '';
  const parser = createParser({
    onEvent: ({ event, data, id }) => {
      lastEventId = id ?? lastEventId;
      events.push({ type: event ?? 'message', data, lastEventId });
    },
  });
  parser.feed(stream);
  return events;
}

function frameOf(pushed: Pushed): string | undefined {
  try {
    const { id, body } = encodeMessage(pushed, serializeDefault);
    return id === undefined ? body : `id: ${id}\n${body}`;
  } catch (error) {
    expect(error).toMatchObject({ name: 'TypeError', code: expect.stringMatching(/^ERR_SSE_/) });
    return undefined;
  }
}

test(`a message is read back unchanged, or refused: ${RUNS} random messages`, () => {
  let accepted = 0;
  fc.assert(
    fc.property(message, (random) => {
      const frame = frameOf(random as Pushed);
      if (frame === undefined) return;
      accepted++;
      const wire = Buffer.from(frame).toString(); // as UTF-8
      const event = expected(random as Pushed, '');
      expect(oracle(wire)).toEqual({ events: event ? [event] : [], retries: 'retry' in random ? [random.retry] : [] });
      expect(parsed(wire)).toEqual(event ? [event] : []);
      expect(lint(frame)).toEqual([]);
    }),
    { seed: SEED, numRuns: RUNS },
  );
  // If one outcome were rare, this test would prove nothing.
  expect(accepted).toBeGreaterThan(RUNS / 10);
  expect(accepted).toBeLessThan(RUNS * 0.9);
});

test('lines are one event, and a comment is none', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(text, fc.integer()), { minLength: 1, maxLength: 4 }), text, (lines, comment) => {
      const whole = lines.map((line) => asReceived(String(line))).join('\n'); // a CR at the end of a line is a line break of its own
      const wire = Buffer.from(encodeComment(comment) + encodeLines(lines)).toString();
      expect(lint(wire)).toEqual([]);
      expect(oracle(wire).events).toEqual([{ type: 'message', data: whole, lastEventId: '' }]);
      expect(parsed(wire)).toEqual([{ type: 'message', data: whole, lastEventId: '' }]);
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('the same messages through one real stream: a refused message changes nothing', async () => {
  const random = fc.sample(message, { seed: SEED, numRuns: RUNS }) as Pushed[];
  const { stream, conn } = await opened(() => {}, BARE);
  const events: OracleEvent[] = [];
  let refused = 0;
  let lastEventId = '';
  for (const one of random) {
    try {
      conn.push(one as Message);
    } catch {
      refused++;
      continue;
    }
    const event = expected(one, lastEventId);
    if (event) events.push(event);
    lastEventId = event?.lastEventId ?? lastEventId;
  }
  conn.push({ event: 'the end', data: refused });
  await stream.until(
    () => stream.text.includes('event: the end\n') && stream.events.at(-1)?.event === 'the end',
    15_000,
  );
  expect(stream.text.startsWith(HEAD)).toBe(true);
  expect(lint(stream.text)).toEqual([]);
  expect(oracle(stream.text).events.slice(0, -1)).toEqual(events);
  expect(
    stream.events
      .slice(0, -1)
      .map(({ event, data, lastEventId: last }) => ({ type: event, data: data as string, lastEventId: last })),
  ).toEqual(events);
});

test('thousands of messages through the client `eventsource`', async () => {
  const random = (fc.sample(message, { seed: SEED, numRuns: RUNS }) as Pushed[]).map((one) => ({
    ...one,
    event: null,
  })); // each name would need a listener of its own
  const sent: OracleEvent[] = [];
  const events = sse((conn) => {
    for (const one of random) {
      try {
        conn.push(one as unknown as Message);
      } catch {
        continue;
      }
      const event = expected(one, ''); // the client reports the id of the event itself
      if (event) sent.push(event);
    }
    conn.push({ event: 'done' });
  }, BARE);
  later(() => events.close());
  const { url } = await listening(appOf(events));
  const source = new EventSource(url);
  later(() => source.close());
  const got: OracleEvent[] = [];
  source.addEventListener('message', ({ data, lastEventId }) =>
    got.push({ type: 'message', data: data as string, lastEventId }),
  );
  await new Promise((resolve) => source.addEventListener('done', resolve));
  expect(sent.length).toBeGreaterThan(1000);
  expect(got).toEqual(sent);
});
