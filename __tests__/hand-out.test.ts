/*
 * Design rule 6, and "the event loop is never blocked for more than 30 ms by one broadcast": a hand-out goes in slices.
 * Knows the room itself, with readers that take a millisecond each by a clock that only they move.
 */
import { Audiences } from '../lib/audience.ts';
import type { Cursor } from '../lib/cursor.ts';
import { HandOut } from '../lib/hand-out.ts';
import { Range } from '../lib/range.ts';
import { Ring } from '../lib/ring.ts';
import { Counters } from '../lib/stats.ts';
import { turn } from './support.ts';

const READERS = 200;
const EVENTS = 3;

test.each<[string, (n: number) => string[], number]>([
  ['all in one audience', () => [], 0],
  ['each in a channel of its own', (n) => [`user:${n}`], 0],
  ['of which half want nothing of it, and that takes as long', (n) => [n % 2 === 0 ? `user:${n}` : `not:${n}`], 1],
])(
  '%s: no slice holds the event loop for long, and everybody gets everything once and in order',
  async (_, channelsOf, ms) => {
    let now = 0;
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    const ring = new Ring({ entries: 100, bytes: 1e6 }, (a, b) => Number(a) - Number(b));
    const audiences = new Audiences<Cursor>();
    const range = new Range(ring, true);
    const handOut = new HandOut(ring, range, audiences, {
      startTurn: () => now,
      counters: new Counters(),
      handedOut: () => {},
    });
    const got: number[][] = [];
    for (let n = 0; n < READERS; n++) {
      const mine: number[] = [];
      got.push(mine);
      const reader = {
        phase: 'live',
        own: false,
        shares: true,
        audience: undefined as unknown,
        wants: () => ((now += ms), !channelsOf(n)[0]?.startsWith('not')),
        deliver: (_packet: unknown, from: number, to: number) => {
          now += 1;
          for (let at = from + 1; at <= to; at++) mine.push(at);
          return true;
        },
      };
      reader.audience = audiences.move(reader as unknown as Cursor, undefined, channelsOf(n));
    }
    const before = handOut.base;
    for (let id = 1; id <= EVENTS; id++)
      ring.push({ id: String(id), to: undefined, except: ms ? ['x'] : undefined, body: Buffer.from('data: x\n\n') });
    handOut.grown(27);
    const slices: number[] = [];
    while (handOut.base < ring.head) {
      const start = now;
      await turn();
      slices.push(now - start);
    }
    expect(Math.max(...slices)).toBeLessThan(30 + 16 * (1 + EVENTS * ms));
    expect(slices.length).toBeGreaterThan(5);
    const all = Array.from({ length: EVENTS }, (_event, i) => before + 1 + i);
    expect(got).toEqual(got.map((_mine, n) => (channelsOf(n)[0]?.startsWith('not') ? [] : all)));
  },
);
