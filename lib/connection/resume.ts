/*
 * Where a connection begins or continues: decisions and texts, without side effects.
 * Invariant: a client is resumed from an id that is in the log, or it receives a `reset`. It is never left with a silent gap.
 */

import type { Entry, ResetReason } from '../journal/journal.ts';
import { insertId, MAX_ID_LENGTH, resetEvent } from '../wire/event-stream.ts';
import { receives } from '../fanout/packet-receiver.ts';
import type { ConnectionState } from './state.ts';

// oxlint-disable-next-line no-control-regex -- these are the characters that it finds
const CONTROL = /[\0-\x1f\x7f]/;

/** Returns the n of an id that the ring has. Otherwise `'newer'` if the id is after the head, else `'older'`: only the log can tell. */
export function locate({ host }: ConnectionState, id: string): number | 'older' | 'newer' {
  const n = host.ring.find(id);
  if (n !== undefined) return n;
  return host.journal.compare(id, host.ring.headId) > 0 ? 'newer' : 'older';
}

/** Whether the cursor is an id of the log and not a number of the ring: the replayer holds the connection, or will. */
export function readsFromLog({ source }: ConnectionState): boolean {
  return source === 'ahead' || source === 'queued' || source === 'replaying' || source === 'paused';
}

/** Whether the client brought an id that this journal may have issued. Any other id is foreign. */
export function hasIdOfThisLog({ clientId, host }: ConnectionState): boolean {
  if (clientId === '' || clientId.length > MAX_ID_LENGTH) return false;
  return host.settings.sendsPositions && host.journal.isId(clientId);
}

/**
 * Returns a foreign id for the `reset` that answers it; '' for text that no library sends as an id. Text with line ends is an
 * attack, and is repeated nowhere.
 */
export function foreignId({ clientId }: ConnectionState): string {
  return clientId.length > MAX_ID_LENGTH || CONTROL.test(clientId) ? '' : clientId;
}

/** Whether the connection receives the ids of broadcasts, `checkpoint` events included. */
export function getsPositions({ usesAppIds, host }: ConnectionState): boolean {
  return host.settings.sendsPositions && !usesAppIds;
}

/**
 * Composes the first bytes of a start at the head: `reset`, snapshot, pushes from before the opening.
 * @param reason `undefined` for a fresh client, which gets no `reset`.
 * @param position The head's id, or `undefined` if the client gets no position.
 */
export function preamble(
  reason: ResetReason | undefined,
  lastEventId: string,
  position: string | undefined,
  snapshot: string,
  pushed: string,
): string {
  const opening = reason === undefined ? '' : resetEvent(position, reason, lastEventId);
  if (position === undefined) return opening + snapshot + pushed;
  if (reason === undefined) return insertId(snapshot + pushed, position);
  return opening + (snapshot === '' ? '' : insertId(snapshot, position)) + pushed;
}

/** What a journal's rewind means for one connection. */
export type Rewind =
  /** The client has received nothing that the log lost. */
  | 'unaffected'
  /** The cursor is in the log: its id must be looked up again. */
  | 'relocate'
  /** The client received no lost entry, but perhaps the id of one. */
  | 'checkpoint'
  /** The client may have received an entry that the log lost. */
  | 'reset';

/** Decides what a rewind to `n` means: the entries in `removed`, which follow n, are not in the log. */
export function rewind(connection: ConnectionState, n: number, removed: readonly Entry[]): Rewind {
  const { host, membership, cursor, cursorId } = connection;
  const { ring, journal } = host;
  const common = ring.idAt(n) as string;
  if (readsFromLog(connection)) {
    // The scan may have passed the end of the shortened log before this process noticed it. New entries there seemed older than a join.
    return membership !== undefined && journal.compare(cursorId, common) > 0 ? 'reset' : 'relocate';
  }
  if (cursor <= n) return 'unaffected';
  if (connection.preamblePending || connection.channelsChangedAt > n) return 'reset';
  // An earlier connection of the client, which may have joined other channels, may have delivered every entry up to its id.
  if (hasIdOfThisLog(connection) && journal.compare(connection.clientId, common) > 0) return 'reset';
  return removed.slice(0, cursor - n).some((entry) => receives(connection, entry)) ? 'reset' : 'checkpoint';
}
