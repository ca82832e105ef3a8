/*
 * Compares what each client received with the log at the end.
 * The only accepted difference is a lost entry, after a reset for an id that the log has lost.
 */
import type { Client } from './client.ts';
import { DISCONNECT, type Logged } from './logged.ts';

export interface Faults {
  missing: number;
  duplicates: number;
  disorder: number;
  /** Received, not in the log, and without a reset. */
  phantoms: number;
  /** A reset for an id that is in the log. */
  needlessResets: number;
  /** Acknowledged to the publisher, but not in the log. */
  unkept: number;
  /** In the log more than once, or with other data. */
  forged: number;
  /** Connections that received an entry after a disconnect that followed their admission. */
  overstays: number;
  details: string[];
}

export interface Comparison {
  readonly faults: Faults;
  readonly resets: number;
  readonly deliveries: number;
}

export const NO_FAULTS: Faults = {
  missing: 0,
  duplicates: 0,
  disorder: 0,
  phantoms: 0,
  needlessResets: 0,
  unkept: 0,
  forged: 0,
  overstays: 0,
  details: [],
};

/** Whether an id (`<milliseconds>-<number>`, or Postgres' `<epoch>-<number>-<tag>`) is later than another of the same log. */
function isBehind(id: string, other: string): boolean {
  const numbersOf = (text: string): [number, number] => {
    const [first, second, tag] = text.split('-');
    return [tag === undefined ? Number(first) : 0, Number(second)];
  };
  const [ms, n] = numbersOf(id);
  const [otherMs, otherN] = numbersOf(other);
  return ms > otherMs || (ms === otherMs && n > otherN);
}

export function compareWithLog(
  clients: readonly Client[],
  log: readonly Logged[],
  acknowledged: ReadonlyMap<string, string>,
  seen: ReadonlyMap<string, string>,
): Comparison {
  const faults: Faults = { ...NO_FAULTS, details: [] };
  const place = new Map(log.map(([id], n) => [id, n]));
  const rooms = new Map<string, number[]>();
  let [resets, deliveries] = [0, 0];
  const wanted = (room: string): number[] => {
    if (!rooms.has(room)) {
      const mine = (to: string | null) => to === null || (JSON.parse(to) as string[]).includes(room);
      rooms.set(
        room,
        log.flatMap(([, data, to], n) => (data !== DISCONNECT && mine(to) ? [n] : [])),
      );
    }
    return rooms.get(room)!;
  };
  const fault = (text: string): void => void (faults.details.length < 5 && faults.details.push(text));

  const names = new Set<string>();
  for (const [id, data] of log) {
    if (data !== '' && data !== DISCONNECT && names.has(data)) faults.forged++;
    names.add(data);
    if (seen.has(id) && seen.get(id) !== data) faults.forged++;
  }
  for (const [id, data] of acknowledged) if (log[place.get(id) ?? -1]?.[1] !== data) faults.unkept++;

  const disconnects = log.flatMap(([, data, to], n) => (data === DISCONNECT ? [[n, to] as const] : []));
  clients.forEach((client, number) => {
    const name = `client ${number}`;
    for (const { position, lastId } of client.admissions) {
      const [from, to] = [place.get(position), place.get(lastId)];
      if (from === undefined || to === undefined) continue; // lost by the engine, or no event was received
      const passed = disconnects.find(
        ([n, room]) => n > from && n < to && (JSON.parse(room!) as string[]).includes(client.room),
      );
      if (passed === undefined) continue;
      faults.overstays++;
      fault(`${name}: admitted at ${position}, got ${lastId} after the disconnect ${log[passed[0]]![0]}`);
    }
    const had = new Set<string>();
    client.stretches.forEach(({ ids, marks, reset }, index) => {
      if (reset) {
        resets++;
        if (place.has(reset.mine)) {
          faults.needlessResets++;
          fault(`${name}: reset (${reset.reason}) although ${reset.mine} is in the log`);
        }
        // Lost entries after the reset's position may arrive once more: a client that is cut right after its reset may return
        // to a server that has not noticed the loss yet, and that server sends the lost entries again.
        const [[, to]] = marks as [[number, string]];
        for (const id of had) if (!place.has(id) && isBehind(id, to)) had.delete(id);
        if (reset.lastEventId !== reset.mine && place.has(reset.lastEventId)) {
          fault(`${name}: its reset has ${reset.lastEventId}, which is in the log; it had ${reset.mine}`);
        }
      }
      deliveries += ids.length;
      const isLast = index === client.stretches.length - 1;
      // The position of the start, or of the last checkpoint before the first event.
      const begin = marks.filter(([at]) => at === 0).findLast(([, id]) => place.has(id))?.[1];
      let before = begin === undefined ? -1 : place.get(begin)!;
      if (isLast && begin === undefined) {
        faults.phantoms++;
        fault(`${name}: began at ${marks[0]?.[1]}, which is not in the log`);
      }
      const from = before;
      const had1 = new Set<number>();
      for (const id of ids) {
        if (had.has(id)) {
          faults.duplicates++;
          fault(`${name}: ${id} twice`);
        }
        had.add(id);
        const n = place.get(id);
        if (n === undefined) {
          if (isLast) {
            faults.phantoms++;
            fault(`${name}: ${id} is not in the log, and there was no reset`);
          }
          continue;
        }
        if (n <= before && !had1.has(n)) {
          faults.disorder++;
          fault(`${name}: ${id} after ${log[before]![0]}`);
        }
        before = Math.max(before, n);
        had1.add(n);
      }
      if (begin === undefined && !isLast) return; // the whole stretch belongs to an earlier log
      const to = isLast ? log.length : before;
      for (const n of wanted(client.room)) {
        if (n <= from || n > to || had1.has(n)) continue;
        faults.missing++;
        fault(`${name}: never got ${log[n]![0]}`);
      }
    });
  });
  return { faults, resets, deliveries };
}
