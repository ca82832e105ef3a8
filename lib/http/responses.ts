/*
 * Sends the responses that are not streams: refusals, preflights and "retry later".
 *
 * Invariant: a browser that should reconnect always gets a 200, because it gives up for ever after every other status. (A browser
 * reconnects only with GET.)
 */

import type { ServerResponse } from 'node:http';
import { encodeComment, retryLine } from '../wire/event-stream.ts';
import type { HeaderSet } from './header-set.ts';
import { DEFAULT_RETRY, randomDelay, type DelayRange } from '../options/delay-range.ts';

/** Sends a status with one line of text. */
export function sendError(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.end(`${text}\n`);
}

/** Sends a status without a body. */
export function sendEmpty(response: ServerResponse, status: number): void {
  response.statusCode = status;
  if (status !== 204) response.setHeader('Content-Length', '0'); // [spec] a 204 has none, RFC 9110 8.6
  response.end();
}

/** Sends an empty stream with a reason and the delay after which the client reconnects. */
export function sendRetryLater(
  response: ServerResponse,
  headers: HeaderSet,
  reason: string,
  retry: DelayRange | undefined,
): void {
  headers.apply(response);
  response.statusCode = 200;
  response.end(encodeComment(reason) + retryLine(randomDelay(retry ?? DEFAULT_RETRY)));
}

/** Sends 429 or 503 with `Retry-After`, for clients that are not browsers. */
export function sendUnavailable(
  response: ServerResponse,
  status: 429 | 503,
  reason: string,
  retry: DelayRange | undefined,
): void {
  response.setHeader('Retry-After', String(Math.ceil(randomDelay(retry ?? DEFAULT_RETRY) / 1000)));
  sendError(response, status, reason);
}
