/*
 * How an option's value is checked, whichever option it is.
 * Knows errors, names and spans.
 * Invariant: every refusal says the name, what is expected and what was given.
 */

import { shown, SseTypeError, type SseErrorCode } from '../errors.ts';
import { RETRY_MAX } from '../wire/event-stream.ts';
import { nearest } from './nearest.ts';
import type { Span } from './delay-range.ts';

/** Refuses a name that is not in the list, and what has no names: a Map's, say, would be passed over in silence. */
export function known(
  kind: string,
  given: object,
  names: Record<string, true>,
  code: SseErrorCode = 'ERR_SSE_OPTION',
): void {
  if (typeof given !== 'object' || given === null || Symbol.iterator in given) {
    throw new SseTypeError(
      code,
      `Give the ${kind} in an object, { ${Object.keys(names)[0]}: … }; this is ${shown(given)}.`,
    );
  }
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(names, name)) continue;
    const near = nearest(name, Object.keys(names));
    const cure = near === undefined ? `There are ${Object.keys(names).join(', ')}.` : `Did you mean ${near}?`;
    throw new SseTypeError(code, `There is no ${kind} ${JSON.stringify(name)}. ${cure}`);
  }
}

export function wrong(name: string, what: string, value: unknown): SseTypeError {
  return new SseTypeError('ERR_SSE_OPTION', `${name} is ${what}, and this is ${shown(value)}.`);
}

/** An integer from 1 to what a timer takes. */
export function whole(name: string, value: unknown, unit: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= RETRY_MAX) return value;
  throw wrong(name, `an integer from 1 to ${RETRY_MAX} (${unit})`, value);
}

/** A limit: none when it is left out. */
export function count(name: string, value: unknown): number {
  return value === undefined || value === Infinity ? Infinity : whole(name, value, 'connections');
}

/** One number of milliseconds, or two between which each gets its own. */
export function span(name: string, value: unknown): Span {
  if (typeof value !== 'object' || value === null) {
    const ms = whole(name, value, 'milliseconds, { min, max } or false');
    return { min: ms, max: ms };
  }
  known(`part of ${name}`, value, { min: true, max: true });
  const { min, max } = value as Span;
  const checked = { min: whole(`${name}.min`, min, 'milliseconds'), max: whole(`${name}.max`, max, 'milliseconds') };
  if (min <= max) return checked;
  throw new SseTypeError('ERR_SSE_OPTION', `${name}.min (${min}) is at most ${name}.max (${max}).`);
}

export function flag(name: string, value: unknown): boolean {
  if (value === undefined) return false;
  if (typeof value === 'boolean') return value;
  throw wrong(name, 'true or false', value);
}

export function callable<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === 'function') return value;
  throw wrong(name, 'a function', value);
}
