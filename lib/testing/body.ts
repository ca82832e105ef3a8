/*
 * The content of an answer, decompressed as it arrives.
 * Knows node:http's client side and node:zlib.
 * Invariant: exactly one of `end` and `broken` is the last that is heard, and `end` only of an answer that is whole.
 */
import type { IncomingMessage } from 'node:http';
import { createBrotliDecompress, createUnzip } from 'node:zlib';

/** Where the content goes. */
export interface ContentSink {
  chunk(bytes: Buffer): void;
  end(): void;
  broken(error?: Error): void;
}

/** Reads an answer to its end. To pause the answer is to pause its content. */
export function readContent(response: IncomingMessage, sink: ContentSink): void {
  const coding = response.headers['content-encoding'];
  let over = false;
  const chunk = (bytes: Buffer): void => sink.chunk(bytes);
  const end = (): void => {
    if (!over) sink.end();
    over = true;
  };
  const broken = (error?: Error): void => {
    if (!over) sink.broken(error);
    over = true;
  };
  let lose = broken;
  if (coding === undefined || coding === 'identity') response.on('data', chunk).on('end', end);
  else {
    // Written by hand, not piped, so that a paused response stops at the socket and not in a decompressor.
    const decoder = coding === 'br' ? createBrotliDecompress() : createUnzip();
    let empty = true;
    decoder.on('data', chunk).on('error', broken).on('end', end);
    response
      .on('data', (bytes: Buffer) => {
        empty = false;
        decoder.write(bytes);
      })
      .on('end', () => (empty ? end() : decoder.end())); // to a HEAD, and in a 204 or 304, there is nothing to decode
    // The decoder is a step behind the socket, so a loss is told behind what has arrived. (Not by ending the decoder: it takes what
    // has no end for an error, and drops what it has decoded.)
    lose = (error) => decoder.flush(() => setImmediate(broken, error));
  }
  response.on('error', lose).on('close', () => {
    if (!response.complete) lose();
  });
}
