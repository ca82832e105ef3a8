/*
 * The comparison of the chaos scenarios: entries that a failover has lost may arrive again after a reset, and no other entries may.
 */
import type { Client, Stretch } from './client.ts';
import { compareWithLog } from './comparison.ts';
import { DISCONNECT, type Logged } from './logged.ts';

/** The log has lost `2-0` and `10-0`. */
const LOG = ['1-0', '11-0', '12-0'].map((id): [string, string, null] => [id, `data of ${id}`, null]);
const BEGINNING: Stretch = { ids: ['2-0', '10-0'], marks: [[0, '1-0']] };
const LAST = ['11-0', '12-0'];
const diverged = (mine: string, position: string, ids: string[]): Stretch => ({
  reset: { reason: 'diverged', lastEventId: mine, mine },
  ids,
  marks: [[0, position]],
});

function duplicates(...stretches: Stretch[]): number {
  const client = { room: 'room0', stretches, admissions: [] } as unknown as Client;
  return compareWithLog([client], LOG, new Map(), new Map()).faults.duplicates;
}

test.each<[string, number, Stretch[]]>([
  ['the lost entries, then a reset', 0, [BEGINNING, diverged('10-0', '1-0', LAST)]],
  [
    'a reset, the lost entries again from a server that has not noticed the loss, and its reset',
    0,
    [BEGINNING, diverged('10-0', '1-0', ['2-0', '10-0']), diverged('10-0', '1-0', LAST)],
  ],
  ['the lost entries again without a reset', 2, [{ ...BEGINNING, ids: ['2-0', '10-0', '2-0', '10-0'] }]],
  ['a lost entry twice after one reset', 1, [BEGINNING, diverged('10-0', '1-0', ['2-0', '2-0'])]],
  ['a lost entry from before the position of the reset', 1, [BEGINNING, diverged('10-0', '9-0', ['2-0', '10-0'])]],
  ['entries of the log again after a reset', 2, [{ ...BEGINNING, ids: LAST }, diverged('12-0', '1-0', LAST)]],
])('%s: %i duplicates', (_, expected, stretches) => {
  expect(duplicates(...stretches)).toBe(expected);
});

test.each<[string, number, [position: string, lastId: string]]>([
  ['an event after a disconnect that followed the admission', 1, ['1-0', '4-0']],
  ['events up to the disconnect', 0, ['1-0', '2-0']],
  ['an admission after the disconnect', 0, ['3-0', '4-0']],
  ['an admission at a position that the log has lost', 0, ['9-0', '4-0']],
])('%s: %i overstays', (_, expected, [position, lastId]) => {
  const rooms = (room: string) => JSON.stringify([room]);
  const log: Logged[] = [
    ['1-0', 'a', null],
    ['2-0', 'b', rooms('room0')],
    ['3-0', DISCONNECT, rooms('room0')],
    ['4-0', 'c', null],
  ];
  const clients = ['room0', 'room1'].map(
    (room) => ({ room, stretches: [], admissions: [{ position, lastId }] }) as unknown as Client,
  );
  expect(compareWithLog(clients, log, new Map(), new Map()).faults.overstays).toBe(expected);
});
