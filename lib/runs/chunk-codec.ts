/*
 * The form of a chunk in a store: its event as it is sent, without an `id` line, and the chunk itself for `follow()`.
 * Invariant: the chunk is read as its JSON was when it was produced. Only `{ data, event }` is read with its two keys in another order.
 * Invariant: in the common cases the event alone is stored, because the chunk follows from it.
 */

import { invalid } from '../validation/validate.ts';
import { encodeMessage, idLine, serializeDefault } from '../wire/event-stream.ts';
import type { Wire } from './api.ts';

/** How the chunk follows from the stored bytes. The first byte of each stored chunk is one of these. */
const FORM = {
  /** The data of the event is the JSON of the chunk. */
  json: 0,
  /** The data of the event is the chunk, a string. */
  text: 1,
  /** The chunk is `{ event, data }` of the event, whose data is JSON. */
  jsonMessage: 2,
  /** The chunk is `{ event, data }` of the event, whose data is a string. */
  textMessage: 3,
  /** The JSON of the chunk follows the event. The size of the event is in the four bytes before it. */
  both: 4,
} as const;

const UNREADABLE = /[\r\p{Cs}]/u;
const SIZE_BYTES = 4;
const CURE = 'Leave out what JSON cannot express.';

/**
 * Encodes a chunk as it is stored. It calls the wire.
 * @throws {SseTypeError} `ERR_SSE_DATA` for a chunk that JSON cannot express, and the errors of messages; errors of the wire unchanged
 */
export function encodeChunk<C>(wire: Wire<C>, chunk: C): Buffer {
  const json = jsonOf(chunk);
  const message: unknown = wire.message(chunk);
  // The wire often passes the chunk on as the data: then it is serialized once.
  const serialize = (data: unknown): string =>
    data === chunk && typeof data !== 'string' ? json : serializeDefault(data);
  const { id, body } = encodeMessage(message, serialize, wire.control);
  if (id !== undefined && wire.control) {
    const cure = "The run has ids of its own. If this is the application's data, wrap it: { data: … }.";
    throw invalid('The id of a chunk', 'left out', id, { code: 'ERR_SSE_ID', cure });
  }
  const frame = id === undefined ? body : idLine(id) + body;
  const form = formOf(chunk, json, frame);
  if (form !== FORM.both) {
    const stored = Buffer.allocUnsafe(1 + Buffer.byteLength(frame));
    stored[0] = form;
    stored.write(frame, 1);
    return stored;
  }
  const size = Buffer.byteLength(frame);
  const stored = Buffer.allocUnsafe(1 + SIZE_BYTES + size + Buffer.byteLength(json));
  stored[0] = form;
  stored.writeUInt32LE(size, 1);
  stored.write(frame, 1 + SIZE_BYTES);
  stored.write(json, 1 + SIZE_BYTES + size);
  return stored;
}

/** Returns the event of a stored chunk, as a part of its bytes: the text that is sent, without the run's `id` line. */
export function frameOf(stored: Uint8Array): Uint8Array {
  if (stored[0] !== FORM.both) return stored.subarray(1);
  return stored.subarray(1 + SIZE_BYTES, 1 + SIZE_BYTES + sizeIn(stored));
}

/** Returns the chunk of a stored chunk. */
export function chunkOf(stored: Uint8Array): unknown {
  if (stored[0] === FORM.both) {
    return JSON.parse(Buffer.from(stored.subarray(1 + SIZE_BYTES + sizeIn(stored))).toString()) as unknown;
  }
  let event: string | undefined;
  let data: string | undefined;
  for (const line of Buffer.from(frameOf(stored)).toString().split('\n')) {
    if (line.startsWith('data: ')) data = data === undefined ? line.slice(6) : `${data}\n${line.slice(6)}`;
    else if (line.startsWith('event: ')) event = line.slice(7);
  }
  if (stored[0] === FORM.text) return data;
  if (stored[0] === FORM.json) return JSON.parse(data!) as unknown;
  return { event, data: stored[0] === FORM.textMessage ? data : (JSON.parse(data!) as unknown) };
}

function formOf(chunk: unknown, json: string, frame: string): number {
  if (typeof chunk === 'string') {
    if (frame === `data: ${json}\n\n`) return FORM.json;
    return frame === textFrame(chunk) ? FORM.text : FORM.both;
  }
  if (frame === `data: ${json}\n\n`) return FORM.json;
  if (typeof chunk !== 'object' || chunk === null || 'toJSON' in chunk) return FORM.both;
  const { event, data } = chunk as { event?: unknown; data?: unknown };
  if (typeof event !== 'string' || data === undefined || Object.keys(chunk).length !== 2) return FORM.both;
  if (UNREADABLE.test(event)) return FORM.both;
  const head = `event: ${event}\n`;
  if (typeof data === 'string') return frame === head + textFrame(data) ? FORM.textMessage : FORM.both;
  // The JSON of the chunk is `{"event":…,"data":…}` in one of two orders, and ends or begins with the JSON of its data.
  const name = JSON.stringify(event);
  if (!frame.startsWith(`${head}data: `)) return FORM.both;
  const inner = frame.slice(head.length + 6, -2);
  const isWhole = json === `{"event":${name},"data":${inner}}` || json === `{"data":${inner},"event":${name}}`;
  return isWhole ? FORM.jsonMessage : FORM.both;
}

/** Returns the event of a string, if the string can be read back from it: a CR would come back as LF, and half a character as U+FFFD. */
function textFrame(text: string): string | undefined {
  return UNREADABLE.test(text) ? undefined : `data: ${text.split('\n').join('\ndata: ')}\n\n`;
}

function sizeIn(stored: Uint8Array): number {
  return new DataView(stored.buffer, stored.byteOffset, stored.byteLength).getUint32(1, true);
}

function jsonOf(chunk: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(chunk);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // thrown by a toJSON() of the application
    throw invalid('A chunk', 'a value for JSON', chunk, { code: 'ERR_SSE_DATA', cause: error, cure: CURE });
  }
  if (json === undefined || chunk instanceof Promise)
    throw invalid('A chunk', 'a value for JSON', chunk, { code: 'ERR_SSE_DATA', cure: CURE });
  return json;
}
