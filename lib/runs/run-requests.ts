/*
 * Answers the requests to a router of runs: start, read, stop, status.
 * Invariants: no request throws; errors go to Express, and their text to no client. A refused request starts no run. A run id is
 * checked before any function of the application or the store receives it. If the store does not answer, or returns an error, the client
 * is asked to try again; nothing is kept for a client that has disconnected.
 */

import { randomUUID } from 'node:crypto';
import type { NextFunction, Request, Response } from 'express';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { ConnectionRequest } from '../connection/state.ts';
import { describe, SseError } from '../errors.ts';
import { Admission, hasMethod, type Admitted, type StreamRequest } from '../http/admission.ts';
import { passError } from '../http/express-error.ts';
import { OriginCheck } from '../http/origin-check.ts';
import { lastEventIdOf, pathOf, queryOf } from '../http/request-info.ts';
import { sendEmpty, sendError, sendJson } from '../http/responses.ts';
import { isDisconnected, isDisconnection, whileConnected } from '../http/while-connected.ts';
import { handleRejection } from '../validation/validate.ts';
import type { Transport } from '../wire/transport.ts';
import type { Producer } from './api.ts';
import type { RunsSettings } from './options.ts';
import { hasChosenMethods, pathInRoute, unclearRoute } from './route-path.ts';
import type { RunFeed } from './run-feed.ts';
import {
  decodeRunId,
  encodeRunId,
  END_NUMBER,
  isRunId,
  parseEventId,
  RUN_ID_EXPECTATION,
  type RunPosition,
} from './run-id.ts';
import type { RunReaders } from './run-readers.ts';
import type { ChunkReader, RunService } from './run-service.ts';
import type { RunKey, RunState } from './run-store.ts';
import { infoOf, lostState } from './run-state.ts';
import { continuesAfter } from './feed-after.ts';
import { closedError } from './closed-error.ts';

/** The methods of each route, as the header `Allow` has them. */
const START = 'POST, OPTIONS';
const READ_OR_STOP = 'GET, HEAD, DELETE, OPTIONS';
const READ = 'GET, HEAD, OPTIONS';
const STOP = 'POST, OPTIONS';

/** What the requests of one router need. */
interface Parts<C> {
  readonly settings: RunsSettings<C>;
  readonly service: RunService<C>;
  readonly readers: RunReaders;
  readonly codec: Pick<ChunkReader, 'endOf'>;
  readonly produce: Producer<C>;
}

/** Answers a request to one run. */
type Answer = (id: string, req: Request, res: Response, next: NextFunction) => Promise<void>;

export class RunRequests<C> {
  /** The checks before the others, and those of the middleware in front. */
  readonly origins: OriginCheck;
  readonly #parts: Parts<C>;
  readonly #admission: Admission;
  readonly #pathsInRoutes = new WeakMap<Request, string>();
  /** The requests that have a place within the limits and wait for the store. */
  readonly #reserved = new Set<AbortController>();

  constructor(parts: Parts<C>) {
    this.#parts = parts;
    const { connections, headers } = parts.settings;
    this.#admission = new Admission(parts.readers, connections, headers);
    this.origins = new OriginCheck(connections.cors, (req, res, next) => this.#route(req, res, next));
  }

  /** Notes whether a route of Express calls the router for a request, and which path the request then has. */
  notePath(req: Request, isInRoute: boolean): void {
    const path = isInRoute ? pathInRoute(req) : undefined;
    if (path !== undefined) this.#pathsInRoutes.set(req, path);
    else if (isInRoute) throw unclearRoute(req);
    else this.#pathsInRoutes.delete(req); // a route may have passed the request on
  }

  #route(req: Request, res: Response, next: NextFunction): void {
    const pathOfRoute = this.#pathsInRoutes.get(req);
    const [, first = '', second, ...more] = (pathOfRoute ?? pathOf(req)).replace(/\/$/, '').split('/');
    const isFor = (methods: string): boolean => {
      const isMistake = pathOfRoute !== undefined && !hasMethod(methods, req.method) && hasChosenMethods(req);
      if (isMistake) next(unclearRoute(req));
      return !isMistake && this.#admission.checkMethod(req, res, next, methods);
    };
    const answer = (to: Answer): void => this.#answer(first, to, req, res, next);
    if (first === '' && second === undefined) {
      if (isFor(START)) void this.#guard(this.#start(req, res, next), req, res, next, true);
    } else if (second === undefined) {
      if (isFor(READ_OR_STOP)) answer(req.method === 'DELETE' ? this.#stop : this.#read);
    } else if (more.length > 0) next();
    else if (second === 'stream') {
      if (isFor(READ)) answer(this.#read);
    } else if (second === 'status') {
      if (isFor(READ)) answer(this.#status);
    } else if (second === 'stop') {
      if (isFor(STOP)) answer(this.#stop);
    } else next();
  }

  #answer(encoded: string, answer: Answer, req: Request, res: Response, next: NextFunction): void {
    const id = decodeRunId(encoded);
    if (id !== undefined) void this.#guard(answer(id, req, res, next), req, res, next, answer === this.#read);
    else sendError(res, 400, `The run id in the path must be ${RUN_ID_EXPECTATION}; received ${describe(encoded)}.`);
  }

  readonly #start = async (req: Request, res: Response, next: NextFunction): Promise<void> => {
    const { settings, service, produce } = this.#parts;
    const stream = this.#admission.prepare(req, res, next);
    if (stream === undefined) return;
    const position = this.#positionOf(req, stream.query);
    // Without ids of the application, the last event id is all that identifies the run of a client that posts again.
    const id: unknown = settings.id === undefined ? (position?.id ?? randomUUID()) : settings.id(req);
    // `undefined`, as of a missing field, would be one run for all users.
    if (!isRunId(id)) {
      handleRejection(id);
      return sendError(res, 400, `The run id of this request must be ${RUN_ID_EXPECTATION}; received ${describe(id)}.`);
    }
    if (!(await this.#isAllowed('start', id, req, res))) return;
    const own = position?.id === id ? position : undefined;
    if (own?.n === END_NUMBER) return this.#sendEnded(req, res);
    const admitted = this.#admit(stream);
    if (admitted === undefined) return;
    await this.#whileReserved(admitted, req, res, async (departed) => {
      if (own !== undefined) {
        res.setHeader('Location', locationOf(req, id));
        return this.#resume(own, stream, departed, admitted);
      }
      const { started, feed } = await asked(service.start(id, (run) => produce(run, req), settings.again, departed));
      if (res.headersSent) return;
      res.setHeader('Location', locationOf(req, id));
      if (started || settings.again !== 'reject') this.#open(feed, 0, stream, admitted);
      else {
        res.setHeader('X-Run-Id', encodeRunId(id));
        sendError(res, 409, 'This run is running.');
      }
    });
  };

  readonly #read: Answer = async (id, req, res, next) => {
    const stream = this.#admission.prepare(req, res, next);
    if (stream === undefined || !(await this.#isAllowed('read', id, req, res))) return;
    const position = this.#positionOf(req, stream.query);
    const own = position?.id === id ? position : undefined;
    if (own?.n === END_NUMBER) return this.#sendEnded(req, res);
    const { service } = this.#parts;
    const read = async (departed: AbortSignal, admitted?: Admitted): Promise<void> => {
      if (own !== undefined) return this.#resume(own, stream, departed, admitted);
      const state = await asked(service.state(id, undefined, departed));
      if (res.headersSent) return;
      if (state === undefined) sendEmpty(res, 204);
      else this.#openOrNothing(state, 0, stream, admitted);
    };
    // The answer 204 needs no place within the limits. A request that waits for a store that does not answer has one.
    if (req.method === 'HEAD' || service.isAnswering) return whileConnected(req, res, new AbortController(), read);
    const admitted = this.#admit(stream);
    if (admitted !== undefined) {
      await this.#whileReserved(admitted, req, res, (departed) => read(departed, admitted));
    }
  };

  readonly #stop: Answer = async (id, req, res) => {
    if (!(await this.#isAllowed('stop', id, req, res))) return;
    const position = this.#positionOf(req, queryOf(req));
    // A client that stops an answer which has ended meanwhile must not stop the next one.
    const generation = position?.id === id ? position.generation : undefined;
    await whileConnected(req, res, new AbortController(), async (departed) => {
      const wasRunning = await asked(this.#parts.service.stop(id, generation, departed));
      if (!res.headersSent) sendEmpty(res, wasRunning ? 202 : 204);
    });
  };

  readonly #status: Answer = async (id, req, res) => {
    if (!(await this.#isAllowed('read', id, req, res))) return;
    await whileConnected(req, res, new AbortController(), async (departed) => {
      const state = await asked(this.#parts.service.state(id, undefined, departed));
      if (res.headersSent) return;
      if (state === undefined) sendError(res, 404, 'There is no such run.');
      else sendJson(res, infoOf(state));
    });
  };

  /** Answers every request that has a place within the limits and waits for the store: the router shuts down. */
  refuseWaiting(): void {
    for (const controller of this.#reserved) controller.abort(closedError('start'));
  }

  /** As {@link whileConnected}, and the request has its place within the limits: the store, and the call of the model, may take long. */
  async #whileReserved(
    { client }: Admitted,
    req: Request,
    res: Response,
    wait: (departed: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const release = this.#parts.readers.registry.reserve(client);
    const controller = new AbortController();
    this.#reserved.add(controller);
    try {
      await whileConnected(req, res, controller, wait);
    } finally {
      this.#reserved.delete(controller);
      release();
    }
  }

  /** Answers a client that has received the end of its run. */
  #sendEnded(req: Request, res: Response): void {
    // [spec] "a client can be told to stop reconnecting using the HTTP 204 No Content response code"
    if (!isDisconnected(req, res)) sendEmpty(res, 204);
  }

  /** Continues after a position, in its own generation. */
  async #resume(
    position: RunPosition,
    stream: StreamRequest,
    departed: AbortSignal,
    admitted?: Admitted,
  ): Promise<void> {
    const state = await asked(this.#parts.service.state(position.id, position.generation, departed));
    if (stream.res.headersSent) return;
    if (state !== undefined) {
      const after = continuesAfter(position.n, state, this.#parts.service.feed(state));
      return this.#openOrNothing(state, after, stream, admitted);
    }
    // Without a last event, the client would receive an unfinished answer at each of its attempts, and never stop.
    if (this.#parts.codec.endOf(lostState(position)) === undefined) sendEmpty(stream.res, 204);
    else this.#connect(position, stream, admitted, (readers, ...args) => readers.admitToLost(position, ...args));
  }

  /** Answers 204 if everything has been received and the wire has no last event. */
  #openOrNothing(state: RunState, after: number, stream: StreamRequest, admitted?: Admitted): void {
    const isOver = state.status !== 'running' && after >= state.chunks && this.#parts.codec.endOf(state) === undefined;
    if (isOver) sendEmpty(stream.res, 204);
    else this.#open(this.#parts.service.feed(state), after, stream, admitted);
  }

  #open(feed: RunFeed, after: number, stream: StreamRequest, admitted?: Admitted): void {
    this.#connect(feed.run, stream, admitted, (readers, ...args) => readers.admit(feed, after, ...args));
  }

  #connect(
    { id }: RunKey,
    stream: StreamRequest,
    admitted: Admitted | undefined,
    connect: (readers: RunReaders, transport: Transport, request: ConnectionRequest) => ServerConnection,
  ): void {
    const { req, res } = stream;
    // The client may have disconnected while the store was asked. Its 'close' event is not emitted again.
    if (isDisconnected(req, res)) return;
    if (req.method === 'HEAD') res.setHeader('X-Run-Id', encodeRunId(id));
    if (this.#admission.answerHead(stream)) return; // it counts in no limit
    // A GET is refused if the router was closed meanwhile. A POST has started its run, or its run has time to end.
    const isAdmitted = admitted !== undefined && (req.method === 'POST' || !this.#parts.readers.isClosing);
    const mayOpen = isAdmitted ? admitted : this.#admit(stream);
    if (mayOpen === undefined) return;
    res.setHeader('X-Run-Id', encodeRunId(id));
    this.#admission.connect(stream, mayOpen, '', (...args) => connect(this.#parts.readers, ...args));
  }

  #admit(stream: StreamRequest): Admitted | undefined {
    const { readers, settings } = this.#parts;
    // A client that does not reconnect by itself would take an empty stream for an empty answer.
    if (!readers.isClosing || settings.wire.control) return this.#admission.admit(stream);
    readers.counters.refused.shutdown++;
    this.#admission.refuse(stream.req, stream.res, 503, 'closing', true);
    return undefined;
  }

  async #isAllowed(what: 'start' | 'read' | 'stop', id: string, req: Request, res: Response): Promise<boolean> {
    const { allow } = this.#parts.settings;
    if (allow === undefined) return true;
    const isAllowed: unknown = await allow(req, id, what);
    if (res.headersSent) return false;
    if (isAllowed === true) return true; // a function that forgets to return allows nothing
    sendError(res, 403, `This request may not ${what} this run.`);
    return false;
  }

  /** Returns the position that a client brought. The clients of a wire without ids bring none of these. */
  #positionOf(req: Request, query: URLSearchParams | undefined): RunPosition | undefined {
    return this.#parts.settings.wire.control ? parseEventId(lastEventIdOf(req, query)) : undefined;
  }

  /** Passes the error of an answer to Express. Answers a request itself that the store does not answer. */
  async #guard(
    answer: Promise<void>,
    req: Request,
    res: Response,
    next: NextFunction,
    isForStream: boolean,
  ): Promise<void> {
    try {
      await answer;
    } catch (error) {
      if (error instanceof Unanswered) this.#refuseUnanswered(error.cause, req, res, isForStream);
      else if (res.headersSent) this.#parts.readers.report(error);
      else passError(error, next, 'a function of the options');
    }
  }

  /** Answers so that the client tries again: an error that a browser treats as final is never an answer for a stream. */
  #refuseUnanswered(error: unknown, req: Request, res: Response, isForStream: boolean): void {
    const { readers, service, settings } = this.#parts;
    if (isDisconnection(error)) return;
    const isClosed = readers.isClosing && error instanceof SseError && error.code === 'ERR_SSE_CLOSED';
    if (!isClosed) service.reportStore(error);
    if (res.headersSent || isDisconnected(req, res)) return;
    res.removeHeader('Location'); // there may be no such run
    if (isClosed && isForStream) readers.counters.refused.shutdown++;
    // A client that does not reconnect by itself would take an empty stream for an empty answer.
    const mayReject = !isForStream || !settings.wire.control;
    this.#admission.refuse(req, res, 503, isClosed ? 'closing' : 'not ready', mayReject);
  }
}

/** The store has not answered, or has answered with the error in `cause`. (Errors of the application's functions go to Express.) */
class Unanswered extends Error {}

/** @throws {Unanswered} by rejecting, instead of every error of a call of the store */
async function asked<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (cause) {
    throw new Unanswered('The store does not answer.', { cause });
  }
}

/** Returns the path of a run, relative to the path of the request: so it is right behind a mount path and behind the prefix of a proxy. */
function locationOf({ originalUrl }: Request, id: string): string {
  const [path = ''] = originalUrl.split('?', 1);
  const segment = path.slice(path.lastIndexOf('/') + 1);
  return `./${segment === '' ? '' : `${segment}/`}${encodeRunId(id)}`;
}
