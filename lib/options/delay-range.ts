/*
 * Spans of milliseconds, and a value out of one: what keeps a herd from moving in step.
 * Knows nothing of any other room.
 * Invariant: each connection gets a value of its own.
 */

import { randomInt } from 'node:crypto';

/** A span of milliseconds, out of which each connection gets its own value. */
export interface Span {
  readonly min: number;
  readonly max: number;
}

/** What is told to who is sent away where the application leaves the delay to the clients: none would be a herd. */
export const RETRY: Span = { min: 2000, max: 5000 };

/** A random value out of a span. */
export function within({ min, max }: Span): number {
  return randomInt(min, max + 1);
}
