/*
 * The definitions of the gauges and counters that only routers of runs have.
 * Invariants: as of the other definitions. A router without runs has no sample of them.
 */

import type { RunsStats } from '../runs/api.ts';
import type { SseStats } from '../diagnostics/stats.ts';
import type { MetricDefinition } from './metric-definitions.ts';

export const RUN_GAUGES: readonly MetricDefinition[] = [
  {
    name: 'sse_runs',
    help: 'Runs that this process produces.',
    read: (stats) => ofRuns(stats, ({ running }) => [{ value: running }]),
  },
  {
    name: 'sse_run_readers',
    help: 'Open connections that read a run.',
    read: (stats) => ofRuns(stats, () => [{ value: stats.connections }]),
  },
];

export const RUN_COUNTERS: readonly MetricDefinition[] = [
  {
    name: 'sse_runs_ended_total',
    help: 'Runs that this process has produced, by the status with which they ended.',
    label: 'status',
    read: (stats) =>
      ofRuns(stats, ({ ended }) => Object.entries(ended).map(([status, value]) => ({ labels: { status }, value }))),
  },
  {
    name: 'sse_run_chunks_total',
    help: 'Chunks that this process has stored.',
    read: (stats) => ofRuns(stats, ({ chunks }) => [{ value: chunks }]),
  },
  {
    name: 'sse_run_bytes_total',
    help: 'Bytes of the chunks that this process has stored.',
    read: (stats) => ofRuns(stats, ({ bytes }) => [{ value: bytes }]),
  },
];

function ofRuns(
  stats: SseStats,
  read: (runs: RunsStats['runs']) => ReturnType<MetricDefinition['read']>,
): ReturnType<MetricDefinition['read']> {
  const { runs } = stats as Partial<RunsStats>;
  return runs === undefined ? [] : read(runs);
}
