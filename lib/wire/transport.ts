/*
 * The interface through which a connection writes to its response. `ResponseTransport` and `GzipTransport` implement it.
 *
 * Invariant: a connection writes through this interface alone, or to the `socket` that it exposes.
 */

import type { Socket } from 'node:net';
import type { Packet } from './packet.ts';

/** Writes one response. */
export interface Transport {
  /** Writes the response head and the first text of the body. They leave with the next write, or at {@link Transport.flush}. */
  open(text: string | Buffer): void;
  /** Sends the head and the text that {@link Transport.open} has delayed. */
  flush(): void;
  /**
   * Writes a packet.
   * @returns Whether more may be written: `false` if the client is behind, until {@link Transport.onceDrained} calls back.
   */
  writePacket(packet: Packet): boolean;
  /**
   * After {@link Transport.flush}: the socket to which a packet's chunk may be written directly, because
   * {@link Transport.writePacket} would do no more. `undefined` if packets must go through {@link Transport.writePacket}.
   */
  readonly socket: Socket | undefined;
  /** Writes text of this connection alone. @returns Whether more may be written, as {@link Transport.writePacket} does. */
  writeText(text: string | Buffer): boolean;
  /** Collects what is written until {@link Transport.uncork}, so that it leaves in one piece. */
  cork(): void;
  /** Sends what was written since {@link Transport.cork}. */
  uncork(): void;
  /** Calls `callback` once, when everything written has been accepted. */
  onceDrained(callback: () => void): void;
  /** The bytes that the kernel has not accepted yet. */
  readonly bufferedBytes: number;
  /** A counter that grows with every byte that the kernel accepts. Only its growth has a meaning. */
  readonly acceptedBytes: number;
  /** Whether the head has not left although text was written: middleware holds the response back. */
  readonly isHeldBack: boolean;
  /** Ends the body after everything that was written. `closeSocket`: ends the socket after it as well. */
  end(closeSocket: boolean): void;
  /**
   * Breaks the connection off after everything that was written. The body has no end, so no client and no proxy takes it for a
   * complete one.
   */
  breakOff(): void;
  /** Answers 503 instead of a stream, before {@link Transport.open}. The client may try again after `retry` milliseconds. */
  refuse(retry: number): void;
  /** Destroys the response and its socket; what has not left is lost. */
  destroy(): void;
  /** Whether the application has answered itself: `begun` if it has sent the head, `ended` if it has ended the response. */
  readonly responseState: false | 'begun' | 'ended';
  /**
   * Whether the head that the application has sent has status 200, and no content type or that of event streams. It is the head
   * of an event stream, and not of another answer.
   */
  readonly hasStreamHead: boolean;
}
