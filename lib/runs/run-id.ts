/*
 * The names on the wire: run ids, generations, and event ids of the form `<encoded run id>~<generation>~<number or end>`.
 * Invariant: an event id is printable ASCII without spaces, and short enough for a header. Parsing accepts only what was formed here.
 */

import { randomBytes } from 'node:crypto';
import type { RunKey } from './run-store.ts';

const MAX_RUN_ID_LENGTH = 256;
/** With the generation and the number, an event id stays below the 1024 characters that a client's last event id may have. */
const MAX_ENCODED_LENGTH = 900;
const GENERATION_BYTES = 9; // 12 characters
const END = 'end';

/** Control characters, and halves of a character: encodeURIComponent() throws for these. */
const UNUSABLE = /[\p{Cc}\p{Cs}]/u;
const GENERATION = /^[A-Za-z0-9_-]{1,32}$/;
const NUMBER = /^(?:0|[1-9][0-9]{0,15})$/;

/** The number of the end: it is after every chunk. */
export const END_NUMBER = Infinity;

/** A position in the log of one generation: directly after the chunk with this number. 0 is before the first chunk. */
export interface RunPosition extends RunKey {
  /** {@link END_NUMBER} if the client has received the end. */
  readonly n: number;
}

/**
 * Whether a value can be a run id: 1 to 256 characters of well-formed Unicode without control characters, and at most 900 bytes when it
 * is encoded for a URL.
 */
export function isRunId(value: unknown): value is string {
  if (typeof value !== 'string' || value === '' || value.length > MAX_RUN_ID_LENGTH) return false;
  // [spec] A path segment `.` or `..` is removed from a URL, even if its dots are encoded: https://url.spec.whatwg.org/#double-dot-path-segment
  if (value === '.' || value === '..') return false;
  if (UNUSABLE.test(value)) return false;
  return encodeURIComponent(value).length <= MAX_ENCODED_LENGTH;
}

/** The expectation that {@link isRunId} checks, for an error message. */
export const RUN_ID_EXPECTATION =
  "a string of 1 to 256 characters without control characters, at most 900 bytes when encoded for a URL, and neither '.' nor '..'";

/** Returns a run id as one segment of a path, and as the value of the header `X-Run-Id`. */
export function encodeRunId(id: string): string {
  return encodeURIComponent(id);
}

/** Returns the run id of an encoded one, or `undefined` if it is not one. */
export function decodeRunId(encoded: string): string | undefined {
  let id: string;
  try {
    id = decodeURIComponent(encoded);
  } catch {
    return undefined; // an incomplete escape, or bytes that are no UTF-8
  }
  return isRunId(id) ? id : undefined;
}

/** Returns a random name for a new generation. */
export function newGeneration(): string {
  return randomBytes(GENERATION_BYTES).toString('base64url');
}

/** Returns the event id of a position. */
export function formEventId({ id, generation }: RunKey, n: number): string {
  return `${eventIdPrefix({ id, generation })}${n === END_NUMBER ? END : n}`;
}

/** Returns the part that all event ids of one generation begin with. The number follows, or `end`. */
export function eventIdPrefix({ id, generation }: RunKey): string {
  return `${encodeURIComponent(id)}~${generation}~`;
}

/** Returns the position of an event id, or `undefined` if it has not this form. It is read from the right: a run id may contain `~`. */
export function parseEventId(text: string): RunPosition | undefined {
  const last = text.lastIndexOf('~');
  const middle = last > 0 ? text.lastIndexOf('~', last - 1) : -1;
  if (middle < 1) return undefined;
  const encoded = text.slice(0, middle);
  const generation = text.slice(middle + 1, last);
  const number = text.slice(last + 1);
  if (!GENERATION.test(generation)) return undefined;
  const n = number === END ? END_NUMBER : NUMBER.test(number) ? Number(number) : -1;
  if (n < 0 || (n !== END_NUMBER && !Number.isSafeInteger(n))) return undefined;
  const id = decodeRunId(encoded);
  // Two texts for one position would be two ids for the same place: compare by text would then fail.
  return id === undefined || encodeURIComponent(id) !== encoded ? undefined : { id, generation, n };
}
