/*
 * Every option: type, unit, default, check, and nothing else.
 * Knows errors, frames' limits and the journal's contract.
 * Invariant: set-up throws, with the value seen and the cure; what leaves here needs no further check.
 */

import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { CorsOptions } from 'cors';
import type { Request } from 'express';
import {
  optionalFunction,
  limit,
  boolean,
  rejectUnknownKeys,
  positiveInteger,
  invalid,
} from '../validation/validate.ts';
import { checkCors } from './cors-options.ts';
import { describe, SseTypeError } from '../errors.ts';
import { serializeDefault, type Serialize } from '../wire/event-stream.ts';
import { canGzip } from '../wire/gzip-transport.ts';
import type { Journal } from '../journal/journal.ts';
import { memoryJournal, type MemoryJournalOptions } from '../journal/memory-journal.ts';
import type { AnyEvents, EventMap, Snapshot } from '../api/message.ts';
import type { Connection } from '../api/connection.ts';
import { DEFAULT_RETRY, checkDelayRange, type DelayRange } from './delay-range.ts';

/** Header values by name; `undefined` removes one that would otherwise be sent. */
export type HeaderValues = Record<string, string | readonly string[] | undefined>;

/** How many may be connected at once. */
export interface Limits {
  /** Connections in all, those still connecting included. No limit by default. */
  connections?: number;
  /** Connections per client. No limit by default. */
  perClient?: number;
  /** Who counts as one client: by default `req.ip` (so set Express' `trust proxy`), of an IPv6 address its /64. */
  clientKey?: (req: Request) => string;
  /**
   * What who is over the limit gets. `'retry'`: 200 with a jittered `retry` and an end, as a browser gives up for ever on any
   * other status. `'reject'`: 503 (or 429 per client) with a jittered `Retry-After`, for clients that are not browsers.
   * @defaultValue `'retry'`
   */
  whenFull?: 'retry' | 'reject';
}

/** The options of `sse()`. What is left out, or `undefined`, has its default. */
export interface SseOptions<E extends EventMap = AnyEvents> {
  /** Headers of the stream: adds, overrides without regard to case, and removes with `undefined`. `Vary` is appended to. */
  headers?: HeaderValues | ((req: Request) => HeaderValues);
  /** The `cors` package's options. `true`: every origin, without credentials. @defaultValue `false` */
  cors?: boolean | CorsOptions;
  /** The methods that open a stream. @defaultValue `['GET']` */
  methods?: readonly ('GET' | 'POST')[];
  /** Milliseconds before a client reconnects; a span gives each its own; `false` leaves it to the client. @defaultValue `{ min: 2000, max: 5000 }` */
  retry?: number | DelayRange | false;
  /** Milliseconds of silence before a comment is sent. `false`: never. @defaultValue 15000 */
  heartbeat?: number | false;
  /** What can be resumed: bounds for the log in memory, another {@link Journal}, or `false`: ids are the application's. @defaultValue 1024 entries, 5 minutes, 16 MiB */
  history?: false | MemoryJournalOptions | Journal;
  /** State for clients that are new or cannot be resumed. Called at an exact position: what is broadcast later follows it. */
  snapshot?: (conn: Connection<E>, req: Request) => Snapshot<E> | Promise<Snapshot<E>>;
  /** Bytes of its own pushes that one slow reader may hold from one turn to the next before it is cut. @defaultValue 1048576 */
  maxBuffered?: number;
  /** Milliseconds that a reader may take no byte while something waits for it. @defaultValue 30000 */
  slowTimeout?: number;
  /** Milliseconds that a stream may live; a span gives each its own; `false`: for ever. @defaultValue `false` */
  maxAge?: number | DelayRange | false;
  /** How many may be connected. @defaultValue no limits */
  limits?: Limits;
  /** Whether clients that accept gzip get it, each broadcast deflated once for all. @defaultValue `false` */
  compress?: boolean;
  /** Turns `data` into text. @defaultValue strings as they are, everything else as JSON */
  serialize?: Serialize;
  /** Is told once of everything that goes wrong where nobody waits for it. @defaultValue a warning of the process */
  onError?: (error: unknown, conn?: Connection<E>) => void;
}

/** The options, checked, with every default in its place. */
export interface Settings {
  readonly headers: HeaderValues | ((req: Request) => HeaderValues);
  readonly cors: CorsOptions | undefined;
  readonly methods: readonly ('GET' | 'POST')[];
  readonly retry: DelayRange | undefined;
  readonly heartbeat: number; // Infinity: none
  readonly journal: Journal;
  readonly resumable: boolean;
  readonly snapshot: ((conn: Connection, req: Request) => unknown) | undefined;
  readonly maxBuffered: number;
  readonly slowTimeout: number;
  readonly maxAge: DelayRange | undefined;
  readonly limits: { readonly connections: number; readonly perClient: number };
  readonly clientKey: ((req: Request) => string) | undefined;
  readonly whenFull: 'retry' | 'reject';
  readonly compress: boolean;
  readonly serialize: Serialize;
  readonly onError: ((error: unknown, conn?: Connection) => void) | undefined;
}

/** What a stream says of itself unless the application says otherwise. Each has its reason in the README's proxy table. */
export const HEADERS: Readonly<HeaderValues> = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'private, no-cache, no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

// The compiler keeps this list complete.
const KNOWN: Record<keyof Required<SseOptions>, true> = {
  headers: true,
  cors: true,
  methods: true,
  retry: true,
  heartbeat: true,
  history: true,
  snapshot: true,
  maxBuffered: true,
  slowTimeout: true,
  maxAge: true,
  limits: true,
  compress: true,
  serialize: true,
  onError: true,
};
const KNOWN_LIMITS: Record<keyof Required<Limits>, true> = {
  connections: true,
  perClient: true,
  clientKey: true,
  whenFull: true,
};

/** @throws {SseTypeError} `ERR_SSE_OPTION`, `ERR_SSE_HEADER` or `ERR_SSE_CORS`, before anything is opened. */
export function checkOptions<E extends EventMap>(options: SseOptions<E>): Settings {
  rejectUnknownKeys('option', options, KNOWN);
  const { limits = {}, methods = ['GET'], headers = {}, retry = DEFAULT_RETRY, heartbeat = 15_000 } = options;
  const { maxBuffered = 1_048_576, slowTimeout = 30_000, maxAge = false } = options;
  if (typeof limits !== 'object' || limits === null || Array.isArray(limits))
    throw invalid('limits', 'an object', limits);
  rejectUnknownKeys('limit', limits, KNOWN_LIMITS);
  if (!Array.isArray(methods) || methods.length === 0) throw invalid('methods', "a list of 'GET' and 'POST'", methods);
  for (const method of methods as readonly unknown[])
    if (method !== 'GET' && method !== 'POST') throw invalid('each of methods', "'GET' or 'POST'", method);
  if (typeof headers !== 'function') checkHeaders(headers);
  const { whenFull } = limits;
  if (whenFull !== undefined && whenFull !== 'retry' && whenFull !== 'reject') {
    throw invalid('limits.whenFull', "'retry' or 'reject'", whenFull);
  }
  return {
    headers,
    methods,
    retry: retry === false ? undefined : checkDelayRange('retry', retry),
    heartbeat: heartbeat === false ? Infinity : positiveInteger('heartbeat', heartbeat, 'milliseconds, or false'),
    snapshot: optionalFunction('snapshot', options.snapshot) as Settings['snapshot'],
    maxBuffered: positiveInteger('maxBuffered', maxBuffered, 'bytes'),
    slowTimeout: positiveInteger('slowTimeout', slowTimeout, 'milliseconds'),
    maxAge: maxAge === false ? undefined : checkDelayRange('maxAge', maxAge),
    limits: {
      connections: limit('limits.connections', limits.connections),
      perClient: limit('limits.perClient', limits.perClient),
    },
    clientKey: optionalFunction('limits.clientKey', limits.clientKey),
    whenFull: whenFull ?? 'retry',
    compress: gzip(options.compress),
    serialize: optionalFunction('serialize', options.serialize) ?? serializeDefault,
    onError: optionalFunction('onError', options.onError) as Settings['onError'],
    cors: checkCors(options.cors, methods),
    resumable: options.history !== false,
    journal: history(options.history), // last: nothing is made when something is wrong
  };
}

/** @throws {SseTypeError} `ERR_SSE_HEADER` */
export function checkHeaders(headers: unknown): HeaderValues {
  if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers) {
    throw invalid('headers', 'an object of names and values, or a function that returns one', headers);
  }
  for (const [name, value] of Object.entries(headers as HeaderValues)) {
    if (/^(content-length|transfer-encoding|trailer)$/i.test(name)) {
      throw new SseTypeError('ERR_SSE_HEADER', `headers: a stream cannot have ${JSON.stringify(name)}: leave it out.`);
    }
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    try {
      validateHeaderName(name);
      for (const one of values) if (one !== undefined) validateHeaderValue(name, text(one));
    } catch (error) {
      throw new SseTypeError(
        'ERR_SSE_HEADER',
        `headers: ${JSON.stringify(name)} cannot be sent with ${describe(value)}: ${(error as Error).message}.`,
        { cause: error },
      );
    }
  }
  return headers as HeaderValues;
}

function text(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new TypeError('a value is a string or a list of strings');
}

function gzip(value: unknown): boolean {
  const compress = boolean('compress', value);
  if (!compress || canGzip) return compress;
  throw new SseTypeError(
    'ERR_SSE_OPTION',
    `compress needs Node 20.15 or 22.2 (zlib.crc32), and this is ${process.version}.`,
  );
}

function history(value: unknown): Journal {
  if (value === undefined || value === false) return memoryJournal();
  if (typeof value !== 'object' || value === null) throw invalid('history', 'false, bounds or a journal', value);
  if (typeof (value as Journal).append === 'function') {
    for (const method of ['open', 'window', 'read', 'follow', 'compare', 'isId', 'close'] as const) {
      if (typeof (value as Journal)[method] !== 'function')
        throw invalid(`history.${method}`, 'a function', (value as Journal)[method]);
    }
    return value as Journal;
  }
  return memoryJournal(value);
}
