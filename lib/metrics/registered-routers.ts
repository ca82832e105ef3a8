/*
 * The routers of one registry.
 * Knows routers and registries by what is asked of them here.
 * Invariants: a router is counted once; nothing is kept outside of the registry that it belongs to.
 */

import type { Registry } from 'prom-client';
import { SseTypeError } from '../errors.ts';
import type { SseRouter } from '../http/router.ts';
import type { SseStats } from '../diagnostics/stats.ts';

/** What finds them again by the registry: on one of the metrics, so that it goes when the registry is cleared. */
const SOURCES = Symbol.for('sse-router.metrics');
const ANCHOR = 'sse_connections';

export type Labels = { readonly router?: string };

interface Source {
  readonly events: SseRouter;
  readonly labels: Labels;
}

export class Sources {
  readonly #registry: Registry;
  readonly #sources = new Map<object, Source>();
  #read: readonly { labels: Labels; stats: SseStats }[] | undefined;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  static of(registry: Registry): Sources | undefined {
    return (registry.getSingleMetric(ANCHOR) as { [SOURCES]?: Sources } | undefined)?.[SOURCES];
  }

  keep(metric: object): void {
    if (this.#registry.getSingleMetric(ANCHOR) === metric) Object.defineProperty(metric, SOURCES, { value: this });
  }

  /** Whether the registry still has them: clearing it lets go of everything. */
  get isRegistered(): boolean {
    return Sources.of(this.#registry) === this;
  }

  add(events: SseRouter, router: string | undefined): Labels {
    const before = this.#sources.get(events);
    if (before !== undefined) {
      const as = before.labels.router === undefined ? '' : ` as ${JSON.stringify(before.labels.router)}`;
      throw new SseTypeError('ERR_SSE_OPTION', `metrics(): this registry has this router already${as}: call it once.`);
    }
    for (const { labels } of this.#sources.values()) {
      if (labels.router !== undefined && router !== undefined && labels.router !== router) continue;
      throw new SseTypeError(
        'ERR_SSE_OPTION',
        labels.router === router && router !== undefined
          ? `metrics(): this registry has another router as ${JSON.stringify(router)}: give each a name of its own.`
          : "metrics(): this registry has another router already: give each a name, metrics(events, registry, { router: 'feed' }).",
      );
    }
    const labels = router === undefined ? {} : { router };
    this.#sources.set(events, { events, labels });
    return labels;
  }

  labelsOf(router: object): Labels | undefined {
    return this.#sources.get(router)?.labels;
  }

  /** Everybody's figures; asked for by each metric, made once for all that are collected in one turn. */
  read(): readonly { labels: Labels; stats: SseStats }[] {
    if (this.#read === undefined) {
      this.#read = [...this.#sources.values()].map(({ events, labels }) => ({ labels, stats: events.stats() }));
      void Promise.resolve().then(() => (this.#read = undefined)); // queueMicrotask may be a test's, and never call
    }
    return this.#read;
  }
}
