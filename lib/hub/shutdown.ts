/*
 * `close()` of a router: no more admissions; every stream ends within a time, each with its own delay for the reconnect.
 * Invariant: what was broadcast before it reaches the log and the open streams, if the engine answers within a second.
 * Invariant: it settles when no stream is left, and a client that does not read cannot delay it for more than a second.
 */

import { randomDelay, DEFAULT_RETRY } from '../options/delay-range.ts';
import { invalid, MAX_TIMER_MS } from '../validation/validate.ts';
import { retryLine } from '../wire/event-stream.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { Hub } from './hub.ts';
import { spreadCloses } from './spread-closes.ts';

/** How long the shutdown waits in all for appends: before the streams end, and after the last one has ended. */
const APPEND_TIMEOUT_MS = 1000;

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
  const { registry, producers, settings, appends } = hub;
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
  // The streams end with what was broadcast before. Without that they end at once, in this tick.
  const settled = appends.settle(APPEND_TIMEOUT_MS, registry.admitted > 0);
  if (settled !== undefined) await settled;
  const appendTimeLeft = Math.max(0, APPEND_TIMEOUT_MS - (performance.now() - start));
  const timer = setTimeout(
    () => void spreadCloses([...unfinished], 0, close),
    Math.max(0, start + wait - performance.now()),
  ).unref();
  const closeOrWait = (connection: ServerConnection): void => {
    if (performance.now() - start < wait && producers.has(connection)) unfinished.add(connection);
    else close(connection);
  };
  const connections = [...registry.all()]; // a connection that ends meanwhile leaves the registry
  await spreadCloses(connections, over, closeOrWait, empty);
  await empty;
  clearTimeout(timer);
  await appends.settle(appendTimeLeft, false); // a broadcast while the streams end is stored, too
  await hub.close();
}
