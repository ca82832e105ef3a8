/*
 * Entries encoded as bytes that many responses share.
 *
 * Invariant: the bytes are made once and never changed.
 */

import type { Entry } from '../journal/journal.ts';

/** The size up to which one write combines entries and texts; a single event may be larger. */
export const MAX_WRITE_BYTES = 65_536;

const CRLF = '\r\n';

/** A packet deflated as one block of a gzip stream, with the figures that each stream adds to its checksum. */
export interface Deflated {
  readonly packet: Packet;
  /** The CRC-32 of the packet before compression. */
  readonly crc: number;
  /** The factor for the CRC-32 of everything that the stream contains before this block. */
  readonly crcShift: number;
}

/** The frames of one or more entries in a row, as HTTP/1.1 sends them. */
export class Packet {
  /** [spec] The frames as one chunk of a chunked body: size, CRLF, frames, CRLF (RFC 9112 7.1). */
  readonly chunk: Buffer;
  /** The frames alone: a part of {@link Packet.chunk}, not a copy. */
  readonly payload: Buffer;
  /** The number of entries. */
  readonly entryCount: number;
  /** The number in the ring of the last entry that has an id on the wire; 0 if none has, or if the entries are not in the ring. */
  readonly lastN: number;
  /** The same frames deflated, from the first time that a gzip stream needs them. */
  deflated: Deflated | undefined;

  private constructor(chunk: Buffer, payload: Buffer, entryCount: number, lastN: number) {
    this.chunk = chunk;
    this.payload = payload;
    this.entryCount = entryCount;
    this.lastN = lastN;
    this.deflated = undefined;
  }

  /** Wraps bytes that are no entries of the ring. */
  static fromBytes(bytes: Buffer): Packet {
    const head = bytes.length.toString(16) + CRLF;
    const chunk = Buffer.concat([Buffer.from(head), bytes, Buffer.from(CRLF)]);
    return new Packet(chunk, chunk.subarray(head.length, -2), 0, 0);
  }

  /** Joins the frames of entries. `withIds` is false for a client whose ids are the application's own. */
  static fromEntries(entries: readonly Entry[], withIds: boolean, lastN: number): Packet {
    let size = 0;
    for (const entry of entries) size += entry.body.byteLength + (withIds && isEvent(entry) ? entry.id.length + 5 : 0);
    const head = size.toString(16) + CRLF;
    const chunk = Buffer.allocUnsafe(head.length + size + 2);
    let offset = chunk.write(head, 0, 'latin1');
    for (const entry of entries) {
      if (withIds && isEvent(entry)) offset += chunk.write(`id: ${entry.id}\n`, offset, 'latin1');
      chunk.set(entry.body, offset);
      offset += entry.body.byteLength;
    }
    chunk.write(CRLF, offset, 'latin1');
    return new Packet(chunk, chunk.subarray(head.length, offset), entries.length, lastN);
  }
}

/** Whether an entry is an event. A body that is only a `retry` line ends none: an id before it would belong to the next event. */
export function isEvent({ body }: Entry): boolean {
  return body.byteLength > 1 && body[body.byteLength - 2] === 10;
}
