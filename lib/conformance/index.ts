/*
 * The suite that any journal must pass: what `sse()` relies on, and nothing that only one engine can do.
 * Knows the contract and node:assert; neither a test runner nor any journal.
 * Invariant: every case can fail, and none passes because it had nothing to look at.
 */
import type { Journal } from '../journal/journal.ts';
import { appendCases } from './append-cases.ts';
import { followCases } from './follow-cases.ts';
import { readCases } from './read-cases.ts';
import { type Scene, startScene } from './harness.ts';

/** One new log for one case. */
export interface Harness {
  /** A journal on a log that is new and empty; the case opens it. It must be able to keep 1,000 entries and 4 MiB. */
  readonly journal: Journal;
  /**
   * Another handle on the same log, as a second process would have it; the case opens it.
   * Leave it out when the log lives in one process: then `journal` plays both parts.
   */
  reopen?(): Journal | Promise<Journal>;
  /**
   * Makes the entry `id` and all before it leave the log, and may append entries of its own for that. Leave it out when
   * the log is bounded to 10,000 entries or fewer: then it is filled until `id` has gone.
   */
  trim?(id: string): void | Promise<void>;
  /** Called at the end of the case, when all journals have been closed. */
  cleanup?(): void | Promise<void>;
}

/** One thing that a journal must do. `run` rejects with an `AssertionError` when it does not; it needs no `this`. */
export interface Case {
  readonly name: string;
  readonly run: () => Promise<void>;
}

/** How {@link conformance} runs. */
export interface ConformanceOptions {
  /**
   * Milliseconds that a case waits for something that must come, before it calls it missing.
   * @defaultValue 5000
   */
  readonly patience?: number;
}

/**
 * The cases that any {@link Journal} must pass, for any test runner. `make` is called anew for each case, sometimes twice,
 * and the logs that it makes must not know each other.
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
  const patience = options.patience ?? 5000;
  const cases: Record<string, (scene: Scene) => Promise<void>> = { ...appendCases, ...readCases, ...followCases };
  return Object.entries(cases).map(([name, check]) => ({
    name,
    run: async () => {
      const scene = await startScene(make, patience);
      try {
        await check(scene);
      } finally {
        await scene.end();
      }
    },
  }));
}
