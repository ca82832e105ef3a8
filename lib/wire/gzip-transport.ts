/*
 * Compresses a stream with gzip. Each block is deflated on its own, without a compressor per connection, so one deflated broadcast
 * is shared by all connections.
 *
 * Invariant: the bytes written so far are always a valid start of a gzip file; after the end they are a complete one.
 *
 * [spec] RFC 1951 (deflate): a block may refer only to earlier data. The blocks made here refer to their own data alone.
 * [spec] RFC 1952 (gzip): ten bytes of header; after the blocks the CRC-32 and the length of the uncompressed data.
 */

import { constants, crc32, deflateRawSync } from 'node:zlib';
import type { Transport } from './transport.ts';
import { Packet, type Deflated } from './packet.ts';

const GZIP_HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]); // deflate, no name, no time, unknown system
const FINAL_BLOCK = Buffer.from([0x03, 0x00]); // empty and final
/**
 * Up to this size a stored block (five bytes longer) is shorter, or the gain is not worth the 30 µs that a compressor needs to
 * start.
 */
const MIN_DEFLATE_BYTES = 128;
const UINT16_MASK = 65_535;
/**
 * A sync flush ends each block at a byte boundary, so that the client can decode it at once. A window of 8 KiB starts three times
 * as fast as one of 32 KiB.
 */
const DEFLATE_OPTIONS = { finishFlush: constants.Z_SYNC_FLUSH, level: 6, windowBits: 13, memLevel: 7 };
const POLYNOMIAL = 0xedb88320; // the CRC-32's, bits reversed

/** Whether this Node.js has `zlib.crc32` (20.15 and 22.2 or later). */
export const canGzip = typeof crc32 === 'function';

/** A transport that compresses what is written to another one. */
export class GzipTransport implements Transport {
  readonly #transport: Transport;
  #crc = 0; // as signed 32 bits: V8 stores these in the object, without a heap number
  #size = 0; // modulo 2^32, as signed 32 bits too

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  get responseState(): Transport['responseState'] {
    return this.#transport.responseState;
  }

  get hasStreamHead(): boolean {
    return this.#transport.hasStreamHead;
  }

  get socket(): undefined {
    return undefined;
  }

  get bufferedBytes(): number {
    return this.#transport.bufferedBytes;
  }

  get acceptedBytes(): number {
    return this.#transport.acceptedBytes;
  }

  get isHeldBack(): boolean {
    return this.#transport.isHeldBack;
  }

  open(text: string | Buffer): void {
    const bytes = Buffer.from(text);
    this.#count(crc32(bytes), bytes.length, crcShift(bytes.length));
    this.#transport.open(Buffer.concat([GZIP_HEADER, deflate(bytes)]));
  }

  flush(): void {
    this.#transport.flush();
  }

  writePacket(packet: Packet): boolean {
    const deflated = (packet.deflated ??= deflatePacket(packet));
    this.#count(deflated.crc, packet.payload.length, deflated.crcShift);
    return this.#transport.writePacket(deflated.packet);
  }

  writeText(text: string | Buffer): boolean {
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    this.#count(crc32(bytes), bytes.length, crcShift(bytes.length));
    return this.#transport.writeText(deflate(bytes));
  }

  cork(): void {
    this.#transport.cork();
  }

  uncork(): void {
    this.#transport.uncork();
  }

  onceDrained(callback: () => void): void {
    this.#transport.onceDrained(callback);
  }

  end(closeSocket: boolean): void {
    const trailer = Buffer.alloc(8);
    trailer.writeInt32LE(this.#crc, 0);
    trailer.writeInt32LE(this.#size, 4);
    this.#transport.writeText(Buffer.concat([FINAL_BLOCK, trailer]));
    this.#transport.end(closeSocket);
  }

  breakOff(): void {
    this.#transport.breakOff();
  }

  refuse(retry: number): void {
    this.#transport.refuse(retry);
  }

  destroy(): void {
    this.#transport.destroy();
  }

  #count(crc: number, size: number, shift: number): void {
    this.#crc = (multiply(shift, this.#crc >>> 0) ^ crc) | 0;
    this.#size = (this.#size + size) | 0;
  }
}

function deflatePacket(packet: Packet): Deflated {
  const { payload } = packet;
  return { packet: Packet.fromBytes(deflate(payload)), crc: crc32(payload), crcShift: crcShift(payload.length) };
}

function deflate(bytes: Buffer): Buffer {
  if (bytes.length > MIN_DEFLATE_BYTES) return deflateRawSync(bytes, DEFLATE_OPTIONS);
  const size = bytes.length;
  const head = Buffer.from([0, size & 255, size >> 8, ~size & 255, (~size & UINT16_MASK) >> 8]);
  return Buffer.concat([head, bytes]);
}

/**
 * Returns the factor for a CRC-32 that so many bytes follow: x^(8 · bytes), modulo the polynomial.
 * (The CRC of two pieces is the CRC of the first, shifted by the length of the second, plus the CRC of the second.)
 */
function crcShift(bytes: number): number {
  let power = 0x800000; // x^8
  let product = 0x80000000; // x^0
  for (let n = bytes; n > 0; n = Math.floor(n / 2)) {
    if (n % 2 === 1) product = multiply(power, product);
    power = multiply(power, power);
  }
  return product;
}

/** Returns the product of two polynomials over GF(2), modulo the CRC's polynomial, all with reversed bits. */
function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let bit = 0x80000000; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= shifted;
    shifted = (shifted & 1) === 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}
