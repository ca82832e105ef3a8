/*
 * The suite that every journal must pass: what `sse()` relies on, and nothing that only one engine can do. It runs in any test
 * runner, on any journal.
 * Invariant: every case can fail. No case passes because it had nothing to check.
 */
import type { Journal } from '../journal/journal.ts';
import { appendCases } from './append-cases.ts';
import { patienceOf, runCase } from './case-resources.ts';
import { followCases } from './follow-cases.ts';
import { readCases } from './read-cases.ts';
import { type CaseContext, createContext } from './harness.ts';

export { runStoreConformance, type RunStoreHarness } from './run-stores.ts';

/** One new log for one case. */
export interface Harness {
  /** A journal on a new and empty log; the case opens it. It must be able to keep 1,000 entries and 4 MiB. */
  readonly journal: Journal;
  /**
   * Returns another handle on the same log, as a second process would have it; the case opens it.
   * Leave it out if the log lives in one process: then the case uses `journal` for both handles.
   */
  reopen?(): Journal | Promise<Journal>;
  /**
   * Trims the entry `id` and all entries before it. May append entries of its own to do that. Leave it out if the log keeps 10,000
   * entries or fewer: then the case appends entries until `id` is trimmed.
   */
  trim?(id: string): void | Promise<void>;
  /** Called at the end of the case, after all journals have been closed. */
  cleanup?(): void | Promise<void>;
}

/** One requirement for a journal. `run` rejects with an `AssertionError` if the journal does not meet it; it needs no `this`. */
export interface Case {
  readonly name: string;
  readonly run: () => Promise<void>;
}

/** Options of {@link conformance}. */
export interface ConformanceOptions {
  /**
   * Milliseconds that a case waits for something that must happen, before it fails.
   * @defaultValue 5000
   */
  readonly patience?: number;
}

/**
 * Returns the cases that any {@link Journal} must pass, for any test runner. `make` is called for each case, sometimes twice.
 * The logs that it creates must be independent of each other.
 *
 * @example
 * ```ts
 * import { test } from 'node:test'; // or Jest's or Vitest's
 * import { conformance } from 'sse-router/conformance';
 *
 * for (const { name, run } of conformance(() => ({ journal: myJournal() }))) test(name, run);
 * ```
 */
export function conformance(make: () => Harness | Promise<Harness>, options: ConformanceOptions = {}): Case[] {
  const timeoutMs = patienceOf('conformance', '() => ({ journal: myJournal() })', make, options);
  const cases: Record<string, (context: CaseContext) => Promise<void>> = {
    ...appendCases,
    ...readCases,
    ...followCases,
  };
  return Object.entries(cases).map(([name, check]) => ({
    name,
    run: () => runCase(async (resources) => check(await createContext(make, timeoutMs, resources))),
  }));
}
