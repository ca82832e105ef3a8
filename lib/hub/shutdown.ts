/*
 * `close()` of a router: no more admissions; every stream ends within a time, each with its own delay for the reconnect.
 * Invariant: it settles when no stream is left, and a client that does not read cannot delay it for more than a second.
 */

import { randomDelay, DEFAULT_RETRY } from '../options/delay-range.ts';
import { invalid, MAX_TIMER_MS } from '../validation/validate.ts';
import { retryLine } from '../wire/event-stream.ts';
import type { Hub } from './hub.ts';

/** How long one slice of closes may hold the event loop. */
const MAX_SLICE_MS = 10;
/** A close that is due in less than this does not wait for a timer. */
const MIN_WAIT_MS = 20;

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
  const start = performance.now();
  let slice = start;
  let ended = 0;
  const connections = [...registry.all()]; // a connection that ends meanwhile leaves the registry
  for (const connection of connections) {
    if (connection.isClosed) continue;
    const due = start + (over * ended++) / connections.length;
    const now = performance.now();
    // oxlint-disable-next-line no-await-in-loop -- the closes are spread
    if (due - now >= MIN_WAIT_MS) await Promise.race([empty, new Promise((on) => setTimeout(on, due - now).unref())]);
    else if (ended > 1 && now - slice > MAX_SLICE_MS) {
      await new Promise(setImmediate); // oxlint-disable-line no-await-in-loop
      slice = performance.now();
    }
    connection.beginClose('shutdown', retryLine(randomDelay(settings.retry ?? DEFAULT_RETRY)));
  }
  await empty;
  await hub.close();
}
