/*
 * The answers that are no stream: refusals, preflights, and "not now".
 * Knows node:http's responses, headings and frames.
 * Invariant: a browser that should come back is never told anything but 200, as it gives up for ever on every other status.
 */

import type { ServerResponse } from 'node:http';
import { END_EVENT_ID, retryLine, encodeComment } from '../wire/event-stream.ts';
import type { HeaderSet } from './header-set.ts';
import { DEFAULT_RETRY, randomDelay, type DelayRange } from '../options/delay-range.ts';

export { END_EVENT_ID as END_ID };

/** A status, with a line for whoever reads it. */
export function sendError(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.end(`${text}\n`);
}

/** A status without a body. */
export function sendEmpty(response: ServerResponse, status: number): void {
  response.statusCode = status;
  if (status !== 204) response.setHeader('Content-Length', '0'); // [spec] a 204 has none, RFC 9110 8.6
  response.end();
}

/** Not now: an empty stream that tells when to come back. */
export function sendRetryLater(
  response: ServerResponse,
  heading: HeaderSet,
  why: string,
  retry: DelayRange | undefined,
): void {
  heading.apply(response);
  response.statusCode = 200;
  response.end(encodeComment(why) + retryLine(randomDelay(retry ?? DEFAULT_RETRY)));
}

/** Not now, for clients that are not browsers. */
export function sendUnavailable(
  response: ServerResponse,
  status: 429 | 503,
  why: string,
  retry: DelayRange | undefined,
): void {
  response.setHeader('Retry-After', String(Math.ceil(randomDelay(retry ?? DEFAULT_RETRY) / 1000)));
  sendError(response, status, why);
}
