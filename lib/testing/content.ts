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
  response.on('error', broken).on('close', () => {
    if (!response.complete) broken();
  });
  if (coding === undefined || coding === 'identity') {
    response.on('data', chunk).on('end', end);
    return;
  }
  // Written by hand, not piped, so that a paused response stops at the socket and not in a decompressor.
  const decoder = coding === 'br' ? createBrotliDecompress() : createUnzip();
  decoder.on('data', chunk).on('error', broken).on('end', end);
  response.on('data', (bytes: Buffer) => decoder.write(bytes)).on('end', () => decoder.end());
}
