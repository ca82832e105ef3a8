/*
 * Reads the body of a response and decompresses it as it arrives.
 * Invariant: exactly one of `onEnd` and `onBroken` is called, after the last `onChunk`. `onEnd` is called only if the body is complete.
 */
import type { IncomingMessage } from 'node:http';
import { createBrotliDecompress, createUnzip } from 'node:zlib';

/** Callbacks of {@link readBody}. */
export interface BodyHandlers {
  onChunk(bytes: Buffer): void;
  onEnd(): void;
  /** Called if the connection breaks, or if the body cannot be decompressed. */
  onBroken(error?: Error): void;
}

/** Reads a response to its end. Pausing the response pauses its body. */
export function readBody(response: IncomingMessage, handlers: BodyHandlers): void {
  const encoding = response.headers['content-encoding'];
  let finished = false;
  const chunk = (bytes: Buffer): void => handlers.onChunk(bytes);
  const end = (): void => {
    if (!finished) handlers.onEnd();
    finished = true;
  };
  const broken = (error?: Error): void => {
    if (!finished) handlers.onBroken(error);
    finished = true;
  };
  let breakOff = broken;
  if (encoding === undefined || encoding === 'identity') response.on('data', chunk).on('end', end);
  else {
    // Bytes are written by hand, not piped, so that a paused response stops at the socket and not in the decompressor.
    const decoder = encoding === 'br' ? createBrotliDecompress() : createUnzip();
    let isEmpty = true;
    decoder.on('data', chunk).on('error', broken).on('end', end);
    response
      .on('data', (bytes: Buffer) => {
        isEmpty = false;
        decoder.write(bytes);
      })
      .on('end', () => (isEmpty ? end() : decoder.end())); // a response to HEAD, a 204 and a 304 have nothing to decode
    // The decoder is one step behind the socket, so a break is reported after the bytes that arrived before it. (Ending the
    // decoder instead would lose them: it reports missing input as an error and drops what it has decoded.)
    breakOff = (error) => decoder.flush(() => setImmediate(broken, error));
  }
  response.on('error', breakOff).on('close', () => {
    if (!response.complete) breakOff();
  });
}
