/*
 * Decides whether a request may have a stream, with which headers and in which encoding, and makes the connection of it.
 *
 * Invariants: a request that may have no stream is answered so that its client tries again later, and a POST always with a status.
 * No request throws; errors go to Express.
 */

import accepts from 'accepts';
import type { NextFunction, Request, Response } from 'express';
import type { Connection } from '../api/connection.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { ConnectionRequest } from '../connection/state.ts';
import { warnOfClient } from '../diagnostics/error-reporter.ts';
import type { Counters } from '../diagnostics/stats.ts';
import type { Registry } from '../hub/registry.ts';
import { randomDelay } from '../options/delay-range.ts';
import { checkHeaders, type HeaderValues, type Settings } from '../options/options.ts';
import { invalid, MAX_TIMER_MS } from '../validation/validate.ts';
import { GzipTransport } from '../wire/gzip-transport.ts';
import { onResponseClosed, ResponseTransport } from '../wire/response-transport.ts';
import type { Transport } from '../wire/transport.ts';
import { passError } from './express-error.ts';
import { HeaderSet, type HeaderLayer } from './header-set.ts';
import { clientOf, paddingOf, queryOf } from './request-info.ts';
import { sendEmpty, sendError, sendRetryLater, sendUnavailable } from './responses.ts';

/** The property of a socket that holds its connection; it is the same in every copy of this package in a process. */
const SOCKET_CONNECTION: unique symbol = Symbol.for('sse-router.stream') as never;

const GZIP_LAYER: HeaderLayer = { 'Content-Encoding': 'gzip', Vary: 'Accept-Encoding' };
const IDENTITY_LAYER: HeaderLayer = { Vary: 'Accept-Encoding' };

/** The parts of a router that its admission uses. */
interface Host {
  /** Whether the router shuts down: it admits no more requests. */
  readonly isClosing: boolean;
  readonly registry: Pick<Registry, 'limitReached'>;
  readonly counters: Pick<Counters, 'refused'>;
}

/** A request for a stream, with the head and the encoding that its stream will have. */
export interface StreamRequest {
  readonly req: Request;
  readonly res: Response;
  readonly next: NextFunction;
  readonly headers: HeaderSet;
  /** Whether its stream is compressed. */
  readonly gzip: boolean;
  readonly query: URLSearchParams | undefined;
}

/** What a connection is counted for, and how long it may live. */
export type Admitted = Pick<ConnectionRequest, 'client' | 'maxAge'>;

/** Admits the requests of one router. */
export class Admission {
  readonly #host: Host;
  readonly #settings: Settings;
  readonly #defaults: Readonly<HeaderValues>;
  readonly #headers: HeaderSet | undefined; // undefined: the application computes them for each request
  readonly #gzipHeaders: HeaderSet | undefined;
  readonly #defaultHeaders: HeaderSet;
  #hasWarnedOfClient = false;

  /** @param defaults The headers of every stream, unless the application overrides them. */
  constructor(host: Host, settings: Settings, defaults: Readonly<HeaderValues>) {
    this.#host = host;
    this.#settings = settings;
    this.#defaults = defaults;
    this.#defaultHeaders = new HeaderSet(defaults);
    if (typeof settings.headers !== 'function') {
      this.#headers = new HeaderSet(defaults, settings.headers, settings.compress ? IDENTITY_LAYER : {});
      this.#gzipHeaders = new HeaderSet(defaults, settings.headers, GZIP_LAYER);
    }
  }

  /**
   * Whether the method is among the allowed ones. Answers OPTIONS, and every method that is not.
   * @param allowed The value of `Allow`: the methods with commas between them.
   */
  checkMethod(req: Request, res: Response, next: NextFunction, allowed: string): boolean {
    const { method } = req;
    if (method !== 'OPTIONS' && hasMethod(allowed, method)) return true;
    res.setHeader('Allow', allowed);
    const { cors } = this.#settings;
    if (method !== 'OPTIONS') sendError(res, 405, `${method} is not allowed here. The allowed methods are ${allowed}.`);
    else if (cors?.preflightContinue) next();
    else sendEmpty(res, cors?.optionsSuccessStatus ?? 204);
    return false;
  }

  /** Decides the head and the encoding of a stream. Answers a client that accepts no stream; then it returns `undefined`. */
  prepare(req: Request, res: Response, next: NextFunction): StreamRequest | undefined {
    const { accept } = req.headers;
    // A POST is served whatever it accepts: the clients of language models send `application/json`.
    if (
      req.method !== 'POST' &&
      accept !== undefined &&
      accept !== 'text/event-stream' &&
      accept !== '*/*' &&
      !accepts(req).type('text/event-stream')
    ) {
      sendError(res, 406, 'There is only text/event-stream here.');
      return undefined;
    }
    let headers: HeaderSet;
    let gzip: boolean;
    try {
      headers = this.#headers ?? this.#headersFor(req);
      gzip = this.#settings.compress && !headers.has('content-encoding') && accepts(req).encodings(['gzip']) === 'gzip';
    } catch (error) {
      passError(error, next, 'the function headers');
      return undefined;
    }
    if (gzip) headers = this.#gzipHeaders ?? this.#headersFor(req, GZIP_LAYER);
    return { req, res, next, headers, gzip, query: queryOf(req) };
  }

  /** Answers HEAD with the head of the stream that a GET would get. Returns false for every other method. */
  answerHead({ req, res, headers }: StreamRequest): boolean {
    if (req.method !== 'HEAD') return false;
    headers.apply(res);
    res.end();
    return true;
  }

  /** Checks what may change with every request: the limits, and the age. Answers a request that may have no stream. */
  admit({ req, res, next }: StreamRequest): Admitted | undefined {
    // The client may have disconnected during a middleware, an origin check or the opening of the journal. Its 'close' event has
    // been emitted then, and is not emitted again.
    if (res.destroyed || req.socket.destroyed) return undefined;
    let client: string | undefined;
    let maxAge: number | undefined;
    try {
      client = this.#clientKeyOf(req);
      maxAge = this.#maxAgeOf(req, res);
    } catch (error) {
      passError(error, next, 'limits.clientKey() or maxAge()');
      return undefined;
    }
    const limit = this.#host.isClosing ? 'shutdown' : this.#host.registry.limitReached(client);
    if (limit !== undefined) {
      this.#refuseForLimit(req, res, limit);
      return undefined;
    }
    const connection = (req.socket as { [SOCKET_CONNECTION]?: Connection })[SOCKET_CONNECTION];
    if (ownsSocket(req) && connection !== undefined && connection.readyState !== 'closed') {
      this.refuse(req, res, 503, 'this socket has a stream already');
      return undefined;
    }
    return { client, maxAge };
  }

  /** Makes the connection of an admitted request. @param connect Makes it on a transport. */
  connect(
    { req, res, headers, gzip, query }: StreamRequest,
    admitted: Admitted,
    lastEventId: string,
    connect: (transport: Transport, request: ConnectionRequest) => ServerConnection,
  ): ServerConnection {
    const plain = new ResponseTransport(res, headers);
    const transport = gzip ? new GzipTransport(plain) : plain;
    const conn = connect(transport, { request: req, lastEventId, padding: paddingOf(query), ...admitted });
    if (ownsSocket(req)) (req.socket as { [SOCKET_CONNECTION]?: Connection })[SOCKET_CONNECTION] = conn as Connection;
    // Only the response's 'close' means that the client has disconnected: `req` closes when its body has been read.
    onResponseClosed(res, req.socket, () => conn.onResponseClosed());
    return conn;
  }

  /** Answers a request so that its client tries again: with an empty stream, or for a POST always with a status. */
  refuse(req: Request, res: Response, status: 429 | 503, reason: string, mayReject = false): void {
    const { retry } = this.#settings;
    // The client of a POST would take an empty stream for an empty answer.
    if (mayReject || req.method === 'POST') sendUnavailable(res, status, reason, retry);
    else sendRetryLater(res, this.#headers ?? this.#defaultHeaders, reason, retry);
  }

  #refuseForLimit(req: Request, res: Response, limit: 'shutdown' | 'connections' | 'perClient'): void {
    this.#host.counters.refused[limit]++;
    const reason = {
      shutdown: 'closing',
      connections: 'full',
      perClient: "too many connections of one client; behind a proxy, set Express' trust proxy",
    }[limit];
    const mayReject = this.#settings.whenFull === 'reject' && limit !== 'shutdown';
    this.refuse(req, res, limit === 'perClient' ? 429 : 503, reason, mayReject);
  }

  #headersFor(req: Request, encoding: HeaderLayer = this.#settings.compress ? IDENTITY_LAYER : {}): HeaderSet {
    const { headers } = this.#settings;
    return new HeaderSet(
      this.#defaults,
      typeof headers === 'function' ? checkHeaders(headers(req)) : headers,
      encoding,
    );
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
}

/** Whether a method is in a value of `Allow`. */
export function hasMethod(allowed: string, method: string): boolean {
  return allowed.split(', ').includes(method);
}

/** Whether a stream has its socket for itself. On HTTP/2 streams share a socket, and none waits for another. */
function ownsSocket({ httpVersionMajor }: Request): boolean {
  return httpVersionMajor < 2;
}
