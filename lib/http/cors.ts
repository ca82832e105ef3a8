/*
 * Who may read a stream from another origin: the `cors` package, checked at set-up, and a refusal before the handler runs.
 * Knows errors, and Express' requests.
 * Invariant: a foreign origin gets no place and no allowing header; what no browser accepts does not start.
 */

import cors, { type CorsOptions } from 'cors';
import type { Request, Response } from 'express';
import { appendVary } from './header-set.ts';
import { isSameOrigin } from './same-origin.ts';

/** What became of a request: it may go on, its origin may not read the stream, or it failed. */
export type CorsResult = 'pass' | 'foreign' | { readonly error: unknown };

/** Puts the CORS headers on an answer, whatever it will be, and tells whether it may be a stream. */
export class CorsPolicy {
  readonly #open: boolean;
  readonly #varies: boolean;
  readonly #credentials: boolean;
  readonly #apply: (req: Request, res: Response, next: (error?: unknown) => void) => void;

  constructor(options: CorsOptions) {
    this.#open = options.origin === '*' || options.origin === true;
    this.#varies = options.origin !== '*';
    this.#credentials = options.credentials === true;
    // The answer to a preflight is ours, or a foreign one would be told yes.
    const all: CorsOptions = { ...options, preflightContinue: true };
    const { origin } = options;
    // Who has been answered while a function thinks gets no headers any more: they would throw into the application's own callback.
    this.#apply =
      typeof origin !== 'function'
        ? cors(all)
        : (req, res, next) =>
            cors({
              ...all,
              origin: (from, tell) => origin(from, (error, is) => res.headersSent || tell(error, is)),
            })(req, res, next);
  }

  check(req: Request, res: Response, answer: (verdict: CorsResult) => void): void {
    const { origin } = req.headers;
    if (this.#varies) appendVary(res, 'Origin'); // `cors` leaves it out where a function has refused
    res.removeHeader('Access-Control-Allow-Origin'); // an application-wide cors() in front may have allowed more
    this.#apply(req, res, (error?: unknown) => {
      if (error !== undefined && error !== null) return answer({ error });
      const allowed = res.getHeader('Access-Control-Allow-Origin');
      // A function may answer '*' as well; with credentials no browser takes that, so nor is it a yes here.
      if (origin === undefined || this.#open || allowed === origin || (allowed === '*' && !this.#credentials))
        return answer('pass');
      if (isSameOrigin(req, origin)) return answer('pass');
      for (const name of res.getHeaderNames()) if (name.startsWith('access-control-')) res.removeHeader(name);
      answer('foreign');
    });
  }
}
