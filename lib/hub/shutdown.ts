/*
 * `close()` of a router: no more admissions; every stream ends within a time, each with its own delay for the reconnect.
 * Invariant: it settles when no stream is left, and a client that does not read cannot delay it for more than a second.
 */

import type { ServerConnection } from '../connection/server-connection.ts';
import { randomDelay, DEFAULT_RETRY } from '../options/delay-range.ts';
import { invalid, MAX_TIMER_MS } from '../validation/validate.ts';
import { retryLine } from '../wire/event-stream.ts';
import type { Hub } from './hub.ts';

/** How long one slice of closes may hold the event loop. */
const MAX_SLICE_MS = 10;
/** A close that is due in less than this does not wait for a timer. */
const MIN_WAIT_MS = 20;

/** Checks an option of `close()`: milliseconds, default 0. @throws {SseTypeError} `ERR_SSE_OPTION` */
export function checkTime(name: 'over' | 'wait', value: unknown): number {
  if (value === undefined) return 0;
  if (typeof value === 'number' && value >= 0 && value <= MAX_TIMER_MS) return value;
  throw invalid(name, `a number of milliseconds from 0 to ${MAX_TIMER_MS}`, value, { cure: 'Leave it out for 0.' });
}

/**
 * Ends every stream, spread over `over` milliseconds. A stream whose answer is still being produced ends when that has finished, or
 * after `wait` milliseconds.
 */
export async function shutDown(hub: Hub, over: number, wait: number): Promise<void> {
  const { registry, producers, settings } = hub;
  hub.isClosing = true;
  const empty = registry.whenEmpty(); // the shutdown does not wait for clients that disconnect by themselves
  const start = performance.now();
  const unfinished = new Set<ServerConnection>();
  let slice = start;
  let ended = 0;
  const close = (connection: ServerConnection): void => {
    unfinished.delete(connection);
    connection.beginClose('shutdown', retryLine(randomDelay(settings.retry ?? DEFAULT_RETRY)));
  };
  const yieldAfterSlice = async (): Promise<void> => {
    if (performance.now() - slice <= MAX_SLICE_MS) return;
    await new Promise(setImmediate);
    slice = performance.now();
  };
  const closeUnfinished = async (): Promise<void> => {
    for (const connection of unfinished) {
      await yieldAfterSlice(); // oxlint-disable-line no-await-in-loop
      close(connection);
    }
  };
  producers.onIdle = (connection) => {
    if (unfinished.has(connection)) close(connection);
  };
  const timer = setTimeout(() => void closeUnfinished(), wait).unref();
  const connections = [...registry.all()]; // a connection that ends meanwhile leaves the registry
  for (const connection of connections) {
    if (connection.isClosed) continue;
    const due = start + (over * ended++) / connections.length;
    const delay = due - performance.now();
    // oxlint-disable-next-line no-await-in-loop -- the closes are spread
    if (delay >= MIN_WAIT_MS) await Promise.race([empty, new Promise((on) => setTimeout(on, delay).unref())]);
    else if (ended > 1) await yieldAfterSlice(); // oxlint-disable-line no-await-in-loop
    if (performance.now() - start < wait && producers.has(connection)) unfinished.add(connection);
    else close(connection);
  }
  await empty;
  clearTimeout(timer);
  await hub.close();
}
