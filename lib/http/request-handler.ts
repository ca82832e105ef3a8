/*
 * Handles a request to the router: checks its origin, its method, what it accepts and the limits, then admits it and runs the
 * application's handler.
 *
 * Invariants: no request throws; errors go to Express. The handler runs only for a request that may open a stream.
 */

import type { NextFunction, Request, Response } from 'express';
import type { Connection } from '../api/connection.ts';
import { isSource, isPromiseLike } from '../api/source.ts';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { Hub } from '../hub/hub.ts';
import { HEADERS, type Settings } from '../options/options.ts';
import { END_EVENT_ID } from '../wire/event-stream.ts';
import { Admission, type StreamRequest } from './admission.ts';
import { passError } from './express-error.ts';
import { OriginCheck } from './origin-check.ts';
import { lastEventIdOf } from './request-info.ts';
import { sendEmpty } from './responses.ts';
import { whileConnected } from './while-connected.ts';

/** The application's handler. Its result may be a promise, a source, or a promise of a source. */
type ConnectionHandler = (conn: Connection, req: Request, res: Response) => unknown;

/** Handles the requests of one router. */
export class RequestHandler {
  /** The checks before the others, and those of the middleware in front. */
  readonly origins: OriginCheck;
  readonly #hub: Hub;
  readonly #handler: ConnectionHandler | undefined;
  readonly #admission: Admission;
  readonly #allowedMethods: string;
  /** Whether the router sends the event `end`. Without it, every last event id is the application's. */
  readonly #sendsEnd: boolean;

  constructor(hub: Hub, settings: Settings, handler: ConnectionHandler | undefined) {
    this.#hub = hub;
    this.#handler = handler;
    this.#sendsEnd = settings.controlEvents;
    this.#admission = new Admission(hub, settings, HEADERS);
    this.origins = new OriginCheck(settings.cors, (req, res, next) => this.#handle(req, res, next));
    const get = settings.methods.includes('GET') ? ['GET', 'HEAD'] : [];
    this.#allowedMethods = [...get, ...(settings.methods.includes('POST') ? ['POST'] : []), 'OPTIONS'].join(', ');
  }

  /** Answers a request whose origin may read the stream, with a stream if it may have one. */
  #handle(req: Request, res: Response, next: NextFunction): void {
    if (!this.#admission.checkMethod(req, res, next, this.#allowedMethods)) return;
    const stream = this.#admission.prepare(req, res, next);
    if (stream === undefined) return;
    const lastEventId = lastEventIdOf(req, stream.query);
    // [spec] "a client can be told to stop reconnecting using the HTTP 204 No Content response code"
    if (lastEventId === END_EVENT_ID && this.#sendsEnd) sendEmpty(res, 204);
    else if (this.#admission.answerHead(stream)) return;
    else if (this.#hub.opener.isOpen) this.#open(stream, lastEventId);
    else void this.#openLater(stream, lastEventId);
  }

  /** Opens a stream when the journal is open. Until then, its request has its place within the limits, until its client disconnects. */
  async #openLater(stream: StreamRequest, lastEventId: string): Promise<void> {
    const { req, res } = stream;
    const admitted = this.#admission.admit(stream);
    if (admitted === undefined) return;
    const release = this.#hub.registry.reserve(admitted.client);
    const departed = new AbortController();
    const isOpen = await whileConnected(req, res, departed, (signal) => this.#hub.opener.whenOpen(signal));
    release();
    if (res.headersSent || departed.signal.aborted) return;
    if (isOpen || this.#hub.isClosing) this.#open(stream, lastEventId);
    else this.#admission.refuse(req, res, 503, 'not ready');
  }

  #open(stream: StreamRequest, lastEventId: string): void {
    if (lastEventId !== '' && !this.#hub.canLookUp(lastEventId)) {
      this.#admission.refuse(stream.req, stream.res, 503, 'not ready');
      return;
    }
    const admitted = this.#admission.admit(stream);
    if (admitted === undefined) return;
    const conn = this.#admission.connect(stream, admitted, lastEventId, (transport, request) =>
      this.#hub.admit(transport, request),
    );
    this.#runHandler(conn, stream.req, stream.res, stream.next);
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
    conn.pushResult(result).then(
      () => conn.end(),
      (error: unknown) => this.#onHandlerFailed(error, conn, next),
    );
  }

  /** Passes an error to Express before the opening, and closes the connection after it. The client never receives its text. */
  #onHandlerFailed(error: unknown, conn: ServerConnection, next: NextFunction): void {
    if (conn.isUnopened) {
      conn.abandon('error');
      passError(error, next, 'the handler');
    } else if (conn.readyState !== 'closed') conn.closeWithError(error);
    else if (!isAbortReason(error)) this.#hub.report(error, conn);
  }
}

/** Whether an error comes from `conn.signal`: its reason, which is a string, or the AbortError of what a handler awaited. */
function isAbortReason(error: unknown): boolean {
  return typeof error === 'string' || (error instanceof Error && error.name === 'AbortError');
}
