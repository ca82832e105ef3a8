/*
 * A stream in gzip without a compressor of its own: blocks that stand alone, so that one deflated broadcast serves everybody.
 * Knows packets and outlets.
 * Invariant: what has been written is, at any moment, a valid beginning of a gzip file; at the end it is a whole one.
 *
 * [spec] RFC 1951 (deflate): a block may refer only to what it has seen; those made here see nothing but themselves.
 * [spec] RFC 1952 (gzip): ten bytes in front; behind, the CRC-32 and the length of all that was put in.
 */

import { constants, crc32, deflateRawSync } from 'node:zlib';
import type { Transport } from './transport.ts';
import { Packet, type Deflated } from './packet.ts';

const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]); // deflate, no name, no time, an unknown system
const LAST_BLOCK = Buffer.from([0x03, 0x00]); // empty and final
/** Below this a stored block (five bytes more) is shorter, or not worth the 30 µs that a compressor takes to start. */
const WORTH = 128;
const STORED_MAX = 65_535;
/** A sync flush ends each block on a byte, so that it can be read at once. A window of 4 KiB starts three times as fast as one of 32. */
const OPTIONS = { finishFlush: constants.Z_SYNC_FLUSH, level: 6, windowBits: 13, memLevel: 7 };
const POLYNOMIAL = 0xedb88320;

/** Whether this Node has what it takes (20.15, 22.2). */
export const canGzip = typeof crc32 === 'function';

export class GzipTransport implements Transport {
  readonly #out: Transport;
  #crc = 0; // as signed 32 bits, which an object holds without a box
  #size = 0; // modulo 2^32, likewise

  constructor(out: Transport) {
    this.#out = out;
  }

  get responseState(): Transport['responseState'] {
    return this.#out.responseState;
  }

  get socket(): undefined {
    return undefined;
  }

  get bufferedBytes(): number {
    return this.#out.bufferedBytes;
  }

  get acceptedBytes(): number {
    return this.#out.acceptedBytes;
  }

  open(text: string | Buffer): void {
    const bytes = Buffer.from(text);
    this.#count(crc32(bytes), bytes.length, shift(bytes.length));
    this.#out.open(Buffer.concat([HEADER, deflate(bytes)]));
  }

  flush(): void {
    this.#out.flush();
  }

  writePacket(packet: Packet): boolean {
    const deflated = (packet.deflated ??= deflatePacket(packet));
    this.#count(deflated.crc, packet.payload.length, deflated.shift);
    return this.#out.writePacket(deflated.packet);
  }

  writeText(text: string | Buffer): boolean {
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    this.#count(crc32(bytes), bytes.length, shift(bytes.length));
    return this.#out.writeText(deflate(bytes));
  }

  cork(): void {
    this.#out.cork();
  }

  uncork(): void {
    this.#out.uncork();
  }

  onceDrained(call: () => void): void {
    this.#out.onceDrained(call);
  }

  end(last: boolean): void {
    const trailer = Buffer.alloc(8);
    trailer.writeInt32LE(this.#crc, 0);
    trailer.writeInt32LE(this.#size, 4);
    this.#out.writeText(Buffer.concat([LAST_BLOCK, trailer]));
    this.#out.end(last);
  }

  destroy(): void {
    this.#out.destroy();
  }

  #count(crc: number, size: number, by: number): void {
    this.#crc = (multiply(by, this.#crc >>> 0) ^ crc) | 0;
    this.#size = (this.#size + size) | 0;
  }
}

function deflatePacket(packet: Packet): Deflated {
  const { payload } = packet;
  return { packet: Packet.fromBytes(deflate(payload)), crc: crc32(payload), shift: shift(payload.length) };
}

function deflate(bytes: Buffer): Buffer {
  if (bytes.length > WORTH) return deflateRawSync(bytes, OPTIONS);
  const size = bytes.length;
  const head = Buffer.from([0, size & 255, size >> 8, ~size & 255, (~size & STORED_MAX) >> 8]);
  return Buffer.concat([head, bytes]);
}

/**
 * What a CRC-32 is multiplied by when so many bytes come after it: x^(8 · bytes), modulo the polynomial.
 * (The CRC of two pieces is the first's, shifted by the length of the second, plus the second's.)
 */
function shift(bytes: number): number {
  let power = 0x800000; // x^8
  let product = 0x80000000; // x^0
  for (let n = bytes; n > 0; n = Math.floor(n / 2)) {
    if (n % 2 === 1) product = multiply(power, product);
    power = multiply(power, power);
  }
  return product;
}

/** The product of two polynomials over GF(2), modulo the CRC's, bits reversed as it wants them. */
function multiply(a: number, b: number): number {
  let product = 0;
  let other = b;
  for (let bit = 0x80000000; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= other;
    other = (other & 1) === 1 ? (other >>> 1) ^ POLYNOMIAL : other >>> 1;
  }
  return product >>> 0;
}
