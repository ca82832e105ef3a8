/*
 * `runs()`: makes a router of its parts: the options, the requests, the readers, and the hub that produces.
 * Invariants: an invalid argument throws before the store is opened. The store belongs to this router, and is closed with it; a store
 * that another router of the process uses is refused.
 */

import express, { type RequestHandler as Middleware } from 'express';
import { channels, INTROSPECT } from '../diagnostics/channels.ts';
import { checkNext, isCalledByRoute } from '../http/express-route.ts';
import { checkTime } from '../hub/shutdown.ts';
import { claimStore } from '../journal/claim.ts';
import { invalid, plainObject, rejectUnknownKeys } from '../validation/validate.ts';
import type { Producer, RunsOptions, RunsRouter, RunsStats } from './api.ts';
import { frameOf } from './chunk-codec.ts';
import type { FollowRunOptions } from './follow.ts';
import { GivenSources } from './given-source.ts';
import { checkRunsOptions } from './options.ts';
import { isRunId, RUN_ID_EXPECTATION } from './run-id.ts';
import { introspection } from './run-introspection.ts';
import { RunReaders } from './run-readers.ts';
import { RunRequests } from './run-requests.ts';
import type { ChunkReader } from './run-service.ts';
import { BoundedRuns } from './bounded-runs.ts';
import { RunsHub } from './runs-hub.ts';
import { infoOf } from './run-state.ts';
import { encodeEnd } from './wires.ts';

/**
 * Creates a router of runs: answers that continue after the request that asked for them has ended.
 * @example
 * ```ts
 * const chat = runs(async function* ({ signal }, req) {
 *   yield* model.stream(req.body.messages, { signal });
 * });
 * app.use('/chat', express.json(), chat);
 * ```
 * @param produce - Called once for each run, in one process. It returns what the run iterates over.
 * @typeParam C - the chunks of a run
 * @throws {SseTypeError} At once, for every invalid option, and if another router has the store.
 */
export function runs<C = string>(produce: Producer<C>, options: RunsOptions<C> = {}): RunsRouter<C> {
  if (typeof produce !== 'function') {
    const cure = 'Pass the function that produces an answer: runs(async function* (run, req) { … }).';
    throw invalid('The first argument of runs()', 'a function', produce, { cure });
  }
  plainObject('The options of runs(produce, options)', options, '{ store: … }');
  const settings = checkRunsOptions(options);
  const { wire } = settings;
  const release = claimStore(settings.store);
  const router = express.Router({ mergeParams: true }) as RunsRouter<C>;
  const hub = new RunsHub<C>({
    ...settings,
    onError: settings.connections.onError,
    onStarted: (state) => {
      if (channels.runStart.hasSubscribers) channels.runStart.publish({ router, run: infoOf(state) });
    },
    onEnded: (state) => {
      if (channels.runEnd.hasSubscribers) channels.runEnd.publish({ router, run: infoOf(state) });
    },
    onStatus: (up) => {
      readers.counters.journalUp = up;
    },
  });
  const codec: ChunkReader = {
    frameOf,
    endOf(state) {
      try {
        const text = encodeEnd(wire, infoOf(state));
        return text === '' ? undefined : Buffer.from(text);
      } catch (error) {
        readers.report(error);
        return undefined;
      }
    },
  };
  const readers = new RunReaders(settings.connections, codec, wire.control, router);
  const service = new BoundedRuns<C>(hub);
  const requests = new RunRequests<C>({ settings, service, readers, codec, produce });
  router.use(function runsRouter(req, res, next) {
    requests.origins.handle(req, res, next);
  });
  handleRoutes(router, requests);
  const sources = new GivenSources<C>();
  let closing: Promise<void> | undefined;
  Object.defineProperties(router, {
    start: {
      value: async (id: unknown, source: unknown) => {
        const make = sources.makerOf(source);
        if (!isRunId(id)) make.release?.();
        checkRunId(id);
        return infoOf((await service.start(id, make, 'join')).state);
      },
    },
    stop: {
      value: async (id: unknown) => {
        checkRunId(id);
        return service.stop(id);
      },
    },
    status: {
      value: async (id: unknown) => {
        checkRunId(id);
        const state = await service.state(id);
        return state && infoOf(state);
      },
    },
    follow: { value: (id: string, how?: FollowRunOptions) => hub.follow(id, how) },
    cors: { value: ((req, res, next) => requests.origins.handleInFront(req, res, next)) satisfies Middleware },
    connections: { get: () => readers.registry.open },
    stats: {
      value: (): RunsStats => {
        const { ended, chunks, bytes } = hub.stats;
        return { ...readers.stats(), runs: { running: hub.producing, ended: { ...ended }, chunks, bytes } };
      },
    },
    close: {
      value: (how: { wait?: number } = {}) => {
        rejectUnknownKeys('option of close()', how, { wait: true });
        const wait = checkTime('wait', how.wait);
        return (closing ??= shutDown({ hub, service, requests, readers }, wait, wire.control).finally(release));
      },
    },
    [INTROSPECT]: { value: introspection(readers) },
  });
  return router;
}

/** Lets a route of Express call the router, with the path that a mounted router would have. */
function handleRoutes<C>(router: RunsRouter<C>, requests: RunRequests<C>): void {
  const looping = router as RunsRouter<C> & { handle: Middleware };
  const loop = looping.handle;
  looping.handle = function handle(req, res, next) {
    checkNext(next, 'chat');
    try {
      requests.notePath(req, isCalledByRoute(req, next, router as never));
    } catch (error) {
      return next(error);
    }
    return loop.call(router, req, res, next);
  };
}

/** The parts of a router that its shutdown closes. */
interface Parts<C> {
  readonly hub: RunsHub<C>;
  readonly service: BoundedRuns<C>;
  readonly requests: RunRequests<C>;
  readonly readers: RunReaders;
}

/** @param canReconnect Whether clients continue by themselves where another process can serve them. */
async function shutDown<C>(
  { hub, service, requests, readers }: Parts<C>,
  wait: number,
  canReconnect: boolean,
): Promise<void> {
  const start = performance.now();
  readers.isClosing = true;
  await hub.drain(wait);
  requests.refuseWaiting(); // first: the readers are closed when no request has a place any more
  // A client that continues elsewhere does so now; for another one, its answer may still end.
  await readers.close(canReconnect ? 0 : Math.max(0, wait - (performance.now() - start)));
  service.close();
  await hub.close();
}

function checkRunId(id: unknown): asserts id is string {
  if (!isRunId(id)) throw invalid('A run id', RUN_ID_EXPECTATION, id, { code: 'ERR_SSE_ID' });
}
