/*
 * A look inside a hub, for the inspector.
 * Knows the hub and streams.
 * Invariant: looking changes nothing, and costs nothing while nobody looks.
 */

import type { Entry } from '../journal/journal.ts';
import type { Hub } from './hub.ts';
import type { Insight } from '../diagnostics/channels.ts';
import type { Stream } from '../connection/server-connection.ts';

export function insight(hub: Hub): Insight {
  const { ring } = hub;
  return {
    get closing() {
      return hub.draining;
    },
    recent(max) {
      const entries: Entry[] = [];
      for (let n = ring.head; n >= ring.first && entries.length < max; n--) entries.push(ring.at(n));
      return entries;
    },
    log: () => ({
      oldest: ring.idAt(ring.first) ?? '',
      head: hub.position,
      entries: ring.head - ring.first + 1,
      bytes: ring.bytes,
    }),
    of(connection) {
      const stream = connection as unknown as Stream;
      return {
        age: hub.registry.clock.now() - stream.since,
        lastId: stream.own ? '' : (ring.idAt(stream.told) ?? ''),
        phase: stream.phase,
        behind: stream.blocked,
      };
    },
  };
}
