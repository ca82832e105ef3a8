/*
 * Applies the `cors` package to requests, and finds the requests of origins that may not read the stream.
 *
 * Invariant: a request of such an origin occupies no connection and gets no header that allows anything.
 */

import { AsyncResource } from 'node:async_hooks';
import cors, { type CorsOptions } from 'cors';
import type { Request, Response } from 'express';
import { appendVary } from './header-set.ts';
import { isSameOrigin } from './same-origin.ts';

/** The result for a request: it may continue, its origin may not read the stream, or the application's check failed. */
export type CorsResult = 'pass' | 'foreign' | { readonly error: unknown };

/** Sets the CORS headers of a response, whatever it will be, and decides whether its request may open a stream. */
export class CorsPolicy {
  readonly #allowsEveryOrigin: boolean;
  readonly #variesByOrigin: boolean;
  readonly #allowsCredentials: boolean;
  readonly #apply: (req: Request, res: Response, next: (error?: unknown) => void) => void;

  constructor(options: CorsOptions) {
    this.#allowsEveryOrigin = options.origin === '*' || options.origin === true;
    this.#variesByOrigin = options.origin !== '*';
    this.#allowsCredentials = options.credentials === true;
    // The router answers preflights itself: `cors` would answer one of a foreign origin with success.
    const corsOptions: CorsOptions = { ...options, preflightContinue: true };
    const { origin } = options;
    // If the request was answered during an asynchronous origin function, setting headers would throw inside the application's
    // callback.
    this.#apply =
      typeof origin !== 'function'
        ? cors(corsOptions)
        : (req, res, next) => {
            // The function may answer many requests in one tick, as a loader of batches does. The rest of each runs in its own context.
            const context = new AsyncResource('SseOrigin');
            const answer: typeof next = (error) => context.runInAsyncScope(next, undefined, error);
            cors({
              ...corsOptions,
              origin: (requestOrigin, callback) =>
                origin(requestOrigin, (error, allowed) => res.headersSent || callback(error, allowed)),
            })(req, res, answer);
          };
  }

  /** Sets the headers and calls back with the result, later if the application's origin function is asynchronous. */
  check(req: Request, res: Response, callback: (result: CorsResult) => void): void {
    const { origin } = req.headers;
    if (this.#variesByOrigin) appendVary(res, 'Origin'); // `cors` omits it if a function has refused
    res.removeHeader('Access-Control-Allow-Origin'); // an application-wide cors() in front may have allowed more
    this.#apply(req, res, (error?: unknown) => {
      if (error !== undefined && error !== null) return callback({ error });
      const allowed = res.getHeader('Access-Control-Allow-Origin');
      // A function may also return '*'. With credentials no browser accepts that, so it allows nothing here.
      if (
        origin === undefined ||
        this.#allowsEveryOrigin ||
        allowed === origin ||
        (allowed === '*' && !this.#allowsCredentials)
      )
        return callback('pass');
      if (isSameOrigin(req, origin)) return callback('pass');
      for (const name of res.getHeaderNames()) if (name.startsWith('access-control-')) res.removeHeader(name);
      callback('foreign');
    });
  }
}
