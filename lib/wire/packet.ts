/*
 * Entries encoded as bytes that many responses share.
 *
 * Invariant: the bytes are made once and never changed.
 */

import type { Socket } from 'node:net';
import type { Entry } from '../journal/journal.ts';

/** The size up to which one write combines entries and texts; a single event may be larger. */
export const MAX_WRITE_BYTES = 65_536;

/** The largest packet that is written as a string. Node copies a string of up to 16 KB without an allocation. */
const MAX_STRING_BYTES = 4096;

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
  /** The number of entries. */
  readonly entryCount: number;
  /** The bytes of the frames. */
  readonly size: number;
  /** The number in the ring of the last entry that has an id on the wire; 0 if none has, or if the entries are not in the ring. */
  readonly lastN: number;
  /** The same frames deflated, from the first time that a gzip stream needs them. */
  deflated: Deflated | undefined = undefined;
  readonly #chunk: Buffer | string;
  #payload: Buffer | undefined = undefined;

  private constructor(chunk: Buffer | string, size: number, entryCount: number, lastN: number) {
    this.#chunk = chunk;
    this.size = size;
    this.entryCount = entryCount;
    this.lastN = lastN;
  }

  /**
   * [spec] The frames as one chunk of a chunked body: size, CRLF, frames, CRLF (RFC 9112 7.1). A string has one character for each byte
   * and is written as `latin1`.
   */
  get chunk(): Buffer | string {
    return this.#chunk;
  }

  /** The frames alone. */
  get payload(): Buffer {
    if (this.#payload === undefined) {
      const chunk = typeof this.#chunk === 'string' ? Buffer.from(this.#chunk, 'latin1') : this.#chunk;
      this.#payload = chunk.subarray(chunk.length - 2 - this.size, -2);
    }
    return this.#payload;
  }

  /** Wraps bytes that are no entries of the ring. */
  static fromBytes(bytes: Buffer): Packet {
    const chunk = Buffer.concat([Buffer.from(bytes.length.toString(16) + CRLF), bytes, Buffer.from(CRLF)]);
    return new Packet(chunk, bytes.length, 0, 0);
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
    return new Packet(chunk, size, entries.length, lastN);
  }

  /**
   * As {@link Packet.fromEntries}, for one receiver. A small packet becomes a string: it takes 0.5 µs instead of 1.5, and leaves less
   * garbage than a Buffer. `latin1` maps each byte to one character and back, so UTF-8 stays as it is.
   */
  static forOne(entries: readonly Entry[], withIds: boolean, lastN: number): Packet {
    let length = 0;
    for (const { body } of entries) length += body.byteLength;
    if (length > MAX_STRING_BYTES) return Packet.fromEntries(entries, withIds, lastN);
    let text = '';
    for (const entry of entries) {
      if (withIds && isEvent(entry)) text += `id: ${entry.id}\n`;
      text += latin1(entry.body);
    }
    return new Packet(`${text.length.toString(16)}${CRLF}${text}${CRLF}`, text.length, entries.length, lastN);
  }
}

/** Writes the chunk of a packet to a socket. @returns whether more may be written */
export function writeChunk(socket: Socket, chunk: Buffer | string): boolean {
  return typeof chunk === 'string' ? socket.write(chunk, 'latin1') : socket.write(chunk);
}

/** Returns bytes as a string with one character for each. */
function latin1(bytes: Uint8Array): string {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return buffer.toString('latin1');
}

/** Whether an entry is an event. A body that is only a `retry` line ends none: an id before it would belong to the next event. */
export function isEvent({ body }: Entry): boolean {
  return body.byteLength > 1 && body[body.byteLength - 2] === 10;
}
