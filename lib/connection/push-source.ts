/*
 * `pushAll()`: reads a source of messages at the speed of the connection's client.
 * Invariant: the source is released when the connection ends, also while it is being waited for.
 */

import { AsyncResource } from 'node:async_hooks';
import type { Connection } from '../api/connection.ts';
import type { Message } from '../api/message.ts';
import { isPromiseLike } from '../api/source.ts';
import { describe, SseTypeError } from '../errors.ts';
import { TextPieces } from './text-pieces.ts';

/** After this many items the event loop continues, however fast the source and the client are. */
const ITEMS_PER_YIELD = 256;

interface SourceIterator {
  next(): Promise<IteratorResult<unknown>> | IteratorResult<unknown>;
  /** Releases the source. It is never awaited: a generator that waits for something does not react. */
  release(): void;
}

/** Pushes everything that the source yields, until `signal` aborts. @throws {SseTypeError} `ERR_SSE_SOURCE`, and the errors of the source. */
export async function pipeSource(connection: Connection, source: unknown, signal: AbortSignal): Promise<void> {
  const iterator = iterate(source);
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
        ? await new Promise<IteratorResult<unknown> | undefined>((resolve, reject) => {
            wake = () => resolve(undefined);
            pending.then(resolve, reject);
          })
        : pending;
      if (step === undefined) return;
      if (signal.aborted) return iterator.release(); // again: a generator that ended the connection itself did not react
      if (step.done) break;
      const item = pieces.next(step.value);
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

function iterate(source: unknown): SourceIterator {
  if (typeof source === 'object' && source !== null && !ArrayBuffer.isView(source)) {
    if ('getReader' in source) return fromReader((source as ReadableStream<unknown>).getReader());
    if (Symbol.asyncIterator in source)
      return fromIterator((source as AsyncIterable<unknown>)[Symbol.asyncIterator](), source);
    if (Symbol.iterator in source) return fromIterator((source as Iterable<unknown>)[Symbol.iterator](), source);
  }
  throw new SseTypeError(
    'ERR_SSE_SOURCE',
    `The source of pushAll() must be a generator, an array or a readable stream; received ${describe(source)}. Use push() for one message.`,
  );
}

function fromReader(reader: ReadableStreamDefaultReader<unknown>): SourceIterator {
  return {
    next: () => reader.read() as Promise<IteratorResult<unknown>>,
    release: () => void reader.cancel().catch(ignore),
  };
}

function fromIterator(iterator: AsyncIterator<unknown> | Iterator<unknown>, source: object): SourceIterator {
  return {
    next: () => iterator.next(),
    release: () => {
      if ('destroy' in source && typeof source.destroy === 'function') {
        // Before its first read, a readable has no listener for errors, and an error without a listener ends the process.
        if ('on' in source && typeof source.on === 'function') source.on('error', ignore);
        source.destroy(); // a readable that waits for data
      }
      try {
        void Promise.resolve(iterator.return?.()).catch(ignore);
      } catch {
        // An error of the generator's own clean-up: the connection has ended, and no caller waits.
      }
    },
  };
}

function ignore(): void {
  // An error of a released source has no meaning.
}
