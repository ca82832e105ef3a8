/*
 * Encodes messages, comments and the router's own events as text. No other module contains the grammar of an event stream.
 *
 * Invariant: the result is one valid frame that a client reads back as the message, or an exception; nothing is repaired.
 *
 * [spec] https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */

import { describe, type SseTypeError } from '../errors.ts';
import { invalid, MAX_TIMER_MS } from '../validation/validate.ts';

/** A message as text, without its `id` line. */
export interface EncodedMessage {
  /** The id that the message has, if any. */
  readonly id: string | undefined;
  readonly body: string;
}

/** Turns the `data` of a message into text. Its errors reach the caller of `push` or `broadcast` unchanged. */
export type Serialize = (data: unknown) => string;

/** A comment that every client ignores. @microsoft/fetch-event-source would report two line ends as a message. */
export const HEARTBEAT = ':\n';

/** The id of the `end` event. A client that reconnects with it is answered 204, after which a native EventSource stops for good. */
export const END_EVENT_ID = 'sse-router:end';

/** The largest number of characters in an id. Clients send it back in a header, and Node limits a request's headers to 16 KiB. */
export const MAX_ID_LENGTH = 1024;

const WRAP_IT = 'To send the object itself, wrap it: { data: … }.';
const COLON = 58; // the first character of a comment line
// [spec] CR and LF end a field. A NUL makes a client ignore an id, and Firefox then loses the next line as well.
const UNSENDABLE = /[\r\n\0]/;
/** Names of events that a page or the router itself would mistake: those of an EventSource, and of the control events. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set(['error', 'open', 'end', 'reset', 'checkpoint']);
/** Printable ASCII without leading or trailing spaces. */
const ID = /^(?:[!-~](?:[ -~]*[!-~])?)?$/;

/** Returns strings unchanged and everything else as JSON. @throws {SseTypeError} `ERR_SSE_DATA` for what JSON cannot express. */
export function serializeDefault(data: unknown): string {
  if (typeof data === 'string') return data;
  try {
    return JSON.stringify(data) as string;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // thrown by a toJSON() of the application
    const cure = `Remove what JSON cannot express: ${error.message}.`;
    throw invalid('data', 'a string or a value for JSON', data, { code: 'ERR_SSE_DATA', cause: error, cure });
  }
}

/**
 * Returns the frame of one event with these lines of data.
 * @throws {SseTypeError} `ERR_SSE_MESSAGE` for an object, `ERR_SSE_DATA` for anything else but a string and a finite number.
 */
export function encodeLines(lines: readonly (string | number)[]): string {
  let text = '';
  for (const line of lines) {
    if (typeof line === 'string') text += dataLines(line);
    else if (typeof line === 'number' && Number.isFinite(line)) text += `data: ${line}\n`;
    else throw invalidLine(line);
  }
  return `${text}\n`;
}

function invalidLine(line: unknown): SseTypeError {
  const expectation = 'a string or a finite number';
  if (typeof line !== 'object' || line === null) {
    const cure = 'Send other values as a message: { data: … }.';
    return invalid('A line of data', expectation, line, { code: 'ERR_SSE_DATA', cure });
  }
  const cure = 'To send lines and messages, call push() twice.';
  return invalid('Each argument of push() after a line', expectation, line, { code: 'ERR_SSE_MESSAGE', cure });
}

/**
 * Returns the text of a message. Only own properties are read, each once, in their order in the object.
 * @param controlEvents Whether an `EventSource` may read the stream: some event names are refused then.
 * @throws {SseTypeError} with the code of the invalid field; errors of `serialize` unchanged.
 */
export function encodeMessage(message: unknown, serialize: Serialize, controlEvents = true): EncodedMessage {
  if (typeof message === 'string') return { id: undefined, body: `${dataLines(message)}\n` };
  if (typeof message !== 'object' || message === null) {
    const cure = 'Send other values as { data: … }.';
    const expectation = 'a string or an object with event, id, data or retry';
    throw invalid('A message', expectation, message, { code: 'ERR_SSE_MESSAGE', cure });
  }
  let event: string | undefined;
  let id: string | undefined;
  let retry: number | undefined;
  let data: string | undefined;
  for (const field of Object.keys(message)) {
    const value = (message as Record<string, unknown>)[field];
    if (field === 'event') event = checkEvent(value, controlEvents);
    else if (field === 'id') id = checkId(value);
    else if (field === 'retry') retry = checkRetry(value);
    else if (field === 'data') data = checkData(value, serialize);
    else
      throw invalid('A field of a message', 'event, id, data or retry', field, {
        code: 'ERR_SSE_FIELD',
        cure: WRAP_IT,
      });
  }
  if (data === undefined && event === undefined) {
    if (id !== undefined) {
      const cure = 'Firefox ignores the id of an event that has no data: add data or an event name.';
      throw invalid('id', 'accompanied by data or an event name', id, { code: 'ERR_SSE_ID', cure });
    }
    if (retry !== undefined) return { id, body: `retry: ${retry}\n` };
    const expectation = 'a string or an object with event, data or retry';
    throw invalid('A message', expectation, message, { code: 'ERR_SSE_MESSAGE', cure: WRAP_IT });
  }
  const name = event === undefined || event === '' ? '' : `event: ${event}\n`;
  const delay = retry === undefined ? '' : `retry: ${retry}\n`;
  return { id, body: `${name}${delay}${dataLines(data ?? '')}\n` };
}

/** Returns a comment of one or more lines, without a blank line after them. @throws {SseTypeError} `ERR_SSE_COMMENT` */
export function encodeComment(text: unknown): string {
  if (text === undefined || text === '') return HEARTBEAT;
  if (typeof text === 'string') return prefixLines(': ', text);
  throw invalid('A comment', 'a string', text, { code: 'ERR_SSE_COMMENT', cure: 'Convert it with String().' });
}

/** Returns the line with the id of an event. */
export function idLine(id: string): string {
  return `id: ${id}\n`;
}

/** Returns the line with the milliseconds that the client waits before it reconnects. */
export function retryLine(ms: number): string {
  return `retry: ${ms}\n`;
}

/** Returns an event without content that sets a client's last event id. */
export function checkpointEvent(id: string): string {
  return `${idLine(id)}event: checkpoint\ndata: \n\n`;
}

/** Returns the event for a client whose missed events are lost. `id` is `undefined` for a client with ids of the application. */
export function resetEvent(id: string | undefined, reason: string, lastEventId: string): string {
  const prefix = id === undefined ? '' : idLine(id);
  return `${prefix}event: reset\ndata: ${JSON.stringify({ reason, lastEventId })}\n\n`;
}

/** Returns the last event of a stream that is closed for good. */
export function endEvent(): string {
  return `${idLine(END_EVENT_ID)}event: end\ndata: \n\n`;
}

const DISCONNECT = ':disconnect';

/** Returns the body of an entry that disconnects. It is a comment, so that every journal stores it as it stores an event. */
export function disconnectBody(isFinal: boolean): Uint8Array {
  return Buffer.from(`${DISCONNECT}${isFinal ? ' end' : ''}\n`);
}

/** Whether an entry disconnects. The body of a broadcast never begins with a comment. */
export function isDisconnect(body: Uint8Array): boolean {
  return body[0] === COLON;
}

/** Whether the clients of a disconnect must not reconnect. */
export function isFinalDisconnect(body: Uint8Array): boolean {
  return body.byteLength > DISCONNECT.length + 1;
}

/** Reads the body of an entry, as {@link encodeMessage} wrote it. `data` is `undefined` if it is no event, but a `retry` alone. */
export function decodeBody(body: Uint8Array): { id?: string; event?: string; data?: string } {
  const decoded: { id?: string; event?: string; data?: string } = {};
  for (const line of Buffer.from(body).toString().split('\n')) {
    const [name, value] = [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)];
    if (name === 'data') decoded.data = decoded.data === undefined ? value : `${decoded.data}\n${value}`;
    else if (name === 'event' || name === 'id') decoded[name] = value;
  }
  return decoded;
}

/**
 * Inserts a position into the first frames of a stream: the first event among them gets `id`, or, if there is none, a checkpoint
 * after them. (Comments and a lone `retry` before the `id` line of an event do no harm: they belong to no event.)
 */
export function insertId(frames: string, id: string): string {
  if (!frames.includes('\n\n')) return frames + checkpointEvent(id);
  let start = 0;
  while (frames.charCodeAt(start) === COLON) start = frames.indexOf('\n', start) + 1;
  return frames.slice(0, start) + idLine(id) + frames.slice(start);
}

/** Checks a reconnection delay in milliseconds. @throws {SseTypeError} `ERR_SSE_RETRY` */
export function checkRetry(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_TIMER_MS) return value;
  const cure = 'Leave it out to keep the delay that the client has.';
  throw invalid('retry', `an integer from 1 to ${MAX_TIMER_MS} (milliseconds)`, value, { code: 'ERR_SSE_RETRY', cure });
}

function dataLines(text: string): string {
  return prefixLines('data: ', text);
}

/**
 * Returns a text with a prefix before each of its lines, and a line end after the last.
 * [spec] CRLF, CR and LF all end a line. Only LF is written, because jquery.eventsource and remy's polyfill split on nothing else.
 * (Split and join: ten million line ends take 0.6 s this way, and 3 s with a replacement by pattern.)
 */
function prefixLines(prefix: string, text: string): string {
  let lines = text;
  if (lines.includes('\r')) lines = lines.split('\r\n').join('\n').split('\r').join('\n');
  if (lines.includes('\n')) lines = lines.split('\n').join(`\n${prefix}`);
  return `${prefix}${lines}\n`;
}

function checkEvent(value: unknown, controlEvents: boolean): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string' || UNSENDABLE.test(value)) {
    const cure = "Leave it out for the event 'message'.";
    throw invalid('event', 'a string without CR, LF and NUL', value, { code: 'ERR_SSE_EVENT', cure });
  }
  if (!controlEvents || !RESERVED_NAMES.has(value)) return value;
  const effect =
    value === 'error' || value === 'open'
      ? `An event of this name calls the page's on${value} handler`
      : 'The router itself sends events of this name';
  const cure = `${effect}: choose another name, or set controlEvents: false of sse() for clients that are no EventSource.`;
  const expectation = "a name other than 'error', 'open', 'end', 'reset' and 'checkpoint'";
  throw invalid('event', expectation, value, { code: 'ERR_SSE_EVENT', cure });
}

function checkId(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  const id = typeof value === 'number' && Number.isFinite(value) ? String(value) : value;
  if (typeof id !== 'string') {
    const cure = 'Leave it out, or convert it with String().';
    throw invalid('id', 'a string or a finite number', value, { code: 'ERR_SSE_ID', cure });
  }
  if (id.length > MAX_ID_LENGTH || !ID.test(id) || id === END_EVENT_ID) {
    const expectation = `printable ASCII without outer spaces, at most ${MAX_ID_LENGTH} characters, and not '${END_EVENT_ID}'`;
    const cure = 'A client sends it back in a header: encode other text, for example with encodeURIComponent().';
    throw invalid('id', expectation, id, { code: 'ERR_SSE_ID', cure });
  }
  return id;
}

function checkData(value: unknown, serialize: Serialize): string {
  if (value === undefined || typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint') {
    const cure = 'Send null for no value, or convert it with String().';
    throw invalid('data', 'a string or a value for JSON', value, { code: 'ERR_SSE_DATA', cure });
  }
  // JSON makes {} of it, and its rejection would have no handler.
  if (value instanceof Promise) {
    throw invalid('data', 'a string or a value for JSON', value, { code: 'ERR_SSE_DATA', cure: 'Await it first.' });
  }
  const text: unknown = serialize(value);
  if (typeof text === 'string') return text;
  const cure = `The value was ${describe(value)}: correct its toJSON(), or the option serialize.`;
  throw invalid('The serialized data', 'a string', text, { code: 'ERR_SSE_DATA', cure });
}
