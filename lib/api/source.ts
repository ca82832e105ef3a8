/*
 * The type of what `pushAll` accepts and a handler may return, and the checks that recognise it at run time.
 *
 * Invariant: a check reads no item and calls no method of the value.
 */

import type { EventMap, Message } from './message.ts';

type SourceItem<E extends EventMap> = Message<E> | string;

/**
 * A source of messages and strings that can be iterated: an array, a generator, a Node readable or a web stream. Asynchronous
 * sources may also yield bytes, which are decoded as UTF-8.
 */
export type Source<E extends EventMap> =
  | Iterable<SourceItem<E>>
  | AsyncIterable<SourceItem<E> | Uint8Array>
  | ReadableStream<SourceItem<E> | Uint8Array>;

/** Whether a handler's result is a {@link Source}. A string is none, although it can be iterated. */
export function isSource(value: unknown): value is Source<EventMap> {
  if (typeof value !== 'object' || value === null) return false;
  return Symbol.asyncIterator in value || Symbol.iterator in value || 'getReader' in value;
}

/** Whether a value has a `then` method and can be awaited. (`instanceof Promise` fails for a promise of another realm.) */
export function isPromiseLike(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
