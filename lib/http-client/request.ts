/*
 * Sends the request for an event stream and waits for the head of the response.
 * Invariant: the promise settles once, with the result of `onResponse` or with the reason why there is no response.
 * Invariant: `onResponse` runs in the tick in which the head arrives, so its listeners miss nothing of the response.
 */
import {
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request as httpRequest,
  type RequestOptions,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';

/**
 * The body of a request. Always bytes: node:http writes the head in the encoding of a body that is a string, and that
 * corrupts a `Last-Event-ID` beyond ASCII.
 */
export interface RequestBody {
  readonly bytes: Uint8Array;
  readonly contentType: string | undefined;
}

/** One request for an event stream. */
export interface StreamRequest {
  /** The server and the path, as options of `node:http`. */
  readonly target: RequestOptions;
  readonly method: string;
  /** Added to the headers of every request, or in place of them. `undefined` removes a header. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: RequestBody | undefined;
  /** Sent as `Last-Event-ID`; `''` sends none. */
  readonly lastEventId: string;
  /** Aborts the request, and the response once it has arrived. */
  readonly signal: AbortSignal;
}

/** Callbacks of {@link sendRequest}. */
export interface RequestHandlers<Result> {
  /** Called when the request gets its socket, which may not be connected yet. */
  onSocket(socket: Socket): void;
  /** Called with the head of the response. Reads the body, or destroys the response. */
  onResponse(response: IncomingMessage): Result | Promise<Result>;
}

/**
 * Sends a request on a connection of its own.
 *
 * @returns the result of `onResponse`
 * @throws the reason of `signal` if it aborts before the response; otherwise the Error of the connection
 */
export function sendRequest<Result>(
  { target, method, headers, body, lastEventId, signal }: StreamRequest,
  handlers: RequestHandlers<Result>,
): Promise<Result> {
  const options = { ...target, method, headers: headersOf(headers, body, lastEventId), agent: false, signal };
  return new Promise((resolve, reject) => {
    const request = options.protocol === 'https:' ? httpsRequest(options) : httpRequest(options);
    request.once('socket', (socket) => handlers.onSocket(socket));
    request.once('response', (response) => resolve(handlers.onResponse(response)));
    // This listener stays after the response: the request reports later errors too, and the response reports the same ones.
    request.on('error', (error) => reject(signal.aborted ? (signal.reason as Error) : error));
    // node:http closes a connection that changes its protocol (101) without an error.
    request.once('close', () => reject(new Error('the connection was closed without an answer')));
    request.end(body?.bytes);
  });
}

/** Whether the content type is that of an event stream. Callers check the status as well. */
export function isEventStream(headers: IncomingHttpHeaders): boolean {
  return /^\s*text\/event-stream\s*(?:;|$)/i.test(headers['content-type'] ?? '');
}

function headersOf(
  headers: StreamRequest['headers'],
  body: RequestBody | undefined,
  lastEventId: string,
): OutgoingHttpHeaders {
  const all: Record<string, string | readonly string[] | undefined> = {
    accept: 'text/event-stream',
    'cache-control': 'no-cache',
  };
  if (body?.contentType !== undefined) all['content-type'] = body.contentType;
  if (body !== undefined) all['content-length'] = String(body.bytes.byteLength);
  // node:http writes each character of a header as one byte; browsers send the id in UTF-8.
  if (lastEventId !== '') all['last-event-id'] = Buffer.from(lastEventId).toString('latin1');
  for (const [name, value] of Object.entries(headers)) all[name.toLowerCase()] = value;
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as OutgoingHttpHeaders;
}
