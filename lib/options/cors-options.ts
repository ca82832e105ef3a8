/*
 * Checks the `cors` option when the router is made.
 *
 * Invariant: options that no browser accepts, or that open the stream to every site, throw before the router exists.
 */

import type { CorsOptions } from 'cors';
import type { SseTypeError } from '../errors.ts';
import { boolean, invalid, rejectUnknownKeys } from '../validation/validate.ts';

// The compiler keeps this list complete: a misspelt `origin` would open the stream to every site.
const KNOWN_OPTIONS: Record<keyof Required<CorsOptions>, true> = {
  origin: true,
  methods: true,
  allowedHeaders: true,
  exposedHeaders: true,
  credentials: true,
  maxAge: true,
  preflightContinue: true,
  optionsSuccessStatus: true,
};

/** How long a browser may keep the answer to a preflight, unless the application sets another time. */
const DEFAULT_MAX_AGE_SECONDS = 600;

/** [spec] Tokens of RFC 9110 5.6.2 with commas between them. `cors` takes an empty string for no names. */
const TOKENS = /^[\w!#$%&'*+.^`|~-]*(\s*,\s*[\w!#$%&'*+.^`|~-]+)*$/;

/** An origin that `URL` reports as 'null', although clients send it: a browser extension's, or `file://` of Cordova and Electron. */
const OPAQUE_ORIGIN = /^[a-z][a-z\d+.-]*:\/\/[^/\s]*$/;

/** Two origins that no application lists: a pattern that matches one of them matches every origin. */
const UNLISTED_ORIGINS = ['https://anywhere.invalid', 'http://x.invalid:1'];

const NAME_THE_ORIGINS =
  "Name the origins that may send cookies: cors: { origin: ['https://app.example'], credentials: true }.";

/** Returns the options for the `cors` package; `undefined`: no CORS. @throws {SseTypeError} `ERR_SSE_CORS` */
export function checkCors(
  given: boolean | CorsOptions | undefined,
  methods: readonly string[],
): CorsOptions | undefined {
  if (given === undefined || given === false) return undefined;
  if (given === true) return { origin: '*', methods: [...methods], maxAge: DEFAULT_MAX_AGE_SECONDS };
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid('cors', "true, false or an object of the cors package's options", given, {
      code: 'ERR_SSE_CORS',
      cure: "To allow one origin, write cors: { origin: 'https://app.example' }.",
    });
  }
  rejectUnknownKeys('CORS option', given, KNOWN_OPTIONS, { code: 'ERR_SSE_CORS' });
  const { origin, maxAge, optionsSuccessStatus: status } = given;
  const credentials = boolean('cors.credentials', given.credentials, { code: 'ERR_SSE_CORS' });
  boolean('cors.preflightContinue', given.preflightContinue, { code: 'ERR_SSE_CORS' });
  if (maxAge !== undefined && !(Number.isInteger(maxAge) && maxAge >= 0)) {
    throw invalidCors('maxAge', 'an integer from 0 (seconds)', maxAge, `Leave it out for ${DEFAULT_MAX_AGE_SECONDS}.`);
  }
  if (status !== undefined && !(Number.isInteger(status) && status >= 200 && status <= 299)) {
    const cure = 'Browsers accept no other status; leave it out for 204.';
    throw invalidCors('optionsSuccessStatus', 'an integer from 200 to 299', status, cure);
  }
  // Where the variable is missing, `{ origin: process.env.ORIGIN }` would open the stream to every site.
  if (Object.hasOwn(given, 'origin') && (Array.isArray(origin) ? origin : [origin]).includes(undefined)) {
    const cure = 'Check where the value comes from. To allow every origin without credentials, leave origin out.';
    throw invalidCors('origin', 'a string, a pattern, a list, a function or true', undefined, cure);
  }
  for (const item of Array.isArray(origin) ? origin : [origin]) checkOrigin(item, credentials);
  for (const name of ['methods', 'allowedHeaders', 'exposedHeaders'] as const) checkTokens(name, given[name]);
  const checked: CorsOptions = { ...given };
  checked.methods ??= [...methods];
  checked.maxAge ??= DEFAULT_MAX_AGE_SECONDS;
  if (origin === undefined || origin === '*') checked.origin = '*';
  // `cors` sends a single fixed origin to every other origin as well; an origin in a list is sent only to itself.
  else
    checked.origin = Array.isArray(origin)
      ? origin.map(withoutState)
      : typeof origin === 'string'
        ? [origin]
        : withoutState(origin);
  return checked;
}

function invalidCors(name: keyof CorsOptions, expectation: string, value: unknown, cure: string): SseTypeError {
  return invalid(`cors.${name}`, expectation, value, { code: 'ERR_SSE_CORS', cure });
}

/** Checks names of methods or headers, because a name that cannot be sent would make each request fail. */
function checkTokens(name: 'methods' | 'allowedHeaders' | 'exposedHeaders', value: unknown): void {
  if (value === undefined) return;
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  for (const item of items) {
    if (typeof item === 'string' && TOKENS.test(item)) continue;
    const cure = 'A name consists of letters, digits and a few signs such as "-": RFC 9110, 5.6.2.';
    throw invalidCors(name, 'a list of names, or a string of names with commas between them', item, cure);
  }
}

function checkOrigin(origin: unknown, credentials: boolean): void {
  if (typeof origin === 'function') return;
  if (credentials) rejectEveryOrigin(origin);
  if (origin === undefined || typeof origin === 'boolean' || origin instanceof RegExp) return;
  if (origin === '*' || origin === 'null') return;
  if (typeof origin !== 'string') {
    const cure = "One origin is enough: cors: { origin: 'https://app.example' }.";
    throw invalidCors('origin', 'a string, a pattern, a list, a function or true', origin, cure);
  }
  let normalized: string | undefined;
  try {
    normalized = new URL(origin).origin;
  } catch {
    // not a URL: the error below shows one
  }
  if (normalized === origin || (normalized === 'null' && OPAQUE_ORIGIN.test(origin))) return;
  const example = normalized === undefined || normalized === 'null' ? 'https://app.example' : normalized;
  const expectation = "an origin as browsers send it: a scheme, a host and a port unless it is the scheme's default";
  throw invalidCors('origin', expectation, origin, `Write '${example}'.`);
}

/** With credentials, a value that allows every origin would let every site read the stream with the cookies of its visitors. */
function rejectEveryOrigin(origin: unknown): void {
  if (origin === undefined || origin === '*' || origin === true) {
    throw invalidCors('origin', 'one or several named origins when credentials is true', origin, NAME_THE_ORIGINS);
  }
  if (origin === 'null') {
    const cure = `Every sandboxed frame has the origin 'null'. ${NAME_THE_ORIGINS}`;
    throw invalidCors('origin', 'one or several named origins when credentials is true', origin, cure);
  }
  if (!(origin instanceof RegExp)) return;
  const pattern = withoutState(origin);
  if (!UNLISTED_ORIGINS.some((unlisted) => pattern.test(unlisted))) return;
  const expectation = 'a pattern of named origins when credentials is true';
  const cure = `${String(origin)} matches every origin. ${NAME_THE_ORIGINS}`;
  throw invalidCors('origin', expectation, origin, cure);
}

/** Removes the flags `g` and `y`: a pattern with state would give another answer for the second request. */
function withoutState<T>(origin: T): T | RegExp {
  return origin instanceof RegExp ? new RegExp(origin.source, origin.flags.replace(/[gy]/g, '')) : origin;
}
