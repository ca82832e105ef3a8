/*
 * The judge of the chaos scenarios, judged: what a failover took from the log may come again behind a reset, and nothing else may.
 * Knows notes as a client writes them.
 */
import type { Client, Stretch } from './client.ts';
import { judge } from './verdict.ts';

/** `2-0` and `10-0` were lost; before and after them is what the log has. */
const LOG = ['1-0', '11-0', '12-0'].map((id): [string, string, null] => [id, `data of ${id}`, null]);
const BEGINNING: Stretch = { ids: ['2-0', '10-0'], marks: [[0, '1-0']] };
const LAST = ['11-0', '12-0'];
const diverged = (mine: string, position: string, ids: string[]): Stretch => ({
  reset: { reason: 'diverged', lastEventId: mine, mine },
  ids,
  marks: [[0, position]],
});

function duplicates(...stretches: Stretch[]): number {
  const client = { room: 'room0', stretches } as unknown as Client;
  return judge([client], LOG, new Map(), new Map()).verdict.duplicates;
}

test.each<[string, number, Stretch[]]>([
  ['told once', 0, [BEGINNING, diverged('10-0', '1-0', LAST)]],
  [
    'told, sent the lost again by a server that has not noticed yet, and told there as well',
    0,
    [BEGINNING, diverged('10-0', '1-0', ['2-0', '10-0']), diverged('10-0', '1-0', LAST)],
  ],
  ['the lost again without a reset', 2, [{ ...BEGINNING, ids: ['2-0', '10-0', '2-0', '10-0'] }]],
  ['the lost again, twice, after one reset', 1, [BEGINNING, diverged('10-0', '1-0', ['2-0', '2-0'])]],
  [
    'the lost again, from before the place that it was moved to',
    1,
    [BEGINNING, diverged('10-0', '9-0', ['2-0', '10-0'])],
  ],
  ['what the log has, again, after a reset', 2, [{ ...BEGINNING, ids: LAST }, diverged('12-0', '1-0', LAST)]],
])('%s: %i duplicates', (_, expected, stretches) => {
  expect(duplicates(...stretches)).toBe(expected);
});
