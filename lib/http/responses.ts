/*
 * Sends the responses that are not streams: refusals, preflights and "retry later".
 *
 * Invariant: no cache stores one of these responses, whatever the option `headers` is, which is for streams.
 * Invariant: a browser that should reconnect always gets a 200, because it gives up for ever after every other status. (A browser
 * reconnects only with GET.)
 */

import type { ServerResponse } from 'node:http';
import { encodeComment, retryLine } from '../wire/event-stream.ts';
import type { HeaderSet } from './header-set.ts';
import { DEFAULT_RETRY, randomDelay, type DelayRange } from '../options/delay-range.ts';

/**
 * Keeps a response out of every cache. Each of these responses is for one client or one moment, but a cache may store it and send it to
 * all clients. Varnish 7.1 stores a 204 for 120 s by default, and a 204 stops an `EventSource` for good; nginx stores every status with
 * `proxy_cache_valid any`.
 */
export function preventStoring(response: ServerResponse): void {
  const present = [response.getHeader('Cache-Control') ?? []].flat().join(',');
  if (!/\bno-store\b/i.test(present)) response.setHeader('Cache-Control', 'no-store');
}

/** Sends a status with one line of text. */
export function sendError(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  preventStoring(response);
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.end(`${text}\n`);
}

/** Sends a status without a body. */
export function sendEmpty(response: ServerResponse, status: number): void {
  response.statusCode = status;
  preventStoring(response);
  if (status !== 204) response.setHeader('Content-Length', '0'); // [spec] a 204 has none, RFC 9110 8.6
  response.end();
}

/** Sends a value as JSON. */
export function sendJson(response: ServerResponse, value: unknown): void {
  preventStoring(response);
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.end(JSON.stringify(value));
}

/** Sends an empty stream with a reason and the delay after which the client reconnects. */
export function sendRetryLater(
  response: ServerResponse,
  headers: HeaderSet,
  reason: string,
  retry: DelayRange | undefined,
): void {
  headers.apply(response);
  preventStoring(response);
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
