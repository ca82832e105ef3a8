/*
 * The close of a journal or of a store of runs, at the end of its router.
 * Invariant: it settles, whatever the engine does: the shutdown continues, and a fault is reported.
 */

import { SseError } from '../errors.ts';

/** The journal in LMDB may take 10 s. */
const CLOSE_TIMEOUT_MS = 15_000;

/** @param name - what closes, in the message: 'journal' or 'store of runs' */
export async function closeWithin(
  name: string,
  engine: { close(): Promise<void> },
  report: (error: unknown) => void,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const message = `The ${name} did not close within ${CLOSE_TIMEOUT_MS} ms, so close() of the router no longer waits. Check its engine.`;
      reject(new SseError('ERR_SSE_TIMEOUT', message));
    }, CLOSE_TIMEOUT_MS);
  });
  try {
    await Promise.race([engine.close(), timeout]);
  } catch (error) {
    report(error);
  } finally {
    clearTimeout(timer);
  }
}
