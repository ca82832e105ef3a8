/*
 * Answers the requests to a router of runs: start, read, stop, status.
 * Invariants: no request throws; errors go to Express, and their text to no client. A refused request starts no run. A run id is
 * checked before any function of the application or the store receives it.
 */

import { randomUUID } from 'node:crypto';
import type { NextFunction, Request, Response } from 'express';
import type { ServerConnection } from '../connection/server-connection.ts';
import type { ConnectionRequest } from '../connection/state.ts';
import { SseError } from '../errors.ts';
import { Admission, type Admitted, type StreamRequest } from '../http/admission.ts';
import { passError } from '../http/express-error.ts';
import { OriginCheck } from '../http/origin-check.ts';
import { lastEventIdOf, pathOf, queryOf } from '../http/request-info.ts';
import { sendEmpty, sendError } from '../http/responses.ts';
import { handleRejection } from '../validation/validate.ts';
import type { Transport } from '../wire/transport.ts';
import type { Producer } from './api.ts';
import type { RunsSettings } from './options.ts';
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

  constructor(parts: Parts<C>) {
    this.#parts = parts;
    const { connections, headers } = parts.settings;
    this.#admission = new Admission(parts.readers, connections, headers);
    this.origins = new OriginCheck(connections.cors, (req, res, next) => this.#route(req, res, next));
  }

  #route(req: Request, res: Response, next: NextFunction): void {
    const [, first = '', second, ...more] = pathOf(req).replace(/\/$/, '').split('/');
    const isFor = (methods: string): boolean => this.#admission.checkMethod(req, res, next, methods);
    const answer = (to: Answer): void => this.#answer(first, to, req, res, next);
    if (first === '' && second === undefined) {
      if (isFor(START)) void this.#guard(this.#start(req, res, next), req, res, next);
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
    if (id !== undefined) void this.#guard(answer(id, req, res, next), req, res, next);
    else sendError(res, 400, `The run id in the path must be ${RUN_ID_EXPECTATION}.`);
  }

  readonly #start = async (req: Request, res: Response, next: NextFunction): Promise<void> => {
    const { settings, service, readers, produce } = this.#parts;
    const stream = this.#admission.prepare(req, res, next);
    if (stream === undefined) return;
    const position = this.#positionOf(req, stream.query);
    // Without ids of the application, the last event id is all that identifies the run of a client that posts again.
    const id: unknown = settings.id === undefined ? (position?.id ?? randomUUID()) : settings.id(req);
    // `undefined`, as of a missing field, would be one run for all users.
    if (!isRunId(id)) {
      handleRejection(id);
      return sendError(res, 400, `The run id of this request must be ${RUN_ID_EXPECTATION}.`);
    }
    if (!(await this.#isAllowed('start', id, req, res))) return;
    const admitted = this.#admit(stream);
    if (admitted === undefined) return;
    // The call to the model may take long. Until then, the request has its place within the limits.
    const release = readers.registry.reserve(admitted.client);
    try {
      if (position?.id === id) {
        res.setHeader('Location', locationOf(req, id));
        return await this.#resume(position, stream, admitted);
      }
      const { started, feed } = await service.start(id, (run) => produce(run, req), settings.again);
      if (res.headersSent) return;
      res.setHeader('Location', locationOf(req, id));
      if (started || settings.again !== 'reject') this.#open(feed, 0, stream, admitted);
      else {
        res.setHeader('X-Run-Id', encodeRunId(id));
        sendError(res, 409, 'This run is running.');
      }
    } finally {
      release();
    }
  };

  readonly #read: Answer = async (id, req, res, next) => {
    const stream = this.#admission.prepare(req, res, next);
    if (stream === undefined || !(await this.#isAllowed('read', id, req, res))) return;
    const position = this.#positionOf(req, stream.query);
    if (position?.id === id) return this.#resume(position, stream);
    const state = await this.#parts.service.state(id);
    if (res.headersSent) return;
    if (state === undefined) sendEmpty(res, 204);
    else this.#openOrNothing(state, 0, stream);
  };

  readonly #stop: Answer = async (id, req, res) => {
    if (!(await this.#isAllowed('stop', id, req, res))) return;
    const position = this.#positionOf(req, queryOf(req));
    // A client that stops an answer which has ended meanwhile must not stop the next one.
    const generation = position?.id === id ? position.generation : undefined;
    const wasRunning = await this.#parts.service.stop(id, generation);
    if (!res.headersSent) sendEmpty(res, wasRunning ? 202 : 204);
  };

  readonly #status: Answer = async (id, req, res) => {
    if (!(await this.#isAllowed('read', id, req, res))) return;
    const state = await this.#parts.service.state(id);
    if (res.headersSent) return;
    res.setHeader('Cache-Control', 'no-store');
    if (state === undefined) return sendError(res, 404, 'There is no such run.');
    res.setHeader('Content-Type', 'application/json; charset=utf-8');
    res.setHeader('X-Content-Type-Options', 'nosniff');
    res.end(JSON.stringify(infoOf(state)));
  };

  /** Continues after a position, in its own generation. */
  async #resume(position: RunPosition, stream: StreamRequest, admitted?: Admitted): Promise<void> {
    // [spec] "a client can be told to stop reconnecting using the HTTP 204 No Content response code"
    if (position.n === END_NUMBER) return sendEmpty(stream.res, 204);
    const state = await this.#parts.service.state(position.id, position.generation);
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
    if (res.destroyed || req.socket.destroyed) return;
    const mayOpen = admitted ?? this.#admit(stream);
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

  /** Passes the error of an answer to Express. */
  async #guard(answer: Promise<void>, req: Request, res: Response, next: NextFunction): Promise<void> {
    try {
      await answer;
    } catch (error) {
      const { readers } = this.#parts;
      const isClosed = readers.isClosing && error instanceof SseError && error.code === 'ERR_SSE_CLOSED';
      if (res.headersSent) readers.report(error);
      else if (isClosed) this.#admission.refuse(req, res, 503, 'closing', true);
      else passError(error, next, 'a function of the options');
    }
  }
}

/** Returns the path of a run, relative to the path of the request: so it is right behind a mount path and behind the prefix of a proxy. */
function locationOf({ originalUrl }: Request, id: string): string {
  const [path = ''] = originalUrl.split('?', 1);
  const segment = path.slice(path.lastIndexOf('/') + 1);
  return `./${segment === '' ? '' : `${segment}/`}${encodeRunId(id)}`;
}
