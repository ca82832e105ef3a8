/*
 * Determines whether the bytes of an event stream end within an event.
 * Invariant: the memory is constant, and the result is the same however the bytes are split into chunks.
 * Invariant: a comment is no part of an event, because a server may write it at any time.
 */

const LF = 10;
const CR = 13;
const COLON = 58;

/** The position in one stream. */
export class EventBoundary {
  /** The first byte of the unfinished line; `undefined` at the start of a line. */
  #lineStart: number | undefined;
  #hasFields = false;
  #endedWithCarriageReturn = false;

  /** Whether an event has begun and its blank line has not come. */
  get isWithinEvent(): boolean {
    return this.#hasFields || (this.#lineStart !== undefined && this.#lineStart !== COLON);
  }

  /** Processes one chunk. */
  feed(chunk: Uint8Array): void {
    for (const byte of chunk) {
      const isSecondOfCrLf = byte === LF && this.#endedWithCarriageReturn;
      this.#endedWithCarriageReturn = byte === CR;
      if (isSecondOfCrLf) continue;
      if (byte !== LF && byte !== CR) this.#lineStart ??= byte;
      else {
        this.#hasFields = this.#lineStart !== undefined && (this.#hasFields || this.#lineStart !== COLON);
        this.#lineStart = undefined;
      }
    }
  }
}
