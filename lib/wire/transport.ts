/*
 * How a connection writes to its response: the contract of the plain and the gzip transport.
 */

import type { Socket } from 'node:net';
import type { Packet } from './packet.ts';

/** What a connection writes to. */
export interface Transport {
  /** The first bytes: the head, and with it the first of the body. They leave with what is written next, or at {@link Transport.flush}. */
  open(text: string | Buffer): void;
  /** What the opening holds back leaves now. */
  flush(): void;
  /** False: the reader is behind, and {@link Transport.onceDrained} tells when it is not. */
  writePacket(packet: Packet): boolean;
  /** After {@link Transport.flush}: where a packet's chunk may be written to as it is, for {@link Transport.writePacket} would do no more. */
  readonly socket: Socket | undefined;
  /** The same for text that is this connection's alone. */
  writeText(text: string | Buffer): boolean;
  /** What is written until {@link Transport.uncork} leaves in one piece. */
  cork(): void;
  uncork(): void;
  /** Calls once, when everything written has been taken. */
  onceDrained(call: () => void): void;
  /** The bytes that the kernel has not taken yet. */
  readonly bufferedBytes: number;
  /** A count that grows with every byte that the kernel takes. */
  readonly acceptedBytes: number;
  /** Ends the body in order; `last`: and the socket with it. */
  end(last: boolean): void;
  destroy(): void;
  /** What somebody else has done of the answer. */
  readonly responseState: false | 'begun' | 'ended';
}
