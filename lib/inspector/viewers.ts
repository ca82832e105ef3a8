/*
 * Who looks, and what they are told each second.
 * Knows the inspected router from outside and by its insight; its viewers are connections of another router.
 * Invariants: the timer runs only while somebody looks, and keeps no process alive; a viewer that is behind is told less, not more.
 */

import type { Connection } from '../api/connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import type { SseRouter } from '../http/router.ts';
import { find } from './actions.ts';
import { Reading } from './event-feed.ts';
import { census, details, listing } from './listing.ts';
import { Pace } from './throttle.ts';
import { Sampler, type Sample } from './sampler.ts';
import type { View } from './view-query.ts';

const TICK = 1000; // ms

interface Viewer {
  readonly conn: Connection;
  readonly view: View;
  readonly reading: Reading;
  readonly pace: Pace;
  readonly selected: Connection | undefined;
}

export class Watch {
  /** The inspected router is closed, and everybody has gone: the viewers are to go, too. */
  onClosing = (): void => {};
  readonly #events: SseRouter;
  readonly #insight: Introspection;
  readonly #publish: boolean;
  readonly #sampler: Sampler;
  readonly #census = new Pace();
  readonly #viewers = new Set<Viewer>();
  #channels: ReturnType<typeof census> = { none: 0, top: [] };
  #timer: NodeJS.Timeout | undefined;

  constructor(events: SseRouter, insight: Introspection, publish: boolean) {
    this.#events = events;
    this.#insight = insight;
    this.#publish = publish;
    this.#sampler = new Sampler(events);
  }

  enter(conn: Connection, view: View): void {
    const { connections } = this.#events;
    const selected = view.selected === '' ? undefined : find(connections, view.selected);
    const viewer = { conn, view, selected, reading: new Reading(this.#insight, view), pace: new Pace() };
    this.#viewers.add(viewer);
    conn.signal.addEventListener('abort', () => this.#leave(viewer), { once: true });
    if (this.#viewers.size === 1) this.#start();
    const hello = { publish: this.#publish, process: process.pid, points: this.#sampler.points };
    conn.push({ event: 'hello', data: hello });
    if (view.selected !== '' && !selected) {
      conn.push({ event: 'selected', data: { id: view.selected, over: 'gone' } });
    }
    this.#look(); // before the first tick there are no rates, but everything else
    this.#tell(viewer, this.#figures(undefined));
  }

  #leave(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    if (this.#viewers.size > 0) return;
    clearInterval(this.#timer);
    this.#sampler.stop();
  }

  #start(): void {
    this.#sampler.start();
    this.#timer = setInterval(() => this.#tick(), TICK).unref();
  }

  #tick(): void {
    const sample = this.#sampler.take();
    this.#look();
    const figures = this.#figures(sample);
    for (const viewer of this.#viewers) if (viewer.conn.bufferedBytes === 0) this.#tell(viewer, figures);
    if (sample.stats.connections === 0 && this.#insight.closing) this.onClosing();
  }

  #look(): void {
    this.#channels = this.#census.run(() => census(this.#events.connections)) ?? this.#channels;
  }

  #figures(sample: Sample | undefined) {
    return {
      ...sample,
      stats: sample?.stats ?? this.#events.stats(),
      log: this.#insight.log(),
      channels: this.#channels,
    };
  }

  #tell({ conn, view, reading, pace, selected }: Viewer, figures: object): void {
    conn.push({ event: 'figures', data: figures });
    const list = pace.run(() => listing(this.#events.connections, this.#insight, view));
    if (list !== undefined) conn.push({ event: 'connections', data: list });
    const fresh = reading.next();
    if (fresh.entries.length > 0) conn.push({ event: 'entries', data: fresh });
    if (selected !== undefined) conn.push({ event: 'selected', data: details(selected, this.#insight) });
  }
}
