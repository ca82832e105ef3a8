/*
 * Where errors go for which nobody waits.
 * Knows nothing of the package but what a promise is.
 * Invariant: each is told once; what the telling itself throws or rejects with ends as a warning, never as a crash.
 */

import { inspect } from 'node:util';
import type { Connection } from '../api/connection.ts';
import { SseError } from '../errors.ts';
import { isPromiseLike } from '../api/source.ts';

/** Tells the application, or, where it does not listen, whoever reads the process's warnings. */
export function report(
  onError: ((error: unknown, conn?: Connection) => unknown) | undefined,
  error: unknown,
  conn: Connection | undefined,
): void {
  if (onError === undefined) return warn(error);
  try {
    const told: unknown = onError(error, conn);
    if (isPromiseLike(told)) told.then(undefined, warn);
  } catch (second) {
    warn(second);
  }
}

function warn(error: unknown): void {
  try {
    process.emitWarning(error instanceof Error ? error : String(error));
  } catch {
    // Node takes no error of another realm, and under Jest all errors of the application are of another.
    process.emitWarning(inspect(error));
  }
}

/** A handler that makes its clients lose what they missed should hear of it; once, as it does so for every client. */
export function warnOfLateJoin(): void {
  process.emitWarning(
    'A returning client joined a channel after its stream had opened: what it missed there is not sent. Join before the first push, or before the handler returns.',
    { code: 'SSE_JOINED_LATE' },
  );
}

/** A handler that sends the head and pushes as well has said something that nobody will read. */
export function headersAlreadySent(): SseError {
  return new SseError(
    'ERR_SSE_HEADERS_SENT',
    'The handler has sent the head itself (writeHead, flushHeaders or write), so nothing that it pushed can be: leave the head to the stream, and set headers with res.setHeader().',
  );
}
