/*
 * Reports the errors that no caller can catch.
 *
 * Invariant: each error is reported once. If `onError` itself throws or rejects, that error becomes a warning, never a crash.
 */

import { inspect } from 'node:util';
import type { Connection } from '../api/connection.ts';
import { describe, SseError } from '../errors.ts';
import { isPromiseLike } from '../api/source.ts';

/** Passes an error to the application's `onError` or, without one, emits a warning of the process. */
export function report(
  onError: ((error: unknown, conn?: Connection) => unknown) | undefined,
  error: unknown,
  conn: Connection | undefined,
): void {
  if (onError === undefined) return warn(error);
  try {
    const result: unknown = onError(error, conn);
    if (isPromiseLike(result)) result.then(undefined, warn);
  } catch (secondError) {
    warn(secondError);
  }
}

function warn(error: unknown): void {
  try {
    process.emitWarning(error instanceof Error ? error : String(error));
  } catch {
    // Node refuses an error of another realm, and under Jest every error of the application is of another realm.
    process.emitWarning(inspect(error));
  }
}

/**
 * Warns that a handler makes its clients lose the events that they missed. Called once per router, because such a handler does it
 * for every client.
 */
export function warnOfLateJoin(): void {
  process.emitWarning(
    'A returning client joined a channel after its stream had opened, so the events that it missed on this channel are not sent. Join before the first push, or before the handler returns.',
    { code: 'SSE_JOINED_LATE' },
  );
}

/** Warns that `limits.perClient` cannot tell the clients of some requests apart. */
export function warnOfClient(address: string | undefined): void {
  process.emitWarning(
    `limits.perClient must have the IP address of each client; received ${describe(address)} as req.ip. Requests without an address, such as those over a Unix socket, are not counted. If a proxy is in front, set Express' trust proxy to the number of proxies; otherwise set limits.clientKey.`,
    { code: 'SSE_CLIENT_UNKNOWN' },
  );
}

/** Warns that clients receive nothing. Called once per router, because such middleware does it for every client. */
export function warnOfHeldBack(): void {
  process.emitWarning(
    'A stream has been open for one heartbeat interval, but middleware in front holds its response back, so the client has received nothing. Exclude the path of the stream from middleware that collects or rewrites bodies.',
    { code: 'SSE_HELD_BACK' },
  );
}

/** Returns the error for a handler that sends the response head itself, and pushes or sends a head for events: there is no stream. */
export function headersAlreadySent(): SseError {
  return new SseError(
    'ERR_SSE_HEADERS_SENT',
    'The response head must be left to the router; the handler sent it (writeHead, flushHeaders or write), so there is no stream, and pushes are lost. Send events with conn.push(), and set headers with res.setHeader(). To answer without a stream, set another Content-Type and do not push.',
  );
}
