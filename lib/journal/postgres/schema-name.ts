/*
 * Checks the option `schema` of the journal and of the store of runs.
 * Invariant: two handles with different values of the option use different schemas. Postgres cuts longer names, and the locks of a log
 * follow from the name as it is given.
 */
import { invalid } from '../../validation/validate.ts';

/** Postgres cuts a longer name. */
const MAX_NAME_BYTES = 63;

/**
 * Checks a name that may be left out.
 * @param owner - the function with the option; `excluded`: the characters that no name may contain, as messages list them
 * @throws {SseTypeError} `ERR_SSE_OPTION`
 */
export function checkSchemaName(
  owner: string,
  name: unknown,
  excluded: { readonly pattern: RegExp; readonly list: string },
): string | undefined {
  if (name === undefined) return undefined;
  const isName = typeof name === 'string' && name !== '' && Buffer.byteLength(name) <= MAX_NAME_BYTES;
  if (isName && !excluded.pattern.test(name)) return name;
  throw invalid(`${owner}: schema`, `a name of 1 to ${MAX_NAME_BYTES} bytes without ${excluded.list}`, name, {
    cure: 'Leave it out for the first schema of the search path.',
  });
}
