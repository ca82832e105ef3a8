/*
 * Message → text on the wire. The only room that knows the grammar of an event stream.
 * Knows errors, and nothing else.
 * Invariant: what leaves here is one valid frame that reads back as the message, or an exception; nothing is repaired.
 *
 * [spec] https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */

import { describe, SseTypeError } from '../errors.ts';
import { MAX_TIMER_MS } from '../validation/validate.ts';

/** A message's text without its `id` line, and the id if the message brought one. */
export interface EncodedMessage {
  readonly id: string | undefined;
  readonly body: string;
}

/** Turns `data` into text. */
export type Serialize = (data: unknown) => string;

/** A heartbeat: a comment that no client can mistake. Two line ends would be a message to @microsoft/fetch-event-source. */
export const HEARTBEAT = ':\n';

/** The id of the goodbye: a client that comes back with it gets a 204, and a native EventSource then stops for good. */
export const END_EVENT_ID = 'sse-router:end';

/** Ids travel back in a header, whose field Node bounds at 16 KiB in all. */
export const MAX_ID_LENGTH = 1024;

const FIELDS = 'event, id, data and retry';
// [spec] CR and LF end a field; a NUL in an id makes the whole field ignored, and Firefox loses the next line with it.
const UNSENDABLE = /[\r\n\0]/;
const ID = /^(?:[!-~](?:[ -~]*[!-~])?)?$/;

/** Strings as they are, everything else as JSON. */
export function serializeDefault(data: unknown): string {
  if (typeof data === 'string') return data;
  try {
    return JSON.stringify(data) as string;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // a toJSON's own
    throw new SseTypeError('ERR_SSE_DATA', `data cannot be written as JSON: ${error.message}`, { cause: error });
  }
}

/** The frame of one event whose data is these lines. @throws {SseTypeError} `ERR_SSE_DATA` for a line that is neither string nor number. */
export function encodeLines(lines: readonly (string | number)[]): string {
  let text = '';
  for (const line of lines) {
    if (typeof line === 'string') text += dataLines(line);
    else if (typeof line === 'number' && Number.isFinite(line)) text += `data: ${line}\n`;
    else if (typeof line === 'object' && line !== null) {
      throw new SseTypeError(
        'ERR_SSE_MESSAGE',
        'push() takes lines (strings and numbers) or messages, not both in one call: call it twice.',
      );
    } else {
      throw new SseTypeError(
        'ERR_SSE_DATA',
        `A line of data is a string or a finite number, and this is ${describe(line)}.`,
      );
    }
  }
  return `${text}\n`;
}

/**
 * A message's text. Only own properties are read, each once, in the order in which they stand.
 * @throws {SseTypeError} with a code that tells which field is wrong; `serialize`'s own errors as they are.
 */
export function encodeMessage(message: unknown, serialize: Serialize): EncodedMessage {
  if (typeof message === 'string') return { id: undefined, body: `${dataLines(message)}\n` };
  if (typeof message !== 'object' || message === null) {
    throw new SseTypeError(
      'ERR_SSE_MESSAGE',
      `A message is a string or an object with ${FIELDS}, and this is ${describe(message)}.`,
    );
  }
  let event: string | undefined;
  let id: string | undefined;
  let retry: number | undefined;
  let data: string | undefined;
  for (const field of Object.keys(message)) {
    const value = (message as Record<string, unknown>)[field];
    if (field === 'event') event = checkEvent(value);
    else if (field === 'id') id = checkId(value);
    else if (field === 'retry') retry = checkRetry(value);
    else if (field === 'data') data = checkData(value, serialize);
    else {
      throw new SseTypeError(
        'ERR_SSE_FIELD',
        `A message has ${FIELDS}, and no field ${JSON.stringify(field)}. To send the object itself, wrap it: { data: … }.`,
      );
    }
  }
  if (data === undefined && event === undefined) {
    if (id !== undefined) {
      throw new SseTypeError(
        'ERR_SSE_ID',
        `An id alone (${JSON.stringify(id)}) is not learnt by Firefox: send it with data or an event name.`,
      );
    }
    if (retry !== undefined) return { id, body: `retry: ${retry}\n` };
    throw new SseTypeError(
      'ERR_SSE_MESSAGE',
      `This message (${describe(message)}) has none of ${FIELDS}. To send the object itself, wrap it: { data: … }.`,
    );
  }
  const name = event === undefined || event === '' ? '' : `event: ${event}\n`;
  const delay = retry === undefined ? '' : `retry: ${retry}\n`;
  return { id, body: `${name}${delay}${dataLines(data ?? '')}\n` };
}

/** A comment of one or more lines, without a blank line after them. */
export function encodeComment(text: unknown): string {
  if (text === undefined || text === '') return HEARTBEAT;
  if (typeof text !== 'string') {
    throw new SseTypeError('ERR_SSE_COMMENT', `A comment is a string, and this is ${describe(text)}.`);
  }
  return prefixLines(': ', text);
}

/** The line that names an event's id. */
export function idLine(id: string): string {
  return `id: ${id}\n`;
}

/** The line that tells the client how long to wait before it reconnects. */
export function retryLine(ms: number): string {
  return `retry: ${ms}\n`;
}

/** An event without content that moves a client's last event id. */
export function checkpointEvent(id: string): string {
  return `${idLine(id)}event: checkpoint\ndata: \n\n`;
}

/** What a client is told whose past is gone. Without an id for who is resumed by the application's own. */
export function resetEvent(id: string | undefined, reason: string, lastEventId: string): string {
  const line = id === undefined ? '' : idLine(id);
  return `${line}event: reset\ndata: ${JSON.stringify({ reason, lastEventId })}\n\n`;
}

/** The goodbye of a stream that is over for good. */
export function endEvent(): string {
  return `${idLine(END_EVENT_ID)}event: end\ndata: \n\n`;
}

/**
 * Gives a stream's first words a position: the first event among these frames gets `id`, and where there is none,
 * a checkpoint after them does. (Comments and a lone `retry` may stand before an event's `id`: they belong to no event.)
 */
export function insertId(frames: string, id: string): string {
  if (!frames.includes('\n\n')) return frames + checkpointEvent(id);
  let at = 0;
  while (frames.charCodeAt(at) === 58) at = frames.indexOf('\n', at) + 1;
  return frames.slice(0, at) + idLine(id) + frames.slice(at);
}

/** @throws {SseTypeError} `ERR_SSE_RETRY` */
export function checkRetry(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_TIMER_MS) return value;
  throw new SseTypeError(
    'ERR_SSE_RETRY',
    `retry is an integer from 1 to ${MAX_TIMER_MS} (milliseconds), and this is ${describe(value)}.`,
  );
}

function dataLines(text: string): string {
  return prefixLines('data: ', text);
}

/**
 * Every line of a text with a name in front.
 * [spec] CRLF, CR and LF all end a line; only LF is written, because jquery.eventsource and remy's polyfill split on nothing else.
 * (Splitting and joining: ten million line ends take 0.6 s so, and 3 s with a replacement by pattern.)
 */
function prefixLines(name: string, text: string): string {
  let rest = text;
  if (rest.includes('\r')) rest = rest.split('\r\n').join('\n').split('\r').join('\n');
  if (rest.includes('\n')) rest = rest.split('\n').join(`\n${name}`);
  return `${name}${rest}\n`;
}

function checkEvent(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string')
    throw new SseTypeError('ERR_SSE_EVENT', `event is a string, and this is ${describe(value)}.`);
  if (UNSENDABLE.test(value)) {
    throw new SseTypeError('ERR_SSE_EVENT', `event has no CR, LF or NUL in it, and this is ${describe(value)}.`);
  }
  if (value === 'error' || value === 'open') {
    throw new SseTypeError(
      'ERR_SSE_EVENT',
      `An event named '${value}' would call the page's on${value} handler: choose another name.`,
    );
  }
  return value;
}

function checkId(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  const id = typeof value === 'number' && Number.isFinite(value) ? String(value) : value;
  if (typeof id !== 'string')
    throw new SseTypeError('ERR_SSE_ID', `id is a string or a finite number, and this is ${describe(value)}.`);
  if (id.length > MAX_ID_LENGTH || !ID.test(id) || id === END_EVENT_ID) {
    throw new SseTypeError(
      'ERR_SSE_ID',
      `id comes back in a header: printable ASCII without outer spaces, at most ${MAX_ID_LENGTH} characters, and this is ${describe(id)}.`,
    );
  }
  return id;
}

function checkData(value: unknown, serialize: Serialize): string {
  if (value === undefined || typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint') {
    throw new SseTypeError(
      'ERR_SSE_DATA',
      `data cannot be ${describe(value)}: send a string, or what JSON can express.`,
    );
  }
  const text: unknown = serialize(value);
  if (typeof text === 'string') return text;
  throw new SseTypeError('ERR_SSE_DATA', `data must become a string, and ${describe(value)} became ${describe(text)}.`);
}
