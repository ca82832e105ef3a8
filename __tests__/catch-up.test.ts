/*
 * A herd behind the ring, all of it at the same id: it is served in slices, and who leaves in a pause is left alone.
 * Knows the room itself, with readers that take a millisecond each by a clock that only they move. (The model knows the rest.)
 */
import { CatchUp } from '../lib/catch-up.ts';
import type { House } from '../lib/home.ts';
import type { Entry, Journal } from '../lib/journal.ts';
import type { Reader } from '../lib/reader.ts';
import { turn } from './support.ts';

const READERS = 100;
const LOG: Entry[] = ['1', '2', '3'].map((id) => ({ id, body: Buffer.from(`data: ${id}\n\n`) }));

test('no slice holds the event loop for long; each gets everything once, unless it leaves meanwhile', async () => {
  let now = 0;
  jest.spyOn(performance, 'now').mockImplementation(() => now);
  const journal = {
    compare: (a: string, b: string) => Number(a) - Number(b),
    read: (after: string) => Promise.resolve({ ok: true, entries: LOG.filter(({ id }) => Number(id) > Number(after)) }),
  } as unknown as Journal;
  // The ring begins where the log ends.
  const ring = { headId: '3', find: (id: string) => (id === '3' ? 3 : undefined) };
  const catchUp = new CatchUp({ ring, journal, now, due: () => {} } as unknown as House);
  const got = new Map<Reader, string[]>();
  for (let i = 0; i < READERS; i++) {
    const mine: string[] = [];
    const work = (what: string): void => {
      now += 1;
      mine.push(what);
    };
    const reader = { at: '1', shares: true, own: false, blocked: false, wants: () => true } as unknown as Reader;
    Object.assign(reader, {
      verified: () => {},
      carry: (packet: { payload: Buffer }, id: string) => work(`${id}: ${packet.payload.toString()}`),
      proceed: (n: number) => work(`on from ${n}`),
    });
    got.set(reader, mine);
    catchUp.wait(reader);
  }
  const [gone] = [...got.keys()].slice(-1) as [Reader];
  const slices: number[] = [];
  while (catchUp.size > 0) {
    const start = now;
    await turn();
    slices.push(now - start);
    if (slices.length === 3) catchUp.drop(gone);
  }
  expect(Math.max(...slices)).toBeLessThan(30);
  expect(slices.length).toBeGreaterThan(10);
  const all = ['3: id: 2\ndata: 2\n\nid: 3\ndata: 3\n\n', 'on from 3'];
  for (const [reader, mine] of got) expect(mine).toEqual(reader === gone ? [] : all);
});
