/*
 * Joins characters that a source splits over two pieces of text: of two UTF-16 units in strings, of several bytes in chunks.
 * Invariants: the joined pieces contain the text of the source, and no half of a character that the source has completed.
 */

type Fields = Readonly<Record<string, unknown>>;

/** The text of one source, piece by piece. */
export class TextPieces {
  readonly #decoder = new TextDecoder();
  /** A CR that ended the last chunk of bytes: with the LF of the next chunk it is one line end. */
  #lineEnd = '';
  /** The half of a character that ended the last string. */
  #half = '';
  /** Messages whose data is half of a character, by their event. */
  readonly #messages = new Map<string, Fields>();

  /** Returns what is to be sent for an item; `undefined` if nothing of it is complete. */
  next(item: unknown): unknown {
    if (typeof item === 'string') return this.#nextString(item);
    if (typeof item !== 'object' || item === null) return item;
    return item instanceof Uint8Array ? this.#nextBytes(item) : this.#nextMessage(item as Fields);
  }

  /** Returns what is left at the end of the source: incomplete characters, which clients receive as U+FFFD. */
  *rest(): Generator {
    const bytes = this.#lineEnd + this.#decoder.decode();
    if (bytes !== '') yield bytes;
    if (this.#half !== '') yield this.#half;
    yield* this.#messages.values();
  }

  #nextBytes(bytes: Uint8Array): string | undefined {
    const text = this.#lineEnd + this.#decoder.decode(bytes, { stream: true });
    this.#lineEnd = text.endsWith('\r') ? '\r' : '';
    const complete = text.slice(0, text.length - this.#lineEnd.length);
    return complete === '' ? undefined : complete;
  }

  #nextString(piece: string): string | undefined {
    const text = this.#half + piece;
    this.#half = halfAtEnd(text);
    return this.#half === text && text !== '' ? undefined : withoutEnd(text, this.#half);
  }

  #nextMessage(message: Fields): Fields | undefined {
    // A getter is not called here: encoding reads each field of a message once.
    const data: unknown = Object.getOwnPropertyDescriptor(message, 'data')?.value;
    if (typeof data !== 'string') return message;
    const event = String(Object.getOwnPropertyDescriptor(message, 'event')?.value ?? '');
    const earlier = this.#messages.get(event);
    const text = earlier === undefined ? data : `${earlier['data'] as string}${data}`;
    const half = halfAtEnd(text);
    if (earlier === undefined && half === '') return message;
    const joined = { ...earlier, ...message };
    if (half === '') this.#messages.delete(event);
    // What is sent now has the message's id and its retry; if nothing is, they wait as well.
    else this.#messages.set(event, half === text ? { ...joined, data: half } : { ...eventOf(message), data: half });
    return half === text && text !== '' ? undefined : { ...joined, data: withoutEnd(text, half) };
  }
}

function eventOf({ event }: Fields): Fields {
  return event === undefined ? {} : { event };
}

/** Returns the first half of a surrogate pair that a text ends with; '' if it ends with none. */
function halfAtEnd(text: string): string {
  const unit = text.charCodeAt(text.length - 1); // NaN for ''
  return unit >= 0xd800 && unit <= 0xdbff ? text.at(-1)! : '';
}

function withoutEnd(text: string, end: string): string {
  return text.slice(0, text.length - end.length);
}
