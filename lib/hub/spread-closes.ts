/*
 * Closes many connections spread over a time, so that their clients do not reconnect at once.
 */

import type { ServerConnection } from '../connection/server-connection.ts';

/** How long one slice of closes may hold the event loop. */
const MAX_SLICE_MS = 10;
/** A close that is due in less than this does not wait for a timer. */
const MIN_WAIT_MS = 20;

/**
 * Calls `close` for each connection that is not closed yet, the first at once and the last after about `over` milliseconds.
 * @param whenDone Settles when no connection is left, so that nothing has to be waited for.
 */
export async function spreadCloses(
  connections: readonly ServerConnection[],
  over: number,
  close: (connection: ServerConnection) => void,
  whenDone?: Promise<void>,
): Promise<void> {
  const start = performance.now();
  let sliceStart = start;
  let closed = 0;
  for (const connection of connections) {
    if (connection.isClosed) continue;
    const due = start + (over * closed++) / connections.length;
    const now = performance.now();
    // oxlint-disable-next-line no-await-in-loop -- the closes are spread
    if (due - now >= MIN_WAIT_MS)
      await (whenDone === undefined ? delay(due - now) : Promise.race([whenDone, delay(due - now)]));
    else if (closed > 1 && now - sliceStart > MAX_SLICE_MS) {
      await new Promise(setImmediate); // oxlint-disable-line no-await-in-loop
      sliceStart = performance.now();
    }
    close(connection);
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
