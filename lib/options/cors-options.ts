/*
 * The `cors` option, checked at set-up.
 * Invariant: options that no browser accepts, or that open the stream to every site, throw before the router exists.
 */

import type { CorsOptions } from 'cors';
import { describe, SseTypeError } from '../errors.ts';
import { rejectUnknownKeys } from '../validation/validate.ts';

// The compiler keeps this list complete: a misspelt `origin` would open the stream to everybody.
const KNOWN: Record<keyof Required<CorsOptions>, true> = {
  origin: true,
  methods: true,
  allowedHeaders: true,
  exposedHeaders: true,
  credentials: true,
  maxAge: true,
  preflightContinue: true,
  optionsSuccessStatus: true,
};

/** How long a browser may keep a preflight's answer, unless the application says otherwise: seconds. */
const MAX_AGE = 600;

/** Tokens of RFC 9110 5.6.2 with commas between; `cors` takes an empty string for none. */
const TOKENS = /^[\w!#$%&'*+.^`|~-]*(\s*,\s*[\w!#$%&'*+.^`|~-]+)*$/;

/** The options for the `cors` package; `undefined`: no CORS. @throws {SseTypeError} `ERR_SSE_CORS` */
export function checkCors(
  given: boolean | CorsOptions | undefined,
  methods: readonly string[],
): CorsOptions | undefined {
  if (given === undefined || given === false) return undefined;
  if (given === true) return { origin: '*', methods: [...methods], maxAge: MAX_AGE };
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new SseTypeError(
      'ERR_SSE_CORS',
      `cors is true, false or the cors package's options, and this is ${describe(given)}.`,
    );
  }
  rejectUnknownKeys('CORS option', given, KNOWN, 'ERR_SSE_CORS');
  const { origin, credentials } = given;
  if (credentials !== undefined && typeof credentials !== 'boolean') {
    throw wrong('credentials', 'true or false', credentials);
  }
  if (given.maxAge !== undefined && !(Number.isInteger(given.maxAge) && given.maxAge >= 0)) {
    throw wrong('maxAge', 'seconds, an integer from 0', given.maxAge);
  }
  for (const one of Array.isArray(origin) ? origin : [origin]) checkOrigin(one, credentials === true);
  for (const name of ['methods', 'allowedHeaders', 'exposedHeaders'] as const) checkTokens(name, given[name]);
  const { preflightContinue, optionsSuccessStatus: status } = given;
  if (preflightContinue !== undefined && typeof preflightContinue !== 'boolean') {
    throw wrong('preflightContinue', 'true or false', preflightContinue);
  }
  if (status !== undefined && !(Number.isInteger(status) && status >= 200 && status <= 299)) {
    throw wrong('optionsSuccessStatus', 'a status from 200 to 299, as browsers want', status);
  }
  const checked: CorsOptions = { ...given };
  checked.methods ??= [...methods];
  checked.maxAge ??= MAX_AGE;
  if (origin === undefined || origin === '*') checked.origin = '*';
  // One fixed origin: `cors` would name it to everybody; in a list it is named only to itself.
  else
    checked.origin = Array.isArray(origin)
      ? origin.map(stateless)
      : typeof origin === 'string'
        ? [origin]
        : stateless(origin);
  return checked;
}

function wrong(name: keyof CorsOptions, what: string, value: unknown): SseTypeError {
  return new SseTypeError('ERR_SSE_CORS', `cors.${name} is ${what}, and this is ${describe(value)}.`);
}

/** Names of methods or headers, in a list or with commas between: one that cannot be sent would fail each request. */
function checkTokens(name: 'methods' | 'allowedHeaders' | 'exposedHeaders', value: unknown): void {
  if (value === undefined) return;
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  for (const item of items) {
    if (typeof item === 'string' && TOKENS.test(item)) continue;
    throw wrong(name, 'a list of names, or a string with commas between them', item);
  }
}

function checkOrigin(origin: unknown, credentials: boolean): void {
  if (typeof origin === 'function') return;
  if (credentials) {
    const cure =
      "name the origins that may send cookies: cors: { origin: ['https://app.example'], credentials: true }.";
    if (origin === undefined || origin === '*' || origin === true) {
      throw new SseTypeError(
        'ERR_SSE_CORS',
        `cors: credentials with ${origin === undefined ? 'no origin' : `origin ${JSON.stringify(origin)}`} would open the stream, cookies and all, to every site; ${cure}`,
      );
    }
    if (origin === 'null') {
      throw new SseTypeError(
        'ERR_SSE_CORS',
        `cors: origin 'null' is every sandboxed frame's, so never with credentials; ${cure}`,
      );
    }
    if (
      origin instanceof RegExp &&
      ['https://anywhere.invalid', 'http://x.invalid:1'].some((any) => stateless(origin).test(any))
    ) {
      throw new SseTypeError('ERR_SSE_CORS', `cors: ${String(origin)} matches every origin, with credentials; ${cure}`);
    }
  }
  if (
    origin === undefined ||
    typeof origin === 'boolean' ||
    origin instanceof RegExp ||
    origin === '*' ||
    origin === 'null'
  )
    return;
  if (typeof origin !== 'string') {
    throw wrong('origin', 'a string, a pattern, a list, a function or true', origin);
  }
  let normal: string | undefined;
  try {
    normal = new URL(origin).origin;
  } catch {
    // not a URL: said below
  }
  if (normal === origin || (normal === 'null' && /^[a-z][a-z\d+.-]*:\/\/[^/\s]+$/.test(origin))) return;
  const instead = normal === undefined || normal === 'null' ? 'https://app.example' : normal;
  throw new SseTypeError(
    'ERR_SSE_CORS',
    `cors.origin: no browser sends ${describe(origin)}; an origin is a scheme, a host and a port that is not the usual one: '${instead}'.`,
  );
}

/** A pattern with state (`g`, `y`) would answer differently the second time. */
function stateless<T>(origin: T): T | RegExp {
  return origin instanceof RegExp ? new RegExp(origin.source, origin.flags.replace(/[gy]/g, '')) : origin;
}
