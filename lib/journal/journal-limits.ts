/*
 * The options that bound a log: how many entries, how long, how many bytes.
 * Knows only the errors; each journal brings the table of its own names and defaults.
 * Invariant: what leaves this room is a positive number, `Infinity` where nothing bounds.
 */
import { SseTypeError, describe } from '../errors.ts';

/** One bound: its value when it is left out, and whether only whole numbers make sense. */
export interface JournalLimit {
  readonly default: number;
  readonly integer: boolean;
}

/**
 * Checks a journal's options and fills in the defaults. `others` are options that the journal checks itself.
 * @throws {SseTypeError} `ERR_SSE_OPTION` for an unknown name, a wrong type or a value out of range.
 */
export function checkJournalLimits<Name extends string>(
  owner: string,
  options: object,
  table: Readonly<Record<Name, JournalLimit>>,
  others: readonly string[] = [],
): Record<Name, number> {
  const known = [...Object.keys(table), ...others];
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw refused(`${owner}: the options must be an object such as { ${known[0]}: … }; got ${describe(options)}`);
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw refused(`${owner}: there is no option ${JSON.stringify(unknown)}; its options are ${known.join(', ')}`);
  }
  const bounds = {} as Record<Name, number>;
  for (const name of Object.keys(table) as Name[]) {
    bounds[name] = checkedBound(`${owner}: ${name}`, (options as Record<string, unknown>)[name], table[name]);
  }
  return bounds;
}

function checkedBound(what: string, value: unknown, { default: standard, integer: whole }: JournalLimit): number {
  if (value === undefined) return standard;
  if (value === Infinity) return value;
  if (typeof value === 'number' && value > 0 && (whole ? Number.isSafeInteger(value) : Number.isFinite(value))) {
    return value;
  }
  const kind = whole ? 'a positive integer' : 'a positive number of milliseconds';
  throw refused(
    `${what} must be ${kind}, or Infinity for no such bound; got ${describe(value)}. Leave it out for ${standard}`,
  );
}

function refused(message: string): SseTypeError {
  return new SseTypeError('ERR_SSE_OPTION', message);
}
