/*
 * An async iterator that `return()` ends at once, although a `next()` is pending.
 * An async generator alone does not do that: it runs `return()` after the pending `next()`, which may wait for an event for ever. A
 * GraphQL or tRPC server calls `return()` when a subscriber disconnects.
 */

/**
 * Makes an iterator of a generator. The generator must end soon after its signal aborts: after an abort of one of the given
 * signals, or after `return()`.
 */
export function endableIterator<T>(
  signals: readonly (AbortSignal | undefined)[],
  generate: (signal: AbortSignal) => AsyncGenerator<T, void>,
): AsyncIterableIterator<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  async function* run(): AsyncGenerator<T, void> {
    if (signals.some((signal) => signal?.aborted)) abort();
    for (const signal of signals) signal?.addEventListener('abort', abort);
    try {
      yield* generate(controller.signal);
    } finally {
      for (const signal of signals) signal?.removeEventListener('abort', abort);
    }
  }
  const generator = run();
  return {
    next: () => generator.next(),
    return() {
      abort();
      return generator.return();
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
