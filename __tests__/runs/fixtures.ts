/*
 * For the tests of runs without HTTP: hubs on one store in memory, each of them one process, and sources that a test controls.
 */
import type { RunEvent } from '../../lib/runs/api.ts';
import { chunkOf } from '../../lib/runs/chunk-codec.ts';
import type { RunFeed } from '../../lib/runs/run-feed.ts';
import type { RunFollower, RunState } from '../../lib/runs/run-store.ts';
import { RunsHub, type RunsHubSettings } from '../../lib/runs/runs-hub.ts';
import { MemoryRunLogs } from '../../lib/runs/stores/memory-runs.ts';
import { events } from '../../lib/runs/wires.ts';
import { later } from '../fixtures/support.ts';

export interface Hub {
  readonly hub: RunsHub<unknown>;
  readonly errors: unknown[];
}

/** Returns a hub. Hubs on the same `logs` are processes that share a store. */
export function hubOn(logs = new MemoryRunLogs(), settings: Partial<RunsHubSettings<unknown>> = {}): Hub {
  const errors: unknown[] = [];
  const hub = new RunsHub<unknown>({
    store: logs.handle(),
    wire: events(),
    keep: 60_000,
    lease: 10_000,
    batch: 0,
    maxBytes: 8 * 1024 * 1024,
    stopUnread: false,
    onError: (error) => void errors.push(error),
    ...settings,
  });
  later(() => hub.close());
  return { hub, errors };
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
