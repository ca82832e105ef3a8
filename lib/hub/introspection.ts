/*
 * What the inspector reads of a hub beyond the public contract.
 * Invariant: reading changes nothing, and costs nothing while there is no reader.
 */

import type { ServerConnection } from '../connection/server-connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import type { Entry } from '../journal/journal.ts';
import { isDisconnect } from '../wire/event-stream.ts';
import type { Hub } from './hub.ts';

export function introspection(hub: Hub): Introspection {
  const { ring, timer } = hub;
  return {
    get closing() {
      return hub.isClosing;
    },
    recent(max) {
      const entries: Entry[] = [];
      for (let n = ring.head; n >= ring.first && entries.length < max; n--) {
        const entry = ring.at(n);
        if (!isDisconnect(entry.body)) entries.push(entry);
      }
      return entries;
    },
    log: () => ({
      oldest: ring.idAt(ring.first) ?? '',
      head: hub.position,
      entries: ring.head - ring.first + 1,
      bytes: ring.bytes,
    }),
    describe(connection) {
      const { openedAt, usesAppIds, lastSent, source, blocked } = connection as unknown as ServerConnection;
      return {
        age: timer.read() - openedAt,
        lastId: usesAppIds ? '' : (ring.idAt(lastSent) ?? ''),
        source,
        behind: blocked,
      };
    },
  };
}
