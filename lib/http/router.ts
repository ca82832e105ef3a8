/*
 * `sse()`: an Express router whose requests become connections. The only module of the core that runs Express.
 * Invariants: set-up throws at once, with the cure. The router hides no member of Express' `Router`.
 */

import express, { type Request, type RequestHandler as Middleware, type Response, type Router } from 'express';
import { invalid, plainObject, rejectUnknownKeys } from '../validation/validate.ts';
import { broadcast, broadcastWithin, disconnect } from '../hub/publish.ts';
import { follow, type FollowedEvent, type FollowOptions } from '../hub/follow.ts';
import type { Connection } from '../api/connection.ts';
import { checkTime, shutDown } from '../hub/shutdown.ts';
import { RequestHandler } from './request-handler.ts';
import { Hub } from '../hub/hub.ts';
import type {
  AnyEvents,
  BroadcastMessage,
  BroadcastOptions,
  BroadcastText,
  DefinedChannels,
  EventMap,
  Message,
} from '../api/message.ts';
import { checkOptions, type SseOptions } from '../options/options.ts';
import { passError } from './express-error.ts';
import { checkNext, isCalledByRoute } from './express-route.ts';
import { pathOf } from './request-info.ts';
import { claimJournal } from '../journal/claim.ts';
import { introspection } from '../hub/introspection.ts';
import { INTROSPECT } from '../diagnostics/channels.ts';
import type { SseStats } from '../diagnostics/stats.ts';

/**
 * Handles one connection; the router calls it once per request.
 *
 * Before the stream opens, the handler may join channels, push, answer the request itself (`res.sendStatus(403)`) or throw to
 * Express' error handling. The stream opens at the end of the tick of the first push, or when the returned value settles, or at the
 * latest after one `heartbeat`. If the handler returns something to iterate, the router sends its items and then ends the
 * connection for good, as with `conn.end()`.
 */
export type SseHandler<E extends EventMap = AnyEvents, S = Record<string, unknown>> = (
  conn: Connection<E, S>,
  req: Request,
  res: Response,
) => HandlerResult<E>;

/**
 * What a handler may return: nothing, or something to iterate whose items are sent. (A string can be iterated, but is no
 * `object`: `sse(() => 'hello')` would send nothing.)
 */
export type HandlerResult<E extends EventMap = AnyEvents> =
  | Handled
  | Promise<Handled>
  | (Iterable<Message<E> | string> & object)
  | AsyncIterable<Message<E> | string>;

/** Return values without a meaning: `return conn.push(…)` and `return res.sendStatus(403)` are common. */
type Handled = void | boolean | Response;

/** What {@link SseRouter.within} accepts. */
export type Transaction = { query: (text: string) => unknown } | ((text: string) => unknown);

/** What {@link SseRouter.within} returns. */
export interface TransactionalBroadcast<E extends EventMap = AnyEvents> {
  /**
   * As {@link SseRouter.broadcast}, once the transaction commits.
   * @throws {SseTypeError | SseError} by rejecting; then roll back.
   */
  broadcast(message: BroadcastText<E> | BroadcastMessage<E>): Promise<void>;
  broadcast<O extends BroadcastOptions | undefined>(
    message: BroadcastText<E> | BroadcastMessage<E>,
    options: DefinedChannels<O>,
  ): Promise<void>;
}

/** The router that `sse()` returns: `app.use('/events', events)` mounts it, and other routes broadcast with it. */
export interface SseRouter<E extends EventMap = AnyEvents, S = Record<string, unknown>> extends Router {
  /**
   * Sends an event to every connection, or to those that have joined a channel in `to` and none in `except`, in every process that
   * shares the journal.
   * @returns The event's id, once the log has it. With the journal in memory, the event has been delivered by then.
   * @throws {SseTypeError | SseError} By rejecting; then nothing was sent, unless the code is `ERR_SSE_TIMEOUT`.
   */
  broadcast(message: BroadcastText<E> | BroadcastMessage<E>): Promise<string>;
  broadcast<O extends BroadcastOptions | undefined>(
    message: BroadcastText<E> | BroadcastMessage<E>,
    options: DefinedChannels<O>,
  ): Promise<string>;
  /**
   * Ends the connections in these channels, in every process: those that were admitted before this entry of the log, also if they
   * are still connecting or are behind. It is ordered with the broadcasts: a connection receives the earlier ones, as with
   * `conn.close()`, and no later one. Its client reconnects, and your middleware decides again; with `end: true` it does not
   * reconnect. The close reason is `disconnect`.
   * @param options `to`: one channel or several; `[]`: no connection. `end`: default false.
   * @returns The id of the entry, once the log has it.
   * @throws {SseTypeError | SseError} By rejecting; then no connection was ended, unless the code is `ERR_SSE_TIMEOUT`.
   */
  disconnect(options: { to: string | readonly string[]; end?: boolean }): Promise<string>;
  /**
   * Iterates over the events that any process broadcasts, from the position at the call or after the given one. If events after the
   * position are no longer in the log, it yields a `reset` and continues at the head. It holds no queue: a slow consumer takes the
   * next events from the log. An abort of `signal`, `return()` and `close()` of the router end it.
   * @example
   * ```ts
   * for await (const event of events.follow({ to: 'prices', signal })) {
   *   if (event.type === 'reset') await loadPrices();
   *   else {
   *     const { item, price } = JSON.parse(event.data); // text, whatever the event map
   *     prices.set(item, price);
   *   }
   * }
   * ```
   * @throws {SseTypeError} At once, for an invalid option.
   */
  follow(options?: FollowOptions): AsyncIterableIterator<FollowedEvent>;
  /**
   * The option `cors` as a middleware, for use in front of authentication. It answers preflights, which have no credentials, and the
   * answers of the middleware behind it carry the CORS headers; without them a page cannot read a 401. Without the option it does
   * nothing.
   * @example
   * ```ts
   * app.use('/events', events.cors, authenticate, events);
   * ```
   */
  readonly cors: Middleware;
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
  readonly connections: ReadonlySet<Connection<E, S>>;
  /** The number of open connections of this process. */
  readonly size: number;
  /**
   * The id of the newest event that this process has delivered. To lose no event between a page's state and its stream, put the
   * position into the page before you load the state, then connect with `?lastEventId=`. `''` before the journal is open.
   */
  readonly position: string;
  /** Counters since the start and gauges of this moment, as plain numbers. */
  stats(): SseStats;
  /**
   * Ends every stream within `over` milliseconds (default 0: at once), each with its own `retry`. A handler, generator or `pushAll`
   * that is still running has `wait` milliseconds to finish its answer (default 0). What was broadcast before is stored and reaches the
   * streams first, if the engine of the journal answers within a second. New requests are answered so that their clients
   * try again later: a POST with 503. Resolves when no stream is left and the journal is closed. Every call returns the same promise.
   */
  close(options?: { over?: number; wait?: number }): Promise<void>;
}

/** The router that `sse()` returns with `history: false`: the ids of its broadcasts are the application's. */
export interface SseRouterWithoutHistory<E extends EventMap = AnyEvents, S = Record<string, unknown>> extends SseRouter<
  E,
  S
> {
  /** As {@link SseRouter.broadcast}. Resolves with the id that the message has, or with `''`. */
  broadcast(message: BroadcastText<E> | Message<E>): Promise<string>;
  broadcast<O extends BroadcastOptions | undefined>(
    message: BroadcastText<E> | Message<E>,
    options: DefinedChannels<O>,
  ): Promise<string>;
}

/**
 * Creates a router that answers with event streams.
 * @example
 * ```ts
 * const events = sse((conn) => { conn.push('hello'); });
 * app.use('/events', events);
 * ```
 * @typeParam E - The events and their data. It is never inferred: the first message would define all events.
 * @typeParam S - The application's own data in `conn.state`.
 * @throws {SseTypeError} At once, for every invalid option.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
export function sse<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  handler: SseHandler<NoInfer<E>, NoInfer<S>> | undefined,
  options: SseOptions<NoInfer<E>, NoInfer<S>> & { history: false },
): SseRouterWithoutHistory<E, S>;
export function sse<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  options: (SseOptions<NoInfer<E>, NoInfer<S>> | SseHandler<NoInfer<E>, NoInfer<S>>) & { history: false },
): SseRouterWithoutHistory<E, S>;
export function sse<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  handler: SseHandler<NoInfer<E>, NoInfer<S>> | undefined,
  options: SseOptions<NoInfer<E>, NoInfer<S>> | undefined,
): SseRouter<E, S>;
// The last overload takes either, because compilers report the errors of the last one that has as many arguments as the call: a wrong
// option is then compared with the options, and a wrong handler with a handler. A union is matched as a whole; after a failed match with
// a handler, the types in the literal of the options would be those of the failure.
export function sse<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  handlerOrOptions?: SseHandler<NoInfer<E>, NoInfer<S>> | SseOptions<NoInfer<E>, NoInfer<S>>,
): SseRouter<E, S>;
export function sse<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  first?: SseHandler<E, S> | SseOptions<E, S>,
  second?: SseOptions<E, S>,
): SseRouterWithoutHistory<E, S> {
  const { handler, options } = checkCall<E, S>(first, second);
  const settings = checkOptions(options);
  const release = claimJournal(settings.journal);
  const hub = new Hub(settings);
  const requests = new RequestHandler(hub, settings, handler as SseHandler | undefined);
  const router = express.Router({ mergeParams: true }) as SseRouterWithoutHistory<E, S>;
  handleRequests(router, (req, res, next) => requests.origins.handle(req, res, next));
  let closing: Promise<void> | undefined;
  Object.defineProperties(router, {
    broadcast: { value: (message: unknown, to?: BroadcastOptions) => broadcast(hub, message, to) },
    disconnect: { value: (options: unknown) => disconnect(hub, options) },
    follow: { value: (options?: FollowOptions) => follow(hub, options) },
    cors: { value: ((req, res, next) => requests.origins.handleInFront(req, res, next)) satisfies Middleware },
    within: { value: (transaction: unknown) => ({ broadcast: broadcastWithin(hub, transaction) }) },
    connections: { get: () => hub.registry.open },
    size: { get: () => hub.registry.open.size },
    position: { get: () => hub.position },
    stats: { value: () => hub.stats() },
    close: {
      value: (how: { over?: number; wait?: number } = {}) => {
        rejectUnknownKeys('option of close()', how, { over: true, wait: true });
        const over = checkTime('over', how.over);
        const wait = checkTime('wait', how.wait);
        return (closing ??= shutDown(hub, over, wait).finally(release));
      },
    },
  });
  hub.router = router;
  Object.defineProperty(router, INTROSPECT, { value: introspection(hub) });
  void hub.open();
  return router;
}

/**
 * Decides which requests are for the stream itself, and lets them bypass the router's own loop over its layers, as long as there is
 * only one layer. Each pass of that loop keeps 700 bytes per connection as long as the connection lasts. Mounting has set path and
 * parameters by then.
 */
function handleRequests(router: Router, open: Middleware): void {
  /** The requests that a route has passed to the loop, where the path does not show that they are for the stream. */
  const fromRoutes = new WeakSet<Request>();
  const enter: Middleware = function sseRouter(req, res, next) {
    if (pathOf(req) === '/' || fromRoutes.delete(req)) open(req, res, next);
    else next();
  };
  router.use(enter);
  const looping = router as Router & { handle: Middleware };
  const loop = looping.handle;
  looping.handle = function handle(req, res, next) {
    checkNext(next, 'events');
    const isMountPath = pathOf(req) === '/';
    const isFromRoute = !isMountPath && isCalledByRoute(req, next, router as never);
    if (router.stack.length !== 1 || !(isMountPath || isFromRoute)) {
      if (isFromRoute) fromRoutes.add(req);
      return loop.call(router, req, res, next);
    }
    try {
      return open(req, res, next);
    } catch (error) {
      return passError(error, next, 'cors.origin()'); // as the loop does
    }
  };
}

function checkCall<E extends EventMap, S>(
  first: unknown,
  second: unknown,
): { handler: SseHandler<E, S> | undefined; options: SseOptions<E, S> } {
  if (typeof first === 'object' && first !== null && 'headers' in first && 'httpVersion' in first) {
    const cure = 'Mount the router that sse() returns: app.use(sse(…)).';
    throw invalid('The first argument of sse()', 'a handler or options', first, { cure });
  }
  const isOptions = typeof first === 'object' && first !== null && !Array.isArray(first);
  if (first !== undefined && typeof first !== 'function' && !isOptions) {
    throw invalid('The handler of sse(handler, options)', 'a function', first, {
      cure: 'Leave it out, or pass (conn, req) => ….',
    });
  }
  if (isOptions && second !== undefined) {
    throw invalid('The second argument of sse(options)', 'left out', second, {
      cure: 'Pass the handler first: sse(handler, options).',
    });
  }
  if (second !== undefined) plainObject('The options of sse(handler, options)', second, '{ cors: … }');
  return {
    handler: typeof first === 'function' ? (first as SseHandler<E, S>) : undefined,
    options: ((isOptions ? first : second) ?? {}) as SseOptions<E, S>,
  };
}
