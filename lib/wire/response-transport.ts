/*
 * Writes the bytes of a stream to a `ServerResponse`, or directly to its socket where that is safe and faster. No other module
 * uses internals of node:http.
 *
 * Invariant: both paths, through the response and to the socket, put the same bytes on the wire in the same order.
 */

import { OutgoingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Packet } from './packet.ts';
import type { Transport } from './transport.ts';

// The methods as they are without a wrapper, read when this module is loaded. An instrumentation that patches prototypes is in place
// by then, and receives the bytes on both paths.
/* oxlint-disable typescript/unbound-method -- compared, never called */
const originalWrite = OutgoingMessage.prototype.write;
const originalSocketWrite = Socket.prototype.write;
/* oxlint-enable typescript/unbound-method */

interface NodeResponseInternals {
  readonly chunkedEncoding: boolean;
  readonly _header?: string | null;
  /** Writes without framing, after the head if the head has not been sent. */
  _send?(data: unknown, ...how: unknown[]): boolean;
  readonly _bytesDispatched?: number;
  readonly _handle?: { readonly writeQueueSize?: number } | null;
}

/** The method that `compression` adds to a response. (Node's own method `flush` is deprecated and does something else.) */
interface CompressionResponse {
  flush?: () => void;
}

/** The largest string that an opening delays, so that head and text leave in one write: it does not fill a socket's buffer. */
const MAX_DELAYED_BYTES = 16_384;

/**
 * How often nothing may have left before a connection is broken off, and the time between two checks: when a connection breaks,
 * `fetch` discards the bytes that its reader has not taken yet. (One check after the whole time is not enough: a process that was
 * busy for so long runs the timer before it reads.) Where a wrapper reports no end, it has this time to write what it has kept.
 */
const QUIET_CHECKS = 5;
const QUIET_MS = 20;
/** [spec] "The endpoint encountered an unexpected internal error", RFC 9113 7 */
const HTTP2_INTERNAL_ERROR = 2;

/** The transport over a `ServerResponse` of HTTP/1 or of HTTP/2's compatibility layer. */
export class ResponseTransport implements Transport {
  readonly #response: ServerResponse;
  readonly #headers: { apply(response: ServerResponse): void };
  #socket: Socket | undefined; // set: writes go directly to the socket
  #delayed: string | undefined; // set: the head is not sent yet, and this text follows it
  #socketTimeoutMs = 0; // the socket's timeout before the stream, 0 for none
  /** Bytes written through the response from a refused write to the next drain: a wrapper's own buffer is not visible otherwise. */
  #undrainedBytes = 0;
  #listensForDrain = false;
  #onDrain: (() => void) | undefined;

  constructor(response: ServerResponse, headers: { apply(response: ServerResponse): void }) {
    this.#response = response;
    this.#headers = headers;
  }

  get responseState(): Transport['responseState'] {
    if (this.#response.writableEnded) return 'ended';
    return this.#response.headersSent && 'begun';
  }

  get socket(): Socket | undefined {
    return this.#socket;
  }

  get bufferedBytes(): number {
    return this.#socket
      ? this.#socket.writableLength
      : Math.max(this.#response.writableLength ?? 0, this.#undrainedBytes);
  }

  get acceptedBytes(): number {
    const socket = this.#response.socket as (Socket & NodeResponseInternals) | null;
    if (!socket) return 0;
    return (socket._bytesDispatched ?? socket.bytesWritten) - (socket._handle?.writeQueueSize ?? 0);
  }

  open(text: string | Buffer): void {
    const response = this.#response;
    const socket = response instanceof ServerResponse ? response.socket : null; // HTTP/2 forbids to use its socket
    if (socket) {
      // A server's time limit for idle sockets must not end a stream. `end` restores it for the next request.
      this.#socketTimeoutMs = socket.timeout ?? 0;
      if (this.#socketTimeoutMs > 0) socket.setTimeout(0);
      socket.setNoDelay(true);
    }
    this.#headers.apply(response);
    response.writeHead(200);
    // node:http keeps the head as a rope of some thirty strings. byteLength() flattens it: 650 bytes less per connection.
    if (socket) Buffer.byteLength((response as NodeResponseInternals)._header ?? '');
    if (!socket || !isPlain(response, socket)) {
      // The text is ASCII. node:http sends the head in the encoding of the first string, and header values are Latin-1.
      this.#writeThroughResponse(text, 'latin1');
      return;
    }
    this.#socket = socket;
    this.#delayed = '';
    this.writeText(text);
  }

  flush(): void {
    if (this.#delayed !== undefined) this.#sendAscii('');
  }

  writePacket(packet: Packet): boolean {
    if (this.#response.writableEnded) return false; // the application has ended the response
    const socket = this.#socket;
    if (socket === undefined) return this.#writeThroughResponse(packet.payload);
    if (this.#delayed !== undefined) this.#sendAscii('');
    return socket.writable && socket.write(packet.chunk); // not writable: its 'close' event follows
  }

  writeText(text: string | Buffer): boolean {
    if (this.#response.writableEnded) return false;
    const socket = this.#socket;
    if (!socket) return this.#writeThroughResponse(text);
    if (!socket.writable) return false;
    const size = Buffer.byteLength(text);
    if (typeof text === 'string') {
      const chunk = `${size.toString(16)}\r\n${text}\r\n`;
      const isAscii = size === text.length;
      if (this.#delayed !== undefined) {
        if (isAscii && this.#delayed.length + chunk.length < MAX_DELAYED_BYTES) {
          this.#delayed += chunk;
          return true;
        }
        this.#sendAscii('');
      }
      return socket.write(chunk, isAscii ? 'latin1' : 'utf8');
    }
    socket.cork();
    this.#sendAscii(`${size.toString(16)}\r\n`);
    socket.write(text);
    const mayContinue = socket.write('\r\n', 'latin1');
    socket.uncork();
    return mayContinue;
  }

  cork(): void {
    this.#socket?.cork();
  }

  uncork(): void {
    this.#socket?.uncork();
    this.flush(); // the delayed opening was not written to the corked socket
  }

  onceDrained(callback: () => void): void {
    if (this.#socket) this.#socket.once('drain', callback);
    else this.#onDrain = callback;
  }

  end(closeSocket: boolean): void {
    this.flush();
    const response = this.#response;
    const socket = response instanceof ServerResponse ? response.socket : null;
    if (socket && this.#socketTimeoutMs > 0 && !socket.destroyed) socket.setTimeout(this.#socketTimeoutMs);
    // During the shutdown of a process, an idle socket would delay server.close() for the keep-alive timeout.
    if (closeSocket && socket) response.once('finish', () => socket.end());
    response.end();
  }

  breakOff(): void {
    this.flush();
    const response = this.#response;
    if (response.writableEnded) return; // by the application
    const { req, socket } = response;
    // Bytes that nobody has read when the socket closes make the kernel send an RST, which may overtake what was written.
    if (req.readableFlowing === null) req.resume();
    if (!(response instanceof ServerResponse)) this.#whenQuiet(() => resetStream(response));
    else if (response.chunkedEncoding) {
      // end() makes every wrapper pass on what it has kept. At the end, node:http writes the last chunk, which is withheld.
      withholdLastChunk(response, () => {
        this.#undrainedBytes = 0; // a wrapper that has ended reports no drain
        this.#whenQuiet(() => socket?.end());
      });
      response.end();
    } else this.#whenQuiet(() => resetSocket(socket)); // the end of the connection would be the end of the body
  }

  refuse(retry: number): void {
    const headers = {
      'Retry-After': String(Math.ceil(retry / 1000)),
      'Content-Type': 'text/plain; charset=utf-8',
      'X-Content-Type-Options': 'nosniff',
    };
    this.#response.writeHead(503, headers).end('closing\n');
  }

  destroy(): void {
    this.#response.socket?.destroy();
    this.#response.destroy();
  }

  /** Calls `act` when nothing has left in {@link QUIET_CHECKS} checks, and nothing waits to leave. */
  #whenQuiet(act: () => void, checks = QUIET_CHECKS, accepted = -1): void {
    const response = this.#response;
    if (response.destroyed) return;
    if (checks === 0) return act();
    // On HTTP/2, other streams share the socket and its count.
    const { acceptedBytes } = response instanceof ServerResponse ? this : { acceptedBytes: 0 };
    const isQuiet = acceptedBytes === accepted && this.bufferedBytes === 0;
    setTimeout(() => this.#whenQuiet(act, isQuiet ? checks - 1 : QUIET_CHECKS, acceptedBytes), QUIET_MS).unref();
  }

  /** Writes ASCII; if the opening is still delayed, in one string after the head and the delayed text. */
  #sendAscii(text: string): boolean {
    const delayed = this.#delayed;
    if (delayed === undefined) return this.#socket!.write(text, 'latin1');
    this.#delayed = undefined;
    return (this.#response as NodeResponseInternals)._send!(delayed + text, 'latin1'); // header values are Latin-1
  }

  #writeThroughResponse(text: string | Buffer, encoding: BufferEncoding = 'utf8'): boolean {
    const response = this.#response;
    const mayContinue = response.write(text, encoding);
    if (!mayContinue || this.#undrainedBytes > 0) this.#undrainedBytes += text.length;
    if (!mayContinue && !this.#listensForDrain) {
      // One permanent listener: `compression` moves it to its own stream, which would never remove a `once` listener.
      this.#listensForDrain = true;
      response.on('drain', () => {
        this.#undrainedBytes = 0;
        const callback = this.#onDrain;
        this.#onDrain = undefined;
        callback?.();
      });
    }
    // `compression` keeps everything in its buffer until flush() is called.
    if (Object.hasOwn(response, 'flush')) (response as CompressionResponse).flush?.();
    return mayContinue;
  }
}

/**
 * Whether writing directly to the socket provably sends the same bytes. The response is a plain HTTP/1.1 one with chunked framing,
 * which is done here as node:http does it. It is the current response of its socket, has sent nothing and buffers nothing, and no
 * wrapper has replaced its `write` or the socket's.
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

/** Calls `instead` in place of the write of the last chunk. The response must be chunked, and not have ended. */
function withholdLastChunk(response: NodeResponseInternals, instead: () => void): void {
  const send = response._send!;
  response._send = function withholding(data, ...how) {
    if (typeof data !== 'string' || !data.startsWith('0\r\n')) return send.call(this, data, ...how);
    instead();
    return true;
  };
}

/** Resets the stream of an HTTP/2 response. Express' types do not know these responses. */
function resetStream(response: object): void {
  (response as { stream?: { close(code: number): void } }).stream?.close(HTTP2_INTERNAL_ERROR);
}

/** Resets the connection of a response whose body ends with the connection. */
function resetSocket(socket: Socket | null): void {
  try {
    socket?.resetAndDestroy();
  } catch {
    socket?.destroy(); // TLS ends without its `close_notify` then; a Unix socket has no reset
  }
}

/** Whether this response is queued behind another one on the same socket (HTTP pipelining). */
export function isQueued(response: ServerResponse): boolean {
  return response instanceof ServerResponse && response.socket === null && !response.destroyed;
}
