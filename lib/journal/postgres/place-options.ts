/*
 * Checks the options `table` and `schema` of the journal and of the store of runs: where their tables are.
 * Invariant: two handles with different values of the option use different schemas. Postgres cuts longer names, and the locks of a log
 * follow from the name as it is given.
 */
import { invalid } from '../../validation/validate.ts';

/** Postgres cuts a longer name. */
const MAX_NAME_BYTES = 63;
const DEFAULT_TABLE = 'sse';
const TABLE = /^[a-z_][a-z0-9_]{0,39}$/;

/** Checks what the names of all tables and functions begin with. @throws {SseTypeError} `ERR_SSE_OPTION` */
export function checkTableName(owner: string, name: unknown = DEFAULT_TABLE): string {
  if (typeof name === 'string' && TABLE.test(name)) return name;
  const expectation = 'a name of 1 to 40 of the characters a-z, 0-9 and _ that does not begin with a digit';
  throw invalid(`${owner}: table`, expectation, name, { cure: `Leave it out for ${DEFAULT_TABLE}.` });
}

/**
 * Checks the name of a schema that may be left out.
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
