/*
 * What is told: every gauge and counter, by name, in Prometheus' units.
 * Knows the figures of a router, as types.
 * Invariants: names never change without a major version; a label's values are the keys of a closed list.
 */

import type { SseStats } from '../diagnostics/stats.ts';

interface Reading {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Figure {
  readonly name: string;
  readonly help: string;
  readonly label?: string;
  /** How the processes of a cluster are told as one, where it is not their sum. */
  readonly aggregator?: 'min';
  readonly read: (stats: SseStats) => readonly Reading[];
}

export const GAUGES: readonly Figure[] = [
  {
    name: 'sse_connections',
    help: 'Open connections.',
    read: ({ connections }) => only(connections),
  },
  {
    name: 'sse_connections_connecting',
    help: 'Requests whose stream has not opened yet.',
    read: ({ connecting }) => only(connecting),
  },
  {
    name: 'sse_connections_behind',
    help: 'Open connections whose reader is behind.',
    read: ({ behind }) => only(behind),
  },
  {
    name: 'sse_queued_bytes',
    help: 'Bytes that wait for readers that are behind.',
    read: ({ bufferedBytes }) => only(bufferedBytes),
  },
  {
    name: 'sse_channels',
    help: 'Channels with at least one member.',
    read: ({ channels }) => only(channels),
  },
  {
    name: 'sse_ring_entries',
    help: "The journal's entries that this process holds.",
    read: ({ ringEntries }) => only(ringEntries),
  },
  {
    name: 'sse_ring_bytes',
    help: "Bytes of the journal's entries that this process holds.",
    read: ({ ringBytes }) => only(ringBytes),
  },
  {
    name: 'sse_journal_up',
    help: "1 while the journal's engine answers, else 0.",
    aggregator: 'min',
    read: ({ journalUp }) => only(journalUp),
  },
];

export const COUNTERS: readonly Figure[] = [
  {
    name: 'sse_connections_opened_total',
    help: 'Connections opened.',
    read: ({ opened }) => only(opened),
  },
  {
    name: 'sse_connections_closed_total',
    help: 'Connections that are over, by the reason.',
    label: 'reason',
    read: ({ closed }) => by('reason', closed),
  },
  {
    name: 'sse_connections_refused_total',
    help: 'Requests sent away, by the limit that was reached, or because the router closes.',
    label: 'limit',
    read: ({ refused: { connections, perClient, shutdown } }) =>
      by('limit', { connections, per_client: perClient, shutdown }),
  },
  {
    name: 'sse_broadcasts_total',
    help: 'Messages that this process has put into the journal.',
    read: ({ broadcasts }) => only(broadcasts),
  },
  {
    name: 'sse_events_delivered_total',
    help: 'Broadcast events written to connections, one for each that got it.',
    read: ({ events }) => only(events),
  },
  {
    name: 'sse_delivered_bytes_total',
    help: "Bytes of events and comments written to connections, without HTTP's framing.",
    read: ({ bytes }) => only(bytes),
  },
  {
    name: 'sse_resumes_total',
    help: 'Returning clients: resumed, or why they were told to reset instead.',
    label: 'outcome',
    read: ({ resumes }) => by('outcome', resumes),
  },
  {
    name: 'sse_heartbeats_total',
    help: 'Heartbeats and checkpoints written to silent connections.',
    read: ({ heartbeats }) => only(heartbeats),
  },
];

function only(value: number): Reading[] {
  return [{ value }];
}

function by(label: string, values: Readonly<Record<string, number>>): Reading[] {
  return Object.entries(values).map(([key, value]) => ({ labels: { [label]: key }, value }));
}
