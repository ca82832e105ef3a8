/*
 * Design rule 6, and "the event loop is never blocked for more than 30 ms by one broadcast": a hand-out goes in slices.
 * Knows the room itself, with readers and sockets that take 50 µs each by a clock that only they move.
 */
import { Audiences } from '../lib/audience.ts';
import type { Cursor } from '../lib/cursor.ts';
import { HandOut } from '../lib/hand-out.ts';
import { Range } from '../lib/range.ts';
import { Ring } from '../lib/ring.ts';
import { Counters } from '../lib/stats.ts';
import { turn } from './support.ts';

const READERS = 2000;
const EVENTS = 3;
const WRITE = 0.05;

test.each<[string, (n: number) => string[], number]>([
  ['all in one audience', () => [], 0],
  ['each in a channel of its own', (n) => [`user:${n}`], 0],
  ['of which half want nothing of it, and that takes as long', (n) => [n % 2 === 0 ? `user:${n}` : `not:${n}`], WRITE],
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
    const before = handOut.base;
    const got: number[][] = [];
    for (let n = 0; n < READERS; n++) {
      const mine: number[] = [];
      got.push(mine);
      const write = (_chunk: unknown, from = before, to = before + EVENTS): boolean => {
        now += WRITE;
        for (let at = from + 1; at <= to; at++) mine.push(at);
        return true;
      };
      const reader = {
        phase: 'live',
        own: false,
        shares: true,
        audience: undefined as unknown,
        wants: () => ((now += ms), !channelsOf(n)[0]?.startsWith('not')),
        lineUp: () => (n % 3 === 0 ? undefined : { writable: true, write }), // one in three is not written to with the rest
        deliver: write,
      };
      reader.audience = audiences.move(reader as unknown as Cursor, undefined, channelsOf(n));
    }
    for (let id = 1; id <= EVENTS; id++)
      ring.push({ id: String(id), to: undefined, except: ms ? ['x'] : undefined, body: Buffer.from('data: x\n\n') });
    handOut.grown(27);
    const slices: number[] = [];
    while (handOut.base < ring.head) {
      const start = now;
      await turn();
      slices.push(now - start);
    }
    expect(Math.max(...slices)).toBeLessThan(30);
    expect(slices.length).toBeGreaterThan(5);
    const all = Array.from({ length: EVENTS }, (_event, i) => before + 1 + i);
    expect(got).toEqual(got.map((_mine, n) => (channelsOf(n)[0]?.startsWith('not') ? [] : all)));
  },
);
