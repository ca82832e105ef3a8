/*
 * For the tests of runs without HTTP: hubs on one store in memory, each of them one process, and sources that a test controls.
 */
import type { Run, RunEvent } from '../../lib/runs/api.ts';
import { chunkOf } from '../../lib/runs/chunk-codec.ts';
import type { RunFeed } from '../../lib/runs/run-feed.ts';
import type {
  NewRun,
  RunFollower,
  RunKey,
  RunState,
  RunStatus,
  RunStore,
  RunStoreListener,
} from '../../lib/runs/run-store.ts';
import { RunsHub, type RunsHubSettings } from '../../lib/runs/runs-hub.ts';
import { MemoryRunLogs } from '../../lib/runs/stores/memory-runs.ts';
import { SseError } from '../../lib/errors.ts';
import { events } from '../../lib/runs/wires.ts';
import { later } from '../fixtures/support.ts';

export interface Hub {
  readonly hub: RunsHub<unknown>;
  readonly store: LinkedStore;
  readonly errors: unknown[];
  /** What the hub has reported about its runs and its store. */
  readonly reported: string[];
}

/** A handle on a store, with the calls that were made, whose connection to the engine a test can cut. */
export class LinkedStore implements RunStore {
  readonly calls: Record<string, number> = {};
  readonly #inner: RunStore;
  #listener: RunStoreListener | undefined;
  /** While it is cut, calls and deliveries wait in these. */
  #waiting: { resume: () => void; reject: (error: Error) => void }[] | undefined;

  /** @param change - what the store of this process does differently */
  constructor(logs: MemoryRunLogs, change: (store: RunStore) => RunStore = (store) => store) {
    this.#inner = change(logs.handle());
  }

  /** Calls wait from now on, and nothing is delivered. Without {@link restore}, this process is dead to the others. */
  cut(): void {
    this.#waiting ??= [];
    this.#listener?.onStatus?.(false, new Error('the engine does not answer'));
  }

  restore(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    this.#listener?.onStatus?.(true);
    for (const { resume } of waiting) resume();
  }

  async #link(name: string): Promise<void> {
    this.calls[name] = (this.calls[name] ?? 0) + 1;
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    await new Promise<void>((resolve, reject) => void waiting.push({ resume: resolve, reject }));
  }

  async open(listener: RunStoreListener): Promise<void> {
    await this.#link('open');
    this.#listener = listener;
    await this.#inner.open({ onStop: (run) => this.#deliver(() => listener.onStop(run)) });
  }
  async begin(run: NewRun) {
    await this.#link('begin');
    return this.#inner.begin(run);
  }
  async append(run: RunKey, first: number, chunks: readonly Uint8Array[]) {
    await this.#link('append');
    return this.#inner.append(run, first, chunks);
  }
  async end(run: RunKey, status: Exclude<RunStatus, 'running'>) {
    await this.#link('end');
    return this.#inner.end(run, status);
  }
  async renew(runs: readonly RunKey[]) {
    await this.#link('renew');
    return this.#inner.renew(runs);
  }
  async stop(id: string, generation?: string) {
    await this.#link('stop');
    return this.#inner.stop(id, generation);
  }
  async state(id: string, generation?: string) {
    await this.#link('state');
    return this.#inner.state(id, generation);
  }
  async read(run: RunKey, after: number, limit: number) {
    await this.#link('read');
    return this.#inner.read(run, after, limit);
  }
  follow(run: RunKey, after: number, follower: RunFollower) {
    this.calls['follow'] = (this.calls['follow'] ?? 0) + 1;
    return this.#inner.follow(run, after, {
      chunks: (first, chunks) => this.#deliver(() => follower.chunks(first, chunks)),
      end: (state) => this.#deliver(() => follower.end(state)),
    });
  }
  async noteReaders(runs: readonly RunKey[], ms: number) {
    await this.#link('noteReaders');
    return this.#inner.noteReaders(runs, ms);
  }
  async close(): Promise<void> {
    for (const { reject } of this.#waiting ?? []) reject(new SseError('ERR_SSE_CLOSED', 'closed'));
    this.#waiting = undefined;
    await this.#inner.close();
  }

  #deliver(delivery: () => void): void {
    if (this.#waiting === undefined) delivery();
    else this.#waiting.push({ resume: delivery, reject: () => {} });
  }
}

/** Replaces the clocks and the timers. Promises, microtasks and `setImmediate` stay real. */
export function fakeTime(): void {
  jest.useFakeTimers({ doNotFake: ['queueMicrotask', 'nextTick', 'setImmediate'] });
}

/** Lets everything that is due happen, without time passing. */
export async function settle(): Promise<void> {
  for (let n = 0; n < 10; n++) await new Promise(setImmediate);
}

/** Lets time pass in small steps, with everything that happens in between. */
export async function pass(ms: number, step = 50): Promise<void> {
  await settle();
  for (let passed = 0; passed < ms; passed += step) {
    jest.advanceTimersByTime(Math.min(step, ms - passed));
    await settle();
  }
}

/** Returns a hub. Hubs on the same `logs` are processes that share a store. */
export function hubOn(
  logs = new MemoryRunLogs(),
  settings: Partial<RunsHubSettings<unknown>> = {},
  change?: (store: RunStore) => RunStore,
): Hub {
  const store = new LinkedStore(logs, change);
  const errors: unknown[] = [];
  const reported: string[] = [];
  const hub = new RunsHub<unknown>({
    store,
    wire: events(),
    keep: 60_000,
    lease: 10_000,
    batch: 0,
    maxBytes: 8 * 1024 * 1024,
    stopUnread: false,
    onError: (error) => void errors.push(error),
    onStarted: ({ id }) => void reported.push(`started ${id}`),
    onEnded: ({ id, status }) => void reported.push(`${status} ${id}`),
    onStatus: (up) => void reported.push(up ? 'up' : 'down'),
    ...settings,
  });
  later(async () => {
    await store.close(); // first: a cut one would never answer
    await hub.close();
  });
  return { hub, store, errors, reported };
}

/** A follower that records chunks as values. */
export class Reader implements RunFollower {
  readonly chunksRead: unknown[] = [];
  first = 0;
  ended: RunState | undefined;
  readonly whenEnded: Promise<RunState>;
  #resolve!: (state: RunState) => void;
  #onChange: () => void = () => {};

  constructor() {
    this.whenEnded = new Promise((resolve) => (this.#resolve = resolve));
  }

  chunks(first: number, chunks: readonly Uint8Array[]): void {
    if (this.first === 0) this.first = first;
    if (first !== this.first + this.chunksRead.length) throw new Error(`chunk ${first} is not the next one`);
    if (this.ended !== undefined) throw new Error('a chunk after the end');
    this.chunksRead.push(...chunks.map(chunkOf));
    this.#onChange();
  }

  end(state: RunState): void {
    if (this.ended !== undefined) throw new Error('two ends');
    this.ended = state;
    this.#resolve(state);
  }

  async has(count: number): Promise<unknown[]> {
    await new Promise<void>((resolve) => {
      this.#onChange = () => void (this.chunksRead.length >= count && resolve());
      this.#onChange();
    });
    return this.chunksRead;
  }
}

/** Begins a run whose chunks the test yields. */
export async function begun(
  { hub }: Hub,
  id: string,
  again: 'join' | 'reject' | 'replace' = 'join',
): Promise<{ script: Script; state: RunState; feed: RunFeed; signal: () => AbortSignal }> {
  const script = new Script();
  let signal: AbortSignal | undefined;
  const produce = (run: Run) => {
    ({ signal } = run);
    return script;
  };
  const { started, state } = await hub.start(id, produce, again);
  if (!started) throw new Error(`the run ${id} is running already`);
  return { script, state, feed: hub.feed(state), signal: () => signal! };
}

export function readerOf(feed: RunFeed): Reader {
  const reader = new Reader();
  feed.subscribe(reader);
  return reader;
}

/** Returns a source whose chunks the test yields. */
export class Script<C = unknown> implements AsyncIterableIterator<C> {
  readonly #waiting: (() => void)[] = [];
  readonly #steps: (() => IteratorResult<C>)[] = [];
  /** How many chunks were asked for. */
  asked = 0;
  isReleased = false;

  yield(...chunks: C[]): void {
    for (const value of chunks) this.#push(() => ({ done: false, value }));
  }
  finish(): void {
    this.#push(() => ({ done: true, value: undefined }));
  }
  fail(error: unknown): void {
    this.#push(() => {
      throw error;
    });
  }
  async next(): Promise<IteratorResult<C>> {
    this.asked++;
    while (this.#steps.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.#steps.shift()!();
  }
  async return(): Promise<IteratorResult<C>> {
    this.isReleased = true;
    return { done: true, value: undefined };
  }
  [Symbol.asyncIterator](): this {
    return this;
  }
  #push(step: () => IteratorResult<C>): void {
    this.#steps.push(step);
    this.#waiting.shift()?.();
  }
}

/** Takes all steps of an iteration. */
export async function all<C>(iterator: AsyncIterable<RunEvent<C>>): Promise<RunEvent<C>[]> {
  const steps: RunEvent<C>[] = [];
  for await (const step of iterator) steps.push(step);
  return steps;
}
