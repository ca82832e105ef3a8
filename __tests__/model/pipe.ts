/*
 * What lies between a connection and its client: an outlet with tiny buffers, and an exact little reader of event streams.
 * Knows the outlet's contract.
 * Invariant: the client gets a prefix of what was written, byte for byte.
 */

import type { Socket } from 'node:net';
import type { Transport } from '../../lib/wire/transport.ts';
import type { Packet } from '../../lib/wire/packet.ts';

export class Pipe implements Transport {
  /** Written, and not taken by the kernel. */
  #buffer = '';
  /** Taken, and not read by the client. */
  #wire = '';
  readonly #room: number; // of the kernel
  readonly #mark: number; // the high-water mark
  readonly #soon: (call: () => void) => void;
  #corked = false;
  #needsDrain = false;
  #saidNo = false; // to a broadcast
  #refused = false; // and the kernel did not take it all; nobody has been told of a drain yet
  #onDrain: (() => void)[] = [];
  readonly socket: Socket | undefined;
  acceptedBytes = 0;
  responseState: false | 'begun' = false;
  readonly isHeldBack = false;
  ended = false;
  destroyed = false;
  fault: Error | undefined;

  constructor(room: number, mark: number, direct: boolean, soon: (call: () => void) => void) {
    this.#room = room;
    this.#mark = mark;
    this.#soon = soon;
    const write = (chunk: Buffer): boolean => this.#broadcast(unframed(chunk));
    const writableLength = { enumerable: true, get: () => this.#buffer.length }; // a socket without it is never written to directly
    this.socket = direct
      ? (Object.defineProperties({ writable: true, write }, { writableLength }) as Socket)
      : undefined;
  }

  get bufferedBytes(): number {
    return this.#buffer.length;
  }

  /** How much the client could read. */
  get readable(): number {
    return this.#wire.length;
  }

  /** Everything has been read, and nothing more comes. */
  get isOver(): boolean {
    return this.destroyed || (this.ended && this.#buffer === '' && this.#wire === '');
  }

  open(text: string): void {
    this.responseState = 'begun';
    this.writeText(text);
  }

  flush(): void {} // it holds nothing back

  writePacket(packet: Packet): boolean {
    return this.#broadcast(packet.payload);
  }

  #broadcast(payload: Buffer): boolean {
    if (this.#refused) this.fault = new Error('the model: a broadcast was written although one had been refused');
    const more = this.writeText(payload);
    if (!more) this.#saidNo = true;
    this.#refuse();
    return more;
  }

  /** As Node does: refused for its size alone, whether the kernel takes it or not. */
  writeText(text: string | Buffer): boolean {
    if (this.destroyed) return false;
    if (this.ended) {
      this.fault = new Error(`the model: written after the end: ${String(text).slice(0, 80)}`); // kept: who writes may swallow it
      return false;
    }
    this.#buffer += typeof text === 'string' ? text : text.toString('latin1');
    const more = this.#buffer.length < this.#mark;
    if (!more) this.#needsDrain = true;
    this.#flow();
    return more;
  }

  cork(): void {
    this.#corked = true;
  }

  uncork(): void {
    this.#corked = false;
    this.#flow();
    this.#refuse();
  }

  onceDrained(call: () => void): void {
    this.#onDrain.push(call);
  }

  end(): void {
    this.ended = true;
  }

  destroy(): void {
    this.destroyed = true;
    this.#buffer = '';
    this.#wire = '';
  }

  /** The client reads so many bytes at most. */
  read(bytes: number): string {
    const text = this.#wire.slice(0, bytes);
    this.#wire = this.#wire.slice(bytes);
    this.#flow();
    return text;
  }

  #refuse(): void {
    if (this.#corked) return;
    if (this.#saidNo && this.#buffer !== '') this.#refused = true;
    this.#saidNo = false;
  }

  #flow(): void {
    if (this.#corked) return;
    const much = Math.min(this.#buffer.length, this.#room - this.#wire.length);
    this.#wire += this.#buffer.slice(0, much);
    this.#buffer = this.#buffer.slice(much);
    this.acceptedBytes += much;
    if (this.#buffer === '' && this.#needsDrain) this.#soon(() => this.#drained());
  }

  #drained(): void {
    if (this.destroyed || this.#buffer !== '' || !this.#needsDrain) return;
    this.#needsDrain = false;
    this.#refused = false;
    const calls = this.#onDrain;
    this.#onDrain = [];
    for (const call of calls) call();
  }
}

/** What is in a chunk of HTTP/1.1, which is what goes to a socket. */
function unframed(chunk: Buffer): Buffer {
  const start = chunk.indexOf('\r\n') + 2;
  const size = Number.parseInt(chunk.toString('latin1', 0, start), 16);
  if (chunk.length !== start + size + 2) throw new Error(`the model: no chunk: ${chunk.toString('latin1')}`);
  return chunk.subarray(start, start + size);
}

/** One event as it was dispatched. */
export interface Dispatched {
  readonly event: string;
  readonly data: string;
  /** The id that it brought itself. */
  readonly id: string | undefined;
}

/** Reads as a browser does, of the strictest kind: an id is learnt only with an event that has data. */
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
      if (this.#data === undefined) throw new Error(`the model: a block without data (id ${this.#id})`);
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
      throw new Error(`the model: a line ${JSON.stringify(line)}`);
  }
}
