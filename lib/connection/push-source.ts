/*
 * Whatever yields messages, poured into a connection at its reader's speed.
 * Knows errors, and what a connection is as a type.
 * Invariant: a source is released when the connection is over, also while it is being waited for.
 */

import type { Connection } from '../api/connection.ts';
import { describe, SseTypeError } from '../errors.ts';
import type { Message } from '../api/message.ts';
import { isPromiseLike } from '../api/source.ts';

/** After so many items others have their turn, however fast the source and the reader are. */
const ITEMS_PER_YIELD = 256;

interface SourceIterator {
  next(): Promise<IteratorResult<unknown>> | IteratorResult<unknown>;
  /** Lets go of the source; never awaited, as a generator that is waiting for something does not listen. */
  release(): void;
}

/** @throws {SseTypeError} `ERR_SSE_SOURCE`, and what the source throws. */
export async function pipeSource(connection: Connection, source: unknown): Promise<void> {
  const steps = iterate(source);
  const decoder = new TextDecoder();
  // One promise for "it is over" in a race with each step would hold every step's item for as long as the connection lasts.
  let wake: (() => void) | undefined;
  const { signal } = connection;
  const stop = (): void => {
    steps.release();
    wake?.();
  };
  if (signal.aborted) return stop();
  signal.addEventListener('abort', stop, { once: true });
  /* oxlint-disable no-await-in-loop -- one after the other is the point */
  try {
    for (let taken = 1; ; taken++) {
      if (signal.aborted) return steps.release(); // while its reader was waited for
      const asked = steps.next();
      const step = isPromiseLike(asked)
        ? await new Promise<IteratorResult<unknown> | undefined>((resolve, reject) => {
            wake = () => resolve(undefined);
            asked.then(resolve, reject);
          })
        : asked;
      if (step === undefined) return;
      if (signal.aborted) return steps.release(); // again: a generator that has ended it itself did not listen
      if (step.done) break;
      if (!pushOne(connection, step.value, decoder)) await connection.drained();
      if (taken % ITEMS_PER_YIELD === 0) await new Promise(setImmediate);
    }
    const rest = decoder.decode();
    if (rest !== '') connection.push(rest);
    /* oxlint-enable no-await-in-loop */
  } catch (error) {
    steps.release();
    if (!signal.aborted) throw error; // a source that complains of having been released is not news
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function pushOne(connection: Connection, item: unknown, decoder: InstanceType<typeof TextDecoder>): boolean {
  if (!(item instanceof Uint8Array)) return connection.push(item as Message);
  const text = decoder.decode(item, { stream: true }); // a character may be spread over two chunks
  return text === '' || connection.push(text);
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
    `pushAll() takes something to iterate (a generator, an array, a readable stream), and this is ${describe(source)}.`,
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
        // Before it is first asked nobody hears of its errors, and what nobody hears ends the process.
        if ('on' in source && typeof source.on === 'function') source.on('error', ignore);
        source.destroy(); // a readable that waits for data
      }
      try {
        void Promise.resolve(iterator.return?.()).catch(ignore);
      } catch {
        // a generator's own clean-up: the connection is over, nobody waits for it
      }
    },
  };
}

function ignore(): void {
  // what a released source says is not news
}
