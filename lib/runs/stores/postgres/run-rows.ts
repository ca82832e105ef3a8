/*
 * The rows of runs: how statements name a run, and how a row becomes its state.
 */
import { createHash } from 'node:crypto';
import type { Row } from '../../../journal/postgres/postgres-connection.ts';
import type { RunKey, RunState, RunStatus } from '../../run-store.ts';

/** The columns of {@link runRowOf}, of the run `r`. Numbers are milliseconds. */
export const RUN_COLUMNS =
  'r.key, r.generation, r.status, CAST(extract(epoch FROM r.started) * 1000 AS bigint), CAST(extract(epoch FROM r.ended) * 1000 AS bigint), ' +
  'r.chunks, r.bytes, CAST(extract(epoch FROM r.lease_end - clock_timestamp()) * 1000 AS bigint), CAST(r.lease AS bigint), r.stop, ' +
  'coalesce(r.readers > clock_timestamp(), false), CAST(extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1000 AS bigint)';

/** That a run has not been dropped: one whose time is over is removed later. */
export const IS_KEPT = "(r.status = 'running' OR r.expires > clock_timestamp())";

/** One run as it is stored. */
export interface RunRow {
  readonly key: string;
  readonly generation: string;
  readonly status: RunStatus;
  readonly startedAt: number;
  readonly endedAt: number | undefined;
  readonly chunks: number;
  readonly bytes: number;
  /** Milliseconds; negative after the lease. */
  readonly leaseLeft: number;
  readonly lease: number;
  readonly stopRequested: boolean;
  readonly hasReaders: boolean;
  /** The milliseconds since the server was started. */
  readonly serverAge: number;
}

/** Returns a generation's key in the tables, as text of the type uuid. */
export function keyOf({ id, generation }: RunKey): string {
  const hex = createHash('sha256')
    .update(JSON.stringify([id, generation]))
    .digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

/** Returns keys as SQL literals. */
export function keyList(keys: Iterable<string>): string {
  return [...keys].map((key) => `CAST('${key}' AS uuid)`).join(', ');
}

export function runRowOf(row: Row): RunRow {
  const [key, generation, status, started, ended, chunks, bytes, leaseLeft, lease, stop, readers, serverAge] = row;
  return {
    key: key!,
    generation: generation!,
    status: status as RunStatus,
    startedAt: Number(started),
    endedAt: ended === null ? undefined : Number(ended),
    chunks: Number(chunks),
    bytes: Number(bytes),
    leaseLeft: Number(leaseLeft),
    lease: Number(lease),
    stopRequested: stop === 't',
    hasReaders: readers === 't',
    serverAge: Number(serverAge),
  };
}

/** Returns the state of a run as callers see it. A lease that has expired without an end is being checked: it has a ms left. */
export function stateOf(id: string, row: RunRow): RunState {
  const { generation, status, startedAt, endedAt, chunks, bytes, leaseLeft, lease } = row;
  const state = { id, generation, status, startedAt, chunks, bytes };
  if (endedAt !== undefined) return { ...state, endedAt: Math.max(endedAt, startedAt) };
  return { ...state, leaseLeft: Math.min(Math.max(leaseLeft, 1), lease) };
}
