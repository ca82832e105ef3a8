/*
 * Ranges of milliseconds, and a random delay within one.
 *
 * Invariant: each connection gets a delay of its own, so that clients that lost their connections together do not all reconnect in
 * the same instant.
 */

import { randomInt } from 'node:crypto';
import { invalid, positiveInteger, rejectUnknownKeys } from '../validation/validate.ts';

/** A range of milliseconds. Each connection gets a random value between `min` and `max`, both included. */
export interface DelayRange {
  /** An integer from 1 to 2147483647. */
  readonly min: number;
  /** An integer from `min` to 2147483647. */
  readonly max: number;
}

/** @deprecated Use {@link DelayRange}. */
export type Span = DelayRange;

/**
 * The reconnection delay where the application sets none. Refused clients get it even with `retry: false`, because without a
 * delay they would all reconnect in the same instant.
 */
export const DEFAULT_RETRY: DelayRange = { min: 2000, max: 5000 };

/** Returns a random integer from the range. */
export function randomDelay({ min, max }: DelayRange): number {
  return randomInt(min, max + 1);
}

/** Checks a number of milliseconds, or a range of them. @throws {SseTypeError} `ERR_SSE_OPTION` */
export function checkDelayRange(name: string, value: unknown, cure: string): DelayRange {
  if (typeof value !== 'object' || value === null) {
    const delay = positiveInteger(name, value, 'milliseconds', { alternative: ', { min, max } or false', cure });
    return { min: delay, max: delay };
  }
  rejectUnknownKeys(`part of ${name}`, value, { min: true, max: true });
  const { min, max } = value as DelayRange;
  const details = { cure: `Give both ends of the range: ${name}: { min: 2000, max: 5000 }.` };
  const checked = {
    min: positiveInteger(`${name}.min`, min, 'milliseconds', details),
    max: positiveInteger(`${name}.max`, max, 'milliseconds', details),
  };
  if (min <= max) return checked;
  throw invalid(`${name}.min`, `at most ${name}.max, which is ${max}`, min, { cure: 'Exchange the two.' });
}
