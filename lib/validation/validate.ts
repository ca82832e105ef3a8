/*
 * Checks the values that the application passes in, for the whole package, and writes the error messages.
 *
 * Invariant: every message has the form `<thing> must be <expectation>; received <value>. <Cure>.`
 */

import { describe, SseTypeError, type SseErrorCode } from '../errors.ts';

/**
 * The longest delay in milliseconds that timers and clients accept. Node fires a longer timer at once, and Firefox wraps `retry` at
 * 2^32.
 */
export const MAX_TIMER_MS = 2_147_483_647;

/** The parts of an error that do not follow from the checked value. */
export interface ErrorDetails {
  /** @defaultValue `'ERR_SSE_OPTION'` */
  readonly code?: SseErrorCode;
  /** How to correct the value: one sentence or more, with their full stops. */
  readonly cure?: string;
  /** The error that made the value invalid. */
  readonly cause?: unknown;
}

/**
 * Handles the rejection of a promise that a function of the application returned where none is allowed. The promise has no other
 * handler, so its rejection would end the process.
 */
export function handleRejection(value: unknown): void {
  if (value instanceof Promise) value.catch(() => undefined);
}

/** Returns the error for a value that is not what it must be. The caller throws it. */
export function invalid(name: string, expectation: string, value: unknown, details: ErrorDetails = {}): SseTypeError {
  const { code = 'ERR_SSE_OPTION', cure, cause } = details;
  handleRejection(value);
  const message = `${name} must be ${expectation}; received ${describe(value)}.`;
  return new SseTypeError(
    code,
    cure === undefined ? message : `${message} ${cure}`,
    cause === undefined ? {} : { cause },
  );
}

/** The cures for names that users of other packages write, by the name. */
export type Hints = Readonly<Record<string, string>>;

/**
 * Checks that every key of an object is a known name. An array or a Map is refused as well: its entries are no keys of the
 * object, so it would be ignored in silence.
 * @param kind - what one key is, in the singular: `option`, `option of close()`
 * @param names - an object whose keys are the known names
 * @param details - `hints` are the cures for some names, `otherwise` is the cure for a name that resembles no known one, and
 * `isRequired` is whether the object may not be left out
 * @throws {SseTypeError} `code`
 */
export function rejectUnknownKeys(
  kind: string,
  given: object,
  names: Readonly<Record<string, unknown>>,
  {
    code = 'ERR_SSE_OPTION',
    otherwise,
    hints = {},
    isRequired = false,
  }: {
    readonly code?: SseErrorCode;
    readonly otherwise?: string;
    readonly hints?: Hints;
    readonly isRequired?: boolean;
  } = {},
): void {
  const known = Object.keys(names);
  if (!isPlainObject(given)) {
    const cure = isRequired ? 'Pass such an object.' : 'Pass such an object, or leave it out.';
    throw invalid(`Every ${kind}`, `in a plain object such as { ${known[0]}: … }`, given, { code, cure });
  }
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(names, name)) continue;
    const expectation = known.length > 2 ? `one of ${known.join(', ')}` : known.join(' or ');
    const hint = Object.hasOwn(hints, name) ? hints[name]! : cureOf(nearestName(name, known), otherwise);
    throw invalid(`The name of each ${kind}`, expectation, name, { code, cure: hint });
  }
}

function cureOf(nearest: string | undefined, otherwise = 'Correct the name, or leave it out.'): string {
  return nearest === undefined ? otherwise : `Did you mean ${nearest}?`;
}

/**
 * Checks that a value is an object whose keys are its content, not an array, a Map or another iterable.
 * @param example - such an object as code: `{ connections: … }`
 */
export function plainObject(
  name: string,
  value: unknown,
  example: string,
  details?: ErrorDetails,
): asserts value is object {
  if (isPlainObject(value)) return;
  throw invalid(name, `a plain object such as ${example}`, value, {
    cure: 'Leave it out for the defaults.',
    ...details,
  });
}

/** Checks an integer from 1 to {@link MAX_TIMER_MS}. `alternative` names the other values that the caller accepts: ` or false`. */
export function positiveInteger(
  name: string,
  value: unknown,
  unit: string,
  { alternative = '', ...details }: ErrorDetails & { readonly alternative?: string } = {},
): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_TIMER_MS) return value;
  throw invalid(name, `an integer from 1 to ${MAX_TIMER_MS} (${unit})${alternative}`, value, details);
}

/** Checks the largest number of connections; `undefined` and `Infinity` mean no limit. */
export function limit(name: string, value: unknown): number {
  if (value === undefined || value === Infinity) return Infinity;
  return positiveInteger(name, value, 'connections', { cure: 'Leave it out for no limit.' });
}

/** Checks a boolean that is `false` when it is left out. */
export function boolean(name: string, value: unknown, details?: ErrorDetails): boolean {
  if (value === undefined) return false;
  if (typeof value === 'boolean') return value;
  throw invalid(name, 'true or false', value, { cure: 'Leave it out for false.', ...details });
}

/** Checks a function that may be left out. */
export function optionalFunction<F>(name: string, value: F | undefined, details?: ErrorDetails): F | undefined {
  if (value === undefined || typeof value === 'function') return value;
  throw invalid(name, 'a function', value, { cure: 'Leave it out for the default.', ...details });
}

/** Checks a signal that may be left out. */
export function optionalSignal(name: string, value: unknown): void {
  if (value === undefined || value instanceof AbortSignal) return;
  throw invalid(name, 'an AbortSignal', value, { cure: 'Leave it out, or pass controller.signal.' });
}

/** Checks a string that has at least one character. */
export function nonEmptyString(name: string, value: unknown, details?: ErrorDetails): string {
  if (typeof value === 'string' && value !== '') return value;
  throw invalid(name, 'a non-empty string', value, details);
}

/** Checks that a string is one of a few. */
export function oneOf<T extends string>(
  name: string,
  value: unknown,
  choices: readonly T[],
  details?: ErrorDetails,
): T {
  if ((choices as readonly unknown[]).includes(value)) return value as T;
  throw invalid(name, choices.map((choice) => `'${choice}'`).join(' or '), value, details);
}

function isPlainObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !(Symbol.iterator in value);
}

/**
 * Returns the known name with the fewest edits, if they are at most two, or a third of the letters where that is more. They must be fewer
 * than half of the letters of the longer name: `x` resembles `to` and `max` only by its length.
 */
function nearestName(name: string, names: readonly string[]): string | undefined {
  let nearest: string | undefined;
  let fewestEdits = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of names) {
    const edits = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (edits < fewestEdits && edits * 2 < Math.max(name.length, candidate.length)) {
      fewestEdits = edits;
      nearest = candidate;
    }
  }
  return nearest;
}

/** Returns the Levenshtein distance, computed a row of the table at a time. */
function editDistance(a: string, b: string): number {
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
