/*
 * The settings of a chaos run over runs. The same seed gives the same faults at the same times; the scheduling of the machine still
 * differs.
 */
import { seedFrom } from '../../fixtures/random.ts';

export const seed = seedFrom('RUNS_CHAOS_SEED');

/** How long processes are killed. */
export const seconds = Number(process.env['RUNS_CHAOS_SECONDS'] ?? 4);
if (!(seconds > 0)) {
  throw new Error(
    `RUNS_CHAOS_SECONDS must be a number above 0; received ${process.env['RUNS_CHAOS_SECONDS']}. Leave it out for 4 s.`,
  );
}

const isLong = seconds > 10;
/** How many runs are produced at the same time. */
export const runCount = isLong ? 50 : 15;
/** How many readers each of them has. */
export const readersPerRun = 6;
export const LEASE_MS = 2_000;
