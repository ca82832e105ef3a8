/*
 * One way to iterate over every kind of source: generators, arrays, Node readables and web streams.
 * Invariants: releasing a source never throws, and nothing waits for it. A source that breaks the protocol of iterators has failed, and is
 * never taken for one that has ended.
 */

import type { SseTypeError } from '../errors.ts';
import { invalid } from '../validation/validate.ts';

export interface SourceIterator {
  /** Returns what the source's own iterator returns: perhaps no result, so {@link check} receives it next. */
  next(): unknown;
  /** Returns a settled result of {@link next}. @throws {SseTypeError} `ERR_SSE_SOURCE` if it is no result of an iterator */
  check(step: unknown): IteratorResult<unknown>;
  /** Releases the source. It is never awaited: a generator that waits for something does not react. */
  release(): void;
}

type Unchecked = Omit<SourceIterator, 'check'>;

/** What a source may have. The application may have written it, so any of these may be anything. */
interface AnySource {
  readonly getReader?: unknown;
  readonly [Symbol.asyncIterator]?: unknown;
  readonly [Symbol.iterator]?: unknown;
}

/**
 * Returns the iterator of a source.
 * @param name - what the source is in an error message; `cure` is the sentence that follows
 * @throws {SseTypeError} `ERR_SSE_SOURCE` for what cannot be iterated
 */
export function iterate(source: unknown, name: string, cure: string): SourceIterator {
  const fail = (expectation: string, value: unknown, advice: string): SseTypeError =>
    invalid(name, expectation, value, { code: 'ERR_SSE_SOURCE', cure: advice });
  const check = (step: unknown): IteratorResult<unknown> => {
    if (typeof step === 'object' && step !== null) return step as IteratorResult<unknown>;
    throw fail('an iterable whose next() gives { done, value }', step, 'Correct its next(), or use a generator.');
  };
  if (typeof source === 'object' && source !== null && !ArrayBuffer.isView(source)) {
    const { getReader, [Symbol.asyncIterator]: iterateAsync, [Symbol.iterator]: iterateSync } = source as AnySource;
    if (typeof getReader === 'function') {
      return { ...fromReader(getReader.call(source) as ReadableStreamDefaultReader<unknown>), check };
    }
    const method = iterateAsync ?? iterateSync;
    if (typeof method === 'function') {
      const iterator = method.call(source) as Iterator<unknown> | undefined;
      if (typeof iterator?.next === 'function') return { ...fromIterator(iterator, source), check };
      throw fail('an iterable whose iterator has a next()', iterator, 'Correct its iterator, or use a generator.');
    }
  }
  throw fail('a generator, an array or a readable stream', source, cure);
}

function fromReader(reader: ReadableStreamDefaultReader<unknown>): Unchecked {
  return {
    next: () => reader.read(),
    release: () => void reader.cancel().catch(ignore),
  };
}

function fromIterator(iterator: AsyncIterator<unknown> | Iterator<unknown>, source: object): Unchecked {
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
