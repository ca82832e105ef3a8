/**
 * Answers that continue after the request that asked for them has ended: readers join, resume and stop them from any process.
 * @packageDocumentation
 */

export { runs } from './runs-router.ts';
export type { Producer, Run, RunEvent, RunInfo, RunSource, RunsOptions, RunsRouter, RunsStats, Wire } from './api.ts';
export type {
  BeginResult,
  ChunkPage,
  NewRun,
  Renewal,
  RunFollower,
  RunKey,
  RunState,
  RunStatus,
  RunStore,
  RunStoreListener,
} from './run-store.ts';
export { events, openai, uiMessages } from './wires.ts';
export { memoryRuns } from './stores/memory-runs.ts';
