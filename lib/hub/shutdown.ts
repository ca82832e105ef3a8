/*
 * The end of a router: no more admissions, every stream ended within a time, each told when to come back.
 * Knows the hub and streams.
 * Invariant: it settles when no stream is left, and a reader that does not read cannot hold it for more than a second.
 */

import { SseTypeError, describe } from '../errors.ts';
import { retryLine } from '../wire/event-stream.ts';
import { MAX_TIMER_MS } from '../validation/validate.ts';
import type { Hub } from './hub.ts';
import { DEFAULT_RETRY, randomDelay } from '../options/delay-range.ts';

/** Streams are ended some at a time, and the first at once: milliseconds of one slice, and between two. */
const MAX_SLICE_MS = 10;
const MIN_WAIT_MS = 20;

/** @throws {SseTypeError} `ERR_SSE_OPTION` */
export function checkOver(over: unknown): number {
  if (over === undefined) return 0;
  if (typeof over === 'number' && over >= 0 && over <= MAX_TIMER_MS) return over;
  throw new SseTypeError(
    'ERR_SSE_OPTION',
    `close({ over }) takes milliseconds, 0 or more, and this is ${describe(over)}.`,
  );
}

export async function shutDown(hub: Hub, over: number): Promise<void> {
  hub.closing = true;
  const empty = hub.registry.whenEmpty(); // who leaves by itself is not waited for
  const start = performance.now();
  let slice = start;
  let ended = 0;
  const streams = [...hub.registry.all()]; // who leaves meanwhile leaves the registry
  for (const stream of streams) {
    if (stream.isClosed) continue;
    const due = start + (over * ended++) / streams.length;
    const now = performance.now();
    // oxlint-disable-next-line no-await-in-loop -- one after the other is the point
    if (due - now >= MIN_WAIT_MS) await Promise.race([empty, new Promise((on) => setTimeout(on, due - now).unref())]);
    else if (ended > 1 && now - slice > MAX_SLICE_MS) {
      await new Promise(setImmediate); // oxlint-disable-line no-await-in-loop
      slice = performance.now();
    }
    stream.beginClose('shutdown', retryLine(randomDelay(hub.settings.retry ?? DEFAULT_RETRY)));
  }
  await empty;
  await hub.close();
}
