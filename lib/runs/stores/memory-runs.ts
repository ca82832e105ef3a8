/*
 * Runs in the memory of this process. It is the default store and the pattern for the others.
 * Invariant: an answer about a run whose lease has expired comes after the run has ended, except to its producer, which may renew it
 * until then.
 * Invariant: one timer drops all ended runs. It keeps no process alive.
 */

import { SseError } from '../../errors.ts';
import { Deque } from '../../journal/deque.ts';
import { MAX_TIMER_MS } from '../../validation/validate.ts';
import { lostState } from '../run-state.ts';
import type {
  BeginResult,
  ChunkPage,
  NewRun,
  Renewal,
  RunFollower,
  RunKey,
  RunState,
  RunStatus,
  RunStore,
  RunStoreListener,
} from '../run-store.ts';

/** The bytes after which a page or a delivery ends, so that a reader of a large log does not hold the event loop. */
const MAX_PAGE_BYTES = 1024 * 1024;
const MAX_DELIVERED_CHUNKS = 4096;

/**
 * Creates a store in the memory of this process: its runs end with the process, and only this process can read and stop them.
 */
export function memoryRuns(): RunStore {
  return new MemoryRunLogs().handle();
}

/** One generation. */
interface StoredRun extends RunKey {
  readonly owner: MemoryRunStore;
  readonly lease: number;
  readonly keep: number;
  readonly startedAt: number;
  readonly chunks: Uint8Array[];
  readonly followers: Set<FollowerState>;
  bytes: number;
  status: RunStatus;
  endedAt: number | undefined;
  /** On the monotonic clock, as the next two. */
  leaseEnd: number;
  readersUntil: number;
  /** Infinity while the run is running. */
  droppedAt: number;
  stopRequested: boolean;
}

interface FollowerState {
  readonly follower: RunFollower;
  readonly handle: MemoryRunStore;
  /** The number of the chunk that it receives next. */
  next: number;
  isScheduled: boolean;
}

/** The logs that the handles of one store share. Only tests have more than one handle: each is then one process. */
export class MemoryRunLogs {
  /** The generations of each run id that are kept, oldest first. */
  readonly #runs = new Map<string, StoredRun[]>();
  /** In the order of their ends, which is the order in which they are dropped if all have the same `keep`. */
  readonly #ended = new Deque<StoredRun>();
  readonly #handles = new Set<MemoryRunStore>();
  #timer: NodeJS.Timeout | undefined;

  handle(): RunStore {
    const handle = new MemoryRunStore(this);
    this.#handles.add(handle);
    return handle;
  }

  removeHandle(handle: MemoryRunStore): void {
    this.#handles.delete(handle);
    for (const runs of this.#runs.values()) {
      for (const { followers } of runs) {
        for (const state of followers) if (state.handle === handle) followers.delete(state);
      }
    }
    if (this.#handles.size > 0) return;
    clearTimeout(this.#timer);
    this.#runs.clear();
    this.#ended.clear();
  }

  /** Returns one generation, or the newest one, even if its lease has expired. */
  find(id: string, generation?: string): StoredRun | undefined {
    const runs = this.#runs.get(id);
    const run = generation === undefined ? runs?.at(-1) : runs?.find((each) => each.generation === generation);
    return run !== undefined && run.droppedAt <= performance.now() ? undefined : run;
  }

  /**
   * Returns as {@link find}, after a run whose lease has expired has ended. If the event loop was blocked for longer than a lease, the
   * timer of the producer in this process is overdue: it was due earlier than the timer here, so the producer renews first.
   */
  async settled(id: string, generation?: string): Promise<StoredRun | undefined> {
    const run = this.find(id, generation);
    if (run === undefined || !hasExpired(run)) return run;
    await new Promise((resolve) => void setTimeout(resolve, 1));
    if (hasExpired(run)) this.end(run, 'lost');
    return this.find(id, generation);
  }

  add(run: StoredRun): void {
    const runs = this.#runs.get(run.id);
    if (runs === undefined) this.#runs.set(run.id, [run]);
    else runs.push(run);
  }

  append(run: StoredRun, chunks: readonly Uint8Array[]): void {
    for (const chunk of chunks) {
      run.chunks.push(chunk);
      run.bytes += chunk.byteLength;
    }
    for (const state of run.followers) schedule(run, state);
  }

  end(run: StoredRun, status: Exclude<RunStatus, 'running'>): void {
    if (run.status !== 'running') return;
    run.status = status === 'lost' && run.stopRequested ? 'stopped' : status;
    run.endedAt = Math.max(Date.now(), run.startedAt);
    run.droppedAt = performance.now() + run.keep;
    this.#ended.push(run);
    this.#scheduleDrop();
    for (const state of run.followers) schedule(run, state);
  }

  #scheduleDrop(): void {
    const oldest = this.#ended.at(0);
    if (oldest === undefined || this.#timer !== undefined) return;
    const delay = Math.max(Math.ceil(oldest.droppedAt - performance.now()), 1);
    this.#timer = setTimeout(() => this.#drop(), Math.min(delay, MAX_TIMER_MS)).unref();
  }

  #drop(): void {
    this.#timer = undefined;
    for (
      let run = this.#ended.at(0);
      run !== undefined && run.droppedAt <= performance.now();
      run = this.#ended.at(0)
    ) {
      this.#ended.shift();
      const rest = this.#runs.get(run.id)?.filter((each) => each !== run) ?? [];
      if (rest.length === 0) this.#runs.delete(run.id);
      else this.#runs.set(run.id, rest);
    }
    this.#scheduleDrop();
  }
}

class MemoryRunStore implements RunStore {
  readonly #logs: MemoryRunLogs;
  #listener: RunStoreListener | undefined;
  #closed = false;

  constructor(logs: MemoryRunLogs) {
    this.#logs = logs;
  }

  async open(listener: RunStoreListener): Promise<void> {
    this.#assertOpen();
    this.#listener = listener;
  }

  async begin({ id, generation, again, lease, keep, signal }: NewRun): Promise<BeginResult> {
    this.#assertOpen();
    signal?.throwIfAborted();
    await this.#logs.settled(id);
    this.#assertOpen();
    const current = this.#logs.find(id); // again: of concurrent calls, another may have begun a generation meanwhile
    if (current !== undefined && current.status === 'running') {
      if (again !== 'replace') return { started: false, state: stateOf(current) };
      current.stopRequested = true;
      this.#logs.end(current, 'stopped');
      current.owner.reportStop(current);
    }
    const now = performance.now();
    const run: StoredRun = {
      id,
      generation,
      owner: this,
      lease,
      keep,
      startedAt: Date.now(),
      chunks: [],
      followers: new Set(),
      bytes: 0,
      status: 'running',
      endedAt: undefined,
      leaseEnd: now + lease,
      readersUntil: 0,
      droppedAt: Infinity,
      stopRequested: false,
    };
    this.#logs.add(run);
    return { started: true, state: stateOf(run) };
  }

  async append(run: RunKey, first: number, chunks: readonly Uint8Array[]): Promise<'stored' | 'refused'> {
    this.#assertOpen();
    const stored = this.#logs.find(run.id, run.generation);
    if (stored === undefined || stored.status !== 'running') return 'refused';
    if (first !== stored.chunks.length + 1) {
      this.#logs.end(stored, 'lost');
      return 'refused';
    }
    this.#logs.append(stored, chunks);
    return 'stored';
  }

  async end(run: RunKey, status: Exclude<RunStatus, 'running'>): Promise<RunState | undefined> {
    this.#assertOpen();
    const stored = this.#logs.find(run.id, run.generation);
    if (stored === undefined) return undefined;
    this.#logs.end(stored, status);
    return stateOf(stored);
  }

  async renew(runs: readonly RunKey[]): Promise<readonly Renewal[]> {
    this.#assertOpen();
    const now = performance.now();
    return runs.map(({ id, generation }) => {
      const run = this.#logs.find(id, generation);
      if (run === undefined) return { running: false, stopRequested: false, hasReaders: false };
      const running = run.status === 'running';
      if (running) run.leaseEnd = now + run.lease;
      return { running, stopRequested: run.stopRequested, hasReaders: run.readersUntil > now };
    });
  }

  async stop(id: string, generation?: string): Promise<boolean> {
    this.#assertOpen();
    const run = await this.#logs.settled(id, generation);
    if (run === undefined || run.status !== 'running') return false;
    run.stopRequested = true;
    run.owner.reportStop(run);
    return true;
  }

  async state(id: string, generation?: string): Promise<RunState | undefined> {
    this.#assertOpen();
    const run = await this.#logs.settled(id, generation);
    this.#assertOpen();
    return run && stateOf(run);
  }

  async read({ id, generation }: RunKey, after: number, limit: number): Promise<ChunkPage | undefined> {
    this.#assertOpen();
    const run = await this.#logs.settled(id, generation);
    this.#assertOpen();
    return run && { chunks: chunksAfter(run, after, limit), state: stateOf(run) };
  }

  follow({ id, generation }: RunKey, after: number, follower: RunFollower): () => void {
    if (this.#closed) return () => {};
    const run = this.#logs.find(id, generation);
    if (run === undefined) return this.#followMissing({ id, generation }, follower);
    const state: FollowerState = { follower, handle: this, next: after + 1, isScheduled: false };
    run.followers.add(state);
    schedule(run, state);
    return () => void run.followers.delete(state);
  }

  async noteReaders(runs: readonly RunKey[], ms: number): Promise<void> {
    this.#assertOpen();
    for (const { id, generation } of runs) {
      const run = this.#logs.find(id, generation);
      if (run !== undefined) run.readersUntil = performance.now() + ms;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#logs.removeHandle(this);
  }

  /** Reports a stop in a microtask: its listener never runs within the call of another handle. */
  reportStop({ id, generation }: RunKey): void {
    queueMicrotask(() => {
      if (!this.#closed) this.#listener?.onStop({ id, generation });
    });
  }

  #followMissing(run: RunKey, follower: RunFollower): () => void {
    let isFollowing = true;
    queueMicrotask(() => {
      if (!isFollowing || this.#closed) return;
      isFollowing = false;
      follower.end(lostState(run));
    });
    return () => void (isFollowing = false);
  }

  #assertOpen(): void {
    if (this.#closed) throw new SseError('ERR_SSE_CLOSED', 'This store of runs is closed. Create a new one.');
  }
}

function hasExpired(run: StoredRun): boolean {
  return run.status === 'running' && run.leaseEnd <= performance.now();
}

function stateOf({ id, generation, status, startedAt, endedAt, chunks, bytes, leaseEnd }: StoredRun): RunState {
  const state = { id, generation, status, startedAt, chunks: chunks.length, bytes };
  if (endedAt !== undefined) return { ...state, endedAt };
  return { ...state, leaseLeft: Math.max(leaseEnd - performance.now(), 1) };
}

/** Returns chunks in a row: at least one, if there is one. */
function chunksAfter({ chunks }: StoredRun, after: number, limit: number): Uint8Array[] {
  const page: Uint8Array[] = [];
  let bytes = 0;
  for (let index = after; index < chunks.length && page.length < limit; index++) {
    bytes += chunks[index]!.byteLength;
    if (bytes > MAX_PAGE_BYTES && page.length > 0) break;
    page.push(chunks[index]!);
  }
  return page;
}

/** Delivers to one follower in a microtask, so that it never receives anything within a call of the store. */
function schedule(run: StoredRun, state: FollowerState): void {
  if (state.isScheduled) return;
  state.isScheduled = true;
  queueMicrotask(() => deliver(run, state));
}

function deliver(run: StoredRun, state: FollowerState): void {
  state.isScheduled = false;
  if (!run.followers.has(state)) return;
  const chunks = chunksAfter(run, state.next - 1, MAX_DELIVERED_CHUNKS);
  if (chunks.length > 0) {
    const first = state.next;
    state.next += chunks.length;
    state.follower.chunks(first, chunks);
    if (!run.followers.has(state)) return;
  }
  if (state.isScheduled) return; // the follower has appended
  if (state.next <= run.chunks.length) {
    state.isScheduled = true;
    setImmediate(() => deliver(run, state)); // other work of this process comes between two pages
  } else if (run.status !== 'running') {
    run.followers.delete(state);
    state.follower.end(stateOf(run));
  }
}
