/*
 * The stream of the feed: the types of its events, the router, and the function that publishes.
 */
import type { Request } from 'express';
import { sse } from '../../lib/index.ts';
import type { BroadcastMessage } from '../../lib/index.ts';

/** A text that a user has written. */
export interface Notice {
  kind: 'notice';
  at: number;
  from: string;
  text: string;
}

/** A file in the watched folder was added, changed or removed. `more`: how many other files changed at the same moment. */
export interface FileChange {
  kind: 'file';
  at: number;
  change: 'added' | 'changed' | 'removed';
  path: string;
  bytes?: number;
  more?: number;
}

/** A marked change of the machine: `load` (1 minute), `memory` (percent in use), `delay` (ms, event loop, 99th percentile). */
export interface Reading {
  kind: 'machine';
  at: number;
  what: 'load' | 'memory' | 'delay';
  value: number;
  was?: number;
}

/** `at` is the time of publication, so the order of the feed is the order of its times. */
export type Entry = Notice | FileChange | Reading;

export type Unpublished = Entry extends infer E ? (E extends Entry ? Omit<E, 'at'> : never) : never;

/** The current values of the meters. */
export interface Vitals {
  load: number;
  memory: number;
  delay: number;
  readers: number;
}

/** Entries are broadcast, so they are in the log and clients are resumed with them. The other events describe the moment and are pushed. */
type Events = {
  [K in Entry['kind']]: Extract<Entry, { kind: K }>;
} & {
  snapshot: { entries: readonly Entry[] };
  hello: { stream: string; reader: string; now: number; retry: number; resumed: boolean };
  vitals: Vitals;
};

const RETRY = 2000;
const RECENT = 60;

/** The name of the reader, from the cookie that `identify` in server.ts sets. */
export const readerOf = (req: Request): string => req.res?.locals.reader as string;

export function makeFeed(cors: { origin: string; credentials: true }) {
  const recent: Entry[] = [];
  const vitals: Vitals = { load: 0, memory: 0, delay: 0, readers: 0 };
  let counting = false;

  const events = sse<Events>(
    (conn, req) => {
      conn.push({
        event: 'hello',
        data: {
          stream: conn.id,
          reader: readerOf(req),
          now: Date.now(),
          retry: RETRY,
          resumed: conn.lastEventId !== '',
        },
      });
      count();
      conn.signal.addEventListener('abort', count);
    },
    { cors, retry: RETRY, snapshot: () => ({ event: 'snapshot', data: { entries: recent } }) },
  );

  /** Sends the number of readers to all of them, once for all arrivals and departures of one tick. */
  function count(): void {
    if (counting) return;
    counting = true;
    setImmediate(() => {
      counting = false;
      measure({});
    });
  }

  /** Sends the meters. The next reading replaces this one, so it is not logged, and not queued for a reader that is behind. */
  function measure(now: Partial<Vitals>): void {
    Object.assign(vitals, now, { readers: events.size });
    for (const conn of events.connections) {
      if (conn.bufferedBytes === 0) conn.push({ event: 'vitals', data: vitals });
    }
  }

  const publish = (what: Unpublished): Promise<string> => {
    const entry = { ...what, at: Date.now() } as Entry;
    recent.push(entry);
    if (recent.length > RECENT) recent.shift();
    return events.broadcast({ event: entry.kind, data: entry } as BroadcastMessage<Events>);
  };

  return { events, publish, measure };
}
