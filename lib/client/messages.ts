/*
 * The messages between the host of a shared stream and its tabs: the name of a method, then its arguments.
 */

import type { Place, Status } from './event-stream.ts';
import type { Frame, RequestHeaders } from './source.ts';
import type { StreamErrorCode } from './stream-error.ts';

/** What a tab calls in the host. */
export interface HostMethods<Tab> {
  /** Begins or continues to follow the stream after `place`. The answer has the ticket. */
  join(tab: Tab, place: Place, ticket: unknown): void;
  /** Leaves the stream; without a tab, all leave. */
  leave(tab?: Tab): void;
  /** Does this to the stream that the tab follows. */
  act(tab: Tab, what: 'reconnect' | 'wake', isOnline: boolean): void;
  /** Answers the question of this number with the headers of a request, or with the reason why there are none. */
  answer(tab: Tab, question: number, headers?: RequestHeaders, error?: string): void;
}

/** What the host calls in a tab. */
export interface TabMethods {
  /**
   * Follow the line `term` from now on. The frames come after the number `n`. The key is the ticket of a `join` or, to move the
   * tab, the line that it follows.
   */
  follow(key: unknown, term: number, n: number, frames: readonly Frame[], status: Status): void;
  /** The next frames of a line, after the number `n`. */
  frames(term: number, n: number, frames: readonly Frame[]): void;
  status(term: number, status: Status): void;
  error(term: number, code: StreamErrorCode, status?: number, cause?: unknown): void;
  /** Asks for the headers of a request. */
  ask(question: number): void;
  /** The lock of this name is free when the worker has crashed. */
  lock(name: string): void;
}

export type TabMessage = { [M in keyof TabMethods]: [method: M, ...args: Parameters<TabMethods[M]>] }[keyof TabMethods];

/** Sends a message to one tab or, without it, to all. */
export type Send<Tab> = (tab: Tab | undefined, ...message: TabMessage) => void;

/** Calls the method that a message names. */
export function call(target: object | undefined, method: string, ...args: unknown[]): void {
  (target as Record<string, ((...all: unknown[]) => void) | undefined> | undefined)?.[method]?.(...args);
}
