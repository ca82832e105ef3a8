/*
 * Handles a request to the router: checks its origin, its method, what it accepts and the limits, then admits it and runs the
 * application's handler.
 *
 * Invariants: no request throws; errors go to Express. The handler runs only for a request that may open a stream.
 */

import accepts from 'accepts';
import type { NextFunction, Request, Response } from 'express';
import { sendEmpty, sendError, sendUnavailable, sendRetryLater } from './responses.ts';
import type { Connection } from '../api/connection.ts';
import { CorsPolicy, type CorsResult } from './cors.ts';
import { warnOfClient } from '../diagnostics/error-reporter.ts';
import { SseError } from '../errors.ts';
import { invalid, MAX_TIMER_MS } from '../validation/validate.ts';
import { END_EVENT_ID } from '../wire/event-stream.ts';
import { GzipTransport } from '../wire/gzip-transport.ts';
import { HeaderSet, type HeaderLayer } from './header-set.ts';
import type { Hub } from '../hub/hub.ts';
import { randomDelay } from '../options/delay-range.ts';
import { checkHeaders, HEADERS, type Settings } from '../options/options.ts';
import { onResponseClosed, ResponseTransport } from '../wire/response-transport.ts';
import { clientOf, lastEventIdOf, paddingOf, pathOf, queryOf } from './request-info.ts';
import { isSource, isPromiseLike } from '../api/source.ts';
import type { ServerConnection } from '../connection/server-connection.ts';

/** The property of a socket that holds its connection; it is the same in every copy of this package in a process. */
const SOCKET_CONNECTION: unique symbol = Symbol.for('sse-router.stream') as never;

/** The application's handler. Its result may be a promise, a source, or a promise of a source. */
type ConnectionHandler = (conn: Connection, req: Request, res: Response) => unknown;

/** A request that has passed every check but the limits. */
interface PendingRequest {
  readonly req: Request;
  readonly res: Response;
  readonly next: NextFunction;
  readonly headers: HeaderSet;
  /** Whether its stream is compressed. */
  readonly gzip: boolean;
  readonly lastEventId: string;
  readonly padding: string;
}

const GZIP_LAYER: HeaderLayer = { 'Content-Encoding': 'gzip', Vary: 'Accept-Encoding' };
// Without HTTPS, browsers do not send Sec-Fetch-Site. The router's own origin is then recognised by the host of the request.
const FOREIGN_ORIGIN =
  "This origin may not read this stream. If it is the server's own, behind a proxy: let the proxy forward the host, and set Express' trust proxy.";

const IDENTITY_LAYER: HeaderLayer = { Vary: 'Accept-Encoding' };

/** Handles the requests of one router. */
export class RequestHandler {
  readonly #hub: Hub;
  readonly #settings: Settings;
  readonly #handler: ConnectionHandler | undefined;
  readonly #headers: HeaderSet | undefined; // undefined: the application computes them for each request
  readonly #gzipHeaders: HeaderSet | undefined;
  readonly #defaultHeaders = new HeaderSet(HEADERS);
  readonly #cors: CorsPolicy | undefined;
  /** The responses whose request has passed {@link checkCors} and has not reached the router yet. */
  readonly #checkedByCors = new WeakSet<Response>();
  readonly #allowedMethods: string;
  #hasWarnedOfClient = false;

  constructor(hub: Hub, settings: Settings, handler: ConnectionHandler | undefined) {
    this.#hub = hub;
    this.#settings = settings;
    this.#handler = handler;
    if (typeof settings.headers !== 'function') {
      this.#headers = new HeaderSet(HEADERS, settings.headers, settings.compress ? IDENTITY_LAYER : {});
      this.#gzipHeaders = new HeaderSet(HEADERS, settings.headers, GZIP_LAYER);
    }
    this.#cors = settings.cors && new CorsPolicy(settings.cors);
    const get = settings.methods.includes('GET') ? ['GET', 'HEAD'] : [];
    this.#allowedMethods = [...get, ...(settings.methods.includes('POST') ? ['POST'] : []), 'OPTIONS'].join(', ');
  }

  /** Answers a request, with a stream if it may have one. */
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
    if (this.#cors === undefined || this.#checkedByCors.delete(res)) this.#checkRequest(req, res, next);
    else this.#cors.check(req, res, (result) => this.#onCorsResult(result, req, res, next));
  }

  #onCorsResult(result: CorsResult, req: Request, res: Response, next: NextFunction): void {
    if (res.headersSent) return; // the application has answered during an asynchronous check of the origin
    if (typeof result === 'object') next(result.error);
    else if (result === 'pass') this.#checkRequest(req, res, next);
    else sendError(res, 403, FOREIGN_ORIGIN);
  }

  /**
   * The `cors` option as a middleware in front of others: sets the CORS headers of whatever they answer, answers preflights, and
   * refuses foreign origins. The origin is not checked again when the request reaches the router.
   */
  checkCors(req: Request, res: Response, next: NextFunction): void {
    if (this.#cors === undefined || res.headersSent) return next();
    this.#cors.check(req, res, (result) => {
      if (result !== 'pass' || isPreflight(req)) return this.#onCorsResult(result, req, res, next);
      if (res.headersSent) return;
      this.#checkedByCors.add(res);
      next();
    });
  }

  #checkRequest(req: Request, res: Response, next: NextFunction): void {
    const { method } = req;
    if (method === 'OPTIONS') {
      res.setHeader('Allow', this.#allowedMethods);
      if (this.#settings.cors?.preflightContinue) next();
      else sendEmpty(res, this.#settings.cors?.optionsSuccessStatus ?? 204);
      return;
    }
    const opensStream = (this.#settings.methods as readonly string[]).includes(method === 'HEAD' ? 'GET' : method);
    if (!opensStream) {
      res.setHeader('Allow', this.#allowedMethods);
      sendError(res, 405, `${method} opens no stream here; ${this.#allowedMethods} may.`);
      return;
    }
    const { accept } = req.headers;
    // A POST is served whatever it accepts: the clients of language models send `application/json`.
    if (
      method !== 'POST' &&
      accept !== undefined &&
      accept !== 'text/event-stream' &&
      accept !== '*/*' &&
      !accepts(req).type('text/event-stream')
    ) {
      sendError(res, 406, 'There is only text/event-stream here.');
      return;
    }
    let headers: HeaderSet;
    let gzip: boolean;
    try {
      headers = this.#headers ?? this.#headersFor(req);
      gzip = this.#settings.compress && !headers.has('content-encoding') && accepts(req).encodings(['gzip']) === 'gzip';
    } catch (error) {
      next(error);
      return;
    }
    if (gzip) headers = this.#gzipHeaders ?? this.#headersFor(req, GZIP_LAYER);
    if (method === 'HEAD') {
      headers.apply(res);
      res.end();
      return;
    }
    const query = queryOf(req);
    const lastEventId = lastEventIdOf(req, query);
    const pending: PendingRequest = { req, res, next, headers, gzip, lastEventId, padding: paddingOf(query) };
    // [spec] "a client can be told to stop reconnecting using the HTTP 204 No Content response code"
    if (lastEventId === END_EVENT_ID) sendEmpty(res, 204);
    else if (this.#hub.opener.isOpen) this.#admit(pending);
    else {
      void this.#hub.opener.whenOpen().then((isOpen) => {
        if (res.headersSent) return;
        if (isOpen) this.#admit(pending);
        else this.#refuse(req, res, 503, 'not ready');
      });
    }
  }

  #admit({ req, res, next, headers, gzip, lastEventId, padding }: PendingRequest): void {
    // The client may have disconnected during a middleware, an origin check or the opening of the journal. Its 'close' event has
    // been emitted then, and is not emitted again.
    if (res.destroyed || req.socket.destroyed) return;
    let client: string | undefined;
    let maxAge: number | undefined;
    try {
      client = this.#clientKeyOf(req);
      maxAge = this.#maxAgeOf(req, res);
    } catch (error) {
      next(error);
      return;
    }
    const limit = this.#hub.isClosing ? 'shutdown' : this.#hub.registry.limitReached(client);
    if (limit !== undefined) {
      this.#refuseForLimit(req, res, limit);
      return;
    }
    const socket = req.socket as typeof req.socket & { [SOCKET_CONNECTION]?: Connection };
    const ownsSocket = req.httpVersionMajor < 2; // on HTTP/2 streams share a socket, and none waits for another
    if (ownsSocket && socket[SOCKET_CONNECTION] !== undefined && socket[SOCKET_CONNECTION].readyState !== 'closed') {
      this.#refuse(req, res, 503, 'this socket has a stream already');
      return;
    }
    const plain = new ResponseTransport(res, headers);
    const transport = gzip ? new GzipTransport(plain) : plain;
    const conn = this.#hub.admit(transport, { request: req, lastEventId, padding, client, maxAge });
    if (ownsSocket) socket[SOCKET_CONNECTION] = conn as Connection;
    // Only the response's 'close' means that the client has disconnected: `req` closes when its body has been read.
    onResponseClosed(res, req.socket, () => conn.onResponseClosed());
    this.#runHandler(conn, req, res, next);
  }

  #headersFor(req: Request, encoding: HeaderLayer = this.#settings.compress ? IDENTITY_LAYER : {}): HeaderSet {
    const { headers } = this.#settings;
    return new HeaderSet(HEADERS, typeof headers === 'function' ? checkHeaders(headers(req)) : headers, encoding);
  }

  /** Returns the key under which a request is counted; `undefined` without `limits.perClient`, and if nothing identifies the client. */
  #clientKeyOf(req: Request): string | undefined {
    const { limits, clientKey } = this.#settings;
    if (limits.perClient === Infinity) return undefined;
    if (!clientKey) {
      const address = req.ip ?? req.socket.remoteAddress;
      const { key, isAddress } = clientOf(address);
      if (!isAddress) this.#warnOfClient(address);
      return key;
    }
    const key: unknown = clientKey(req);
    if (typeof key === 'string' || typeof key === 'number') return String(key);
    // Every promise has the same text, and so has every missing key: all these requests would count as one client.
    const cure =
      'Put what it needs on the request, in a middleware in front; for a request without a key, return its address.';
    throw invalid('The result of limits.clientKey()', 'a string', key, { cure });
  }

  /** Warns once per router, because the same proxy sends all requests. */
  #warnOfClient(address: string | undefined): void {
    if (this.#hasWarnedOfClient) return;
    this.#hasWarnedOfClient = true;
    warnOfClient(address);
  }

  /** Returns the milliseconds that the stream of a request may stay open; `undefined` without a limit. */
  #maxAgeOf(req: Request, res: Response): number | undefined {
    const { maxAge } = this.#settings;
    if (maxAge === undefined) return undefined;
    if (typeof maxAge !== 'function') return randomDelay(maxAge);
    const ms: unknown = maxAge(req, res);
    if (ms === false || ms === Infinity) return undefined;
    if (typeof ms === 'number' && !Number.isNaN(ms)) return Math.trunc(Math.max(0, Math.min(ms, MAX_TIMER_MS)));
    throw invalid('The result of maxAge()', 'a number of milliseconds or false', ms, {
      cure: 'Check what it computes with.',
    });
  }

  #refuseForLimit(req: Request, res: Response, limit: 'shutdown' | 'connections' | 'perClient'): void {
    this.#hub.counters.refused[limit]++;
    const reason = {
      shutdown: 'closing',
      connections: 'full',
      perClient: "too many connections of one client; behind a proxy, set Express' trust proxy",
    }[limit];
    const mayReject = this.#settings.whenFull === 'reject' && limit !== 'shutdown';
    this.#refuse(req, res, limit === 'perClient' ? 429 : 503, reason, mayReject);
  }

  /** Answers a request so that its client tries again: with an empty stream, or for a POST always with a status. */
  #refuse(req: Request, res: Response, status: 429 | 503, reason: string, mayReject = false): void {
    const { retry } = this.#settings;
    // The client of a POST would take an empty stream for an empty answer.
    if (mayReject || req.method === 'POST') sendUnavailable(res, status, reason, retry);
    else sendRetryLater(res, this.#headers ?? this.#defaultHeaders, reason, retry);
  }

  #runHandler(conn: ServerConnection, req: Request, res: Response, next: NextFunction): void {
    let result: unknown;
    try {
      result = this.#handler?.(conn as Connection, req, res);
    } catch (error) {
      this.#onHandlerFailed(error, conn, next);
      return;
    }
    if (isPromiseLike(result)) {
      const { producers } = this.#hub;
      producers.add(conn);
      // A `then` that is not a promise's own may call back in any context.
      Promise.resolve(result).then(
        (settled: unknown) => {
          this.#onHandlerSettled(settled, conn, next);
          producers.remove(conn);
        },
        (error: unknown) => {
          this.#onHandlerFailed(error, conn, next);
          producers.remove(conn);
        },
      );
    } else this.#onHandlerSettled(result, conn, next);
  }

  #onHandlerSettled(result: unknown, conn: ServerConnection, next: NextFunction): void {
    if (!isSource(result)) {
      conn.open();
      return;
    }
    conn.pushAll(result).then(
      () => conn.end(),
      (error: unknown) => this.#onHandlerFailed(error, conn, next),
    );
  }

  /** Passes an error to Express before the opening, and closes the connection after it. The client never receives its text. */
  #onHandlerFailed(error: unknown, conn: ServerConnection, next: NextFunction): void {
    if (conn.isUnopened) {
      conn.abandon('error');
      next(error || new Error('The handler threw or rejected without an error.')); // Express ignores next(undefined)
    } else if (conn.readyState !== 'closed') conn.closeWithError(error);
    else if (!isAbortReason(error)) this.#hub.report(error, conn);
  }
}

/** [spec] Whether a request is a preflight: https://fetch.spec.whatwg.org/#cors-preflight-request */
function isPreflight({ method, headers }: Request): boolean {
  return method === 'OPTIONS' && headers.origin !== undefined && headers['access-control-request-method'] !== undefined;
}

/** Whether an error comes from `conn.signal`: its reason, which is a string, or the AbortError of what a handler awaited. */
function isAbortReason(error: unknown): boolean {
  return typeof error === 'string' || (error instanceof Error && error.name === 'AbortError');
}
