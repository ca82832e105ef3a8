/*
 * An Express request becomes a connection, then the handler's.
 * Knows Express, options, the hub, streams and answers. The only room of the core that knows Express.
 * Invariant: set-up throws, requests never do; the handler runs only for a request that may have a stream.
 */

import accepts from 'accepts';
import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import { END_ID, nod, refuse, reject, sendAway } from './answer.ts';
import type { Connection } from './connection.ts';
import { CrossOrigin, type Verdict } from './cors.ts';
import { checkOver, drain } from './drain.ts';
import { SseError, SseTypeError, shown } from './errors.ts';
import { Heading } from './heading.ts';
import { Hub, type BroadcastOptions } from './hub.ts';
import type { AnyEvents, EventMap, Message } from './message.ts';
import { checkHeaders, checkOptions, HEADERS, type Settings, type SseOptions } from './options.ts';
import { isQueued, ResponseOutlet } from './outlet.ts';
import { clientOf, lastEventIdOf, paddingOf, pathOf, queryOf } from './request.ts';
import { isSource } from './source.ts';
import type { SseStats } from './stats.ts';
import type { Stream } from './stream.ts';

/**
 * What the application does with each connection, once per request. It may join channels and push, answer the request itself
 * (`res.sendStatus(403)`) or throw to Express' error handling, as long as the stream has not opened; that it does at the end of
 * the turn of the first push, or when what this returns has settled. What it returns to iterate is sent, and then the stream
 * is over for good.
 */
export type SseHandler<E extends EventMap = AnyEvents> = (
  conn: Connection<E>,
  req: Request,
  res: Response,
) => void | Promise<void> | Iterable<Message<E> | string> | AsyncIterable<Message<E> | string>;

/** What `app.use('/events', events)` mounts, and what other routes broadcast with. */
export interface SseRouter<E extends EventMap = AnyEvents> extends Router {
  /**
   * Sends an event to everyone, or to those who have joined one of the channels in `to` and none of those in `except`.
   * @returns its id, once it is in the log; with the log in memory, every connection of this process has been given it by then.
   * @throws {SseTypeError | SseError} by rejecting; then nothing was sent, unless the code is `ERR_SSE_TIMEOUT`.
   */
  broadcast(message: string | Message<E>, options?: BroadcastOptions): Promise<string>;
  /** The open connections of this process. */
  readonly connections: ReadonlySet<Connection<E>>;
  /** How many there are. */
  readonly size: number;
  /** The id of the last event that this process has seen: put it into a page before loading its state, connect with `?lastEventId=`. */
  readonly position: string;
  /** Counters since the start and gauges of now, as plain numbers. */
  stats(): SseStats;
  /**
   * Ends every stream within `over` milliseconds (default 0: at once), each with its own `retry`; newcomers are sent to come back
   * later. Resolves when none is left and the journal is closed. Called again it returns the same promise.
   */
  close(options?: { over?: number }): Promise<void>;
}

/**
 * Makes a router that answers with event streams.
 * @example
 * ```ts
 * const events = sse((conn) => { conn.push('hello'); });
 * app.use('/events', events);
 * ```
 * @throws {SseTypeError} at once, for every option that cannot be meant.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
export function sse<E extends EventMap = AnyEvents>(handler?: SseHandler<E>, options?: SseOptions<E>): SseRouter<E>;
export function sse<E extends EventMap = AnyEvents>(options: SseOptions<E>): SseRouter<E>;
export function sse<E extends EventMap = AnyEvents>(
  first?: SseHandler<E> | SseOptions<E>,
  second?: SseOptions<E>,
): SseRouter<E> {
  const { handler, options } = checkCall<E>(first, second);
  const settings = checkOptions(options);
  const hub = new Hub(settings);
  const gate = new Gate(hub, settings, handler as SseHandler | undefined);
  const router = express.Router({ mergeParams: true }) as SseRouter<E>;
  // oxlint-disable-next-line prefer-arrow-callback -- its name stands in stack traces and in Express' list of layers
  router.use(function sseRouter(req: Request, res: Response, next: NextFunction) {
    if (pathOf(req) === '/' || isHandlerOf(req, router)) gate.enter(req, res, next);
    else next();
  });
  let closing: Promise<void> | undefined;
  Object.defineProperties(router, {
    broadcast: { value: (message: unknown, to?: BroadcastOptions) => hub.broadcast(message, to) },
    connections: { get: () => hub.connections },
    size: { get: () => hub.connections.size },
    position: { get: () => hub.position },
    stats: { value: () => hub.stats() },
    close: {
      value: (how: { over?: number } = {}) => {
        const over = checkOver(how.over);
        return (closing ??= drain(hub, over));
      },
    },
  });
  void hub.open();
  return router;
}

/** Whether the router was given to a route (`app.get('/events', events)`), which leaves the path as it is. */
function isHandlerOf(req: Request, router: Router): boolean {
  const stack = (req.route as { stack?: readonly { handle: unknown }[] } | undefined)?.stack;
  return stack !== undefined && stack.some((layer) => layer.handle === router);
}

function checkCall<E extends EventMap>(
  first: unknown,
  second: unknown,
): { handler: SseHandler<E> | undefined; options: SseOptions<E> } {
  const say = (text: string): SseTypeError => new SseTypeError('ERR_SSE_OPTION', text);
  if (typeof first === 'object' && first !== null && 'headers' in first && 'httpVersion' in first) {
    throw say('sse makes a router: app.use(sse(…)), not app.use(sse).');
  }
  const isOptions = typeof first === 'object' && first !== null && !Array.isArray(first);
  if (first !== undefined && typeof first !== 'function' && !isOptions) {
    throw say(`sse(handler, options): the handler is a function, and this is ${shown(first)}.`);
  }
  if (isOptions && second !== undefined) {
    throw say(`sse(handler, options): the handler comes first; after options came ${shown(second)}.`);
  }
  if (second !== undefined && (typeof second !== 'object' || second === null || Array.isArray(second))) {
    throw say(`sse(handler, options): the options are an object, and this is ${shown(second)}.`);
  }
  return {
    handler: typeof first === 'function' ? (first as SseHandler<E>) : undefined,
    options: ((isOptions ? first : second) ?? {}) as SseOptions<E>,
  };
}

/** Marks a socket with the stream that it is busy with; shared by all copies of this package in a process. */
const STREAM: unique symbol = Symbol.for('sse-router.stream') as never;

/** The way of a request: its origin, its method, what it accepts, whether there is room; then the handler. */
class Gate {
  readonly #hub: Hub;
  readonly #settings: Settings;
  readonly #handler: SseHandler | undefined;
  readonly #heading: Heading | undefined; // undefined: each request has its own
  readonly #standard = new Heading(HEADERS, {});
  readonly #crossOrigin: CrossOrigin | undefined;
  readonly #allow: string;

  constructor(hub: Hub, settings: Settings, handler: SseHandler | undefined) {
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
    else if (this.#hub.isOpen) this.#admit(req, res, next, heading, lastEventId, paddingOf(query));
    else {
      void this.#hub.ready().then((is) => {
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
    const full = this.#hub.draining ? 'shutdown' : this.#hub.full(client);
    if (full !== undefined) {
      this.#hub.counters.refused++;
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
    if (result instanceof Promise) {
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
