/*
 * Where the readers of one run in this process get its chunks from: the production in this process, or the store.
 *
 * Invariant: the store is asked to follow a run at most once per process, and only while the run has subscribers here.
 * Invariant: the position changes before a delivery, so a subscriber that is added within a delivery gets what follows it.
 */

import type { ChunkPage, RunFollower, RunKey, RunState, RunStore } from './run-store.ts';
import type { RunFeed } from './run-feed.ts';

/** What the sources of a hub share. */
export interface LogSourceHost {
  readonly store: RunStore;
  /** Milliseconds of the hub's clock. */
  now(): number;
  /** Returns the source that is in use for a run, if there is one. */
  active(run: RunKey): LogSource | undefined;
  /** Notes that a source has its first subscriber, or none any more. */
  onUsed(source: LogSource): void;
  onUnused(source: LogSource): void;
}

export class LogSource {
  readonly run: RunKey;
  /** The number of the newest chunk that this process has received. */
  position: number;
  ended: RunState | undefined;
  /** Whether this process produces the run, so that the source is in use without subscribers, and the store is not followed. */
  isLocal = false;
  /** When the lease may have expired, by the hub's clock; only of a run that is followed in the store. */
  checkAt = Infinity;
  readonly #host: LogSourceHost;
  readonly #subscribers = new Set<{ readonly follower: RunFollower }>();
  /** How long the lease was, from {@link position} on. */
  readonly #lease: number;
  #unfollow: (() => void) | undefined;

  /** @param lease - the milliseconds after which the lease of a run that was alive just now may have expired */
  constructor(host: LogSourceHost, state: RunState, lease: number) {
    this.#host = host;
    this.run = { id: state.id, generation: state.generation };
    this.position = state.chunks;
    this.ended = state.status === 'running' ? undefined : state;
    this.#lease = lease;
    this.checkAt = state.leaseLeft === undefined ? Infinity : host.now() + state.leaseLeft;
  }

  get hasSubscribers(): boolean {
    return this.#subscribers.size > 0;
  }

  subscribe(follower: RunFollower): () => void {
    const subscriber = { follower };
    this.#subscribers.add(subscriber);
    if (this.#subscribers.size === 1) this.#host.onUsed(this);
    const { ended } = this;
    if (ended !== undefined) {
      queueMicrotask(() => this.#subscribers.has(subscriber) && follower.end(ended));
    } else if (!this.isLocal) {
      this.#follow();
    }
    return () => {
      if (!this.#subscribers.delete(subscriber) || this.#subscribers.size > 0) return;
      this.#stopFollowing();
      this.#host.onUnused(this);
    };
  }

  /** Delivers chunks that are in the log. */
  onChunks(first: number, chunks: readonly Uint8Array[]): void {
    this.position = first + chunks.length - 1;
    this.checkAt = this.#host.now() + this.#lease; // its producer was alive just now
    const subscribers = Array.from(this.#subscribers); // a copy: one that is added meanwhile gets what follows
    for (const subscriber of subscribers) {
      if (this.#subscribers.has(subscriber)) subscriber.follower.chunks(first, chunks);
    }
  }

  /** Delivers the end. */
  onEnd(state: RunState): void {
    if (this.ended !== undefined) return;
    this.ended = state;
    this.isLocal = false;
    this.checkAt = Infinity;
    this.#stopFollowing();
    const subscribers = Array.from(this.#subscribers); // a copy: one that is added meanwhile gets what follows
    for (const subscriber of subscribers) {
      if (this.#subscribers.has(subscriber)) subscriber.follower.end(state);
    }
    if (!this.hasSubscribers) this.#host.onUnused(this);
  }

  /** Receives the rest from the store, because the production in this process has ended without all chunks. */
  leaveToStore(): void {
    this.isLocal = false;
    if (this.hasSubscribers) this.#follow();
    else this.#host.onUnused(this);
  }

  #follow(): void {
    this.#unfollow ??= this.#host.store.follow(this.run, this.position, {
      chunks: (first, chunks) => this.onChunks(first, chunks),
      end: (state) => this.onEnd(state),
    });
  }

  #stopFollowing(): void {
    this.#unfollow?.();
    this.#unfollow = undefined;
  }
}

/** A view of a run. Several views of one run share one source while one of them has subscribers. */
export class LogView implements RunFeed {
  readonly #host: LogSourceHost;
  #source: LogSource;

  constructor(host: LogSourceHost, source: LogSource) {
    this.#host = host;
    this.#source = source;
  }

  get run(): RunKey {
    return this.#source.run;
  }

  get position(): number {
    return this.#current().position;
  }

  get ended(): RunState | undefined {
    return this.#current().ended;
  }

  subscribe(follower: RunFollower): () => void {
    return this.#current().subscribe(follower);
  }

  async read(after: number, limit: number): Promise<ChunkPage | undefined> {
    return this.#host.store.read(this.run, after, limit);
  }

  /** Returns the source in use. Without one, the last one continues from its position when it gets a subscriber. */
  #current(): LogSource {
    return (this.#source = this.#host.active(this.run) ?? this.#source);
  }
}
