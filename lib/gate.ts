/*
 * The way of a request: its path is right, then its origin, its method, what it accepts, whether there is room; then the handler.
 * Knows options, the hub, streams and answers, and Express' requests as types.
 * Invariant: requests never throw; the handler runs only for a request that may have a stream.
 */

import accepts from 'accepts';
import type { NextFunction, Request, Response } from 'express';
import { END_ID, nod, refuse, reject, sendAway } from './answer.ts';
import type { Connection } from './connection.ts';
import { CrossOrigin, type Verdict } from './cors.ts';
import { SseError } from './errors.ts';
import { Heading } from './heading.ts';
import type { Hub } from './hub.ts';
import { checkHeaders, HEADERS, type Settings } from './options.ts';
import { isQueued, ResponseOutlet } from './outlet.ts';
import { clientOf, lastEventIdOf, paddingOf, pathOf, queryOf } from './request.ts';
import { isSource, isThenable } from './source.ts';
import type { Stream } from './stream.ts';

/** Marks a socket with the stream that it is busy with; shared by all copies of this package in a process. */
const STREAM: unique symbol = Symbol.for('sse-router.stream') as never;

/** The application's handler, whose answer may be something to wait for or to iterate. */
type Handler = (conn: Connection, req: Request, res: Response) => unknown;

export class Gate {
  readonly #hub: Hub;
  readonly #settings: Settings;
  readonly #handler: Handler | undefined;
  readonly #heading: Heading | undefined; // undefined: each request has its own
  readonly #standard = new Heading(HEADERS, {});
  readonly #crossOrigin: CrossOrigin | undefined;
  readonly #allow: string;

  constructor(hub: Hub, settings: Settings, handler: Handler | undefined) {
    this.#hub = hub;
    this.#settings = settings;
    this.#handler = handler;
    this.#heading = typeof settings.headers === 'function' ? undefined : new Heading(HEADERS, settings.headers);
    this.#crossOrigin = settings.cors && new CrossOrigin(settings.cors);
    const get = settings.methods.includes('GET') ? ['GET', 'HEAD'] : [];
    this.#allow = [...get, ...(settings.methods.includes('POST') ? ['POST'] : []), 'OPTIONS'].join(', ');
  }

  enter(req: Request, res: Response, next: NextFunction): void {
    if (res.headersSent || res.writableEnded) {
      next(
        new SseError(
          'ERR_SSE_HEADERS_SENT',
          `${req.method} ${pathOf(req)}: the answer was begun before the stream could be.`,
        ),
      );
      return;
    }
    if (this.#crossOrigin === undefined) this.#pass(req, res, next);
    else this.#crossOrigin.judge(req, res, (verdict) => this.#judged(verdict, req, res, next));
  }

  #judged(verdict: Verdict, req: Request, res: Response, next: NextFunction): void {
    if (typeof verdict === 'object') next(verdict.error);
    else if (verdict === 'pass') this.#pass(req, res, next);
    else refuse(res, 403, 'This origin may not read this stream.');
  }

  #pass(req: Request, res: Response, next: NextFunction): void {
    const { method } = req;
    if (method === 'OPTIONS') {
      res.setHeader('Allow', this.#allow);
      if (this.#settings.cors?.preflightContinue) next();
      else nod(res, this.#settings.cors?.optionsSuccessStatus ?? 204);
      return;
    }
    const opens = (this.#settings.methods as readonly string[]).includes(method === 'HEAD' ? 'GET' : method);
    if (!opens) {
      res.setHeader('Allow', this.#allow);
      refuse(res, 405, `${method} opens no stream here; ${this.#allow} may.`);
      return;
    }
    const { accept } = req.headers;
    if (
      accept !== undefined &&
      accept !== 'text/event-stream' &&
      accept !== '*/*' &&
      !accepts(req).type('text/event-stream')
    ) {
      refuse(res, 406, 'There is only text/event-stream here.');
      return;
    }
    let heading: Heading;
    try {
      heading =
        this.#heading ?? new Heading(HEADERS, checkHeaders((this.#settings.headers as (req: Request) => unknown)(req)));
    } catch (error) {
      next(error);
      return;
    }
    if (method === 'HEAD') {
      heading.apply(res);
      nod(res, 200);
      return;
    }
    const query = queryOf(req);
    const lastEventId = lastEventIdOf(req, query);
    if (lastEventId === END_ID) nod(res, 204); // the one answer after which an EventSource does not come back
    else if (this.#hub.opening.isDone) this.#admit(req, res, next, heading, lastEventId, paddingOf(query));
    else {
      void this.#hub.opening.wait().then((is) => {
        if (res.destroyed || res.headersSent) return;
        if (is) this.#admit(req, res, next, heading, lastEventId, paddingOf(query));
        else this.#sendAway(res, 'not ready');
      });
    }
  }

  #admit(
    req: Request,
    res: Response,
    next: NextFunction,
    heading: Heading,
    lastEventId: string,
    padding: string,
  ): void {
    const { limits, clientKey, whenFull, retry } = this.#settings;
    let client = '';
    try {
      if (limits.perClient !== Infinity)
        client = clientKey ? String(clientKey(req)) : clientOf(req.ip ?? req.socket.remoteAddress);
    } catch (error) {
      next(error);
      return;
    }
    const full = this.#hub.draining ? 'shutdown' : this.#hub.registry.full(client);
    if (full !== undefined) {
      this.#hub.registry.counters.refused++;
      const why =
        full === 'shutdown' ? 'closing' : full === 'connections' ? 'full' : 'too many connections of one client';
      if (whenFull === 'retry' || full === 'shutdown') this.#sendAway(res, why);
      else reject(res, full === 'connections' ? 503 : 429, why, retry);
      return;
    }
    const socket = req.socket as typeof req.socket & { [STREAM]?: Connection };
    const alone = req.httpVersionMajor < 2; // on HTTP/2 many streams share a socket, and none waits for another
    if (alone && socket[STREAM] !== undefined && socket[STREAM].readyState !== 'closed') {
      this.#sendAway(res, 'this socket has a stream already');
      return;
    }
    const stream = this.#hub.admit(new ResponseOutlet(res, heading), { request: req, lastEventId, padding, client });
    if (alone) socket[STREAM] = stream as Connection;
    // Only the response tells reliably: `req` closes when its body has been read. A response that waits its turn tells
    // nothing on Node 20 and 22 when its client leaves, so there the socket is watched.
    res.on('close', () => stream.gone());
    if (isQueued(res)) req.socket.once('close', () => stream.gone());
    this.#handle(stream, req, res, next);
  }

  #handle(stream: Stream, req: Request, res: Response, next: NextFunction): void {
    let result: unknown;
    try {
      result = this.#handler?.(stream as Connection, req, res);
    } catch (error) {
      this.#failed(error, stream, next);
      return;
    }
    if (isThenable(result)) {
      result.then(
        (settled: unknown) => this.#settled(settled, stream, next),
        (error: unknown) => this.#failed(error, stream, next),
      );
    } else this.#settled(result, stream, next);
  }

  #settled(result: unknown, stream: Stream, next: NextFunction): void {
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
  #failed(error: unknown, stream: Stream, next: NextFunction): void {
    if (stream.phase === 'connecting') {
      stream.waive('error');
      next(error);
    } else if (stream.readyState !== 'closed') stream.fail(error);
    else if (!isAbort(error)) this.#hub.report(error, stream);
  }

  #sendAway(res: Response, why: string): void {
    sendAway(res, this.#heading ?? this.#standard, why, this.#settings.retry);
  }
}

/** What `conn.signal` makes of what a handler was waiting for. */
function isAbort(error: unknown): boolean {
  return typeof error === 'string' || (error instanceof Error && error.name === 'AbortError');
}
