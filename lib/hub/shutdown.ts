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

/** Checks the option `over`: milliseconds, default 0. @throws {SseTypeError} `ERR_SSE_OPTION` */
export function checkOver(over: unknown): number {
  if (over === undefined) return 0;
  if (typeof over === 'number' && over >= 0 && over <= MAX_TIMER_MS) return over;
  throw invalid('over', `a number of milliseconds from 0 to ${MAX_TIMER_MS}`, over, { cure: 'Leave it out for 0.' });
}

export async function shutDown(hub: Hub, over: number): Promise<void> {
  const { registry, settings } = hub;
  hub.isClosing = true;
  const empty = registry.whenEmpty(); // the shutdown does not wait for clients that disconnect by themselves
  const connections = [...registry.all()]; // a connection that ends meanwhile leaves the registry
  const close = (connection: ServerConnection): void =>
    connection.beginClose('shutdown', retryLine(randomDelay(settings.retry ?? DEFAULT_RETRY)));
  await spreadCloses(connections, over, close, empty);
  await empty;
  await hub.close();
}
