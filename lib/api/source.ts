/*
 * What `pushAll` and a handler's result may be: something to iterate.
 */

import type { EventMap, Message } from './message.ts';

type SourceItem<E extends EventMap> = Message<E> | string;

/** Something to iterate: a generator, an array, a Node readable, a web stream. */
export type Source<E extends EventMap> =
  | Iterable<SourceItem<E>>
  | AsyncIterable<SourceItem<E> | Uint8Array>
  | ReadableStream<SourceItem<E> | Uint8Array>;

/** Whether a handler's answer is something to iterate. */
export function isSource(value: unknown): value is Source<EventMap> {
  if (typeof value !== 'object' || value === null) return false;
  return Symbol.asyncIterator in value || Symbol.iterator in value || 'getReader' in value;
}

/** Whether something is to be waited for. (Not every promise is this realm's.) */
export function isPromiseLike(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
