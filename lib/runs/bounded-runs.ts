/*
 * The calls of the hub that requests and the application wait for.
 * Invariants: no caller waits for longer than ten seconds, or after the close. A caller that does not wait any more is not kept, although
 * the store keeps its call until the engine answers. The number of such calls is bounded.
 */

import { SseError } from '../errors.ts';
import { closedError } from './closed-error.ts';
import { releasingUnused } from './given-source.ts';
import type { MakeSource } from './production.ts';
import type { RunFeed } from './run-feed.ts';
import type { RunService } from './run-service.ts';
import type { NewRun, RunState } from './run-store.ts';
import type { RunsHub, StartedRun } from './runs-hub.ts';

/** How long a caller waits for the store, as a request to `sse()` waits for its journal. */
const ANSWER_TIMEOUT_MS = 10_000;
/** A store that has not answered a call for this time is not available at present. An ordinary answer takes 1 to 5 ms. */
const STALL_MS = 1000;
/** The calls that the store keeps without a caller. One takes up to 10 kB, with the request that it may start a run for. */
const MAX_ABANDONED_CALLS = 1000;

/** The functions of the router whose callers wait for the store. */
type CallName = 'start' | 'stop' | 'status';

export class BoundedRuns<C> implements RunService<C> {
  readonly #hub: RunsHub<C>;
  /** The calls without an answer, the oldest one first. */
  readonly #unanswered = new Set<Wait<unknown>>();
  #abandoned = 0;
  #isClosed = false;

  constructor(hub: RunsHub<C>) {
    this.#hub = hub;
  }

  get isAnswering(): boolean {
    const [oldest] = this.#unanswered;
    return this.#hub.isAnswering && (oldest === undefined || performance.now() - oldest.since <= STALL_MS);
  }

  start(id: string, make: MakeSource<C>, again: NewRun['again'], departed?: AbortSignal): Promise<StartedRun> {
    let isAsked = false;
    const start = (signal: AbortSignal): Promise<StartedRun> => {
      isAsked = true;
      // By the answer of the hub, and not by that of the caller: after a timeout, the store may still begin the run.
      return releasingUnused(make, this.#hub.start(id, make, again, signal));
    };
    const started = this.#wait('start', start, departed);
    if (!isAsked) make.release?.();
    return started;
  }

  state(id: string, generation?: string, departed?: AbortSignal): Promise<RunState | undefined> {
    return this.#wait('status', (signal) => this.#hub.state(id, generation, signal), departed);
  }

  /**
   * Stops a run of this process at once, whether or not the store answers. The stop of another run takes effect although its caller does
   * not wait any more.
   */
  async stop(id: string, generation?: string, departed?: AbortSignal): Promise<boolean> {
    const wasRunning = this.#hub.stopHere(id, generation);
    const stopped = this.#wait('stop', () => this.#hub.stop(id, generation), departed?.aborted ? undefined : departed);
    if (!wasRunning) return stopped;
    // The record follows. Another process may produce a newer generation.
    stopped.catch((error: unknown) => this.#hub.reportStore(error));
    return true;
  }

  feed(state: RunState): RunFeed {
    return this.#hub.feed(state);
  }

  reportStore(error: unknown): void {
    this.#hub.reportStore(error);
  }

  /** Rejects every call, and every later one. */
  close(): void {
    this.#isClosed = true;
    for (const wait of this.#unanswered) wait.abandon(closedError(wait.name));
  }

  /**
   * Settles as `call` does, or rejects earlier if its caller no longer waits: after ten seconds, when `departed` aborts, with its reason,
   * and at the close. The signal that `call` receives aborts then.
   * @throws {SseError} `ERR_SSE_TIMEOUT`, `ERR_SSE_QUEUE_FULL` or `ERR_SSE_CLOSED`, by rejecting
   */
  #wait<T>(name: CallName, call: (signal: AbortSignal) => Promise<T>, departed?: AbortSignal): Promise<T> {
    if (this.#isClosed) return Promise.reject(closedError(name));
    if (departed?.aborted) return Promise.reject(departed.reason as Error);
    if (this.#abandoned >= MAX_ABANDONED_CALLS) return Promise.reject(queueFullError(name));
    const wait = new Wait<T>(name, departed, () => void this.#abandoned++);
    this.#unanswered.add(wait);
    const answered = (): void => {
      this.#unanswered.delete(wait);
      if (wait.isAbandoned) this.#abandoned--;
    };
    // `wait` has the functions that settle the promise, so that they are released when its caller no longer waits.
    call(wait.signal).then(
      (value) => {
        answered();
        wait.resolve(value);
      },
      (error: unknown) => {
        answered();
        wait.reject(error);
      },
    );
    return wait.promise();
  }
}

/** The functions that settle the promise of a caller. */
interface Caller<T> {
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** The wait of a caller for the answer to one call. */
class Wait<T> {
  readonly name: CallName;
  /** When the call was made. */
  readonly since = performance.now();
  isAbandoned = false;
  readonly #controller = new AbortController();
  readonly #onAbandoned: () => void;
  readonly #timer: NodeJS.Timeout;
  #departed: AbortSignal | undefined;
  #caller: Caller<T> | undefined;

  constructor(name: CallName, departed: AbortSignal | undefined, onAbandoned: () => void) {
    this.name = name;
    this.#onAbandoned = onAbandoned;
    this.#departed = departed;
    this.#timer = setTimeout(() => this.abandon(timeoutError(name)), ANSWER_TIMEOUT_MS).unref();
    departed?.addEventListener('abort', this.#onDeparted);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  promise(): Promise<T> {
    return new Promise((resolve, reject) => (this.#caller = { resolve, reject }));
  }

  resolve(value: T): void {
    this.#end()?.resolve(value);
  }

  reject(error: unknown): void {
    this.#end()?.reject(error);
  }

  abandon(reason: unknown): void {
    const caller = this.#end();
    if (caller === undefined) return;
    this.isAbandoned = true;
    this.#onAbandoned();
    this.#controller.abort(reason);
    caller.reject(reason);
  }

  readonly #onDeparted = (): void => this.abandon(this.#departed?.reason);

  #end(): Caller<T> | undefined {
    clearTimeout(this.#timer);
    this.#departed?.removeEventListener('abort', this.#onDeparted);
    this.#departed = undefined;
    const caller = this.#caller;
    this.#caller = undefined;
    return caller;
  }
}

function timeoutError(name: CallName): SseError {
  const effect = {
    start: 'If the store begins the run later, this process produces it.',
    stop: 'If the store receives the stop later, the run ends then.',
    status: '',
  }[name];
  return new SseError(
    'ERR_SSE_TIMEOUT',
    `${name}() must be answered by the store within ${ANSWER_TIMEOUT_MS} ms; received no answer. ${effect}${effect && ' '}Check the engine of the store, then try again.`,
  );
}

function queueFullError(name: CallName): SseError {
  return new SseError(
    'ERR_SSE_QUEUE_FULL',
    `${name}() must be called while the store has less than ${MAX_ABANDONED_CALLS} calls that it has not answered in time; received one more. Check the engine of the store, then try again.`,
  );
}
