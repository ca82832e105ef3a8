/*
 * Ids of the form `<epoch>-<n>-<tag>`: the creation of the tables, the place in the log, and the commit that stored the entry.
 * Invariant: one id names one entry. The tag is random for each commit, so a number that is given twice (after a failover that lost
 * commits, or a restored backup) makes two different ids. The epoch changes only when the tables are created anew.
 */

/** A parsed id. */
export interface LogId {
  readonly epoch: string;
  readonly n: number;
  readonly tag: string;
}

const EPOCH_LENGTH = 12;
// A tag of 32 random bits: an id of a lost commit is taken for one of the log once in 2^32 times.
const FORM = /^[0-9a-z]{12}-(0|[1-9]\d{0,14})-[0-9a-f]{8}$/; // 15 digits stay below Number.MAX_SAFE_INTEGER

/** Whether a text has exactly the form of an id. */
export function isLogId(text: unknown): text is string {
  return typeof text === 'string' && FORM.test(text);
}

/** Parses an id that has passed {@link isLogId}. */
export function parseLogId(id: string): LogId {
  const end = id.lastIndexOf('-');
  return { epoch: id.slice(0, EPOCH_LENGTH), n: Number(id.slice(EPOCH_LENGTH + 1, end)), tag: id.slice(end + 1) };
}

export function formatLogId(epoch: string, n: number, tag: string): string {
  return `${epoch}-${n}-${tag}`;
}

/** Orders two ids by number. Equal numbers of two commits or two logs are ordered as texts: 0 is only the same id. */
export function compareLogIds(a: string, b: string): number {
  const difference = parseLogId(a).n - parseLogId(b).n;
  if (difference !== 0) return difference;
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
