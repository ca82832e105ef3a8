/*
 * The routers of one prom-client registry.
 * Invariants: each router is in a registry once, until it is closed and another one is added; nothing is stored outside the registry.
 */

import type { Registry } from 'prom-client';
import { SseTypeError } from '../errors.ts';
import { INTROSPECT, type Introspection } from '../diagnostics/channels.ts';
import type { SseRouter } from '../http/router.ts';
import type { SseStats } from '../diagnostics/stats.ts';

/** The key of the routers on one of the registry's metrics. So they are dropped when the registry is cleared. */
const ROUTERS = Symbol.for('sse-router.metrics');
/** The metric that carries the routers. */
const ANCHOR_METRIC = 'sse_connections';

export type Labels = { readonly router?: string };

interface RegisteredRouter {
  readonly events: SseRouter;
  readonly labels: Labels;
}

/** Whether a router closes or is closed. */
function isClosing(events: SseRouter): boolean {
  return (events as { [INTROSPECT]?: Introspection })[INTROSPECT]?.closing === true;
}

/** The routers of one registry, with their labels. */
export class RegisteredRouters {
  readonly #registry: Registry;
  readonly #routers = new Map<object, RegisteredRouter>();
  /** Whether the registry has the metrics that only routers of runs need. */
  hasRunMetrics = false;
  #stats: readonly { labels: Labels; stats: SseStats }[] | undefined;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Returns the routers of a registry; `undefined` if it has none. */
  static of(registry: Registry): RegisteredRouters | undefined {
    return (registry.getSingleMetric(ANCHOR_METRIC) as { [ROUTERS]?: RegisteredRouters } | undefined)?.[ROUTERS];
  }

  /** Attaches the routers to a metric of the registry if it is the anchor. */
  attachTo(metric: object): void {
    if (this.#registry.getSingleMetric(ANCHOR_METRIC) === metric)
      Object.defineProperty(metric, ROUTERS, { value: this });
  }

  /** Whether the routers are still in the registry. They are not after it has been cleared. */
  get isRegistered(): boolean {
    return RegisteredRouters.of(this.#registry) === this;
  }

  /** Removes the routers that are closed, and returns their labels: a router that replaces one may have its name, or no name. */
  removeClosed(): Labels[] {
    const closed = [...this.#routers.values()].filter(({ events }) => isClosing(events));
    for (const { events } of closed) this.#routers.delete(events);
    return closed.map(({ labels }) => labels);
  }

  /** Checks that a router can be added under this name after {@link removeClosed}. Changes nothing. */
  check(events: SseRouter, name: string | undefined): void {
    const open = [...this.#routers.values()].filter((router) => !isClosing(router.events));
    const registered = open.find((router) => router.events === events);
    if (registered !== undefined) {
      const { router } = registered.labels;
      const label = router === undefined ? '' : ` as ${JSON.stringify(router)}`;
      throw new SseTypeError(
        'ERR_SSE_OPTION',
        `metrics(events, registry): events must be a router that is not in this registry; received one that it has already${label}. Call metrics() once for each router.`,
      );
    }
    const names = open.map(({ labels }) => labels.router);
    if (name !== undefined && names.includes(name)) {
      throw new SseTypeError(
        'ERR_SSE_OPTION',
        `metrics(events, registry, { router }): router must be unique in its registry; received ${JSON.stringify(name)}, the name of another router. Choose another name.`,
      );
    }
    if (names.length > 0 && (name === undefined || names.includes(undefined))) {
      throw new SseTypeError(
        'ERR_SSE_OPTION',
        "metrics(events, registry): each router must have a name if its registry has more than one; received a router without one. Give each a name, as in metrics(events, registry, { router: 'feed' }).",
      );
    }
  }

  /** Adds a router that {@link check} has accepted and returns its labels. */
  add(events: SseRouter, name: string | undefined): Labels {
    const labels = name === undefined ? {} : { router: name };
    this.#routers.set(events, { events, labels });
    return labels;
  }

  /** Returns the labels of a router; `undefined` if it is not in this registry. */
  labelsOf(router: object): Labels | undefined {
    return this.#routers.get(router)?.labels;
  }

  /** Returns the stats of all routers. Every metric calls this; they are read once for all metrics of the same tick. */
  readStats(): readonly { labels: Labels; stats: SseStats }[] {
    if (this.#stats === undefined) {
      this.#stats = [...this.#routers.values()].map(({ events, labels }) => ({ labels, stats: events.stats() }));
      // Not queueMicrotask: a test may have faked it, and it would never call back.
      void Promise.resolve().then(() => (this.#stats = undefined));
    }
    return this.#stats;
  }
}
