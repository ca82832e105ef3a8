/*
 * How an option's value is checked, whichever option it is.
 * Knows errors, names and spans.
 * Invariant: every refusal says the name, what is expected and what was given.
 */

import { describe, SseTypeError, type SseErrorCode } from '../errors.ts';

/** The longest delay that timers and clients take: a longer one fires at once in Node, and Firefox wraps `retry` at 2^32. */
export const MAX_TIMER_MS = 2_147_483_647;

/** Refuses a name that is not in the list, and what has no names: a Map's, say, would be passed over in silence. */
export function rejectUnknownKeys(
  kind: string,
  given: object,
  names: Record<string, true>,
  code: SseErrorCode = 'ERR_SSE_OPTION',
): void {
  if (typeof given !== 'object' || given === null || Symbol.iterator in given) {
    throw new SseTypeError(
      code,
      `Give the ${kind} in an object, { ${Object.keys(names)[0]}: … }; this is ${describe(given)}.`,
    );
  }
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(names, name)) continue;
    const near = nearestName(name, Object.keys(names));
    const cure = near === undefined ? `There are ${Object.keys(names).join(', ')}.` : `Did you mean ${near}?`;
    throw new SseTypeError(code, `There is no ${kind} ${JSON.stringify(name)}. ${cure}`);
  }
}

export function invalid(name: string, expectation: string, value: unknown, cure = ''): SseTypeError {
  const message = `${name} must be ${expectation}; received ${describe(value)}.`;
  return new SseTypeError('ERR_SSE_OPTION', cure ? `${message} ${cure}` : message);
}

/** An integer from 1 to what a timer takes. */
export function positiveInteger(name: string, value: unknown, unit: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_TIMER_MS) return value;
  throw invalid(name, `an integer from 1 to ${MAX_TIMER_MS} (${unit})`, value);
}

/** A limit: none when it is left out. */
export function limit(name: string, value: unknown): number {
  return value === undefined || value === Infinity ? Infinity : positiveInteger(name, value, 'connections');
}

export function boolean(name: string, value: unknown): boolean {
  if (value === undefined) return false;
  if (typeof value === 'boolean') return value;
  throw invalid(name, 'true or false', value);
}

export function optionalFunction<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === 'function') return value;
  throw invalid(name, 'a function', value);
}

/** The one of `names` that differs from `name` in the fewest letters, if those are at most a third of it (two at least). */
function nearestName(name: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of names) {
    const apart = distance(name.toLowerCase(), candidate.toLowerCase());
    if (apart < least) {
      least = apart;
      best = candidate;
    }
  }
  return best;
}

/** Levenshtein's, a row at a time. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
