/*
 * All runs of one router in this process: those that it produces, and those that its readers follow.
 *
 * Invariant: one timer renews all leases, finds lost runs, and stops unread ones. No pass visits the runs of other processes.
 * Invariant: a call that the store cannot answer yet is made once, and not again until it has been answered.
 */

import { SseError } from '../errors.ts';
import { report } from '../diagnostics/error-reporter.ts';
import { OutageReports } from '../diagnostics/outage-reports.ts';
import { type Sweep, SweepTimer } from '../hub/sweep-timer.ts';
import { closeWithin } from '../journal/closing.ts';
import { Opening } from '../journal/opening.ts';
import type { RunEvent, Wire } from './api.ts';
import { type FollowRunOptions, followRun } from './follow.ts';
import { LogSource, type LogSourceHost, LogView } from './log-source.ts';
import { type MakeSource, Production, type ProductionHost } from './production.ts';
import type { RunFeed } from './run-feed.ts';
import { newGeneration } from './run-id.ts';
import type { BeginResult, NewRun, RunKey, RunState, RunStatus, RunStore } from './run-store.ts';
import { lostState } from './run-state.ts';
import { closedError } from './closed-error.ts';

/** A lease is renewed this many times before it expires, so that a late or failed renewal does not lose the run. */
const RENEWALS_PER_LEASE = 3;
/** How late an expired lease may be noticed: every reader has its end within one lease and a second. */
const MAX_CHECK_DELAY_MS = 250;
/** After a cut, the ends of the runs have this long to reach the store. After that they end when their leases expire. */
const CUT_TIMEOUT_MS = 2000;
/** A note of readers is valid for this many of its intervals. */
const NOTES_PER_VALIDITY = 2.5;

/** The options of {@link RunsHub}, checked. */
export interface RunsHubSettings<C> {
  readonly store: RunStore;
  readonly wire: Wire<C>;
  /** Milliseconds, as the next two. */
  readonly keep: number;
  readonly lease: number;
  readonly batch: number;
  readonly maxBytes: number;
  readonly stopUnread: number | false;
  readonly onError: ((error: unknown) => unknown) | undefined;
  /** Called when this process has begun a run, and when a run has ended that it produced. */
  onStarted?(state: RunState): void;
  onEnded?(state: RunState): void;
  /** Called when the engine of the store answers, or does not answer any more. */
  onStatus?(up: boolean): void;
}

/** The result of {@link RunsHub.start}. */
export interface StartedRun extends BeginResult {
  /** The generation that has begun, or that was running already. */
  readonly feed: RunFeed;
}

/** What the runs of this process amount to, since the start of the hub. */
export interface RunsStats {
  /** Runs that this process has begun. */
  started: number;
  /** The ends of these runs, by their status. */
  readonly ended: Record<Exclude<RunStatus, 'running'>, number>;
  /** Chunks and bytes that this process has stored. */
  chunks: number;
  bytes: number;
  /** Appends, to see how many chunks share one. */
  appends: number;
}

export class RunsHub<C> {
  readonly stats: RunsStats = {
    started: 0,
    ended: { done: 0, stopped: 0, failed: 0, lost: 0 },
    chunks: 0,
    bytes: 0,
    appends: 0,
  };
  readonly #settings: RunsHubSettings<C>;
  readonly #productions = new Map<string, Production<C>>();
  /** When each production last had a reader, by the hub's clock; only if unread runs are stopped. */
  readonly #readAt = new Map<string, number>();
  /** The sources that are in use. */
  readonly #sources = new Map<string, LogSource>();
  /** The sources whose store was asked for their state. */
  readonly #checking = new Set<LogSource>();
  readonly #timer: SweepTimer;
  readonly #sourceHost: LogSourceHost;
  readonly #productionHost: ProductionHost<C>;
  /** The time between two renewals, and between two notes of readers. */
  readonly #interval: number;
  #renewAt = Infinity;
  #isRenewing = false;
  #isNoting = false;
  readonly #outages = new OutageReports((error) => this.#report(error));
  readonly #opening = new Opening(() => this.#open());
  #isOpen = false;
  #isDown = false;
  #isClosing = false;
  #isCut = false;
  #draining: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #closed = new AbortController();
  /** Called when this process produces no run any more. */
  readonly #onIdle = new Set<() => void>();

  constructor(settings: RunsHubSettings<C>) {
    const { store, lease, stopUnread } = settings;
    this.#settings = settings;
    this.#interval = Math.ceil(Math.min(lease, stopUnread === false ? Infinity : stopUnread) / RENEWALS_PER_LEASE);
    this.#timer = new SweepTimer((now) => this.#sweep(now));
    this.#sourceHost = {
      store,
      now: () => this.#timer.read(),
      active: (run) => this.#sources.get(nameOf(run)),
      onUsed: (source) => this.#onUsed(source),
      onUnused: (source) => this.#onUnused(source),
    };
    this.#productionHost = {
      store,
      wire: settings.wire,
      maxBytes: settings.maxBytes,
      batch: settings.batch,
      onStored: (run, first, chunks) => this.#onStored(run, first, chunks),
      onEnd: (run, state, stored) => this.#onEnd(run, state, stored),
      report: (error) => this.#report(error),
      reportStore: (error) => this.reportStore(error),
    };
    this.#opening.get().catch((error: unknown) => this.reportStore(error)); // each call tries again
  }

  /** The number of runs that this process produces. */
  get producing(): number {
    return this.#productions.size;
  }

  /** Whether {@link close} was called: no run begins any more. */
  get isClosing(): boolean {
    return this.#isClosing;
  }

  /** Whether the store is open, and has not reported that its engine is unavailable. */
  get isAnswering(): boolean {
    return this.#isOpen && !this.#isDown;
  }

  /** Aborts when the hub is closed, after the runs of this process have ended: feeds receive nothing more then. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /**
   * Begins a run, unless one with this id is running, and produces it in this process. Only then is `make` called, after the run has
   * begun in the store, and in a later tick: the caller then subscribes before the first chunk is stored.
   * If `signal` aborts before the store has asked its engine, no run begins, and the call rejects with the reason. Afterwards the run may
   * have begun, and another caller may have joined it, so it is produced.
   * @throws {SseError} `ERR_SSE_CLOSED`, by rejecting, once the hub closes
   */
  async start(id: string, make: MakeSource<C>, again: NewRun['again'], signal?: AbortSignal): Promise<StartedRun> {
    if (this.#isClosing) throw closedError('start');
    const { store, lease, keep } = this.#settings;
    const run: RunKey = { id, generation: newGeneration() };
    const name = nameOf(run);
    const production = new Production<C>(run, this.#productionHost);
    this.#productions.set(name, production); // now: drain() waits for it, and a stop may arrive before the store's answer
    let result: BeginResult;
    try {
      await this.#opening.get();
      signal?.throwIfAborted();
      result = await store.begin({ ...run, again, lease, keep, signal });
    } catch (error) {
      this.#removeProduction(name);
      throw error;
    }
    const { started, state } = result;
    if (!started) {
      this.#removeProduction(name);
      return { started, state, feed: this.feed(state) };
    }
    this.stats.started++;
    this.#settings.onStarted?.(state);
    const source = new LogSource(this.#sourceHost, state, lease);
    source.isLocal = true;
    source.checkAt = Infinity;
    this.#sources.set(name, source);
    if (this.#settings.stopUnread !== false) this.#readAt.set(name, this.#timer.read());
    if (this.#renewAt === Infinity) this.#renewIn(this.#interval);
    if (this.#isCut) production.cut();
    production.begin(state, make);
    return { started, state, feed: new LogView(this.#sourceHost, source) };
  }

  /** Returns a view of a run, from a state that the store has just returned. */
  feed(state: RunState): RunFeed {
    const source = this.#sources.get(nameOf(state)) ?? new LogSource(this.#sourceHost, state, this.#settings.lease);
    return new LogView(this.#sourceHost, source);
  }

  /** Returns the state of one generation, or of the newest one. If `signal` aborts before the store is open, the store is not asked. */
  async state(id: string, generation?: string, signal?: AbortSignal): Promise<RunState | undefined> {
    await this.#opening.get();
    signal?.throwIfAborted();
    return this.#settings.store.state(id, generation);
  }

  /** Returns the state of a run for an iteration, which pauses while the store does not answer. */
  async stateToFollow(id: string, generation?: string): Promise<RunState | undefined> {
    if (this.#closed.signal.aborted) throw closedError('follow');
    return this.state(id, generation);
  }

  /** Iterates over a run: see `RunsRouter.follow()`. @throws {SseTypeError} at once, for invalid arguments */
  follow(id: string, options: FollowRunOptions = {}): AsyncIterableIterator<RunEvent<C>> {
    return followRun<C>(this, id, options);
  }

  /**
   * Stops a run in whichever process it is produced. A run of this process is aborted at once, even if the store does not answer.
   * @returns whether it was running
   */
  async stop(id: string, generation?: string): Promise<boolean> {
    const wasRunning = this.stopHere(id, generation);
    await this.#opening.get();
    return (await this.#settings.store.stop(id, generation)) || wasRunning;
  }

  /** Stops a run of this process at once, without a record in the store. @returns whether it was running */
  stopHere(id: string, generation?: string): boolean {
    let wasRunning = false;
    for (const production of this.#productions.values()) {
      const { run } = production;
      if (run.id !== id || (generation !== undefined && run.generation !== generation)) continue;
      if (!production.isProducing || !production.isRenewed) continue;
      wasRunning = true;
      production.stop();
    }
    return wasRunning;
  }

  /**
   * Lets the runs of this process finish for `wait` milliseconds. Then they are cut and end as `lost`. From the call on, no run begins.
   * Afterwards every run of this process has ended, or its end cannot reach the store.
   */
  drain(wait = 0): Promise<void> {
    return (this.#draining ??= this.#drain(wait));
  }

  async #drain(wait: number): Promise<void> {
    this.#isClosing = true;
    if (wait > 0) await this.#idleWithin(wait);
    this.#isCut = true;
    for (const production of this.#productions.values()) production.cut();
    await this.#idleWithin(CUT_TIMEOUT_MS);
  }

  /** Drains as {@link drain}, and closes the store. Feeds receive nothing more then. */
  close({ wait = 0 }: { wait?: number } = {}): Promise<void> {
    return (this.#closing ??= this.#close(wait));
  }

  async #close(wait: number): Promise<void> {
    await this.drain(wait);
    this.#timer.stop();
    this.#closed.abort();
    await closeWithin('store of runs', this.#settings.store, (error) => this.#report(error));
  }

  /** Opens the store. A store that throws has not opened, either. */
  async #open(): Promise<void> {
    const { store } = this.#settings;
    await store.open({
      onStop: (run: RunKey) => this.#productions.get(nameOf(run))?.stop(),
      onStatus: (up: boolean, error?: Error) => this.#onStatus(up, error),
    });
    this.#isOpen = true;
    this.#outages.clear();
    this.#settings.onStatus?.(true);
  }

  #onStatus(up: boolean, error?: Error): void {
    const wasDown = this.#isDown;
    this.#isDown = !up;
    this.#settings.onStatus?.(up);
    if (up) this.#outages.clear();
    else if (!wasDown && error !== undefined) this.#outages.add(error);
  }

  /**
   * Reports an error of the store, once in an outage. An error that only means that a caller no longer waits is not reported.
   */
  reportStore(error: unknown): void {
    const code = error instanceof SseError ? error.code : undefined;
    if (code === 'ERR_SSE_CLOSED' || code === 'ERR_SSE_TIMEOUT' || code === 'ERR_SSE_QUEUE_FULL') return;
    this.#outages.add(error);
  }

  #onStored(run: RunKey, first: number, chunks: readonly Uint8Array[]): void {
    this.stats.appends++;
    this.stats.chunks += chunks.length;
    for (const chunk of chunks) this.stats.bytes += chunk.byteLength;
    this.#sources.get(nameOf(run))?.onChunks(first, chunks);
  }

  #onEnd(run: RunKey, state: RunState, stored: number): void {
    const name = nameOf(run);
    const source = this.#sources.get(name);
    this.#removeProduction(name);
    if (state.status !== 'running') this.stats.ended[state.status]++;
    this.#settings.onEnded?.(state);
    if (state.status === 'lost' && !this.#isCut) this.#report(lostRun(run));
    // More chunks are on record than were reported as stored: the reply to an append was lost.
    if (state.chunks > stored) source?.leaveToStore();
    else source?.onEnd(state);
  }

  #removeProduction(name: string): void {
    this.#productions.delete(name);
    this.#readAt.delete(name);
    if (this.#productions.size === 0) for (const resolve of this.#onIdle) resolve();
  }

  #onUsed(source: LogSource): void {
    const name = nameOf(source.run);
    this.#sources.set(name, source);
    if (source.ended !== undefined) return;
    if (source.isLocal) {
      if (this.#readAt.has(name)) this.#readAt.set(name, this.#timer.read());
      return;
    }
    if (source.checkAt === Infinity) source.checkAt = this.#timer.read() + this.#settings.lease;
    this.#timer.wakeAt(Math.max(source.checkAt, this.#timer.read()) + 1);
    if (this.#settings.stopUnread === false) return;
    this.#noteReaders([source.run]); // now: the run may be about to be stopped
    if (this.#renewAt === Infinity) this.#renewIn(this.#interval);
  }

  #onUnused(source: LogSource): void {
    const name = nameOf(source.run);
    if (source.isLocal) {
      if (this.#readAt.has(name)) this.#readAt.set(name, this.#timer.read());
    } else if (this.#sources.get(name) === source) {
      this.#sources.delete(name);
    }
  }

  #renewIn(ms: number): void {
    this.#renewAt = this.#timer.read() + ms;
    this.#timer.wakeAt(this.#renewAt);
  }

  #sweep(now: number): Sweep {
    if (now >= this.#renewAt) this.#renewAll(now);
    let next = this.#renewAt;
    const followed: RunKey[] = [];
    for (const source of this.#sources.values()) {
      if (source.isLocal || source.ended !== undefined) continue;
      followed.push(source.run);
      if (source.checkAt <= now) {
        if (!this.#checking.has(source)) void this.#check(source);
        source.checkAt = now + MAX_CHECK_DELAY_MS; // until the answer
      }
      next = Math.min(next, source.checkAt);
    }
    return { next: Math.max(next, now + 1), checked: this.#sources.size };
  }

  /** Renews the leases of the runs of this process, and notes the readers of those of other processes. */
  #renewAll(now: number): void {
    const runs = [...this.#productions.values()].filter(({ isRenewed }) => isRenewed);
    const isNoting = this.#settings.stopUnread !== false;
    const followed = isNoting
      ? [...this.#sources.values()].filter(({ isLocal, ended }) => !isLocal && ended === undefined)
      : [];
    this.#renewAt = this.#productions.size + followed.length === 0 ? Infinity : now + this.#interval;
    if (followed.length > 0) this.#noteReaders(followed.map(({ run }) => run));
    if (runs.length > 0 && !this.#isRenewing) void this.#renew(runs);
  }

  async #renew(productions: readonly Production<C>[]): Promise<void> {
    this.#isRenewing = true;
    try {
      const renewals = await this.#settings.store.renew(productions.map(({ run }) => run));
      for (const [index, { running, stopRequested, hasReaders }] of renewals.entries()) {
        const production = productions[index]!;
        if (!production.isRenewed) continue; // it has ended meanwhile
        if (!running) production.fence();
        else if (stopRequested || this.#isUnread(production, hasReaders)) production.stop();
      }
    } catch (error) {
      if (!this.#isCut) this.reportStore(error);
    } finally {
      this.#isRenewing = false;
    }
  }

  /** Whether a run has had no reader in any process for so long that it is stopped. */
  #isUnread({ run }: Production<C>, hasReaders: boolean): boolean {
    const { stopUnread } = this.#settings;
    if (stopUnread === false) return false;
    const name = nameOf(run);
    const now = this.#timer.read();
    if (hasReaders || this.#sources.get(name)?.hasSubscribers) this.#readAt.set(name, now);
    return now - (this.#readAt.get(name) ?? now) >= stopUnread;
  }

  #noteReaders(runs: readonly RunKey[]): void {
    if (runs.length > 1 && this.#isNoting) return;
    this.#isNoting = true;
    const { store } = this.#settings;
    store
      .noteReaders(runs, Math.ceil(this.#interval * NOTES_PER_VALIDITY))
      .catch((error: unknown) => this.#isCut || this.reportStore(error))
      .finally(() => void (this.#isNoting = false));
  }

  /**
   * Asks the store for the state of a run whose lease may have expired. If the run has ended and every chunk is here, ends the readers
   * by this answer. Otherwise the store delivers the missing chunks and the end.
   */
  async #check(source: LogSource): Promise<void> {
    const { id, generation } = source.run;
    this.#checking.add(source);
    try {
      const state = await this.#settings.store.state(id, generation);
      const now = this.#timer.read();
      if (state === undefined) source.onEnd(lostState(source.run, source.position));
      else if (state.status !== 'running' && state.chunks <= source.position) {
        source.onEnd(state); // the store may deliver the end late, for example while it reconnects
      } else {
        source.checkAt = now + (state.leaseLeft ?? this.#settings.lease);
        if (source.hasSubscribers && source.ended === undefined) this.#timer.wakeAt(source.checkAt);
      }
    } catch (error) {
      if (!this.#isCut) this.reportStore(error);
      source.checkAt = this.#timer.read() + this.#settings.lease;
    } finally {
      this.#checking.delete(source);
    }
  }

  /** Resolves when this process produces no run, or after these milliseconds. */
  async #idleWithin(ms: number): Promise<void> {
    if (this.#productions.size === 0) return;
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#onIdle.delete(settle);
        resolve();
      };
      const timer = setTimeout(settle, ms);
      this.#onIdle.add(settle);
    });
  }

  #report(error: unknown): void {
    report(this.#settings.onError, error, undefined);
  }
}

/** Returns a name for one generation of a run. */
function nameOf({ id, generation }: RunKey): string {
  return `${generation}~${id}`; // a generation contains no `~`
}

function lostRun({ id }: RunKey): SseError {
  return new SseError(
    'ERR_SSE_JOURNAL',
    `The run ${JSON.stringify(id)} is lost: its lease expired before this process renewed it, or the store has lost its log. The event loop was blocked, or the store did not answer, for longer than the option lease.`,
  );
}
