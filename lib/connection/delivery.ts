/*
 * Writes entries and own pushes to a connection, in order, until the head or until the transport refuses bytes.
 * The functions change the cursor and what was sent. They call no function of the options and no method of the connection, but the
 * transport may run middleware that has replaced methods of the response. They return the outcome, and `ServerConnection` reacts.
 * Invariants: an own push follows the entries that were in the ring when it was pushed; nothing is written while `blocked`.
 */

import type { Socket } from 'node:net';
import { MembershipHistory } from '../fanout/membership-history.ts';
import { MAX_WRITE_BYTES, type Packet } from '../wire/packet.ts';
import type { ConnectionState } from './state.ts';

/** The outcome of a write. */
export type Progress = typeof NOTHING | typeof CAUGHT_UP | typeof BLOCKED | typeof OVERRUN;
/** Nothing changes: there was nothing to write, or it was accepted. */
export const NOTHING = 0;
/** Everything that was due has been written. */
export const CAUGHT_UP = 1;
/** The transport refused bytes that the kernel did not accept either. */
export const BLOCKED = 2;
/** The next entry has left the ring. */
export const OVERRUN = 3;

/** The n up to which entries were written. Live connections share the dispatcher's. */
export function positionOf(connection: ConnectionState): number {
  const { source, cursor, host } = connection;
  return source === 'live' ? Math.max(cursor, host.dispatcher.dispatchedUpTo) : cursor;
}

/** Writes what is due, entries and own pushes in order, until the head or until the transport refuses bytes. */
export function writeDue(connection: ConnectionState): Progress {
  const { source, host, transport, closing } = connection;
  if (connection.preamblePending || connection.blocked || (source !== 'live' && source !== 'ring')) return NOTHING;
  const { ring, packets } = host;
  const head = closing === undefined ? ring.head : closing.limit;
  let from = positionOf(connection);
  if (from < ring.first - 1) return OVERRUN;
  let isBlocked = false;
  for (let isDone = false; !isDone && !isBlocked;) {
    let budget = MAX_WRITE_BYTES;
    let accepted = true;
    transport.cork();
    while (budget > 0 && !isDone) {
      const next = connection.outbox?.nextPosition;
      if (from < (next ?? head)) {
        const to = ring.reach(from, next ?? head, budget);
        const packet = packets.packet(connection, from, to);
        from = to;
        if (packet === undefined) continue;
        accepted = writePacket(connection, packet) && accepted;
        budget -= packet.size;
      } else if (next !== undefined) {
        const text = takeOwn(connection);
        accepted = writeOwn(connection, text) && accepted;
        budget -= text.length;
      } else isDone = true;
    }
    transport.uncork();
    // Node refuses a large write for its size alone. The connection is behind only if the kernel did not accept it.
    isBlocked = !accepted && transport.bufferedBytes > 0;
  }
  connection.cursor = from;
  if (isBlocked) return BLOCKED;
  connection.membership = undefined;
  return CAUGHT_UP;
}

/**
 * Fast path for a connection that is up to date. Marks the entries (from, to] as sent and returns the socket to write the packet to.
 * The caller must write before any other code runs, and must call `onWriteRefused()` if the write returns false.
 * Returns `undefined` when the connection needs `writeDispatched()`.
 */
export function takeForBatch(
  connection: ConnectionState,
  packet: Packet,
  from: number,
  to: number,
  now: number,
): Socket | undefined {
  const isInStep = connection.source === 'live' && connection.outbox === undefined && connection.cursor <= from;
  // If the socket has buffered bytes, the application may have ended the response itself. Only the transport detects this.
  if (!isInStep || connection.socket?.writableLength !== 0) return undefined;
  connection.cursor = to;
  recordSent(connection, packet, now);
  return connection.socket;
}

/** Writes a dispatched packet that ends at `to` to a connection whose next entry is the packet's first. */
export function writeDispatched(connection: ConnectionState, packet: Packet, to: number, now: number): Progress {
  connection.cursor = to;
  recordSent(connection, packet, now);
  return connection.transport.writePacket(packet) ? NOTHING : refused(connection);
}

/** Writes what the scan of the log has for the connection up to the entry `id`; without a packet, it only moves the cursor. */
export function writeReplayed(connection: ConnectionState, packet: Packet | undefined, id: string): Progress {
  connection.cursorId = id;
  return packet === undefined || writePacket(connection, packet) ? NOTHING : refused(connection);
}

/** Writes what precedes every entry: a `reset`, a snapshot, pushes from before the opening. */
export function writeFirst(connection: ConnectionState): Progress {
  if (connection.blocked) return NOTHING;
  while (connection.outbox?.nextPosition !== undefined && connection.outbox.nextPosition <= connection.cursor) {
    if (!writeOwn(connection, takeOwn(connection)) && refused(connection) === BLOCKED) return BLOCKED;
  }
  return NOTHING;
}

/** Writes every own push that waits, wherever the cursor is: no entry follows. */
export function writeRest(connection: ConnectionState): void {
  while (connection.outbox !== undefined) writeOwn(connection, takeOwn(connection));
}

/** Writes text of this connection alone. @returns whether the transport takes more */
export function writeOwn(connection: ConnectionState, text: string | Buffer): boolean {
  const { host, transport } = connection;
  connection.lastWrite = host.timer.now;
  connection.ownBytes = transport.bufferedBytes === 0 ? text.length : connection.ownBytes + text.length;
  host.counters.bytes += text.length;
  return transport.writeText(text);
}

/** Takes the next own push out of the outbox, which must not be empty. */
export function takeOwn(connection: ConnectionState): string | Buffer {
  const text = connection.outbox!.take();
  if (connection.outbox!.size === 0) connection.outbox = undefined;
  return text;
}

/** Returns BLOCKED if the kernel did not accept everything, else NOTHING: Node also refuses large writes for their size. */
export function refused({ transport }: ConnectionState): typeof BLOCKED | typeof NOTHING {
  return transport.bufferedBytes > 0 ? BLOCKED : NOTHING;
}

/** Makes channels count as joined or left from here on, and not for the entries that a connection behind the head still receives. */
export function recordChannelChange(connection: ConnectionState, channels: readonly string[]): void {
  const { journal, ring } = connection.host;
  connection.cursor = positionOf(connection);
  connection.channelsChangedAt = ring.head; // the entries between the cursor and the head are for the previous channels, too
  if (connection.source === 'live') return;
  connection.membership ??= new MembershipHistory((a, b) => journal.compare(a, b));
  connection.membership.record(channels, ring.headId);
}

function writePacket(connection: ConnectionState, packet: Packet): boolean {
  const { counters, timer } = connection.host;
  recordSent(connection, packet, timer.now);
  counters.events += packet.entryCount;
  counters.bytes += packet.size;
  return connection.transport.writePacket(packet);
}

function recordSent(connection: ConnectionState, packet: Packet, now: number): void {
  if (packet.lastN > 0) connection.lastSent = packet.lastN;
  connection.lastWrite = now;
}
