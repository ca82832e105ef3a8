/*
 * The way of a request: its path is right, then its origin, its method, what it accepts, whether there is room; then the handler.
 * Knows options, the hub, streams and answers, and Express' requests as types.
 * Invariant: requests never throw; the handler runs only for a request that may have a stream.
 */

import accepts from 'accepts';
import type { NextFunction, Request, Response } from 'express';
import { END_ID, sendEmpty, sendError, sendUnavailable, sendRetryLater } from './responses.ts';
import type { Connection } from '../api/connection.ts';
import { CorsPolicy, type CorsResult } from './cors.ts';
import { describe, SseError, SseTypeError } from '../errors.ts';
import { GzipTransport } from '../wire/gzip-transport.ts';
import { HeaderSet, type HeaderLayer } from './header-set.ts';
import type { Hub } from '../hub/hub.ts';
import { checkHeaders, HEADERS, type Settings } from '../options/options.ts';
import { isQueued, ResponseTransport } from '../wire/response-transport.ts';
import { clientOf, lastEventIdOf, paddingOf, pathOf, queryOf } from './request-info.ts';
import { isSource, isPromiseLike } from '../api/source.ts';
import type { ServerConnection } from '../connection/server-connection.ts';

/** Marks a socket with the stream that it is busy with; shared by all copies of this package in a process. */
const SOCKET_CONNECTION: unique symbol = Symbol.for('sse-router.stream') as never;

/** The application's handler, whose answer may be something to wait for or to iterate. */
type Handler = (conn: Connection, req: Request, res: Response) => unknown;

/** A request that is to become a stream. */
interface PendingRequest {
  readonly req: Request;
  readonly res: Response;
  readonly next: NextFunction;
  readonly heading: HeaderSet;
  readonly gzip: boolean;
  readonly lastEventId: string;
  readonly padding: string;
}

const GZIP: HeaderLayer = { 'Content-Encoding': 'gzip', Vary: 'Accept-Encoding' };
const IDENTITY: HeaderLayer = { Vary: 'Accept-Encoding' };

export class RequestHandler {
  readonly #hub: Hub;
  readonly #settings: Settings;
  readonly #handler: Handler | undefined;
  readonly #heading: HeaderSet | undefined; // undefined: each request has its own
  readonly #gzipHeading: HeaderSet | undefined;
  readonly #standard = new HeaderSet(HEADERS);
  readonly #crossOrigin: CorsPolicy | undefined;
  readonly #allow: string;

  constructor(hub: Hub, settings: Settings, handler: Handler | undefined) {
    this.#hub = hub;
    this.#settings = settings;
    this.#handler = handler;
    if (typeof settings.headers !== 'function') {
      this.#heading = new HeaderSet(HEADERS, settings.headers, settings.compress ? IDENTITY : {});
      this.#gzipHeading = new HeaderSet(HEADERS, settings.headers, GZIP);
    }
    this.#crossOrigin = settings.cors && new CorsPolicy(settings.cors);
    const get = settings.methods.includes('GET') ? ['GET', 'HEAD'] : [];
    this.#allow = [...get, ...(settings.methods.includes('POST') ? ['POST'] : []), 'OPTIONS'].join(', ');
  }

  handle(req: Request, res: Response, next: NextFunction): void {
    if (res.headersSent || res.writableEnded) {
      next(
        new SseError(
          'ERR_SSE_HEADERS_SENT',
          `${req.method} ${pathOf(req)}: the answer was begun before the stream could be.`,
        ),
      );
      return;
    }
    if (this.#crossOrigin === undefined) this.#checkRequest(req, res, next);
    else this.#crossOrigin.check(req, res, (verdict) => this.#onCorsResult(verdict, req, res, next));
  }

  #onCorsResult(verdict: CorsResult, req: Request, res: Response, next: NextFunction): void {
    if (res.headersSent) return; // somebody has answered while the verdict was waited for
    if (typeof verdict === 'object') next(verdict.error);
    else if (verdict === 'pass') this.#checkRequest(req, res, next);
    else sendError(res, 403, 'This origin may not read this stream.');
  }

  #checkRequest(req: Request, res: Response, next: NextFunction): void {
    const { method } = req;
    if (method === 'OPTIONS') {
      res.setHeader('Allow', this.#allow);
      if (this.#settings.cors?.preflightContinue) next();
      else sendEmpty(res, this.#settings.cors?.optionsSuccessStatus ?? 204);
      return;
    }
    const opens = (this.#settings.methods as readonly string[]).includes(method === 'HEAD' ? 'GET' : method);
    if (!opens) {
      res.setHeader('Allow', this.#allow);
      sendError(res, 405, `${method} opens no stream here; ${this.#allow} may.`);
      return;
    }
    const { accept } = req.headers;
    if (
      accept !== undefined &&
      accept !== 'text/event-stream' &&
      accept !== '*/*' &&
      !accepts(req).type('text/event-stream')
    ) {
      sendError(res, 406, 'There is only text/event-stream here.');
      return;
    }
    let heading: HeaderSet;
    let gzip: boolean;
    try {
      heading = this.#heading ?? this.#headingFor(req);
      gzip = this.#settings.compress && !heading.has('content-encoding') && accepts(req).encodings(['gzip']) === 'gzip';
    } catch (error) {
      next(error);
      return;
    }
    if (gzip) heading = this.#gzipHeading ?? this.#headingFor(req, GZIP);
    if (method === 'HEAD') {
      heading.apply(res);
      res.end();
      return;
    }
    const query = queryOf(req);
    const lastEventId = lastEventIdOf(req, query);
    const arrival: PendingRequest = { req, res, next, heading, gzip, lastEventId, padding: paddingOf(query) };
    if (lastEventId === END_ID) sendEmpty(res, 204); // the one answer after which an EventSource does not come back
    else if (this.#hub.opener.isOpen) this.#admit(arrival);
    else {
      void this.#hub.opener.whenOpen().then((is) => {
        if (res.headersSent) return;
        if (is) this.#admit(arrival);
        else this.#sendAway(res, 'not ready');
      });
    }
  }

  #admit({ req, res, next, heading, gzip, lastEventId, padding }: PendingRequest): void {
    // Gone while a middleware, an origin's verdict or the journal was waited for: its 'close' has been, and does not come again.
    if (res.destroyed || req.socket.destroyed) return;
    let client: string | undefined;
    try {
      client = this.#clientOf(req);
    } catch (error) {
      next(error);
      return;
    }
    const full = this.#hub.isClosing ? 'shutdown' : this.#hub.registry.limitReached(client);
    if (full !== undefined) {
      this.#refuse(res, full);
      return;
    }
    const socket = req.socket as typeof req.socket & { [SOCKET_CONNECTION]?: Connection };
    const alone = req.httpVersionMajor < 2; // on HTTP/2 many streams share a socket, and none waits for another
    if (alone && socket[SOCKET_CONNECTION] !== undefined && socket[SOCKET_CONNECTION].readyState !== 'closed') {
      this.#sendAway(res, 'this socket has a stream already');
      return;
    }
    const plain = new ResponseTransport(res, heading);
    const outlet = gzip ? new GzipTransport(plain) : plain;
    const stream = this.#hub.admit(outlet, { request: req, lastEventId, padding, client });
    if (alone) socket[SOCKET_CONNECTION] = stream as Connection;
    // Only the response tells reliably: `req` closes when its body has been read. A response that waits its turn tells
    // nothing on Node 20 and 22 when its client leaves, so there the socket is watched.
    res.on('close', () => stream.onResponseClosed());
    if (isQueued(res)) req.socket.once('close', () => stream.onResponseClosed());
    this.#handle(stream, req, res, next);
  }

  #headingFor(req: Request, more: HeaderLayer = this.#settings.compress ? IDENTITY : {}): HeaderSet {
    const { headers } = this.#settings;
    return new HeaderSet(HEADERS, typeof headers === 'function' ? checkHeaders(headers(req)) : headers, more);
  }

  #clientOf(req: Request): string | undefined {
    const { limits, clientKey } = this.#settings;
    if (limits.perClient === Infinity) return undefined;
    if (!clientKey) return clientOf(req.ip ?? req.socket.remoteAddress);
    const key: unknown = clientKey(req);
    if (typeof key !== 'object' || key === null) return String(key);
    // All promises read alike: everybody would be one client.
    throw new SseTypeError('ERR_SSE_OPTION', `limits.clientKey returns a string, and this is ${describe(key)}.`);
  }

  #refuse(res: Response, full: 'shutdown' | 'connections' | 'perClient'): void {
    const { whenFull, retry } = this.#settings;
    this.#hub.counters.refused[full]++;
    const why = { shutdown: 'closing', connections: 'full', perClient: 'too many connections of one client' }[full];
    if (whenFull === 'retry' || full === 'shutdown') this.#sendAway(res, why);
    else sendUnavailable(res, full === 'connections' ? 503 : 429, why, retry);
  }

  #handle(stream: ServerConnection, req: Request, res: Response, next: NextFunction): void {
    let result: unknown;
    try {
      result = this.#handler?.(stream as Connection, req, res);
    } catch (error) {
      this.#failed(error, stream, next);
      return;
    }
    if (isPromiseLike(result)) {
      result.then(
        (settled: unknown) => this.#settled(settled, stream, next),
        (error: unknown) => this.#failed(error, stream, next),
      );
    } else this.#settled(result, stream, next);
  }

  #settled(result: unknown, stream: ServerConnection, next: NextFunction): void {
    if (!isSource(result)) {
      stream.open();
      return;
    }
    stream.pushAll(result).then(
      () => stream.end(),
      (error: unknown) => this.#failed(error, stream, next),
    );
  }

  /** Before the opening an exception is Express' to answer, afterwards the stream's end; nobody reads its text. */
  #failed(error: unknown, stream: ServerConnection, next: NextFunction): void {
    if (stream.isUnopened) {
      stream.abandon('error');
      next(error || new Error('The handler failed without saying why.')); // next(undefined) is no error to Express
    } else if (stream.readyState !== 'closed') stream.closeWithError(error);
    else if (!isAbort(error)) this.#hub.report(error, stream);
  }

  #sendAway(res: Response, why: string): void {
    sendRetryLater(res, this.#heading ?? this.#standard, why, this.#settings.retry);
  }
}

/** What `conn.signal` makes of what a handler was waiting for. */
function isAbort(error: unknown): boolean {
  return typeof error === 'string' || (error instanceof Error && error.name === 'AbortError');
}
