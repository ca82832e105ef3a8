/*
 * The options of `sse()`: their types, units, defaults and checks.
 *
 * Invariants: an invalid option throws when the router is made, before anything is opened. Settings need no further check.
 */

import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { CorsOptions } from 'cors';
import type { Request, Response } from 'express';
import {
  boolean,
  invalid,
  limit,
  oneOf,
  optionalFunction,
  plainObject,
  positiveInteger,
  rejectUnknownKeys,
  type Hints,
} from '../validation/validate.ts';
import { checkCors } from './cors-options.ts';
import { serializeDefault, type Serialize } from '../wire/event-stream.ts';
import { canGzip } from '../wire/gzip-transport.ts';
import type { Journal } from '../journal/journal.ts';
import { memoryJournal, memoryJournalOfHistory, type MemoryJournalOptions } from '../journal/memory-journal.ts';
import type { AnyEvents, EventMap, Snapshot } from '../api/message.ts';
import type { Connection } from '../api/connection.ts';
import { checkSnapshot } from './snapshot.ts';
import { DEFAULT_RETRY, checkDelayRange, type DelayRange } from './delay-range.ts';

/**
 * Header values by name: a string, or a list of strings, which are sent as one header line each. `undefined` removes a header that
 * would otherwise be sent.
 */
export type HeaderValues = Record<string, string | readonly string[] | undefined>;

/** How many connections may be open at the same time. */
export interface Limits {
  /**
   * The largest number of connections, those that are still connecting included: an integer from 1 to 2147483647, or `Infinity`.
   * A request that waits for the journal to open counts, too.
   * @defaultValue none
   */
  connections?: number | undefined;
  /**
   * The largest number of connections per client: an integer from 1 to 2147483647, or `Infinity`.
   * @defaultValue none
   */
  perClient?: number | undefined;
  /**
   * Returns the key under which a request is counted for `perClient`. It is called once per request, and twice if the request waits
   * for the journal to open. If it throws, or returns neither a string nor a number, the error goes to Express.
   * @defaultValue the address in `req.ip`, so set Express' `trust proxy` behind a proxy. A port, a zone and the notation of the
   * address make no difference; the addresses of an IPv6 /64 are one client. A request without an address, such as one over a Unix
   * socket, is not counted, and the process emits one warning (`SSE_CLIENT_UNKNOWN`)
   */
  clientKey?: ((req: Request) => string) | undefined;
  /**
   * How a request over the limit is answered. `'retry'`: 200 with an empty stream and a random `retry`, because a browser gives up
   * for ever after any other status. `'reject'`: 503 (429 for `perClient`) with a random `Retry-After`, for clients that are not
   * browsers. A POST always gets such a status.
   * @defaultValue `'retry'`
   */
  whenFull?: 'retry' | 'reject' | undefined;
}

/**
 * The options of `sse()`. An option that is left out, or is `undefined`, has its default. An unknown or invalid option throws.
 * @example
 * ```ts
 * const events = sse<Events>((conn, req, res) => conn.join(`user:${res.locals.user}`), {
 *   history: { size: 10_000, maxAge: 600_000 }, // 10 minutes
 *   snapshot: async () => ({ event: 'stock', data: await stock() }),
 *   limits: { perClient: 10 },
 * });
 * ```
 * @typeParam E - the event map; see {@link EventMap}
 * @typeParam S - the application's own data in `conn.state`
 */
export interface SseOptions<E extends EventMap = AnyEvents, S = Record<string, unknown>> {
  /**
   * Headers of the stream, or a function that returns them for a request. They override the defaults without regard to case;
   * `undefined` removes a header; `Vary` is appended to. `Content-Length`, `Transfer-Encoding` and `Trailer` are refused. An answer
   * that is not a stream has `Cache-Control: no-store`, whatever this option is.
   * @defaultValue none
   */
  headers?: HeaderValues | ((req: Request) => HeaderValues) | undefined;
  /**
   * The options of the `cors` package. `true` allows every origin, without credentials. With an origin that is a string, a list, a
   * pattern or a function, a request of another origin is answered 403 before the handler runs; the router's own origin passes.
   * In front of authentication, `events.cors` applies this option as a middleware.
   * @defaultValue `false`
   * @see https://www.npmjs.com/package/cors
   */
  cors?: boolean | CorsOptions | undefined;
  /**
   * The methods that open a stream. HEAD (with GET) and OPTIONS are always answered, any other method with 405.
   * @defaultValue `['GET']`
   */
  methods?: readonly ('GET' | 'POST')[] | undefined;
  /**
   * Whether the router may send events of its own: `checkpoint`, `reset`, `end`, and the ids of broadcasts. `false` is for clients
   * that understand only their own protocol. The router itself then writes only `:` and `retry:`, every event name is allowed, and
   * the router cannot report a loss to a client: to resume it is the application's task. An answer that did not finish then ends
   * with a broken connection.
   * @defaultValue whether GET is among `methods`
   */
  controlEvents?: boolean | undefined;
  /**
   * The milliseconds that a client waits before it reconnects: an integer from 1 to 2147483647, or a range, from which each
   * connection gets its own value. `false` sends none, so that the client decides.
   * @defaultValue `{ min: 2000, max: 5000 }`
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#concept-event-stream-reconnection-time
   */
  retry?: number | DelayRange | false | undefined;
  /**
   * The milliseconds of silence after which the router sends a comment: an integer from 1 to 2147483647. After the same time a
   * stream opens although its handler is still running. `false`: never, and proxies then close quiet streams.
   * @defaultValue 15000
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes
   */
  heartbeat?: number | false | undefined;
  /**
   * What clients can be resumed from: limits of the log in memory, another {@link Journal}, or `false`. With `false` nothing is
   * resumed by the router, and the ids of events are the application's own.
   * @defaultValue 1024 entries, 5 minutes, 16 MiB
   */
  history?: false | MemoryJournalOptions | Journal | undefined;
  /**
   * Returns the state for a client that is new or cannot be resumed. It is called at an exact position of the log: everything that
   * is broadcast later follows the state. The state may contain some of these events already: let the page apply them by the ids of
   * their items. If it throws, rejects, or does not settle within 30 seconds, the error goes to `onError` and the connection closes.
   * @defaultValue none
   */
  snapshot?: ((conn: Connection<E, S>, req: Request) => Snapshot<E> | Promise<Snapshot<E>>) | undefined;
  /**
   * The bytes of its own pushes that one slow connection may have pending from earlier ticks: an integer from 1 to 2147483647. A
   * push with more than this pending closes the connection with the reason `slow`.
   * @defaultValue 1048576
   */
  maxBuffered?: number | undefined;
  /**
   * The milliseconds for which a socket may accept no byte while data is pending: an integer from 1 to 2147483647. Then the
   * connection closes with the reason `slow`, and its client reconnects.
   * @defaultValue 30000
   */
  slowTimeout?: number | undefined;
  /**
   * The milliseconds after which a stream closes with the reason `expired`: an integer from 1 to 2147483647, or a range, from which
   * each connection gets its own value. `false`: never. A function returns the milliseconds for one request, for example the
   * remaining life of its token; with 0 or less the stream has expired already, and with `false` it never expires. It is called twice
   * for a request that waits for the journal to open.
   * @defaultValue `false`
   * @example
   * ```ts
   * maxAge: (req, res) => res.locals.token.exp * 1000 - Date.now()
   * ```
   */
  maxAge?: number | DelayRange | false | ((req: Request, res: Response) => number | false) | undefined;
  /**
   * Checks the permission of each open connection again, about every `every` milliseconds (an integer from 1 to 2147483647). One
   * timer spreads the checks evenly, and at most 64 run at the same time. If `check` returns or resolves with false, the connection
   * closes with the reason `expired`. If it throws, rejects, gives a value that is no boolean, or does not settle within 30 seconds,
   * the connection closes with the reason `error`, and the error goes to `onError`.
   * @defaultValue none
   */
  recheck?:
    | {
        every: number;
        check: (conn: Connection<E, S>) => boolean | Promise<boolean>;
      }
    | undefined;
  /**
   * How many connections may be open at the same time.
   * @defaultValue no limits
   */
  limits?: Limits | undefined;
  /**
   * Whether the stream is compressed for clients that accept gzip. Each broadcast is compressed once, however many connections it
   * goes to. `true` needs Node.js 20.15 or 22.2 or later.
   * @defaultValue `false`
   */
  compress?: boolean | undefined;
  /**
   * Turns the `data` of a message into text. Bare strings, such as pushed lines and `broadcast('text')`, are not passed to it.
   * @defaultValue strings as they are, everything else as JSON
   */
  serialize?: Serialize | undefined;
  /**
   * Called once for each error that no caller can catch: the journal's, and what a handler or a snapshot throws after the opening.
   * The text of an error is never sent to a client.
   * @defaultValue a warning of the process
   */
  onError?: ((error: unknown, conn?: Connection<E, S>) => void) | undefined;
}

/** The checked options, with every default filled in. */
export interface Settings {
  readonly headers: HeaderValues | ((req: Request) => HeaderValues);
  readonly cors: CorsOptions | undefined;
  readonly methods: readonly ('GET' | 'POST')[];
  readonly controlEvents: boolean;
  readonly retry: DelayRange | undefined;
  readonly heartbeat: number; // Infinity: none
  readonly journal: Journal;
  readonly resumable: boolean;
  /** Whether connections receive the ids of broadcasts: there is a log, and control events are allowed. */
  readonly sendsPositions: boolean;
  readonly snapshot: ((conn: Connection, req: Request) => unknown) | undefined;
  readonly maxBuffered: number;
  readonly slowTimeout: number;
  readonly maxAge: DelayRange | ((req: Request, res: Response) => number | false) | undefined;
  readonly recheck: { readonly every: number; readonly check: (conn: Connection) => unknown } | undefined;
  readonly limits: { readonly connections: number; readonly perClient: number }; // Infinity: none
  readonly clientKey: ((req: Request) => string) | undefined;
  readonly whenFull: 'retry' | 'reject';
  readonly compress: boolean;
  readonly serialize: Serialize;
  readonly onError: ((error: unknown, conn?: Connection) => void) | undefined;
  /** Whether a shared tick or timer may call one of these functions for a connection, which then keeps its request's context. */
  readonly keepsContext: boolean;
}

/** The headers of a stream, unless the application overrides them. docs/proxies.md has the reason for each. */
export const HEADERS: Readonly<HeaderValues> = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'private, no-cache, no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

const METHODS = ['GET', 'POST'] as const;
const DEFAULT_HEARTBEAT_MS = 15_000;
const DEFAULT_MAX_BUFFERED_BYTES = 1_048_576;
const DEFAULT_SLOW_TIMEOUT_MS = 30_000;

/** Headers of the body's length, which node:http frames itself. */
const FRAMING_HEADERS = /^(content-length|transfer-encoding|trailer)$/i;

// The compiler keeps these lists complete.
const KNOWN_OPTIONS: Record<keyof Required<SseOptions>, true> = {
  headers: true,
  cors: true,
  methods: true,
  controlEvents: true,
  retry: true,
  heartbeat: true,
  history: true,
  snapshot: true,
  maxBuffered: true,
  slowTimeout: true,
  maxAge: true,
  recheck: true,
  limits: true,
  compress: true,
  serialize: true,
  onError: true,
};
/** The cures for options of other packages. Both `sse()` and `runs()` have the counterparts. */
export const CONNECTION_HINTS: Readonly<Record<string, string>> = {
  keepAlive: 'Use heartbeat: it is the counterpart of keepAlive in better-sse.',
  pingInterval: 'Use heartbeat: it is the counterpart of pingInterval in sse-channel and socket.io.',
  pingTimeout: 'Use slowTimeout: it is the counterpart of pingTimeout in socket.io.',
  heartbeatInterval: 'Use heartbeat: it is the counterpart of heartbeatInterval in @fastify/sse.',
  isCompressed: 'Use compress: it is the counterpart of isCompressed in express-sse.',
};
/**
 * The cures for the options of better-sse, express-sse, sse-channel, @fastify/sse and socket.io. docs/migrating.md has the tables of
 * counterparts.
 */
const HINTS: Hints = {
  ...CONNECTION_HINTS,
  serializer: 'Use serialize: it is the counterpart of serializer in better-sse and @fastify/sse.',
  sanitizer: 'Leave it out: an event name or an id that cannot be sent throws, and data is split into lines.',
  trustClientEventId: 'Leave it out: the id of a client is a position in the log, and gives no permission.',
  statusCode: 'Leave it out: a stream has the status 200. To refuse a client, call res.sendStatus() in the handler.',
  state: 'Set the properties of conn.state in the handler.',
  isSerialized: 'Leave it out: a snapshot returns one message, or an array of messages that are sent one by one.',
  initialEvent: "Use snapshot: () => ({ event: 'name', data: … }), which sends the first event of a client.",
  historySize: 'Use history: { size: … }.',
  retryTimeout: 'Use retry: it is the counterpart of retryTimeout in sse-channel.',
  jsonEncode: 'Use serialize: it turns data into text.',
  connectionStateRecovery: 'Leave it out: a client that reconnects receives what it missed, see history.',
};
const KNOWN_LIMITS: Record<keyof Required<Limits>, true> = {
  connections: true,
  perClient: true,
  clientKey: true,
  whenFull: true,
};

/**
 * Checks the options of `sse()`, before anything is opened.
 * @throws {SseTypeError} `ERR_SSE_OPTION`, `ERR_SSE_HEADER` or `ERR_SSE_CORS`
 */
export function checkOptions<E extends EventMap, S>(options: SseOptions<E, S>): Settings {
  rejectUnknownKeys('option of sse()', options, KNOWN_OPTIONS, { hints: HINTS });
  const { limits = {}, methods = ['GET'], headers = {}, retry = DEFAULT_RETRY, maxAge = false } = options;
  const { heartbeat = DEFAULT_HEARTBEAT_MS, slowTimeout = DEFAULT_SLOW_TIMEOUT_MS } = options;
  const { maxBuffered = DEFAULT_MAX_BUFFERED_BYTES } = options;
  plainObject('limits', limits, '{ connections: … }');
  rejectUnknownKeys('limit', limits, KNOWN_LIMITS);
  checkMethods(methods);
  const controlEvents = checkControlEvents(options.controlEvents, methods);
  if (typeof headers !== 'function') checkHeaders(headers);
  return {
    headers,
    methods,
    controlEvents,
    retry: retry === false ? undefined : checkDelayRange('retry', retry, 'Leave it out for 2000 to 5000.'),
    heartbeat: checkHeartbeat(heartbeat),
    snapshot: checkSnapshot(options.snapshot) as Settings['snapshot'],
    maxBuffered: positiveInteger('maxBuffered', maxBuffered, 'bytes', {
      cure: `Leave it out for ${DEFAULT_MAX_BUFFERED_BYTES}.`,
    }),
    slowTimeout: positiveInteger('slowTimeout', slowTimeout, 'milliseconds', {
      cure: `Leave it out for ${DEFAULT_SLOW_TIMEOUT_MS}.`,
    }),
    maxAge: checkMaxAge(maxAge),
    recheck: checkRecheck(options.recheck),
    limits: {
      connections: limit('limits.connections', limits.connections),
      perClient: limit('limits.perClient', limits.perClient),
    },
    clientKey: optionalFunction('limits.clientKey', limits.clientKey, {
      cure: 'Leave it out to count by req.ip.',
    }),
    whenFull:
      limits.whenFull === undefined
        ? 'retry'
        : oneOf('limits.whenFull', limits.whenFull, ['retry', 'reject'], { cure: "Leave it out for 'retry'." }),
    compress: checkCompress(options.compress),
    serialize: optionalFunction('serialize', options.serialize, { cure: 'Leave it out for JSON.' }) ?? serializeDefault,
    onError: optionalFunction('onError', options.onError, {
      cure: 'Leave it out for a warning of the process.',
    }) as Settings['onError'],
    keepsContext: [options.snapshot, options.recheck, options.serialize, options.onError].some(
      (option) => option !== undefined,
    ),
    cors: checkCors(options.cors, methods),
    resumable: options.history !== false,
    sendsPositions: options.history !== false && controlEvents,
    journal: checkHistory(options.history), // last: no journal is made if another option is invalid
  };
}

/** Checks the headers of a stream. @throws {SseTypeError} `ERR_SSE_OPTION` or `ERR_SSE_HEADER` */
export function checkHeaders(headers: unknown): HeaderValues {
  if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers || headers instanceof Promise) {
    const cure = "For example: headers: { 'X-Robots-Tag': 'noindex' }.";
    throw invalid('headers', 'an object of names and values, or a function that returns one', headers, { cure });
  }
  for (const [name, value] of Object.entries(headers as HeaderValues)) checkHeader(name, value);
  return headers as HeaderValues;
}

function checkHeader(name: string, value: unknown): void {
  const code = 'ERR_SSE_HEADER';
  if (FRAMING_HEADERS.test(name)) {
    const expectation = 'other than Content-Length, Transfer-Encoding and Trailer';
    const cure = 'The length of a stream is not known: leave it out.';
    throw invalid('Each name in headers', expectation, name, { code, cure });
  }
  const option = `headers[${JSON.stringify(name)}]`;
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  for (const item of values) {
    if (item === undefined || typeof item === 'string') continue;
    throw invalid(option, 'a string or a list of strings', item, { code, cure: 'Convert it with String().' });
  }
  try {
    validateHeaderName(name);
    for (const item of values) if (item !== undefined) validateHeaderValue(name, item as string);
  } catch (cause) {
    const cure = `${(cause as Error).message}.`;
    throw invalid(option, 'a name and a value that HTTP allows', value, { code, cause, cure });
  }
}

function checkMethods(methods: unknown): void {
  const cure = "Leave it out for ['GET'].";
  if (!Array.isArray(methods) || methods.length === 0) {
    throw invalid('methods', "a list of 'GET' and 'POST'", methods, { cure });
  }
  for (const method of methods as readonly unknown[]) oneOf('Each of methods', method, METHODS, { cure });
}

function checkControlEvents(value: unknown, methods: readonly string[]): boolean {
  if (value === undefined) return methods.includes('GET');
  return boolean('controlEvents', value, { cure: 'Leave it out for true with GET among methods, else false.' });
}

function checkHeartbeat(heartbeat: unknown): number {
  if (heartbeat === false) return Infinity;
  return positiveInteger('heartbeat', heartbeat, 'milliseconds', {
    alternative: ' or false',
    cure: `Leave it out for ${DEFAULT_HEARTBEAT_MS}.`,
  });
}

function checkMaxAge(maxAge: unknown): Settings['maxAge'] {
  if (maxAge === false) return undefined;
  if (typeof maxAge === 'function') return maxAge as Settings['maxAge'];
  return checkDelayRange('maxAge', maxAge, 'Leave it out for no limit.');
}

function checkRecheck(recheck: unknown): Settings['recheck'] {
  if (recheck === undefined) return undefined;
  const example = '{ every: 60_000, check: (conn) => true }';
  plainObject('recheck', recheck, example, { cure: 'Leave it out for no checks.' });
  rejectUnknownKeys('part of recheck', recheck, { every: true, check: true });
  const { every, check } = recheck as { every: unknown; check: unknown };
  const cure = `For example: recheck: ${example}.`;
  if (typeof check !== 'function') throw invalid('recheck.check', 'a function', check, { cure });
  return { every: positiveInteger('recheck.every', every, 'milliseconds', { cure }), check: check as () => unknown };
}

function checkCompress(value: unknown): boolean {
  const compress = boolean('compress', value);
  if (!compress || canGzip) return compress;
  throw invalid('compress', `false on Node.js ${process.version}, which has no zlib.crc32`, compress, {
    cure: 'Use Node.js 20.15 or 22.2 or later.',
  });
}

function checkHistory(value: unknown): Journal {
  if (value === undefined || value === false) return memoryJournal();
  if (typeof value !== 'object' || value === null) {
    const cure = 'Leave it out for a log in memory.';
    throw invalid('history', 'false, an object of limits such as { size: 1024 }, or a journal', value, { cure });
  }
  if (typeof (value as Journal).append !== 'function') return memoryJournalOfHistory(value);
  for (const method of ['open', 'window', 'read', 'follow', 'compare', 'isId', 'close'] as const) {
    if (typeof (value as Journal)[method] === 'function') continue;
    const cure = 'A journal implements every method of the Journal interface.';
    throw invalid(`history.${method}`, 'a function', (value as Journal)[method], { cure });
  }
  return value as Journal;
}
