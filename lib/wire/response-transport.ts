/*
 * Writes the bytes of a stream to a `ServerResponse`, or directly to its socket where that is safe and faster. No other module
 * uses internals of node:http.
 *
 * Invariants: both paths, through the response and to the socket, put the same bytes on the wire in the same order. Whatever has
 * replaced a method of the response receives every byte.
 */

import { EventEmitter } from 'node:events';
import { OutgoingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { type Packet, writeChunk } from './packet.ts';
import type { Transport } from './transport.ts';
import { WrappedResponse } from './wrapped-response.ts';

// The methods as they are when this module is loaded. Later, instrumentations may replace them, on prototypes and on each response.
/* oxlint-disable typescript/unbound-method -- compared, never called */
const { write: loadedWrite } = OutgoingMessage.prototype;
const { writeHead: loadedWriteHead, end: loadedEnd } = ServerResponse.prototype;
const { write: loadedSocketWrite } = Socket.prototype;
/* oxlint-enable typescript/unbound-method */

/**
 * `write` of node:http; `undefined` if an instrumentation that was loaded earlier has replaced it, so that every write must go through
 * it. Only its text shows where a function is from: Node's, Bun's and Deno's call a function that their modules do not export.
 */
const nodeWrite = /\bwrite_\(this,/.test(Function.prototype.toString.call(loadedWrite)) ? loadedWrite : undefined;

interface NodeResponseInternals {
  readonly chunkedEncoding: boolean;
  readonly _header?: unknown;
  /** Whether the head was given to the socket. */
  readonly _headerSent?: boolean;
  /** Writes without framing, after the head if the head has not been sent. */
  _send?(data: unknown, ...how: unknown[]): boolean;
  readonly _bytesDispatched?: number;
  readonly _handle?: { readonly writeQueueSize?: number } | null;
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
  #wrapped: WrappedResponse | undefined; // set: methods of the response are replaced, or writes go through it

  /** Must be called in the async context of the request. */
  constructor(response: ServerResponse, headers: { apply(response: ServerResponse): void }) {
    this.#response = response;
    this.#headers = headers;
    if (isWrapped(response)) this.#wrapped = new WrappedResponse(response, response.write !== nodeWrite);
  }

  get responseState(): Transport['responseState'] {
    if (this.#response.writableEnded) return 'ended';
    return this.#response.headersSent && 'begun';
  }

  get hasStreamHead(): boolean {
    return this.#response.statusCode === 200 && /^(text\/event-stream|$)/i.test(contentTypeOf(this.#response));
  }

  get socket(): Socket | undefined {
    return this.#socket;
  }

  get bufferedBytes(): number {
    if (this.#socket) return this.#socket.writableLength;
    return this.#wrapped?.bufferedBytes ?? this.#response.writableLength ?? 0;
  }

  get acceptedBytes(): number {
    const socket = this.#response.socket as (Socket & NodeResponseInternals) | null;
    if (!socket) return 0;
    return (socket._bytesDispatched ?? socket.bytesWritten) - (socket._handle?.writeQueueSize ?? 0);
  }

  get isHeldBack(): boolean {
    return (this.#response as NodeResponseInternals)._headerSent === false;
  }

  open(text: string | Buffer): void {
    this.#inContext(() => this.#open(text));
  }

  #open(text: string | Buffer): void {
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
    const header = (response as NodeResponseInternals)._header; // `spdy` sets it to true
    // node:http keeps the head as a rope of some thirty strings. byteLength() flattens it: 650 bytes less per connection.
    if (typeof header === 'string') Buffer.byteLength(header);
    if (!socket || !isPlain(response, socket)) {
      if (this.#wrapped && !response.headersSent) preventBuffering(response);
      this.#wrapped ??= new WrappedResponse(response, response.write !== nodeWrite);
      // The text is ASCII. node:http sends the head in the encoding of the first string, and header values are Latin-1.
      this.#wrapped.write(text, 'latin1');
      return;
    }
    this.#socket = socket;
    if (response.end === loadedEnd) this.#wrapped = undefined; // only writeHead() was wrapped
    this.#delayed = '';
    this.writeText(text);
  }

  flush(): void {
    if (this.#delayed !== undefined) this.#sendAscii('');
  }

  writePacket(packet: Packet): boolean {
    if (this.#response.writableEnded) return false; // the application has ended the response
    const socket = this.#socket;
    if (socket === undefined) return this.#wrapped!.write(packet.payload);
    if (this.#delayed !== undefined) this.#sendAscii('');
    return socket.writable && writeChunk(socket, packet.chunk); // not writable: its 'close' event follows
  }

  writeText(text: string | Buffer): boolean {
    if (this.#response.writableEnded) return false;
    const socket = this.#socket;
    if (!socket) return this.#wrapped!.write(text);
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
    else this.#wrapped!.onceDrained(callback);
  }

  end(closeSocket: boolean): void {
    this.#inContext(() => this.#end(closeSocket));
  }

  #end(closeSocket: boolean): void {
    this.flush();
    const response = this.#response;
    const socket = response instanceof ServerResponse ? response.socket : null;
    if (socket && this.#socketTimeoutMs > 0 && !socket.destroyed) socket.setTimeout(this.#socketTimeoutMs);
    // During the shutdown of a process, an idle socket would delay server.close() for the keep-alive timeout.
    // (A wrapper's own stream, to which it may move listeners, finishes before the last bytes have left the response.)
    if (closeSocket && socket) EventEmitter.prototype.on.call(response, 'finish', () => socket.end());
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
        this.#wrapped?.onEnded();
        this.#whenQuiet(() => socket?.end());
      });
      this.#inContext(() => response.end());
    } else this.#whenQuiet(() => resetSocket(socket)); // the end of the connection would be the end of the body
  }

  refuse(retry: number): void {
    const headers = {
      'Retry-After': String(Math.ceil(retry / 1000)),
      'Content-Type': 'text/plain; charset=utf-8',
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    };
    this.#inContext(() => this.#response.writeHead(503, headers).end('closing\n'));
  }

  destroy(): void {
    this.#response.socket?.destroy();
    this.#response.destroy();
  }

  /** Calls a function that calls methods of the response, which may be replaced, in the async context of the request. */
  #inContext(call: () => void): void {
    if (this.#wrapped === undefined) call();
    else this.#wrapped.inContext(call);
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
}

/**
 * Whether writing directly to the socket provably sends the same bytes. The response is a plain HTTP/1.1 one with chunked framing,
 * which is done here as node:http does it. It is the current response of its socket, has sent nothing and buffers nothing, and no
 * wrapper has replaced its `write` or the socket's.
 */
function isPlain(response: ServerResponse & NodeResponseInternals, socket: Socket): boolean {
  return (
    response.chunkedEncoding &&
    response.write === nodeWrite &&
    socket.write === loadedSocketWrite &&
    typeof response._send === 'function' &&
    response.writableCorked === socket.writableCorked &&
    response.writableLength === socket.writableLength
  );
}

/** Calls `instead` in place of the write of the last chunk. The response must be chunked, and not have ended. */
function withholdLastChunk(response: NodeResponseInternals, instead: () => void): void {
  const send = response._send!; // oxlint-disable-line typescript/unbound-method -- called with `this` below
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

/** Returns the content type of a response whose head was sent. Headers that only `writeHead()` has received are in its text alone. */
function contentTypeOf(response: ServerResponse & NodeResponseInternals): string {
  return String(
    response.getHeader('Content-Type') ?? /\ncontent-type: *(.*)/i.exec(String(response._header))?.[1] ?? '',
  );
}

/** Whether a method that the router calls is not the response's own. */
function isWrapped(response: ServerResponse): boolean {
  if (!(response instanceof ServerResponse)) {
    return ['writeHead', 'write', 'end'].some((method) => Object.hasOwn(response, method));
  }
  return response.write !== nodeWrite || response.writeHead !== loadedWriteHead || response.end !== loadedEnd;
}

/**
 * Keeps middleware that delays the head from compressing the stream, if it has no method to flush its compressor: the client would
 * receive nothing until the buffer is full. @polka/compression and http-compression ignore `no-transform`, but not an encoding.
 */
function preventBuffering(response: ServerResponse): void {
  if (!Object.hasOwn(response, 'flush') && !response.hasHeader('Content-Encoding')) {
    response.setHeader('Content-Encoding', 'identity');
  }
}

/** Calls back when the response closes, also when its client has disconnected. */
export function onResponseClosed(response: ServerResponse, socket: Socket, callback: () => void): void {
  // @polka/compression moves the listeners that `response.on()` adds to its compressor, which never closes.
  EventEmitter.prototype.on.call(response, 'close', callback);
  // A response that is queued behind another emits no 'close' for its client on Node 20 and 22.
  if (isQueued(response) || Object.hasOwn(response, 'emit')) socket.once('close', callback);
}

/** Removes a callback of {@link onResponseClosed}. */
export function offResponseClosed(response: ServerResponse, socket: Socket, callback: () => void): void {
  EventEmitter.prototype.off.call(response, 'close', callback);
  socket.off('close', callback);
}

/** Whether this response is queued behind another one on the same socket (HTTP pipelining). */
function isQueued(response: ServerResponse): boolean {
  return response instanceof ServerResponse && response.socket === null && !response.destroyed;
}
