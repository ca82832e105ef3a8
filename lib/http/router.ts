/*
 * An Express request becomes a connection, then the handler's.
 * Knows Express, options, the gate and the hub. The only room of the core that makes something of Express'.
 * Invariant: set-up throws, at once and with the cure; a router hides none of Express' own members.
 */

import express, { type Request, type RequestHandler as Middleware, type Response, type Router } from 'express';
import { rejectUnknownKeys } from '../validation/validate.ts';
import type { BroadcastOptions } from '../hub/publish.ts';
import type { Connection } from '../api/connection.ts';
import { checkOver, shutDown } from '../hub/shutdown.ts';
import { SseTypeError, describe } from '../errors.ts';
import { RequestHandler } from './request-handler.ts';
import { Hub } from '../hub/hub.ts';
import type { AnyEvents, EventMap, Message } from '../api/message.ts';
import { checkOptions, type SseOptions } from '../options/options.ts';
import { pathOf } from './request-info.ts';
import { introspection } from '../hub/introspection.ts';
import { INTROSPECT } from '../diagnostics/channels.ts';
import type { SseStats } from '../diagnostics/stats.ts';

/**
 * What the application does with each connection, once per request. It may join channels and push, answer the request itself
 * (`res.sendStatus(403)`) or throw to Express' error handling, as long as the stream has not opened; that it does at the end of
 * the turn of the first push, when what this returns has settled, or at the latest after one `heartbeat`. What it returns to
 * iterate is sent, and then the stream is over for good.
 */
export type SseHandler<E extends EventMap = AnyEvents> = (
  conn: Connection<E>,
  req: Request,
  res: Response,
) => Handled | Promise<Handled> | Iterable<Message<E> | string> | AsyncIterable<Message<E> | string>;

/** What a handler may return that says nothing: `return conn.push(…)` and `return res.sendStatus(403)` are written by habit. */
type Handled = void | boolean | Response;

/** What {@link SseRouter.within} accepts. */
export type Transaction = { query: (text: string) => unknown } | ((text: string) => unknown);

/** What {@link SseRouter.within} returns. */
export interface TransactionalBroadcast<E extends EventMap = AnyEvents> {
  /**
   * As {@link SseRouter.broadcast}, once the transaction commits.
   * @throws {SseTypeError | SseError} by rejecting; then roll back.
   */
  broadcast(message: string | Message<E>, options?: BroadcastOptions): Promise<void>;
}

/** What `app.use('/events', events)` mounts, and what other routes broadcast with. */
export interface SseRouter<E extends EventMap = AnyEvents> extends Router {
  /**
   * Sends an event to everyone, or to those who have joined one of the channels in `to` and none of those in `except`.
   * @returns its id, once it is in the log; with the log in memory, every connection of this process has been given it by then.
   * @throws {SseTypeError | SseError} by rejecting; then nothing was sent, unless the code is `ERR_SSE_TIMEOUT`.
   */
  broadcast(message: string | Message<E>, options?: BroadcastOptions): Promise<string>;
  /**
   * Broadcasts as part of a transaction of the application: the event exists if and only if the transaction commits. It has no id
   * before that, so the broadcast resolves with nothing, as soon as the transaction contains it. Needs `postgresJournal`.
   * @param transaction - A client on which `BEGIN` has run, or a function that runs one statement in the transaction: pg's client,
   * TypeORM's manager, `(text) => tx.unsafe(text)` of postgres.js, `(text) => trx.raw(text)` of Knex, `(text) => tx.execute(text)`
   * of Drizzle, `(text) => sql.raw(text).execute(trx)` of Kysely, `(text) => tx.$executeRawUnsafe(text)` of Prisma.
   * @throws {SseTypeError} `ERR_SSE_OPTION` for a journal without transactions, and for what is no transaction, such as a pool.
   */
  within(transaction: Transaction): TransactionalBroadcast<E>;
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
 * @typeParam E - The event map, given and never guessed: the first message seen would be taken for all there are.
 * @throws {SseTypeError} at once, for every option that cannot be meant.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
export function sse<E extends EventMap = AnyEvents>(
  handler?: SseHandler<NoInfer<E>>,
  options?: SseOptions<NoInfer<E>>,
): SseRouter<E>;
export function sse<E extends EventMap = AnyEvents>(options: SseOptions<NoInfer<E>>): SseRouter<E>;
export function sse<E extends EventMap = AnyEvents>(
  first?: SseHandler<E> | SseOptions<E>,
  second?: SseOptions<E>,
): SseRouter<E> {
  const { handler, options } = checkCall<E>(first, second);
  const settings = checkOptions(options);
  const hub = new Hub(settings);
  const requests = new RequestHandler(hub, settings, handler as SseHandler | undefined);
  const router = express.Router({ mergeParams: true }) as SseRouter<E>;
  const enter: Middleware = function sseRouter(req, res, next) {
    if (pathOf(req) === '/' || isHandlerOf(req, router)) requests.handle(req, res, next);
    else next();
  };
  router.use(enter);
  bypassRouterLoop(router, enter);
  let closing: Promise<void> | undefined;
  Object.defineProperties(router, {
    broadcast: { value: (message: unknown, to?: BroadcastOptions) => hub.broadcast(message, to) },
    within: { value: (transaction: unknown) => ({ broadcast: hub.within(transaction) }) },
    connections: { get: () => hub.registry.open },
    size: { get: () => hub.registry.open.size },
    position: { get: () => hub.position },
    stats: { value: () => hub.stats() },
    close: {
      value: (how: { over?: number } = {}) => {
        rejectUnknownKeys('option of close()', how, { over: true });
        const over = checkOver(how.over);
        return (closing ??= shutDown(hub, over));
      },
    },
  });
  hub.router = router;
  Object.defineProperty(router, INTROSPECT, { value: introspection(hub) });
  void hub.open();
  return router;
}

/**
 * Lets a request that is for the stream itself step past the router's own loop over its layers, as long as there is but one: what
 * that loop leaves behind costs each connection 700 bytes for as long as it lasts. Path and parameters are the mounting's by then.
 */
function bypassRouterLoop(router: Router, enter: Middleware): void {
  const looping = router as Router & { handle: Middleware };
  const loop = looping.handle;
  looping.handle = function handle(req, res, next) {
    if (router.stack.length !== 1 || pathOf(req) !== '/') return loop.call(router, req, res, next);
    try {
      return enter(req, res, next);
    } catch (error) {
      return next(error); // as the loop would
    }
  };
}

/** Whether the router was given to a route (`app.get('/events', events)`), which leaves the path as it is. */
function isHandlerOf(req: Request, router: Router): boolean {
  const stack = (req.route as { stack?: readonly { handle: { stack?: unknown } }[] } | undefined)?.stack;
  // By its layers where somebody has wrapped the route's handlers, as express-async-errors does.
  return stack !== undefined && stack.some(({ handle }) => handle === router || handle.stack === router.stack);
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
    throw say(`sse(handler, options): the handler is a function, and this is ${describe(first)}.`);
  }
  if (isOptions && second !== undefined) {
    throw say(`sse(handler, options): the handler comes first; after options came ${describe(second)}.`);
  }
  if (second !== undefined && (typeof second !== 'object' || second === null || Array.isArray(second))) {
    throw say(`sse(handler, options): the options are an object, and this is ${describe(second)}.`);
  }
  return {
    handler: typeof first === 'function' ? (first as SseHandler<E>) : undefined,
    options: ((isOptions ? first : second) ?? {}) as SseOptions<E>,
  };
}
