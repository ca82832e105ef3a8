/*
 * One way to iterate over every kind of source: generators, arrays, Node readables and web streams.
 * Invariant: releasing a source never throws, and nothing waits for it.
 */

import { describe, SseTypeError } from '../errors.ts';

export interface SourceIterator {
  next(): Promise<IteratorResult<unknown>> | IteratorResult<unknown>;
  /** Releases the source. It is never awaited: a generator that waits for something does not react. */
  release(): void;
}

/**
 * Returns the iterator of a source.
 * @param name - what the source is in an error message; `cure` is the sentence that follows
 * @throws {SseTypeError} `ERR_SSE_SOURCE` for what cannot be iterated
 */
export function iterate(source: unknown, name: string, cure: string): SourceIterator {
  if (typeof source === 'object' && source !== null && !ArrayBuffer.isView(source)) {
    if ('getReader' in source) return fromReader((source as ReadableStream<unknown>).getReader());
    if (Symbol.asyncIterator in source)
      return fromIterator((source as AsyncIterable<unknown>)[Symbol.asyncIterator](), source);
    if (Symbol.iterator in source) return fromIterator((source as Iterable<unknown>)[Symbol.iterator](), source);
  }
  throw new SseTypeError(
    'ERR_SSE_SOURCE',
    `${name} must be a generator, an array or a readable stream; received ${describe(source)}. ${cure}`,
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
