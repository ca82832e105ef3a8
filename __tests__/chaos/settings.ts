/*
 * The settings of a chaos run. The same seed gives the same faults at the same times; the scheduling of the machine still differs.
 */
import { seedFrom } from '../fixtures/random.ts';

export const seed = seedFrom('CHAOS_SEED');

/** How long each engine's run with kills takes. */
export const seconds = Number(process.env['CHAOS_SECONDS'] ?? 5);
if (!(seconds > 0)) {
  throw new Error(
    `CHAOS_SECONDS must be a number above 0; received ${process.env['CHAOS_SECONDS']}. Leave it out for 5 s.`,
  );
}

/** How many clients are connected. */
export const clientCount = seconds > 5 ? 300 : 100;

/** How many times each scenario of loss is repeated. */
export const rounds = Math.max(1, Math.round(seconds / 30));
