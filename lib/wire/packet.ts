/*
 * Entries as bytes that many responses share.
 * Knows the journal's entries.
 * Invariant: the bytes are made once and never written to again.
 */

import type { Entry } from '../journal/journal.ts';

/** The most that one write carries, unless a single event is larger. */
export const MAX_WRITE_BYTES = 65_536;

const CRLF = '\r\n';

/** A packet's bytes as a block of a gzip stream, and what its reader has to know of them. */
export interface Deflated {
  readonly packet: Packet;
  /** CRC-32 of what was deflated. */
  readonly crc: number;
  /** What the CRC-32 of everything before is multiplied by. */
  readonly shift: number;
}

/** Some entries' frames, one behind the other, as HTTP/1.1 sends them. */
export class Packet {
  /** The frames as one chunk of a chunked body: size, line end, frames, line end. */
  readonly chunk: Buffer;
  /** The frames alone. */
  readonly payload: Buffer;
  /** How many entries are in it. */
  readonly entryCount: number;
  /** The ring's number of the last of them that has an id on the wire; 0: none has, or it is not of the ring. */
  readonly lastN: number;
  /** The same, deflated, once somebody wanted it so. */
  deflated: Deflated | undefined;

  private constructor(chunk: Buffer, payload: Buffer, events: number, last: number) {
    this.chunk = chunk;
    this.payload = payload;
    this.entryCount = events;
    this.lastN = last;
    this.deflated = undefined;
  }

  /** These bytes, as they are. */
  static fromBytes(bytes: Buffer): Packet {
    const head = bytes.length.toString(16) + CRLF;
    const chunk = Buffer.concat([Buffer.from(head), bytes, Buffer.from(CRLF)]);
    return new Packet(chunk, chunk.subarray(head.length, -2), 0, 0);
  }

  /** Joins entries; without ids where the client's ids are the application's own. */
  static fromEntries(entries: readonly Entry[], withIds: boolean, last: number): Packet {
    let size = 0;
    for (const entry of entries) size += entry.body.byteLength + (withIds && isEvent(entry) ? entry.id.length + 5 : 0);
    const head = size.toString(16) + CRLF;
    const chunk = Buffer.allocUnsafe(head.length + size + 2);
    let at = chunk.write(head, 0, 'latin1');
    for (const entry of entries) {
      if (withIds && isEvent(entry)) at += chunk.write(`id: ${entry.id}\n`, at, 'latin1');
      chunk.set(entry.body, at);
      at += entry.body.byteLength;
    }
    chunk.write(CRLF, at, 'latin1');
    return new Packet(chunk, chunk.subarray(head.length, at), entries.length, last);
  }
}

/** A body that is only a `retry` line ends no event: an id in front of it would belong to the next one. */
export function isEvent({ body }: Entry): boolean {
  return body.byteLength > 1 && body[body.byteLength - 2] === 10;
}
