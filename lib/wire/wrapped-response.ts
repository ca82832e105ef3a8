/*
 * Writes through the methods of a response, which middleware may have replaced.
 *
 * Invariants: of the values that a replaced `write` returns, only `false` stops the writing. The methods run in the async context of
 * the request. Backpressure is noticed whatever a method returns, and wherever it moves listeners.
 */

import { AsyncResource } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Writable } from 'node:stream';

/** The method that `compression` adds to a response. (Node's own method `flush` is deprecated and does something else.) */
interface CompressionResponse {
  flush?: () => void;
}

/** A response that cannot be written past its methods. */
export class WrappedResponse {
  readonly #response: ServerResponse;
  readonly #isWriteReplaced: boolean;
  readonly #context = new AsyncResource('SseResponse');
  /** Bytes written from a refused write to the next drain: a wrapper's own buffer is not visible otherwise. */
  #undrainedBytes = 0;
  /** Whether the refusal came from `write`, and not from Node's response alone. */
  #refusedByWrite = false;
  #listensForDrain = false;
  #onDrain: (() => void) | undefined;

  /** @param isWriteReplaced Whether `write` is not node:http's own. */
  constructor(response: ServerResponse, isWriteReplaced: boolean) {
    this.#response = response;
    this.#isWriteReplaced = isWriteReplaced;
  }

  /** The bytes that wait in the response, or in a wrapper of it. */
  get bufferedBytes(): number {
    return Math.max(this.#response.writableLength ?? 0, this.#undrainedBytes);
  }

  /** Calls a function that calls methods of the response, in the async context of the request. */
  inContext<T>(call: () => T): T {
    return this.#context.runInAsyncScope(call);
  }

  /** @returns Whether more may be written; if not, {@link onceDrained} calls back. */
  write(text: string | Buffer, encoding: BufferEncoding = 'utf8'): boolean {
    // Loggers of bodies collect what they receive, and many pass it to Buffer.concat(), which throws for a string.
    const chunk = typeof text === 'string' && this.#isWriteReplaced ? Buffer.from(text, encoding) : text;
    return this.inContext(() => this.#write(chunk, encoding));
  }

  onceDrained(callback: () => void): void {
    this.#onDrain = callback;
  }

  #write(chunk: string | Buffer, encoding: BufferEncoding): boolean {
    const response = this.#response;
    const result: unknown = typeof chunk === 'string' ? response.write(chunk, encoding) : response.write(chunk);
    // `compression` keeps everything in its buffer until flush() is called.
    if (Object.hasOwn(response, 'flush')) (response as CompressionResponse).flush?.();
    // Many wrappers return nothing, and some always return true. Node's response then still has the answer, and emits 'drain'.
    const mayContinue = result !== false && !needsDrain(response);
    if (!mayContinue || this.#undrainedBytes > 0) this.#undrainedBytes += chunk.length;
    if (!mayContinue) {
      this.#refusedByWrite = result === false;
      this.#listenForDrain();
    }
    return mayContinue;
  }

  /** Listeners are permanent: `compression` moves them to its own stream, which would never remove a `once` listener. */
  #listenForDrain(): void {
    if (this.#listensForDrain) return;
    this.#listensForDrain = true;
    const response = this.#response;
    response.on('drain', () => this.#drained());
    if (hasOwnListeners(response)) return;
    // The first listener may be on a wrapper's stream. That stream drains after it has refused, and only then.
    EventEmitter.prototype.on.call(response, 'drain', () => this.#refusedByWrite || this.#drained());
  }

  /** The wrapper has ended: it reports no drain any more. */
  onEnded(): void {
    this.#undrainedBytes = 0;
  }

  #drained(): void {
    this.#undrainedBytes = 0;
    const callback = this.#onDrain;
    this.#onDrain = undefined;
    callback?.();
  }
}

/** Whether Node's response waits until its client has accepted bytes. Over HTTP/2 only its stream has this property. */
function needsDrain(response: { readonly writableNeedDrain?: boolean; readonly stream?: Writable }): boolean {
  return response.writableNeedDrain ?? response.stream?.writableNeedDrain ?? false;
}

/** Whether `on()` of a response adds the listener to the response itself. A wrapper may move listeners to a stream of its own. */
function hasOwnListeners(response: ServerResponse): boolean {
  // oxlint-disable-next-line typescript/unbound-method -- compared, never called
  return response.on === EventEmitter.prototype.on;
}
