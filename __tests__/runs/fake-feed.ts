/*
 * A run without a store: its chunks are in an array, and the test decides what this process has received of them.
 */
import type { RunFeed } from '../../lib/runs/run-feed.ts';
import type { ChunkPage, RunFollower, RunKey, RunState, RunStatus } from '../../lib/runs/run-store.ts';

export class FakeFeed implements RunFeed {
  readonly run: RunKey;
  readonly chunks: Uint8Array[] = [];
  position = 0;
  ended: RunState | undefined;
  /** Whether the log is there. */
  isThere = true;
  /** Reads wait for this: the engine does not answer until then. */
  engine: Promise<void> = Promise.resolve();
  /** How often {@link read} was called. */
  reads = 0;
  readonly followers = new Set<RunFollower>();
  readonly #pageSize: number;

  /** @param pageSize The most chunks that one read returns. */
  constructor(id = 'r', generation = 'g', pageSize = Infinity) {
    this.run = { id, generation };
    this.#pageSize = pageSize;
  }

  get state(): RunState {
    const bytes = this.chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return this.ended ?? { ...this.run, status: 'running', startedAt: 1, chunks: this.chunks.length, bytes };
  }

  /** Adds chunks to the log; a follower has not received them. */
  store(...frames: string[]): void {
    for (const frame of frames) this.chunks.push(Buffer.from(frame));
  }

  /** Delivers what is in the log and was not delivered. */
  deliver(): void {
    const first = this.position + 1;
    const chunks = this.chunks.slice(this.position);
    if (chunks.length === 0) return;
    this.position = this.chunks.length;
    for (const follower of this.followers) follower.chunks(first, chunks);
  }

  append(...frames: string[]): void {
    this.store(...frames);
    this.deliver();
  }

  end(status: Exclude<RunStatus, 'running'> = 'done'): void {
    this.ended = { ...this.state, status, endedAt: 2 };
    for (const follower of this.followers) follower.end(this.ended);
  }

  subscribe(follower: RunFollower): () => void {
    this.followers.add(follower);
    queueMicrotask(() => {
      if (this.ended !== undefined && this.followers.has(follower)) follower.end(this.ended);
    });
    return () => void this.followers.delete(follower);
  }

  async read(after: number, limit: number): Promise<ChunkPage | undefined> {
    this.reads++;
    await this.engine;
    await new Promise(setImmediate);
    if (!this.isThere) return undefined;
    return { chunks: this.chunks.slice(after, after + Math.min(limit, this.#pageSize)), state: this.state };
  }
}
