/*
 * Takes a sample of the router's stats each second and keeps the last five minutes of them for the plots.
 * Invariant: it subscribes to the diagnostics channels only between start and stop, and then costs a few additions per broadcast.
 */

import { channels, type BroadcastStored, type EntriesDispatched } from '../diagnostics/channels.ts';
import type { SseStats } from '../diagnostics/stats.ts';
import type { SseRouter } from '../http/router.ts';

/** Five minutes, at a sample per second. */
const MAX_POINTS = 300;

/** The time (ms), the open connections, and the events and bytes per second. */
export type Point = readonly [at: number, connections: number, events: number, bytes: number];

/** The stats of one second. */
export interface Sample {
  readonly point: Point;
  readonly stats: SseStats;
  readonly broadcasts: number;
  /** The longest dispatch and the longest append of this second, in ms; `null` if there was none. */
  readonly handOut: number | null;
  readonly append: number | null;
}

/** Samples one router. */
export class Sampler {
  readonly points: Point[] = [];
  readonly #events: SseRouter;
  #previous: { readonly at: number; readonly stats: SseStats } | undefined;
  #handOut: number | null = null;
  #append: number | null = null;

  constructor(events: SseRouter) {
    this.#events = events;
  }

  /** Subscribes to the diagnostics channels, and starts the first second. */
  start(): void {
    this.#previous = { at: performance.now(), stats: this.#events.stats() };
    channels.handOut.subscribe(this.#onDispatched);
    channels.broadcast.subscribe(this.#onStored);
  }

  /** Ends the subscriptions. */
  stop(): void {
    channels.handOut.unsubscribe(this.#onDispatched);
    channels.broadcast.unsubscribe(this.#onStored);
  }

  /** Returns the sample since the last call, with rates per second. */
  take(): Sample {
    const previous = this.#previous!;
    const { at, stats } = (this.#previous = { at: performance.now(), stats: this.#events.stats() });
    const seconds = (at - previous.at) / 1000;
    const rate = (count: 'events' | 'bytes' | 'broadcasts'): number => (stats[count] - previous.stats[count]) / seconds;
    const point: Point = [Date.now(), stats.connections, rate('events'), rate('bytes')];
    this.points.push(point);
    if (this.points.length > MAX_POINTS) this.points.shift();
    const sample = { point, stats, broadcasts: rate('broadcasts'), handOut: this.#handOut, append: this.#append };
    this.#handOut = this.#append = null;
    return sample;
  }

  // Fields, not methods: unsubscribe needs the function that was subscribed.
  readonly #onDispatched = (message: unknown): void => {
    const { router, ms } = message as EntriesDispatched;
    if (router === this.#events) this.#handOut = Math.max(this.#handOut ?? 0, ms);
  };

  readonly #onStored = (message: unknown): void => {
    const { router, ms } = message as BroadcastStored;
    if (router === this.#events) this.#append = Math.max(this.#append ?? 0, ms);
  };
}
