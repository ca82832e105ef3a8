/*
 * Who may read a stream from another origin: the `cors` package, checked at set-up, and a refusal before the handler runs.
 * Knows errors, and Express' requests.
 * Invariant: a foreign origin gets no place and no allowing header; what no browser accepts does not start.
 */

import cors, { type CorsOptions } from 'cors';
import type { Request, Response } from 'express';
import { known } from './check.ts';
import { shown, SseTypeError } from './errors.ts';
import { vary } from './heading.ts';
import { isSameOrigin } from './same-origin.ts';

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
      `cors is true, false or the cors package's options, and this is ${shown(given)}.`,
    );
  }
  known('CORS option', given, KNOWN, 'ERR_SSE_CORS');
  const { origin, credentials } = given;
  if (credentials !== undefined && typeof credentials !== 'boolean') {
    throw new SseTypeError('ERR_SSE_CORS', `cors.credentials is true or false, and this is ${shown(credentials)}.`);
  }
  if (given.maxAge !== undefined && !(Number.isInteger(given.maxAge) && given.maxAge >= 0)) {
    throw new SseTypeError(
      'ERR_SSE_CORS',
      `cors.maxAge is seconds, an integer from 0, and this is ${shown(given.maxAge)}.`,
    );
  }
  for (const one of Array.isArray(origin) ? origin : [origin]) checkOrigin(one, credentials === true);
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
    throw new SseTypeError(
      'ERR_SSE_CORS',
      `cors.origin is a string, a pattern, a list, a function or true, and this is ${shown(origin)}.`,
    );
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
    `cors.origin: no browser sends ${shown(origin)}; an origin is a scheme, a host and a port that is not the usual one: '${instead}'.`,
  );
}

/** A pattern with state (`g`, `y`) would answer differently the second time. */
function stateless<T>(origin: T): T | RegExp {
  return origin instanceof RegExp ? new RegExp(origin.source, origin.flags.replace(/[gy]/g, '')) : origin;
}

/** What became of a request: it may go on, its origin may not read the stream, or it failed. */
export type Verdict = 'pass' | 'foreign' | { readonly error: unknown };

/** Puts the CORS headers on an answer, whatever it will be, and tells whether it may be a stream. */
export class CrossOrigin {
  readonly #open: boolean;
  readonly #varies: boolean;
  readonly #apply: ReturnType<typeof cors>;

  constructor(options: CorsOptions) {
    this.#open = options.origin === '*' || options.origin === true;
    this.#varies = options.origin !== '*';
    // The answer to a preflight is ours, or a foreign one would be told yes.
    this.#apply = cors({ ...options, preflightContinue: true });
  }

  judge(req: Request, res: Response, answer: (verdict: Verdict) => void): void {
    const { origin } = req.headers;
    if (this.#varies) vary(res, 'Origin'); // `cors` leaves it out where a function has refused
    res.removeHeader('Access-Control-Allow-Origin'); // an application-wide cors() in front may have allowed more
    this.#apply(req, res, (error?: unknown) => {
      if (error !== undefined && error !== null) return answer({ error });
      if (origin === undefined || this.#open || res.getHeader('Access-Control-Allow-Origin') === origin)
        return answer('pass');
      answer(isSameOrigin(req, origin) ? 'pass' : 'foreign');
    });
  }
}
