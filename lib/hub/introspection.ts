/*
 * A look inside a hub, for the inspector.
 * Knows the hub and streams.
 * Invariant: looking changes nothing, and costs nothing while nobody looks.
 */

import type { Entry } from '../journal/journal.ts';
import type { Hub } from './hub.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import type { ServerConnection } from '../connection/server-connection.ts';

export function introspection(hub: Hub): Introspection {
  const { ring } = hub;
  return {
    get closing() {
      return hub.closing;
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
    describe(connection) {
      const stream = connection as unknown as ServerConnection;
      return {
        age: hub.registry.timer.now() - stream.openedAt,
        lastId: stream.usesAppIds ? '' : (ring.idAt(stream.lastSent) ?? ''),
        phase: stream.phase,
        behind: stream.blocked,
      };
    },
  };
}
