/*
 * `pushAll()`: reads a source of messages at the speed of the connection's client.
 * Invariant: the source is released when the connection ends, also while it is being waited for.
 */

import { AsyncResource } from 'node:async_hooks';
import type { Connection } from '../api/connection.ts';
import type { Message } from '../api/message.ts';
import { isPromiseLike } from '../api/source.ts';
import { iterate } from './source-iterator.ts';
import { TextPieces } from './text-pieces.ts';

/** After this many items the event loop continues, however fast the source and the client are. */
const ITEMS_PER_YIELD = 256;

/** What error messages call a source, and the cure for one that cannot be iterated. */
export interface SourceTexts {
  readonly name: string;
  readonly cure: string;
}

/** What a step results in if the connection ends first. No result of a source is the same. */
const ENDED = Symbol('ended');

/** Pushes everything that the source yields, until `signal` aborts. @throws {SseTypeError} `ERR_SSE_SOURCE`, and the errors of the source. */
export async function pipeSource(
  connection: Connection,
  source: unknown,
  signal: AbortSignal,
  { name, cure }: SourceTexts,
): Promise<void> {
  const iterator = iterate(source, name, cure);
  const pieces = new TextPieces();
  const context = new AsyncResource('SseSource'); // a generator runs in the context of each call of its methods
  // One promise for the end of the connection, raced with each step, would keep every step's item until that end.
  let wake: (() => void) | undefined;
  const stop = (): void => {
    context.runInAsyncScope(() => iterator.release());
    wake?.();
  };
  if (signal.aborted) return stop();
  signal.addEventListener('abort', stop, { once: true });
  /* oxlint-disable no-await-in-loop -- items are pushed in sequence */
  try {
    for (let taken = 1; ; taken++) {
      if (signal.aborted) return iterator.release(); // while its client was waited for
      const pending = iterator.next();
      const step = isPromiseLike(pending)
        ? await new Promise<unknown>((resolve, reject) => {
            wake = () => resolve(ENDED);
            pending.then(resolve, reject);
          })
        : pending;
      if (step === ENDED) return;
      if (signal.aborted) return iterator.release(); // again: a generator that ended the connection itself did not react
      const { done, value } = iterator.check(step);
      if (done) break;
      const item = pieces.next(value);
      if (item !== undefined && !connection.push(item as Message)) await connection.drained();
      if (taken % ITEMS_PER_YIELD === 0) await new Promise(setImmediate);
    }
    for (const rest of pieces.rest()) connection.push(rest as Message);
    /* oxlint-enable no-await-in-loop */
  } catch (error) {
    iterator.release();
    if (!signal.aborted) throw error; // an error because of the release has no meaning
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
