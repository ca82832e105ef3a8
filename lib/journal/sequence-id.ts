/*
 * Ids of the form `<log>-<n>`: which life of the log, and where in it.
 * Knows only random bytes; the journals in memory and in LMDB hand out such ids.
 * Invariant: `n` is a number and compared as one ('9' is before '10'); another life of the log has another name.
 */
import { randomInt } from 'node:crypto';

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';
const NAME_LENGTH = 12; // 62 random bits: two logs with one name would take an old id for their own
const FORM = /^[0-9a-z]{12}-(0|[1-9]\d{0,14})$/; // 15 digits stay below Number.MAX_SAFE_INTEGER

/** A name for a new life of a log: 12 random characters of 0-9 and a-z. */
export function newLogName(): string {
  let name = '';
  while (name.length < NAME_LENGTH) name += ALPHABET[randomInt(ALPHABET.length)];
  return name;
}

/** Whether a text has exactly the form of an id. */
export function isPosition(text: string): boolean {
  return typeof text === 'string' && FORM.test(text);
}

/** The number of an id in the log `name`; -1 when the id is another log's or none at all. */
export function numberIn(name: string, id: string): number {
  return isPosition(id) && id.startsWith(name) ? numberOf(id) : -1;
}

/** Orders two ids by number; 0 only for the same id, so equal numbers of two logs are ordered by name. */
export function comparePositions(a: string, b: string): number {
  const difference = numberOf(a) - numberOf(b);
  if (difference !== 0) return difference;
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function numberOf(id: string): number {
  return Number(id.slice(NAME_LENGTH + 1));
}
