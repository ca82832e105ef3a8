/*
 * What the inspector reads of a router of runs beyond the public contract.
 * Invariant: reading changes nothing, and costs nothing while there is no reader.
 */

import type { ServerConnection } from '../connection/server-connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import type { RunLog } from './run-log.ts';
import type { RunReaders } from './run-readers.ts';

export function introspection(readers: RunReaders): Introspection {
  return {
    get closing() {
      return readers.isClosing;
    },
    runs(max) {
      const runs: RunLog[] = [];
      for (const log of readers.logs()) {
        if (runs.length === max) break;
        runs.push(log);
      }
      return runs.map(({ feed, readers: { size } }) => ({
        id: feed.run.id,
        status: feed.ended?.status ?? 'running',
        chunks: feed.position,
        readers: size,
      }));
    },
    // There is one log for each run: none of them is the log of the router.
    recent: () => [],
    log() {
      const { ringEntries, ringBytes } = readers.stats();
      return { oldest: '', head: '', entries: ringEntries, bytes: ringBytes };
    },
    describe(connection) {
      const { openedAt, lastSent, source, blocked, host } = connection as unknown as ServerConnection;
      return {
        age: readers.timer.read() - openedAt,
        lastId: host.ring.idAt(lastSent) ?? '',
        source,
        behind: blocked,
      };
    },
  };
}
