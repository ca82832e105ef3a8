/*
 * The counters, gauges and durations of a router as Prometheus metrics.
 * Invariants: a scrape reads counters and does not walk over the connections; every label has a closed list of values.
 *
 * @see https://prometheus.io/docs/practices/naming/
 */

import { Counter, Gauge, register, type Histogram, type Registry } from 'prom-client';
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
 * @throws {SseTypeError} `ERR_SSE_OPTION` if an argument is not a router or a registry, or if the registry has this router already.
 */
export function metrics<E extends EventMap = AnyEvents, S = Record<string, unknown>>(
  events: SseRouter<E, S> | RunsRouter<unknown>,
  registry: Registry = register,
  options: MetricsOptions = {},
): void {
  checkArguments(events, registry, options);
  const routers = RegisteredRouters.of(registry) ?? addMetrics(registry);
  const hasRuns = (events as { [INTROSPECT]?: Introspection })[INTROSPECT]?.runs !== undefined;
  if (hasRuns && registry.getSingleMetric(RUN_GAUGES[0]!.name) === undefined) {
    addDefinitions(routers, registry, RUN_GAUGES, RUN_COUNTERS);
  }
  const removed = routers.removeClosed();
  const labels = routers.add(events as unknown as SseRouter, options.router);
  for (const name of HISTOGRAM_NAMES) {
    const histogram = registry.getSingleMetric(name) as Histogram;
    for (const closed of removed) histogram.remove(closed);
    histogram.zero(labels); // a rate needs a first sample to start from
  }
}

/** Adds the metrics to a registry, once for all of its routers. They read the routers at each scrape. */
function addMetrics(registry: Registry): RegisteredRouters {
  const routers = new RegisteredRouters(registry);
  addDefinitions(routers, registry, GAUGES, COUNTERS);
  addHistograms(routers, registry, channels);
  return routers;
}

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
