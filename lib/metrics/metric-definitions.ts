/*
 * The definitions of all gauges and counters: their names, in Prometheus' units, and how to read them from a router's stats.
 * Invariants: names never change without a major version; the values of a label are the keys of a closed list.
 */

import type { SseStats } from '../diagnostics/stats.ts';

interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface MetricDefinition {
  readonly name: string;
  readonly help: string;
  readonly label?: string;
  /** How prom-client's AggregatorRegistry combines the processes of a cluster; the sum if it is left out. */
  readonly aggregator?: 'min';
  readonly read: (stats: SseStats) => readonly Sample[];
}

export const GAUGES: readonly MetricDefinition[] = [
  {
    name: 'sse_connections',
    help: 'Open connections.',
    read: ({ connections }) => single(connections),
  },
  {
    name: 'sse_connections_connecting',
    help: 'Requests whose stream has not opened yet.',
    read: ({ connecting }) => single(connecting),
  },
  {
    name: 'sse_connections_behind',
    help: 'Open connections that are behind because their client reads slowly.',
    read: ({ behind }) => single(behind),
  },
  {
    name: 'sse_queued_bytes',
    help: 'Bytes queued for connections that are behind.',
    read: ({ bufferedBytes }) => single(bufferedBytes),
  },
  {
    name: 'sse_channels',
    help: 'Channels with at least one member.',
    read: ({ channels }) => single(channels),
  },
  {
    name: 'sse_ring_entries',
    help: 'Journal entries that this process holds in memory.',
    read: ({ ringEntries }) => single(ringEntries),
  },
  {
    name: 'sse_ring_bytes',
    help: 'Bytes of the journal entries that this process holds in memory.',
    read: ({ ringBytes }) => single(ringBytes),
  },
  {
    name: 'sse_journal_up',
    help: "1 while the journal's engine answers, else 0.",
    aggregator: 'min',
    read: ({ journalUp }) => single(journalUp),
  },
];

export const COUNTERS: readonly MetricDefinition[] = [
  {
    name: 'sse_connections_opened_total',
    help: 'Connections opened.',
    read: ({ opened }) => single(opened),
  },
  {
    name: 'sse_connections_closed_total',
    help: 'Connections closed, by reason.',
    label: 'reason',
    read: ({ closed }) => labelled('reason', closed),
  },
  {
    name: 'sse_connections_refused_total',
    help: 'Requests refused, by the limit that was reached, or because the router shuts down.',
    label: 'limit',
    read: ({ refused: { connections, perClient, shutdown } }) =>
      labelled('limit', { connections, per_client: perClient, shutdown }),
  },
  {
    name: 'sse_broadcasts_total',
    help: 'Messages that this process has appended to the journal.',
    read: ({ broadcasts }) => single(broadcasts),
  },
  {
    name: 'sse_events_delivered_total',
    help: 'Broadcast events written to connections; an event counts once for each connection.',
    read: ({ events }) => single(events),
  },
  {
    name: 'sse_delivered_bytes_total',
    help: 'Bytes of events and comments written to connections, without the framing of HTTP.',
    read: ({ bytes }) => single(bytes),
  },
  {
    name: 'sse_resumes_total',
    help: 'Clients that reconnected: resumed, or the reason of the reset that they received.',
    label: 'outcome',
    read: ({ resumes }) => labelled('outcome', resumes),
  },
  {
    name: 'sse_heartbeats_total',
    help: 'Heartbeats and checkpoints written to idle connections.',
    read: ({ heartbeats }) => single(heartbeats),
  },
];

function single(value: number): Sample[] {
  return [{ value }];
}

function labelled(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values).map(([key, value]) => ({ labels: { [label]: key }, value }));
}
