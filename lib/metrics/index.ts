/*
 * What a router counts and how long it takes, as Prometheus reads it.
 * Knows prom-client, what a router tells of itself (stats and signals), and nothing of the core's inside.
 * Invariants: a scrape reads counters and walks over no connections; every label has a closed list of values.
 *
 * @see https://prometheus.io/docs/practices/naming/
 */

import { Counter, Gauge, register, type Histogram, type Registry } from 'prom-client';
import { rejectUnknownKeys, invalid } from '../validation/validate.ts';
import { SseTypeError, describe } from '../errors.ts';
import type { AnyEvents, EventMap } from '../api/message.ts';
import { channels } from '../diagnostics/channels.ts';
import type { SseRouter } from '../http/router.ts';
import { COUNTERS, GAUGES } from './metric-definitions.ts';
import { Sources } from './registered-routers.ts';
import { observe, TIMINGS } from './histograms.ts';

/** For more than one router on one registry. */
export interface MetricsOptions {
  /** The value of a label `router` on everything that this router says. @defaultValue none, and then no such label */
  router?: string;
}

/**
 * Puts a router's figures into a registry: gauges, counters, and two histograms that are fed from now on.
 * @example
 * ```ts
 * metrics(events);
 * app.get('/metrics', async (_req, res) => { res.type(register.contentType).send(await register.metrics()); });
 * ```
 * @param registry - prom-client's global one by default
 * @throws {SseTypeError} `ERR_SSE_OPTION` for what is not a router or a registry, and for a router that is there already.
 */
export function metrics<E extends EventMap = AnyEvents>(
  events: SseRouter<E>,
  registry: Registry = register,
  options: MetricsOptions = {},
): void {
  checkCall(events, registry, options);
  const sources = Sources.of(registry) ?? make(registry);
  const labels = sources.add(events as unknown as SseRouter, options.router);
  for (const name of TIMINGS) (registry.getSingleMetric(name) as Histogram).zero(labels); // a rate needs where it began
}

/** Once for each registry: the metrics, which ask whichever routers are there when they are scraped. */
function make(registry: Registry): Sources {
  const sources = new Sources(registry);
  const registers = [registry];
  for (const { name, help, label, aggregator, read } of GAUGES) {
    const labelNames = label === undefined ? ['router'] : ['router', label];
    const collect = function (this: Gauge): void {
      this.reset();
      for (const { labels, stats } of sources.read())
        for (const one of read(stats)) this.set({ ...labels, ...one.labels }, one.value);
    };
    sources.keep(new Gauge({ name, help, labelNames, registers, collect, ...(aggregator && { aggregator }) }));
  }
  for (const { name, help, label, read } of COUNTERS) {
    const labelNames = label === undefined ? ['router'] : ['router', label];
    // The router does the counting. A prom-client counter cannot be set, but emptied and counted up in the same turn.
    const collect = function (this: Counter): void {
      this.reset();
      for (const { labels, stats } of sources.read())
        for (const one of read(stats)) this.inc({ ...labels, ...one.labels }, one.value);
    };
    sources.keep(new Counter({ name, help, labelNames, registers, collect }));
  }
  observe(sources, registry, channels);
  return sources;
}

function checkCall(events: unknown, registry: unknown, options: unknown): void {
  if (typeof events !== 'function' || typeof (events as Partial<SseRouter>).stats !== 'function') {
    throw invalid('metrics(events): events', 'a router that sse() has made', events);
  }
  if (typeof (registry as Partial<Registry> | null)?.registerMetric !== 'function') {
    throw invalid('metrics(events, registry): registry', "one of prom-client's", registry);
  }
  if (typeof options !== 'object' || options === null)
    throw invalid('metrics(…, options): options', 'an object', options);
  rejectUnknownKeys('option of metrics()', options, { router: true });
  const { router } = options as MetricsOptions;
  if (router === undefined || (typeof router === 'string' && router !== '')) return;
  throw new SseTypeError('ERR_SSE_OPTION', `router is a name for a label, and this is ${describe(router)}.`);
}
