/*
 * The error of a client stream: one closed list of codes.
 */

/** Why a stream, or an attempt to open it, failed. The list is closed: match on `error.code`, never on the message. */
export type StreamErrorCode =
  | 'network' // the request failed, or the connection broke; the client retries
  | 'silence' // no byte arrived for `silence` ms; the client retries
  | 'status' // the status is neither 200 nor final; the client retries
  | 'type' // the answer is no event stream; the client retries
  | 'headers' // the function `headers` threw or rejected; the client retries
  | 'refused' // the status is final (401, 403, 404 …); the client stops
  | 'parse' // the function `parse` threw; the event is skipped
  | 'behind'; // an iterator held 1,000 events; the stream continues

/** An error of a stream. `status` is that of the answer, if there was one; `cause` is the exception beneath, if there was one. */
export class StreamError extends Error {
  declare readonly code: StreamErrorCode;
  declare readonly status: number | undefined;

  constructor(code: StreamErrorCode, status?: number, cause?: unknown) {
    super(`event stream: ${code}`, { cause });
    this.code = code;
    this.status = status;
  }
}
