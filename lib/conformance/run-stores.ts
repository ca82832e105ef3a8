/*
 * The suite that every store of runs must pass: what `runs()` relies on, and nothing that only one engine can do. It runs in any test
 * runner, on any store.
 * Invariant: every case can fail. No case passes because it had nothing to check.
 */
import type { RunStore } from '../runs/run-store.ts';
import type { Case, ConformanceOptions } from './index.ts';
import { patienceOf, runCase } from './case-resources.ts';
import { runBeginCases } from './run-begin-cases.ts';
import { runEndCases } from './run-end-cases.ts';
import { runFollowCases } from './run-follow-cases.ts';
import { runLogCases } from './run-log-cases.ts';
import { type RunCaseContext, createRunContext } from './run-store-harness.ts';

/** One new and empty store for one case. */
export interface RunStoreHarness {
  /** A store without runs; the case opens it. It must be able to keep 200 runs and 16 MiB. */
  readonly store: RunStore;
  /**
   * Returns another handle on the same runs, as a second process would have it; the case opens it.
   * Leave it out if the runs live in one process: then the case uses `store` for both handles.
   */
  reopen?(): RunStore | Promise<RunStore>;
  /** Called at the end of the case, after all stores have been closed. */
  cleanup?(): void | Promise<void>;
}

/**
 * Returns the cases that any {@link RunStore} must pass, for any test runner. `make` is called for each case. The stores that it
 * creates must be independent of each other.
 *
 * @example
 * ```ts
 * import { test } from 'node:test'; // or Jest's or Vitest's
 * import { runStoreConformance } from 'sse-router/conformance';
 *
 * for (const { name, run } of runStoreConformance(() => ({ store: myRuns() }))) test(name, run);
 * ```
 */
export function runStoreConformance(
  make: () => RunStoreHarness | Promise<RunStoreHarness>,
  options: ConformanceOptions = {},
): Case[] {
  const timeoutMs = patienceOf('runStoreConformance', '() => ({ store: myRuns() })', make, options);
  const cases: Record<string, (context: RunCaseContext) => Promise<void>> = {
    ...runBeginCases,
    ...runLogCases,
    ...runEndCases,
    ...runFollowCases,
  };
  return Object.entries(cases).map(([name, check]) => ({
    name,
    run: () => runCase(async (resources) => check(await createRunContext(make, timeoutMs, resources))),
  }));
}
