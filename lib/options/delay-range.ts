/*
 * Spans of milliseconds, and a value out of one: what keeps a herd from moving in step.
 * Knows nothing of any other room.
 * Invariant: each connection gets a value of its own.
 */

import { randomInt } from 'node:crypto';
import { SseTypeError } from '../errors.ts';
import { rejectUnknownKeys, positiveInteger } from '../validation/validate.ts';

/** A span of milliseconds, out of which each connection gets its own value. */
export interface DelayRange {
  readonly min: number;
  readonly max: number;
}

/** @deprecated Use {@link DelayRange}. */
export type Span = DelayRange;

/** What is told to who is sent away where the application leaves the delay to the clients: none would be a herd. */
export const DEFAULT_RETRY: DelayRange = { min: 2000, max: 5000 };

/** A random value out of a span. */
export function randomDelay({ min, max }: DelayRange): number {
  return randomInt(min, max + 1);
}

/** One number of milliseconds, or two between which each gets its own. */
export function checkDelayRange(name: string, value: unknown): DelayRange {
  if (typeof value !== 'object' || value === null) {
    const ms = positiveInteger(name, value, 'milliseconds, { min, max } or false');
    return { min: ms, max: ms };
  }
  rejectUnknownKeys(`part of ${name}`, value, { min: true, max: true });
  const { min, max } = value as DelayRange;
  const checked = {
    min: positiveInteger(`${name}.min`, min, 'milliseconds'),
    max: positiveInteger(`${name}.max`, max, 'milliseconds'),
  };
  if (min <= max) return checked;
  throw new SseTypeError('ERR_SSE_OPTION', `${name}.min (${min}) is at most ${name}.max (${max}).`);
}
