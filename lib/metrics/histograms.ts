/*
 * How long it takes: two histograms, fed by the router's signals.
 * Knows prom-client, the signals and who belongs to this registry.
 * Invariants: it observes only the registry's own routers, and nothing after the registry has been cleared.
 */

import { Histogram, type Registry } from 'prom-client';
import type { BroadcastStored, EntriesDispatched, channels as Signals } from '../diagnostics/channels.ts';
import type { Sources } from './registered-routers.ts';

// Seconds. In memory an append takes some 10 µs, by way of Redis some 500; 10,000 connections are written to in some 50 ms.
const JOURNAL = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const HAND_OUT = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export const TIMINGS = ['sse_journal_append_duration_seconds', 'sse_hand_out_duration_seconds'] as const;

export function observe(sources: Sources, registry: Registry, signals: typeof Signals): void {
  const journal = new Histogram({
    name: TIMINGS[0],
    help: 'From a broadcast until the journal has it.',
    labelNames: ['router'],
    buckets: JOURNAL,
    registers: [registry],
  });
  const handOut = new Histogram({
    name: TIMINGS[1],
    help: 'From a broadcast out of the journal until the last connection that is not behind has been written to.',
    labelNames: ['router'],
    buckets: HAND_OUT,
    registers: [registry],
  });
  follow(signals.broadcast, journal);
  follow(signals.handOut, handOut);

  function follow(channel: (typeof Signals)['broadcast'], histogram: Histogram): void {
    const hear = (message: unknown): void => {
      const { router, ms } = message as BroadcastStored | EntriesDispatched;
      if (!sources.isRegistered) channel.unsubscribe(hear);
      else {
        const labels = sources.labelsOf(router);
        if (labels !== undefined) histogram.observe(labels, ms / 1000);
      }
    };
    channel.subscribe(hear);
  }
}
