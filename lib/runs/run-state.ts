/*
 * Converts the state of a run for the application, and makes the state of a run without a log.
 */

import type { RunInfo } from './api.ts';
import type { RunKey, RunState } from './run-store.ts';

/** Returns what the application receives about a run. */
export function infoOf({ id, status, startedAt, endedAt, chunks, bytes }: RunState): RunInfo {
  return endedAt === undefined
    ? { id, status, startedAt, chunks, bytes }
    : { id, status, startedAt, endedAt, chunks, bytes };
}

/** Returns the state of a run whose log is not there: its chunks up to the number `chunks` may have been received before. */
export function lostState({ id, generation }: RunKey, chunks = 0, bytes = 0): RunState {
  const now = Date.now();
  return { id, generation, status: 'lost', startedAt: now, endedAt: now, chunks, bytes };
}
