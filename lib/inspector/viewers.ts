/*
 * The viewers of the page, which are connections of a router of its own, and what they receive each second.
 * Invariants: the timer runs only while there are viewers, and does not keep the process alive; a viewer that is behind receives less,
 * not more.
 */

import type { Connection } from '../api/connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import type { SseRouter } from '../http/router.ts';
import { findConnection } from './actions.ts';
import { EventFeed } from './event-feed.ts';
import { channelCounts, details, listing } from './listing.ts';
import { Sampler, type Sample } from './sampler.ts';
import { Throttle } from './throttle.ts';
import type { View } from './view-query.ts';

const SAMPLE_INTERVAL_MS = 1000;
/** How many runs with readers the page shows. */
const MAX_RUNS = 50;

interface Viewer {
  readonly conn: Connection;
  readonly view: View;
  readonly feed: EventFeed;
  readonly listingThrottle: Throttle;
  readonly selected: Connection | undefined;
}

/** All viewers of one inspected router. */
export class Viewers {
  /** Called when the inspected router is closed and its last connection too. The viewers have nothing more to see then. */
  onRouterClosed = (): void => {};
  readonly #events: SseRouter;
  readonly #introspection: Introspection;
  readonly #publish: boolean;
  readonly #sampler: Sampler;
  readonly #countThrottle = new Throttle();
  readonly #viewers = new Set<Viewer>();
  #channels: ReturnType<typeof channelCounts> = { none: 0, top: [] };
  #timer: NodeJS.Timeout | undefined;

  constructor(events: SseRouter, introspection: Introspection, publish: boolean) {
    this.#events = events;
    this.#introspection = introspection;
    this.#publish = publish;
    this.#sampler = new Sampler(events);
  }

  /** Adds a viewer and sends it the current state. */
  add(conn: Connection, view: View): void {
    const { connections } = this.#events;
    const selected = view.selected === '' ? undefined : findConnection(connections, view.selected);
    const feed = new EventFeed(this.#introspection, view);
    const viewer = { conn, view, selected, feed, listingThrottle: new Throttle() };
    this.#viewers.add(viewer);
    conn.signal.addEventListener('abort', () => this.#remove(viewer), { once: true });
    if (this.#viewers.size === 1) this.#start();
    const hello = { publish: this.#publish, process: process.pid, points: this.#sampler.points };
    conn.push({ event: 'hello', data: hello });
    if (view.selected !== '' && !selected) {
      conn.push({ event: 'selected', data: { id: view.selected, closed: 'unknown' } });
    }
    this.#countChannels(); // before the first sample there are no rates, but everything else
    this.#send(viewer, this.#figures(undefined));
  }

  #remove(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    if (this.#viewers.size > 0) return;
    clearInterval(this.#timer);
    this.#sampler.stop();
  }

  #start(): void {
    this.#sampler.start();
    this.#timer = setInterval(() => this.#onInterval(), SAMPLE_INTERVAL_MS).unref();
  }

  #onInterval(): void {
    const sample = this.#sampler.take();
    this.#countChannels();
    const figures = this.#figures(sample);
    for (const viewer of this.#viewers) if (viewer.conn.bufferedBytes === 0) this.#send(viewer, figures);
    if (sample.stats.connections === 0 && this.#introspection.closing) this.onRouterClosed();
  }

  #countChannels(): void {
    this.#channels = this.#countThrottle.run(() => channelCounts(this.#events.connections)) ?? this.#channels;
  }

  #figures(sample: Sample | undefined) {
    return {
      ...sample,
      stats: sample?.stats ?? this.#events.stats(),
      log: this.#introspection.log(),
      runs: this.#introspection.runs?.(MAX_RUNS),
      channels: this.#channels,
    };
  }

  #send({ conn, view, feed, listingThrottle, selected }: Viewer, figures: object): void {
    conn.push({ event: 'figures', data: figures });
    const page = listingThrottle.run(() => listing(this.#events.connections, this.#introspection, view));
    if (page !== undefined) conn.push({ event: 'connections', data: page });
    const batch = feed.next();
    if (batch.entries.length > 0) conn.push({ event: 'entries', data: batch });
    if (selected !== undefined) conn.push({ event: 'selected', data: details(selected, this.#introspection) });
  }
}
