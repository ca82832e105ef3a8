/*
 * Ids of the form `<log name>-<n>`: which log, and the number of the entry in it. The journals in memory and in LMDB use them.
 * Invariant: ids are compared by the number `n`, not as text: '9' is before '10'.
 * Invariant: every new log has a new name, also one that replaces a lost log.
 */
import { randomInt } from 'node:crypto';

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';
const NAME_LENGTH = 12; // 62 random bits: if two logs had the same name, one would accept ids of the other
const ID_PATTERN = /^[0-9a-z]{12}-(0|[1-9]\d{0,14})$/; // 15 digits stay below Number.MAX_SAFE_INTEGER

/** Creates the name of a new log: 12 random characters of 0-9 and a-z. */
export function newLogName(): string {
  let name = '';
  while (name.length < NAME_LENGTH) name += ALPHABET[randomInt(ALPHABET.length)];
  return name;
}

/** Whether a text has exactly the form of an id. */
export function isSequenceId(text: string): boolean {
  return typeof text === 'string' && ID_PATTERN.test(text);
}

/** Returns the number of an id in the log `name`; -1 if the id belongs to another log or is not an id. */
export function numberIn(name: string, id: string): number {
  return isSequenceId(id) && id.startsWith(name) ? numberOf(id) : -1;
}

/** Orders two ids by number. Returns 0 only for the same id: ids of two logs with the same number are ordered by log name. */
export function compareSequenceIds(a: string, b: string): number {
  const difference = numberOf(a) - numberOf(b);
  if (difference !== 0) return difference;
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function numberOf(id: string): number {
  return Number(id.slice(NAME_LENGTH + 1));
}
