/*
 * How bytes leave a response, fast and safely. The only room that knows the inside of node:http.
 * Knows packets, and nothing of events or connections.
 * Invariant: both ways, through the response and past it to the socket, put the same bytes on the wire in the same order.
 */

import { OutgoingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Packet } from './packet.ts';
import type { Transport } from './transport.ts';

// What these are when nobody has wrapped them; looked up when the room is loaded, as an instrumentation that
// patches prototypes is in place by then and sees the bytes either way.
/* oxlint-disable typescript/unbound-method -- compared, never called */
const originalWrite = OutgoingMessage.prototype.write;
const originalSocketWrite = Socket.prototype.write;
/* oxlint-enable typescript/unbound-method */

interface NodeResponseInternals {
  readonly chunkedEncoding: boolean;
  readonly _header?: string | null;
  /** Writes past the body's framing, after the head if that has not been sent. */
  _send?(text: string, encoding: 'latin1'): boolean;
  readonly _bytesDispatched?: number;
  readonly _handle?: { readonly writeQueueSize?: number } | null;
}

/** What `compression` puts on a response. (Node's own `flush` of the same name is a deprecated other thing.) */
interface CompressionResponse {
  flush?: () => void;
}

/** The most that an opening holds back to leave in one string: what does not fill a socket's buffer. */
const MAX_DELAYED_BYTES = 16_384;

/** The outlet over a `ServerResponse` of HTTP/1 or of HTTP/2's compatibility layer. */
export class ResponseTransport implements Transport {
  readonly #response: ServerResponse;
  readonly #heading: { apply(response: ServerResponse): void };
  #socket: Socket | undefined; // set: the fast way is open
  delayed: string | undefined; // set: the head is not sent yet, and this comes right behind it
  #timeout = 0; // of the socket before us
  #held = 0; // what was refused on the slow way since it was last empty: a wrapper's own buffer does not show otherwise
  #listens = false;
  #onDrain: (() => void) | undefined;

  constructor(response: ServerResponse, heading: { apply(response: ServerResponse): void }) {
    this.#response = response;
    this.#heading = heading;
  }

  get responseState(): Transport['responseState'] {
    if (this.#response.writableEnded) return 'ended';
    return this.#response.headersSent && 'begun';
  }

  get socket(): Socket | undefined {
    return this.#socket;
  }

  get bufferedBytes(): number {
    return this.#socket ? this.#socket.writableLength : Math.max(this.#response.writableLength ?? 0, this.#held);
  }

  get acceptedBytes(): number {
    const socket = this.#response.socket as (Socket & NodeResponseInternals) | null;
    if (!socket) return 0;
    return (socket._bytesDispatched ?? socket.bytesWritten) - (socket._handle?.writeQueueSize ?? 0);
  }

  open(text: string | Buffer): void {
    const response = this.#response;
    const socket = response instanceof ServerResponse ? response.socket : null; // HTTP/2's is not to be touched
    if (socket) {
      // A server's own time limit for silent sockets must not end a stream; it is put back for the next request.
      this.#timeout = socket.timeout ?? 0;
      if (this.#timeout > 0) socket.setTimeout(0);
      socket.setNoDelay(true);
    }
    this.#heading.apply(response);
    response.writeHead(200);
    // node:http keeps the head as a rope of some thirty strings; asked for its size it becomes one: 650 bytes less a connection.
    if (socket) Buffer.byteLength((response as NodeResponseInternals)._header ?? '');
    if (!socket || !isPlain(response, socket)) {
      // Its text is ASCII. node:http sends the head in the encoding of the first string, and header values are Latin-1.
      this.#writeSlow(text, 'latin1');
      return;
    }
    this.#socket = socket;
    this.delayed = '';
    this.writeText(text);
  }

  flush(): void {
    if (this.delayed !== undefined) this.#send('');
  }

  writePacket(packet: Packet): boolean {
    if (this.#response.writableEnded) return false; // by the application itself
    const socket = this.#socket;
    if (socket === undefined) return this.#writeSlow(packet.payload);
    if (this.delayed !== undefined) this.#send('');
    return socket.writable && socket.write(packet.chunk); // not writable: its 'close' is on the way
  }

  writeText(text: string | Buffer): boolean {
    if (this.#response.writableEnded) return false;
    const socket = this.#socket;
    if (!socket) return this.#writeSlow(text);
    if (!socket.writable) return false;
    const size = Buffer.byteLength(text);
    if (typeof text === 'string') {
      const chunk = `${size.toString(16)}\r\n${text}\r\n`;
      const isAscii = size === text.length;
      if (this.delayed !== undefined) {
        if (isAscii && this.delayed.length + chunk.length < MAX_DELAYED_BYTES) {
          this.delayed += chunk;
          return true;
        }
        this.#send('');
      }
      return socket.write(chunk, isAscii ? 'latin1' : 'utf8');
    }
    socket.cork();
    this.#send(`${size.toString(16)}\r\n`);
    socket.write(text);
    const more = socket.write('\r\n', 'latin1');
    socket.uncork();
    return more;
  }

  cork(): void {
    this.#socket?.cork();
  }

  uncork(): void {
    this.#socket?.uncork();
    this.flush(); // what the opening holds back has not gone to the socket: there is nothing to join it with
  }

  onceDrained(call: () => void): void {
    if (this.#socket) this.#socket.once('drain', call);
    else this.#onDrain = call;
  }

  end(last: boolean): void {
    this.flush();
    const response = this.#response;
    const socket = response instanceof ServerResponse ? response.socket : null;
    if (socket && this.#timeout > 0 && !socket.destroyed) socket.setTimeout(this.#timeout);
    // A process that ends wants its sockets back: an idle one would hold server.close() for the keep-alive timeout.
    if (last && socket) response.once('finish', () => socket.end());
    response.end();
  }

  destroy(): void {
    this.#response.socket?.destroy();
    this.#response.destroy();
  }

  /** Sends ASCII: behind the head and what the opening has held back, if that has not been sent. */
  #send(text: string): boolean {
    const first = this.delayed;
    if (first === undefined) return this.#socket!.write(text, 'latin1');
    this.delayed = undefined;
    return (this.#response as NodeResponseInternals)._send!(first + text, 'latin1'); // the head's values are Latin-1
  }

  #writeSlow(text: string | Buffer, encoding: BufferEncoding = 'utf8'): boolean {
    const response = this.#response;
    const more = response.write(text, encoding);
    if (!more || this.#held > 0) this.#held += text.length;
    if (!more && !this.#listens) {
      // One listener for good: `compression` moves it to its own stream, from where a `once` would never be taken away.
      this.#listens = true;
      response.on('drain', () => {
        this.#held = 0;
        const call = this.#onDrain;
        this.#onDrain = undefined;
        call?.();
      });
    }
    // `compression` holds everything back until it is told otherwise.
    if (Object.hasOwn(response, 'flush')) (response as CompressionResponse).flush?.();
    return more;
  }
}

/**
 * Whether what goes past the response is provably the same: a plain HTTP/1.1 response whose chunks are framed here as node:http
 * frames them, whose turn it is, of which nothing has been sent, which holds nothing back and whose write nobody has replaced.
 */
function isPlain(response: ServerResponse & NodeResponseInternals, socket: Socket): boolean {
  return (
    response.chunkedEncoding &&
    response.write === originalWrite &&
    socket.write === originalSocketWrite &&
    typeof response._send === 'function' &&
    response.writableCorked === socket.writableCorked &&
    response.writableLength === socket.writableLength
  );
}

/** Whether this response waits behind another one on the same socket (HTTP pipelining). */
export function isQueued(response: ServerResponse): boolean {
  return response instanceof ServerResponse && response.socket === null && !response.destroyed;
}
