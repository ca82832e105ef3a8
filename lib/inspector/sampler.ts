/*
 * The figures of each second, and the last minutes of them.
 * Knows the router's stats and signals.
 * Invariant: it listens only between start and stop, and costs a few additions a broadcast then.
 */

import { channels, type BroadcastStored, type EntriesDispatched } from '../diagnostics/channels.ts';
import type { SseRouter } from '../http/router.ts';
import type { SseStats } from '../diagnostics/stats.ts';

const KEPT = 300;

/** When (ms), how many connections, events and bytes a second. */
export type Point = readonly [at: number, connections: number, events: number, bytes: number];

export interface Sample {
  readonly point: Point;
  readonly stats: SseStats;
  readonly broadcasts: number;
  /** The longest in this second, in ms; null: there was none. */
  readonly handOut: number | null;
  readonly append: number | null;
}

export class Sampler {
  readonly points: Point[] = [];
  readonly #events: SseRouter;
  #before: { readonly at: number; readonly stats: SseStats } | undefined;
  #handOut: number | null = null;
  #append: number | null = null;

  constructor(events: SseRouter) {
    this.#events = events;
  }

  start(): void {
    this.#before = { at: performance.now(), stats: this.#events.stats() };
    channels.handOut.subscribe(this.#hearHandOut);
    channels.broadcast.subscribe(this.#hearBroadcast);
  }

  stop(): void {
    channels.handOut.unsubscribe(this.#hearHandOut);
    channels.broadcast.unsubscribe(this.#hearBroadcast);
  }

  /** What has happened since the last sample, a second. */
  take(): Sample {
    const before = this.#before!;
    const { at, stats } = (this.#before = { at: performance.now(), stats: this.#events.stats() });
    const seconds = (at - before.at) / 1000;
    const rate = (count: 'events' | 'bytes' | 'broadcasts'): number => (stats[count] - before.stats[count]) / seconds;
    const point: Point = [Date.now(), stats.connections, rate('events'), rate('bytes')];
    this.points.push(point);
    if (this.points.length > KEPT) this.points.shift();
    const sample = { point, stats, broadcasts: rate('broadcasts'), handOut: this.#handOut, append: this.#append };
    this.#handOut = this.#append = null;
    return sample;
  }

  // Kept by name, as they are taken off again.
  readonly #hearHandOut = (message: unknown): void => {
    const { router, ms } = message as EntriesDispatched;
    if (router === this.#events) this.#handOut = Math.max(this.#handOut ?? 0, ms);
  };

  readonly #hearBroadcast = (message: unknown): void => {
    const { router, ms } = message as BroadcastStored;
    if (router === this.#events) this.#append = Math.max(this.#append ?? 0, ms);
  };
}
