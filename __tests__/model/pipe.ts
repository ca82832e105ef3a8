/*
 * The path from a connection to its client: a transport with tiny buffers, and a strict parser of event streams.
 * Invariant: the bytes that the client reads are a prefix of the bytes that were written.
 */

import type { Socket } from 'node:net';
import type { Transport } from '../../lib/wire/transport.ts';
import type { Packet } from '../../lib/wire/packet.ts';

export class Pipe implements Transport {
  /** Bytes that were written, and that the kernel has not accepted. */
  #responseBuffer = '';
  /** Bytes that the kernel has accepted, and that the client has not read. */
  #kernelBuffer = '';
  /** The capacity of the kernel's buffer. */
  readonly #kernelBytes: number;
  readonly #highWaterMark: number;
  readonly #setImmediate: (call: () => void) => void;
  #corked = false;
  #needsDrain = false;
  /** Whether the write of a packet has returned false. */
  #packetRefused = false;
  /** Whether the kernel, in addition, did not accept all bytes of that packet, and no drain was reported since. */
  #isBlocked = false;
  #onDrain: (() => void)[] = [];
  readonly socket: Socket | undefined;
  acceptedBytes = 0;
  responseState: false | 'begun' = false;
  readonly isHeldBack = false;
  readonly hasStreamHead = false;
  ended = false;
  destroyed = false;
  fault: Error | undefined;

  constructor(kernelBytes: number, highWaterMark: number, hasSocket: boolean, schedule: (call: () => void) => void) {
    this.#kernelBytes = kernelBytes;
    this.#highWaterMark = highWaterMark;
    this.#setImmediate = schedule;
    const write = (chunk: Buffer | string): boolean =>
      this.#writeBroadcast(unframed(Buffer.from(chunk as string, 'latin1')));
    // A connection never writes directly to a socket without this property.
    const writableLength = { enumerable: true, get: () => this.#responseBuffer.length };
    this.socket = hasSocket
      ? (Object.defineProperties({ writable: true, write }, { writableLength }) as Socket)
      : undefined;
  }

  get bufferedBytes(): number {
    return this.#responseBuffer.length;
  }

  /** The number of bytes that the client can read now. */
  get readable(): number {
    return this.#kernelBuffer.length;
  }

  /** Whether the client has read everything, and nothing more will arrive. */
  get isOver(): boolean {
    return this.destroyed || (this.ended && this.#responseBuffer === '' && this.#kernelBuffer === '');
  }

  open(text: string): void {
    this.responseState = 'begun';
    this.writeText(text);
  }

  flush(): void {} // only a transport with compression keeps bytes back

  writePacket(packet: Packet): boolean {
    return this.#writeBroadcast(packet.payload);
  }

  #writeBroadcast(payload: Buffer): boolean {
    if (this.#isBlocked)
      this.fault = new Error('Model: a packet was written although the transport had refused an earlier one');
    const accepted = this.writeText(payload);
    if (!accepted) this.#packetRefused = true;
    this.#updateBlocked();
    return accepted;
  }

  /** Returns false as Node does: because of the size alone, even if the kernel accepts all bytes. */
  writeText(text: string | Buffer): boolean {
    if (this.destroyed) return false;
    if (this.ended) {
      this.fault = new Error(`Model: written after the end: ${String(text).slice(0, 80)}`); // kept, because the caller may catch a thrown error
      return false;
    }
    this.#responseBuffer += typeof text === 'string' ? text : text.toString('latin1');
    const accepted = this.#responseBuffer.length < this.#highWaterMark;
    if (!accepted) this.#needsDrain = true;
    this.#moveToKernel();
    return accepted;
  }

  cork(): void {
    this.#corked = true;
  }

  uncork(): void {
    this.#corked = false;
    this.#moveToKernel();
    this.#updateBlocked();
  }

  onceDrained(call: () => void): void {
    this.#onDrain.push(call);
  }

  end(): void {
    this.ended = true;
  }

  breakOff(): void {
    this.ended = true;
  }

  refuse(): void {
    this.ended = true;
  }

  destroy(): void {
    this.destroyed = true;
    this.#responseBuffer = '';
    this.#kernelBuffer = '';
  }

  /** The client reads at most so many bytes. */
  read(bytes: number): string {
    const text = this.#kernelBuffer.slice(0, bytes);
    this.#kernelBuffer = this.#kernelBuffer.slice(bytes);
    this.#moveToKernel();
    return text;
  }

  #updateBlocked(): void {
    if (this.#corked) return;
    if (this.#packetRefused && this.#responseBuffer !== '') this.#isBlocked = true;
    this.#packetRefused = false;
  }

  #moveToKernel(): void {
    if (this.#corked) return;
    const accepted = Math.min(this.#responseBuffer.length, this.#kernelBytes - this.#kernelBuffer.length);
    this.#kernelBuffer += this.#responseBuffer.slice(0, accepted);
    this.#responseBuffer = this.#responseBuffer.slice(accepted);
    this.acceptedBytes += accepted;
    if (this.#responseBuffer === '' && this.#needsDrain) this.#setImmediate(() => this.#emitDrain());
  }

  #emitDrain(): void {
    if (this.destroyed || this.#responseBuffer !== '' || !this.#needsDrain) return;
    this.#needsDrain = false;
    this.#isBlocked = false;
    const calls = this.#onDrain;
    this.#onDrain = [];
    for (const call of calls) call();
  }
}

/** Returns the content of a chunk of HTTP/1.1. A direct write to a socket contains one chunk. */
function unframed(chunk: Buffer): Buffer {
  const start = chunk.indexOf('\r\n') + 2;
  const size = Number.parseInt(chunk.toString('latin1', 0, start), 16);
  if (chunk.length !== start + size + 2)
    throw new Error(`Model: a write to the socket is not one chunk: ${chunk.toString('latin1')}`);
  return chunk.subarray(start, start + size);
}

/** One event as it was dispatched. */
export interface Dispatched {
  readonly event: string;
  readonly data: string;
  /** The id in the event itself. */
  readonly id: string | undefined;
}

/** Parses as the strictest browser does: an id takes effect only with an event that has data. */
export class StreamReader {
  #rest = '';
  #event = '';
  #data: string | undefined;
  #id: string | undefined;
  readonly #onEvent: (event: Dispatched) => void;

  constructor(onEvent: (event: Dispatched) => void) {
    this.#onEvent = onEvent;
  }

  feed(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (line === '') {
      if (this.#data === undefined) throw new Error(`Model: an event has no data (id ${this.#id})`);
      const dispatched = { event: this.#event, data: this.#data, id: this.#id };
      this.#event = '';
      this.#data = undefined;
      this.#id = undefined;
      this.#onEvent(dispatched);
    } else if (line.startsWith('data: '))
      this.#data = this.#data === undefined ? line.slice(6) : `${this.#data}\n${line.slice(6)}`;
    else if (line.startsWith('event: ')) this.#event = line.slice(7);
    else if (line.startsWith('id: ')) this.#id = line.slice(4);
    else if (!line.startsWith(':') && !line.startsWith('retry: '))
      throw new Error(`Model: an unknown line, ${JSON.stringify(line)}`);
  }
}
