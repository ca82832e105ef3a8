/*
 * One open stream, as the application sees it: the contract.
 * Knows messages and Express' request, as types.
 * Invariant: nothing stands here that `stream.ts` does not keep.
 */

import type { Request } from 'express';
import type { AnyEvents, EventMap, Message } from './message.ts';
import type { Source } from './source.ts';

/**
 * Why a connection is over. `client`: the reader left. `handler`: `close()`, or the handler answered the request itself.
 * `end`: `end()`, or the handler's generator finished. `slow`: it did not keep up. `expired`: `maxAge`. `shutdown`: the router
 * closes. `error`: something threw.
 */
export type CloseReason = 'client' | 'handler' | 'end' | 'slow' | 'expired' | 'shutdown' | 'error';

/** What the application has of one open stream. */
export interface Connection<E extends EventMap = AnyEvents> {
  /** Unlike every other connection's, in all processes. */
  readonly id: string;
  readonly request: Request;
  /** What the client sent as its last event id, decoded; `''` when it sent none. */
  readonly lastEventId: string;
  /** The channels that it has joined. */
  readonly channels: ReadonlySet<string>;
  /** The application's own, by connection: an object that starts empty. */
  readonly state: Record<string, unknown>;
  /** Aborts when the connection is over; its `reason` is a {@link CloseReason}. Made when first asked for. */
  readonly signal: AbortSignal;
  /** The bytes that wait for this reader in this process. */
  readonly bufferedBytes: number;
  readonly readyState: 'connecting' | 'open' | 'closed';
  /**
   * Sends one event; the arguments are the lines of its data. Nothing is sent without arguments.
   * @returns false when the reader is behind ({@link Connection.drained} tells when it is not) or gone.
   * @throws {SseTypeError} for what cannot be sent, and then nothing of this call is.
   */
  push(...lines: (string | number)[]): boolean;
  /** Sends an event for each message; all of them leave in one write. */
  push(...messages: Message<E>[]): boolean;
  /**
   * Sends what a source yields, at the reader's speed: strings, messages, or bytes, which are read as UTF-8.
   * Resolves when the source is exhausted or the connection is over; either way the source is released. Rejects with its error.
   */
  pushAll(source: Source<E>): Promise<void>;
  /** Sends a comment of one or more lines, which clients ignore. Answers like {@link Connection.push}. */
  comment(text?: string): boolean;
  /** Settles when the reader is not behind, or the connection is over. Never rejects. */
  drained(): Promise<void>;
  /** Joined before the opening, a returning client gets what it missed of these channels; later: what comes from here on. */
  join(...channels: string[]): void;
  /** A reader that is behind is sent nothing more of them. */
  leave(...channels: string[]): void;
  /** Opens the stream at the end of this turn although there is nothing to say yet. */
  open(): void;
  /** Over for now: the client reconnects, after `retry` milliseconds if that is given. What was said before still leaves, as with `end()`. */
  close(options?: { retry?: number }): void;
  /**
   * Over for good: the client is told by an `end` event, and answered 204 when it comes back. What was pushed and broadcast before
   * leaves first, and nothing that is broadcast after. A reader that is behind has one second for it; then its socket is
   * destroyed, and it comes back.
   */
  end(): void;
}
