/*
 * The errors of this package, and how they print a value.
 *
 * Invariant: every error that a caller can cause has one of a closed list of codes. Its message contains the received value and
 * the cure.
 */

/**
 * Identifies why a call failed. Codes are stable: compare `error.code`, never the message.
 * docs/errors.md has one row for each code.
 */
export type SseErrorCode =
  | 'ERR_SSE_OPTION' // sse(): an option is unknown, has the wrong type or is out of range
  | 'ERR_SSE_HEADER' // sse(): a header name or value cannot be sent
  | 'ERR_SSE_CORS' // sse(): no browser accepts these CORS options, or they open the stream to every site
  | 'ERR_SSE_MESSAGE' // push, broadcast: the argument is not a message
  | 'ERR_SSE_FIELD' // push, broadcast: the message has an unknown field
  | 'ERR_SSE_EVENT' // push, broadcast: the event name cannot be sent
  | 'ERR_SSE_ID' // push, broadcast: the id cannot be sent, or the caller may not choose it
  | 'ERR_SSE_RETRY' // push, broadcast, close: retry is out of range
  | 'ERR_SSE_DATA' // push, broadcast: the data cannot be written as text
  | 'ERR_SSE_COMMENT' // comment: the argument is not a string
  | 'ERR_SSE_CHANNEL' // join, leave, broadcast: a channel name is not a non-empty string
  | 'ERR_SSE_SOURCE' // pushAll, a handler's result, snapshot: the value cannot be iterated, or its iterator is none
  | 'ERR_SSE_HEADERS_SENT' // the application sent the response head before the stream opened
  | 'ERR_SSE_CLOSED' // the router, the journal or the store of runs is closed
  | 'ERR_SSE_QUEUE_FULL' // journal, runs: too many calls wait for the engine; nothing was stored
  | 'ERR_SSE_TIMEOUT' // journal, runs: no answer in time, the effect is unknown; or snapshot or recheck.check did not settle
  | 'ERR_SSE_TOO_LARGE' // journal: the entry is larger than the engine accepts; nothing was stored
  | 'ERR_SSE_JOURNAL'; // journal, runs: the engine refused, is damaged or cannot be reached

/** An error that no argument caused. `code` is stable; `cause` is the engine's or Node's own error, where there is one. */
export class SseError extends Error {
  /** Identifies the failure; see {@link SseErrorCode}. */
  readonly code: SseErrorCode;

  constructor(code: SseErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SseError';
    this.code = code;
  }
}

/** A `TypeError` with a stable `code`: an argument is invalid. When it is thrown, nothing has been stored or written. */
export class SseTypeError extends TypeError {
  /** Identifies the failure; see {@link SseErrorCode}. */
  readonly code: SseErrorCode;

  constructor(code: SseErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Returns a value as error messages print it: its type and a part of it. A string is shortened to 60 characters. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string') {
    const text = value.length > 60 ? `${value.slice(0, 60)}…` : value;
    return `the string ${JSON.stringify(text)}`;
  }
  if (typeof value === 'number' || typeof value === 'boolean') return `the ${typeof value} ${value}`;
  if (typeof value === 'bigint') return `the bigint ${value}n`;
  if (typeof value === 'function') return `the function ${value.name || '(anonymous)'}`;
  if (typeof value === 'symbol') return 'a symbol';
  return Array.isArray(value) ? 'an array' : `an object of ${classOf(value as object)}`;
}

/** Returns the name of an object's class. The constructor of a generator has an empty name: the tag of the generator names it. */
function classOf(value: { [Symbol.toStringTag]?: unknown }): string {
  const { name } = value.constructor ?? {};
  if (typeof name === 'string' && name !== '') return name;
  const tag = value[Symbol.toStringTag];
  return typeof tag === 'string' ? tag : 'no class';
}
