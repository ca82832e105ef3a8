/*
 * The errors of this package: one closed list of codes.
 * Knows nothing of any other room.
 * Invariant: whatever a caller can do wrong has a stable code, the value that was seen and the cure in its message.
 */

/**
 * Why something was refused. Codes are stable: match on `error.code`, never on the message.
 * The README has a row for each.
 */
export type SseErrorCode =
  | 'ERR_SSE_OPTION' // sse(): an option is unknown, of the wrong type or out of range
  | 'ERR_SSE_HEADER' // sse(): a header name or value cannot be sent
  | 'ERR_SSE_CORS' // sse(): CORS options that no browser would accept, or that open the stream to everybody
  | 'ERR_SSE_MESSAGE' // push, broadcast: not a message
  | 'ERR_SSE_FIELD' // push, broadcast: a field that no message has
  | 'ERR_SSE_EVENT' // push, broadcast: an event name that cannot be sent
  | 'ERR_SSE_ID' // push, broadcast: an id that cannot be sent, or is not the caller's to choose
  | 'ERR_SSE_RETRY' // push, broadcast, close: a retry out of range
  | 'ERR_SSE_DATA' // push, broadcast: data that cannot be written as text
  | 'ERR_SSE_COMMENT' // comment: not a string
  | 'ERR_SSE_CHANNEL' // join, leave, broadcast: not a channel's name
  | 'ERR_SSE_SOURCE' // pushAll: not something to iterate
  | 'ERR_SSE_HEADERS_SENT' // a request arrived whose response has been started by somebody else
  | 'ERR_SSE_CLOSED' // broadcast after close(), or a journal that is closed
  | 'ERR_SSE_QUEUE_FULL' // journal: too many appends wait for the engine; nothing was stored
  | 'ERR_SSE_TIMEOUT' // journal: no answer in time; whether the entry was stored is not known
  | 'ERR_SSE_TOO_LARGE' // journal: the entry is larger than the engine takes; nothing was stored
  | 'ERR_SSE_JOURNAL'; // journal: the engine refused, is damaged or cannot be reached

/** An error of this package that is not the fault of an argument. `code` is stable; `cause` holds what lies beneath. */
export class SseError extends Error {
  readonly code: SseErrorCode;

  constructor(code: SseErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SseError';
    this.code = code;
  }
}

/** A `TypeError` with a stable `code`: what the caller handed in cannot be used. Nothing was stored or written. */
export class SseTypeError extends TypeError {
  readonly code: SseErrorCode;

  constructor(code: SseErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** How a value is shown in a message: its type and a little of it, never all. */
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
  return Array.isArray(value) ? 'an array' : `an object of ${(value as object).constructor?.name ?? 'no class'}`;
}
