/*
 * The contract of one open stream, as the application uses it.
 *
 * Invariant: `ServerConnection` implements every member of the interface.
 */

import type { Request } from 'express';
import type { AnyEvents, EventMap, Message } from './message.ts';
import type { Source } from './source.ts';

/**
 * Why a connection has closed:
 * - `client`: the client disconnected.
 * - `handler`: the application called `close()`, or the handler answered the request itself.
 * - `end`: the application called `end()`, or the handler's iterable is exhausted.
 * - `disconnect`: the application called `disconnect()` of the router, in any process.
 * - `slow`: the client did not read fast enough; see `maxBuffered` and `slowTimeout`.
 * - `expired`: the stream reached its `maxAge`, or its `recheck` returned false.
 * - `shutdown`: the router was closed.
 * - `error`: the handler, its iterable, the snapshot or the response threw an error, or the journal did not answer for 30 seconds.
 *   `recheck` and `snapshot` have 30 seconds to settle.
 */
export type CloseReason = 'client' | 'handler' | 'end' | 'disconnect' | 'slow' | 'expired' | 'shutdown' | 'error';

/**
 * One open stream: the handler receives it, and `events.connections` contains it while it is open.
 * @example
 * ```ts
 * const events = sse<Events>((conn, req, res) => {
 *   conn.join(`user:${res.locals.user}`);
 *   conn.push({ event: 'welcome', data: { user: res.locals.user } });
 *   conn.signal.addEventListener('abort', () => console.log('closed:', conn.signal.reason));
 * });
 * ```
 * @typeParam E - the event map; see {@link EventMap}
 * @typeParam S - the application's own data in {@link Connection.state}
 */
export interface Connection<E extends EventMap = AnyEvents, S = Record<string, unknown>> {
  /** Identifies the connection among all connections of all processes: printable ASCII without spaces. */
  readonly id: string;
  /** The request that opened the stream. */
  readonly request: Request;
  /**
   * The id of the last event that the client has received, decoded: the header `Last-Event-ID` or, without it, the query parameter
   * `lastEventId` (`last_event_id` and `evs_last_event_id` of polyfills). `''` if the client sent none, or more than 1024
   * characters. With a history, a client whose id the journal cannot have issued receives a `reset`; to read the id changes nothing.
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header
   */
  readonly lastEventId: string;
  /** The channels that the connection has joined. The set changes with `join()` and `leave()`; only the router can change it. */
  readonly channels: ReadonlySet<string>;
  /** The application's own data for this connection: an object that is empty at first. `sse<Events, State>()` types it. */
  readonly state: Partial<S>;
  /**
   * Aborts when the connection closes, with a {@link CloseReason} as its `reason`. It is created on the first access; on a closed
   * connection it is aborted already. Its listeners run in the async context of the connection's request, if the handler reads it
   * or the router has the option `snapshot`, `recheck`, `serialize` or `onError`; otherwise in the context of the first access.
   */
  readonly signal: AbortSignal;
  /** The bytes of this connection that the kernel has not accepted yet; 0 once the connection is closed. */
  readonly bufferedBytes: number;
  /**
   * `connecting` until the router has written the response head, then `open`, and `closed` from the moment that the connection
   * closes. Bytes of a closed connection may still be in transit.
   */
  readonly readyState: 'connecting' | 'open' | 'closed';
  /**
   * Sends one event without a name; the arguments are the lines of its data. A line break inside a string starts a new line of
   * data. Without arguments nothing is sent. The router writes the event at the end of the tick, together with all others.
   * A connection closes with the reason `slow` if, at a push, it has more than `maxBuffered` bytes pending from earlier ticks.
   * @returns Whether the connection is up to date. `false` if it is behind: the event is queued, and {@link Connection.drained}
   * resolves when the caller may continue. `false` if it is closed: the event is not sent.
   * @throws {SseTypeError} `ERR_SSE_DATA` for a line that is neither a string nor a finite number, `ERR_SSE_MESSAGE` for lines and
   * messages in one call. Nothing of the call is sent then.
   */
  push(...lines: (string | number)[]): boolean;
  /**
   * Sends one event for each message, all of them in one write.
   * @returns Whether the connection is up to date, as for lines.
   * @throws {SseTypeError} `ERR_SSE_MESSAGE`, `ERR_SSE_FIELD`, `ERR_SSE_EVENT`, `ERR_SSE_ID`, `ERR_SSE_RETRY` or `ERR_SSE_DATA`
   * for a message that cannot be sent. Nothing of the call is sent then. Errors of `serialize` are thrown unchanged.
   */
  push(...messages: Message<E>[]): boolean;
  /**
   * Sends each item of a source and waits whenever the client is behind, so the source is read at the client's speed. An item is a
   * string, a message, or a chunk of bytes, which is decoded as UTF-8. A character may span two items: two chunks, two strings, or
   * the data of two messages of the same event.
   * The source is released when it is exhausted, and when the connection closes.
   * @example
   * ```ts
   * await conn.pushAll(createReadStream('build.log'));
   * ```
   * @returns A promise that resolves when the source is exhausted or the connection has closed. It rejects with the source's own
   * error, and with the errors of {@link Connection.push}.
   * @throws {SseTypeError} `ERR_SSE_SOURCE`, by rejecting, for an argument that cannot be iterated, and for an iterator whose `next()`
   * gives no `{ done, value }`.
   */
  pushAll(source: Source<E>): Promise<void>;
  /**
   * Sends a comment, which clients ignore; each line of the text becomes one comment line. Without a text it is a lone colon.
   * @returns Whether the connection is up to date, as for {@link Connection.push}.
   * @throws {SseTypeError} `ERR_SSE_COMMENT` for an argument that is not a string.
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes
   */
  comment(text?: string): boolean;
  /** Resolves when the connection is not behind, and when it closes. Never rejects and never stays pending. */
  drained(): Promise<void>;
  /**
   * Joins channels, so that broadcasts to them reach this connection. If it joins before the stream opens, a returning client
   * also receives the events that it missed on these channels. After the opening, it receives later events only.
   * @throws {SseTypeError} `ERR_SSE_CHANNEL` for a name that is not a non-empty string; no channel is joined then.
   */
  join(...channels: string[]): void;
  /**
   * Leaves channels. A connection that is behind receives no further event of them, not even one that was broadcast before.
   * @throws {SseTypeError} `ERR_SSE_CHANNEL` for a name that is not a non-empty string; no channel is left then.
   */
  leave(...channels: string[]): void;
  /**
   * Opens the stream at the end of this tick, although there is nothing to send yet. Without this call the stream opens at the
   * first push, when the handler's result has settled, or after one `heartbeat`.
   */
  open(): void;
  /**
   * Closes the connection for now; the client reconnects. What was pushed and broadcast before is still sent, as with
   * {@link Connection.end}.
   * @param options - `retry`: the milliseconds until the client reconnects, an integer from 1 to 2147483647. Without it the client
   * keeps the delay that it has.
   * @throws {SseTypeError} `ERR_SSE_RETRY` for a `retry` out of range, `ERR_SSE_OPTION` for an unknown option.
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#concept-event-stream-reconnection-time
   */
  close(options?: { retry?: number }): void;
  /**
   * Closes the connection for good: the client receives an `end` event, and if it reconnects with the id of this event, the router
   * answers 204. With `controlEvents: false` there is no `end` event, and only the body ends. What was pushed and broadcast before
   * is sent first; what is broadcast later is not. The connection has one second for this. If anything is missing then, the client
   * does not receive `end`, and so it reconnects for the rest.
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#server-sent-events-intro
   */
  end(): void;
}
