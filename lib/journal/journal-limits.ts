/*
 * Checks what an application passes to a journal: the options that limit a log, and the body of an entry.
 * Invariant: a checked limit is a positive number; it is `Infinity` if the application removed the limit.
 */
import { invalid, rejectUnknownKeys } from '../validation/validate.ts';

/** One limit: its value if the option is left out, and whether only whole numbers make sense. */
export interface JournalLimit {
  readonly default: number;
  readonly integer: boolean;
}

/**
 * Checks a journal's options and fills in the defaults. `journal` is the name of the function that takes them.
 * `others` are the names of options that the journal checks itself.
 * @throws {SseTypeError} `ERR_SSE_OPTION` for an unknown name, a wrong type or a value out of range.
 */
export function checkJournalLimits<Name extends string>(
  journal: string,
  options: object,
  table: Readonly<Record<Name, JournalLimit>>,
  others: readonly string[] = [],
): Record<Name, number> {
  const names = [...Object.keys(table), ...others];
  rejectUnknownKeys(`option of ${journal}()`, options, Object.fromEntries(names.map((name) => [name, true as const])));
  return checkLimits(`${journal}: `, options, table);
}

/** Checks the values of the limits. `prefix` precedes the name of a limit in an error message. */
export function checkLimits<Name extends string>(
  prefix: string,
  options: object,
  table: Readonly<Record<Name, JournalLimit>>,
): Record<Name, number> {
  const limits = {} as Record<Name, number>;
  for (const name of Object.keys(table) as Name[]) {
    limits[name] = checkLimit(`${prefix}${name}`, (options as Record<string, unknown>)[name], table[name]);
  }
  return limits;
}

function checkLimit(name: string, value: unknown, { default: defaultValue, integer }: JournalLimit): number {
  if (value === undefined) return defaultValue;
  if (value === Infinity) return value;
  if (typeof value === 'number' && value > 0 && (integer ? Number.isSafeInteger(value) : Number.isFinite(value))) {
    return value;
  }
  const kind = integer ? 'a positive integer' : 'a positive number of milliseconds';
  throw invalid(name, `${kind}, or Infinity for no limit`, value, {
    cure: `Leave it out for the default, ${defaultValue}.`,
  });
}

/**
 * Checks the body of an entry.
 * @throws {SseTypeError} `ERR_SSE_DATA` if it is not a `Uint8Array`. Any other value has no `byteLength`: the sum of bytes would
 * become NaN, and each later comparison with that sum would be false.
 */
export function checkBody(body: unknown): asserts body is Uint8Array {
  if (body instanceof Uint8Array) return;
  throw invalid('append: body', 'a Uint8Array', body, {
    code: 'ERR_SSE_DATA',
    cure: 'Encode text with new TextEncoder().',
  });
}
