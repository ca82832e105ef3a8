/*
 * Lets requests through to a router by their origin: in the router, and as a middleware in front of it.
 *
 * Invariants: a response that was sent already is reported to Express. The origin of a request is checked once.
 */

import type { CorsOptions } from 'cors';
import type { NextFunction, Request, Response } from 'express';
import { SseError } from '../errors.ts';
import { CorsPolicy, type CorsResult } from './cors.ts';
import { passError } from './express-error.ts';
import { pathOf } from './request-info.ts';
import { sendError } from './responses.ts';

// Without HTTPS, browsers do not send Sec-Fetch-Site. The router's own origin is then recognised by the host of the request.
const FOREIGN_ORIGIN =
  "This origin may not read this stream. If it is the server's own, behind a proxy: let the proxy forward the host, and set Express' trust proxy.";

/** Handles a request that may continue. */
type Handle = (req: Request, res: Response, next: NextFunction) => void;

/** The checks before every route of a router. */
export class OriginCheck {
  readonly #cors: CorsPolicy | undefined;
  readonly #handle: Handle;
  /** The responses whose request has passed {@link handleInFront} and has not reached the router yet. */
  readonly #checkedInFront = new WeakSet<Response>();

  /** @param handle Called for the requests that may continue, and for preflights. */
  constructor(options: CorsOptions | undefined, handle: Handle) {
    this.#cors = options && new CorsPolicy(options);
    this.#handle = handle;
  }

  /** Checks a request to the router. */
  handle(req: Request, res: Response, next: NextFunction): void {
    if (res.headersSent || res.writableEnded) {
      next(
        new SseError(
          'ERR_SSE_HEADERS_SENT',
          `The response to ${req.method} ${pathOf(req)} must be unsent when the router receives it; received one whose head was sent. Find the middleware in front that answers, and set headers there with res.setHeader().`,
        ),
      );
      return;
    }
    if (this.#cors === undefined || this.#checkedInFront.delete(res)) this.#handle(req, res, next);
    else this.#cors.check(req, res, (result) => this.#onResult(result, req, res, next));
  }

  /**
   * The `cors` option as a middleware in front of others: sets the CORS headers of whatever they answer, answers preflights, and
   * refuses foreign origins. The origin is not checked again when the request reaches the router.
   */
  handleInFront(req: Request, res: Response, next: NextFunction): void {
    if (this.#cors === undefined || res.headersSent) return next();
    this.#cors.check(req, res, (result) => {
      if (result !== 'pass' || isPreflight(req)) return this.#onResult(result, req, res, next);
      if (res.headersSent) return;
      this.#checkedInFront.add(res);
      next();
    });
  }

  #onResult(result: CorsResult, req: Request, res: Response, next: NextFunction): void {
    if (res.headersSent) return; // the application has answered during an asynchronous check of the origin
    if (typeof result === 'object') passError(result.error, next, 'cors.origin()');
    else if (result === 'pass') this.#handle(req, res, next);
    else sendError(res, 403, FOREIGN_ORIGIN);
  }
}

/** [spec] Whether a request is a preflight: https://fetch.spec.whatwg.org/#cors-preflight-request */
function isPreflight({ method, headers }: Request): boolean {
  return method === 'OPTIONS' && headers.origin !== undefined && headers['access-control-request-method'] !== undefined;
}
