/*
 * What each client was sent, compared with the log as it is in the end.
 * Knows the clients' notes; nothing of how anything works.
 * Invariant: nothing is excused: what the log lost is excused only by a reset that names an id which the log has not.
 */
import type { Client } from './client.ts';
import type { Logged } from './server.ts';

export interface Verdict {
  missing: number;
  duplicates: number;
  disorder: number;
  /** Seen, not in the log, and nobody said so. */
  phantoms: number;
  /** Although the id that was given up is in the log. */
  needlessResets: number;
  /** Acknowledged, and not in the log. */
  unkept: number;
  /** In the log more than once, or as something else than what was sent. */
  forged: number;
  faults: string[];
}

export interface Judged {
  readonly verdict: Verdict;
  readonly resets: number;
  readonly deliveries: number;
}

export const SPOTLESS: Verdict = {
  missing: 0,
  duplicates: 0,
  disorder: 0,
  phantoms: 0,
  needlessResets: 0,
  unkept: 0,
  forged: 0,
  faults: [],
};

/** Whether an id of Redis (`<milliseconds>-<number>`) or Postgres (`<epoch>-<number>-<tag>`) is a later one than another. */
function isBehind(id: string, other: string): boolean {
  const numbersOf = (text: string): [number, number] => {
    const [first, second, tag] = text.split('-');
    return [tag === undefined ? Number(first) : 0, Number(second)];
  };
  const [ms, n] = numbersOf(id);
  const [otherMs, otherN] = numbersOf(other);
  return ms > otherMs || (ms === otherMs && n > otherN);
}

export function judge(
  clients: readonly Client[],
  log: readonly Logged[],
  acknowledged: ReadonlyMap<string, string>,
  seen: ReadonlyMap<string, string>,
): Judged {
  const verdict: Verdict = { ...SPOTLESS, faults: [] };
  const place = new Map(log.map(([id], n) => [id, n]));
  const rooms = new Map<string, number[]>();
  let [resets, deliveries] = [0, 0];
  const wanted = (room: string): number[] => {
    if (!rooms.has(room)) {
      const mine = (to: string | null) => to === null || (JSON.parse(to) as string[]).includes(room);
      rooms.set(
        room,
        log.flatMap(([, , to], n) => (mine(to) ? [n] : [])),
      );
    }
    return rooms.get(room)!;
  };
  const fault = (text: string): void => void (verdict.faults.length < 5 && verdict.faults.push(text));

  const names = new Set<string>();
  for (const [id, data] of log) {
    if (data !== '' && names.has(data)) verdict.forged++;
    names.add(data);
    if (seen.has(id) && seen.get(id) !== data) verdict.forged++;
  }
  for (const [id, data] of acknowledged) if (log[place.get(id) ?? -1]?.[1] !== data) verdict.unkept++;

  clients.forEach((client, number) => {
    const who = `client ${number}`;
    const had = new Set<string>();
    client.stretches.forEach(({ ids, marks, reset }, index) => {
      if (reset) {
        resets++;
        if (place.has(reset.mine)) {
          verdict.needlessResets++;
          fault(`${who}: reset (${reset.reason}) although ${reset.mine} is in the log`);
        }
        // Only what the log has not, behind the place it is moved to, is taken back, and may come again: who is cut right
        // after its reset may find a server that has not noticed the loss yet, which sends it the lost once more.
        const [[, to]] = marks as [[number, string]];
        for (const id of had) if (!place.has(id) && isBehind(id, to)) had.delete(id);
        if (reset.lastEventId !== reset.mine && place.has(reset.lastEventId)) {
          fault(`${who}: its reset names ${reset.lastEventId}, which is in the log; it had ${reset.mine}`);
        }
      }
      deliveries += ids.length;
      const isLast = index === client.stretches.length - 1;
      // Where it began, or was moved to before its first event.
      const begin = marks.filter(([at]) => at === 0).findLast(([, id]) => place.has(id))?.[1];
      let before = begin === undefined ? -1 : place.get(begin)!;
      if (isLast && begin === undefined) {
        verdict.phantoms++;
        fault(`${who}: began at ${marks[0]?.[1]}, which is not in the log`);
      }
      const from = before;
      const had1 = new Set<number>();
      for (const id of ids) {
        if (had.has(id)) {
          verdict.duplicates++;
          fault(`${who}: ${id} twice`);
        }
        had.add(id);
        const n = place.get(id);
        if (n === undefined) {
          if (isLast) {
            verdict.phantoms++;
            fault(`${who}: ${id} is not in the log, and it was not told`);
          }
          continue;
        }
        if (n <= before && !had1.has(n)) {
          verdict.disorder++;
          fault(`${who}: ${id} after ${log[before]![0]}`);
        }
        before = Math.max(before, n);
        had1.add(n);
      }
      if (begin === undefined && !isLast) return; // all of it in an earlier life of the log
      const to = isLast ? log.length : before;
      for (const n of wanted(client.room)) {
        if (n <= from || n > to || had1.has(n)) continue;
        verdict.missing++;
        fault(`${who}: never got ${log[n]![0]}`);
      }
    });
  });
  return { verdict, resets, deliveries };
}
