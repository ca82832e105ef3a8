/*
 * `close()` of a router: no more admissions; every stream ends within a time, each with its own delay for the reconnect.
 * Invariant: it settles when no stream is left, and a client that does not read cannot delay it for more than a second.
 */

import { randomDelay, DEFAULT_RETRY } from '../options/delay-range.ts';
import { invalid, MAX_TIMER_MS } from '../validation/validate.ts';
import { retryLine } from '../wire/event-stream.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { Hub } from './hub.ts';
import { spreadCloses } from './spread-closes.ts';

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
  hub.opener.refuseRequests(); // they have places: the registry would not become empty
  const empty = registry.whenEmpty(); // the shutdown does not wait for clients that disconnect by themselves
  const start = performance.now();
  const unfinished = new Set<ServerConnection>();
  const close = (connection: ServerConnection): void => {
    unfinished.delete(connection);
    connection.beginClose('shutdown', retryLine(randomDelay(settings.retry ?? DEFAULT_RETRY)));
  };
  producers.onIdle = (connection) => {
    if (unfinished.has(connection)) close(connection);
  };
  const timer = setTimeout(() => void spreadCloses([...unfinished], 0, close), wait).unref();
  const closeOrWait = (connection: ServerConnection): void => {
    if (performance.now() - start < wait && producers.has(connection)) unfinished.add(connection);
    else close(connection);
  };
  const connections = [...registry.all()]; // a connection that ends meanwhile leaves the registry
  await spreadCloses(connections, over, closeOrWait, empty);
  await empty;
  clearTimeout(timer);
  await hub.close();
}
