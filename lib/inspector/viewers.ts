/*
 * The viewers of the page, which are connections of a router of its own, and what they receive each second.
 * Invariant: what walks over all connections runs once for all viewers with the same filter and order, and in slices.
 * Invariant: the timer runs only while there are viewers, and does not keep the process alive.
 * Invariant: a viewer that is behind receives less, not more.
 */

import type { Connection } from '../api/connection.ts';
import type { Introspection } from '../diagnostics/channels.ts';
import type { SseRouter } from '../http/router.ts';
import { findConnection } from './actions.ts';
import { EventFeed } from './event-feed.ts';
import { type ChannelCounts, channelCounts, details, listing, matchingConnections } from './listing.ts';
import { Sampler, type Sample } from './sampler.ts';
import { SlicedQueue, type Work } from './sliced-queue.ts';
import { Throttle } from './throttle.ts';
import type { View } from './view-query.ts';

const SAMPLE_INTERVAL_MS = 1000;
/** How many runs with readers the page shows. */
const MAX_RUNS = 50;

interface Viewer {
  readonly conn: Connection;
  readonly view: View;
  readonly feed: EventFeed;
  readonly selected: Connection | undefined;
  /** Whether it had not received everything at the start of this second. */
  isBehind: boolean;
}

/** The list of connections of all viewers with the same filter and order. */
interface SharedList {
  readonly throttle: Throttle;
  isRunning: boolean;
}

/** All viewers of one inspected router. */
export class Viewers {
  /** Called when the inspected router is closed and its last connection too. The viewers have nothing more to see then. */
  onRouterClosed = (): void => {};
  readonly #events: SseRouter;
  readonly #introspection: Introspection;
  readonly #publish: boolean;
  readonly #sampler: Sampler;
  readonly #queue = new SlicedQueue();
  readonly #counts: SharedList = { throttle: new Throttle(), isRunning: false };
  readonly #lists = new Map<string, SharedList>();
  readonly #viewers = new Set<Viewer>();
  #channels: ChannelCounts = { none: 0, top: [] };
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
    const viewer = { conn, view, selected, feed, isBehind: false };
    this.#viewers.add(viewer);
    conn.signal.addEventListener('abort', () => this.#remove(viewer), { once: true });
    if (this.#viewers.size === 1) this.#start();
    const hello = { publish: this.#publish, process: process.pid, points: this.#sampler.points };
    conn.push({ event: 'hello', data: hello });
    if (view.selected !== '' && !selected) {
      conn.push({ event: 'selected', data: { id: view.selected, closed: 'unknown' } });
    }
    this.#countChannels(); // before the first sample there are no rates, but everything else
    conn.push({ event: 'figures', data: this.#figures(undefined) });
    this.#updateList(view.list, true);
    this.#sendDetails(viewer);
  }

  #remove(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    const { list } = viewer.view;
    if (![...this.#viewers].some(({ view }) => view.list === list)) this.#lists.delete(list);
    if (this.#viewers.size > 0) return;
    clearInterval(this.#timer);
    this.#queue.clear();
    this.#counts.isRunning = false;
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
    for (const viewer of this.#viewers) {
      viewer.isBehind = viewer.conn.bufferedBytes > 0; // before the pushes of this tick, which are buffered until its end
      if (viewer.isBehind) continue;
      viewer.conn.push({ event: 'figures', data: figures });
      this.#sendDetails(viewer);
    }
    for (const list of this.#lists.keys()) this.#updateList(list);
    if (sample.stats.connections === 0 && this.#introspection.closing) this.onRouterClosed();
  }

  #countChannels(): void {
    const { connections } = this.#events;
    const work = function* (this: Viewers): Work {
      this.#channels = yield* channelCounts(connections);
    };
    this.#run(this.#counts, work.call(this));
  }

  /** Lists the connections once, for all viewers that see a page of this list. */
  #updateList(key: string, isFirst = false): void {
    let list = this.#lists.get(key);
    if (list === undefined) this.#lists.set(key, (list = { throttle: new Throttle(), isRunning: false }));
    this.#run(list, this.#sendList(key), isFirst);
  }

  *#sendList(key: string): Work {
    const isOfList = ({ view }: Viewer): boolean => view.list === key;
    const first = [...this.#viewers].find(isOfList);
    if (first === undefined) return;
    const matching = yield* matchingConnections(this.#events.connections, first.view);
    for (const viewer of this.#viewers) {
      if (!isOfList(viewer) || viewer.isBehind) continue;
      const open = matching.filter(({ readyState }) => readyState !== 'closed'); // they may have closed between two slices
      viewer.conn.push({ event: 'connections', data: listing(open, this.#introspection, viewer.view) });
      yield;
    }
  }

  #run(list: SharedList, work: Work, isFirst = false): void {
    if (list.isRunning || !(isFirst || list.throttle.isDue)) return;
    list.isRunning = true;
    this.#queue.add(work, (ms) => {
      list.isRunning = false;
      list.throttle.record(ms);
    });
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

  #sendDetails({ conn, feed, selected }: Viewer): void {
    const batch = feed.next();
    if (batch.entries.length > 0) conn.push({ event: 'entries', data: batch });
    if (selected !== undefined) conn.push({ event: 'selected', data: details(selected, this.#introspection) });
  }
}
