/*
 * The counters, gauges and durations of a router as Prometheus metrics.
 * Invariants: a scrape reads counters and does not walk over the connections; every label has a closed list of values.
 *
 * @see https://prometheus.io/docs/practices/naming/
 */

import { Counter, Gauge, register, type Histogram, type Registry } from 'prom-client';
import { SseTypeError } from '../errors.ts';
import { rejectUnknownKeys, invalid } from '../validation/validate.ts';
import type { AnyEvents, EventMap } from '../api/message.ts';
import { channels, INTROSPECT, type Introspection } from '../diagnostics/channels.ts';
import type { SseRouter } from '../http/router.ts';
import type { RunsRouter } from '../runs/api.ts';
import { COUNTERS, GAUGES, type MetricDefinition } from './metric-definitions.ts';
import { RUN_COUNTERS, RUN_GAUGES } from './run-metric-definitions.ts';
import { RegisteredRouters } from './registered-routers.ts';
import { addHistograms, HISTOGRAM_NAMES } from './histograms.ts';

/** Options for more than one router in one registry. */
export interface MetricsOptions {
  /** The value of the label `router` on all metrics of this router. @defaultValue none; the metrics then have no such label */
  router?: string;
}

/**
 * Adds the metrics of a router to a registry: gauges, counters, and two histograms that observe from now on.
 * @example
 * ```ts
 * metrics(events);
 * app.get('/metrics', async (_req, res) => { res.type(register.contentType).send(await register.metrics()); });
 * ```
 * A router that is closed stays in the registry until `metrics()` adds another one, which may have the same name.
 * @param registry - prom-client's global registry by default
 * @throws {SseTypeError} `ERR_SSE_OPTION` if an argument is not a router or a registry, or if the registry has this
 * router or a metric of one of these names already. The registry is then unchanged.
 */
export function metrics<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  events: SseRouter<E, S> | RunsRouter<unknown>,
  registry: Registry = register,
  options: MetricsOptions = {},
): void {
  checkArguments(events, registry, options);
  const present = RegisteredRouters.of(registry);
  const isNew = present === undefined;
  const routers = present ?? new RegisteredRouters(registry);
  const router = events as unknown as SseRouter;
  const hasRuns = (events as { [INTROSPECT]?: Introspection })[INTROSPECT]?.runs !== undefined;
  const needsRunMetrics = hasRuns && !routers.hasRunMetrics;
  // Every check comes before the first change: a call that throws leaves the registry as it was.
  routers.check(router, options.router);
  if (isNew) checkNames(registry, [...namesOf(GAUGES, COUNTERS), ...HISTOGRAM_NAMES]);
  if (needsRunMetrics) checkNames(registry, namesOf(RUN_GAUGES, RUN_COUNTERS));
  if (isNew) {
    addDefinitions(routers, registry, GAUGES, COUNTERS);
    addHistograms(routers, registry, channels);
  }
  if (needsRunMetrics) {
    addDefinitions(routers, registry, RUN_GAUGES, RUN_COUNTERS);
    routers.hasRunMetrics = true;
  }
  const removed = routers.removeClosed();
  const labels = routers.add(router, options.router);
  for (const name of HISTOGRAM_NAMES) {
    const histogram = registry.getSingleMetric(name) as Histogram | undefined; // the application may have removed it
    for (const closed of removed) histogram?.remove(closed);
    histogram?.zero(labels); // a rate needs a first sample to start from
  }
}

function namesOf(...definitions: readonly (readonly MetricDefinition[])[]): string[] {
  return definitions.flat().map(({ name }) => name);
}

/** Checks that a registry has none of these metrics, before the first of them is registered. */
function checkNames(registry: Registry, names: readonly string[]): void {
  const taken = names.filter((name) => registry.getSingleMetric(name) !== undefined);
  if (taken.length === 0) return;
  throw new SseTypeError(
    'ERR_SSE_OPTION',
    `metrics(events, registry): registry must have no metric with a name of this package; received one that has ${taken.join(', ')}. Rename or remove that metric, or pass another Registry.`,
  );
}

/** Adds metrics to a registry, once for all of its routers. They read the routers at each scrape. */
function addDefinitions(
  routers: RegisteredRouters,
  registry: Registry,
  gauges: readonly MetricDefinition[],
  counters: readonly MetricDefinition[],
): void {
  const registers = [registry];
  for (const { name, help, label, aggregator, read } of gauges) {
    const labelNames = label === undefined ? ['router'] : ['router', label];
    const collect = function (this: Gauge): void {
      this.reset();
      for (const { labels, stats } of routers.readStats())
        for (const sample of read(stats)) this.set({ ...labels, ...sample.labels }, sample.value);
    };
    routers.attachTo(new Gauge({ name, help, labelNames, registers, collect, ...(aggregator && { aggregator }) }));
  }
  for (const { name, help, label, read } of counters) {
    const labelNames = label === undefined ? ['router'] : ['router', label];
    // The router does the counting. A prom-client counter cannot be set, so it is reset and incremented in the same tick.
    const collect = function (this: Counter): void {
      this.reset();
      for (const { labels, stats } of routers.readStats())
        for (const sample of read(stats)) this.inc({ ...labels, ...sample.labels }, sample.value);
    };
    routers.attachTo(new Counter({ name, help, labelNames, registers, collect }));
  }
}

function checkArguments(events: unknown, registry: unknown, options: unknown): void {
  if (typeof events !== 'function' || typeof (events as Partial<SseRouter>).stats !== 'function') {
    throw invalid('metrics(events): events', 'a router that sse() or runs() has returned', events, {
      cure: 'Pass the router itself, as in metrics(events).',
    });
  }
  if (typeof (registry as Partial<Registry> | null)?.registerMetric !== 'function') {
    throw invalid('metrics(events, registry): registry', 'a Registry of prom-client', registry, {
      cure: 'Leave it out for the global registry.',
    });
  }
  if (typeof options !== 'object' || options === null) {
    throw invalid('metrics(events, registry, options): options', 'an object', options, {
      cure: "Leave it out, or write { router: 'orders' }.",
    });
  }
  rejectUnknownKeys('option of metrics()', options, { router: true });
  const { router } = options as MetricsOptions;
  if (router === undefined || (typeof router === 'string' && router !== '')) return;
  throw invalid('metrics(events, registry, { router }): router', 'a non-empty string', router, {
    cure: 'Leave it out for metrics without the label router.',
  });
}
