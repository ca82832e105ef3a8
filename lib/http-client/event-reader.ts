/*
 * Turns the bytes of an event stream into events, comments and retry delays, as a browser does.
 * Invariant: however the bytes are split into chunks, the events are the same, and each comes out as soon as its last byte is in.
 */
import { createParser, type EventSourceParser } from 'eventsource-parser';

/** One event, with the fields that a browser would give it. */
export interface ParsedEvent {
  /** The name; `message` if the server sent none. */
  readonly event: string;
  /** The lines of the data, joined by `\n`. */
  readonly data: string;
  /** The id that was sent with this event; `undefined` if there was none. */
  readonly id: string | undefined;
  /** This event's id, or the last one before it. */
  readonly lastEventId: string;
}

/** Callbacks of {@link EventReader}. */
export interface EventHandlers {
  onEvent(event: ParsedEvent): void;
  onComment(text: string): void;
  onRetry(milliseconds: number): void;
}

/** The parser of one stream. */
export class EventReader {
  readonly #decoder = new TextDecoder();
  readonly #parser: EventSourceParser;
  #endedWithCarriageReturn = false;
  #lastEventId: string;

  constructor(handlers: EventHandlers, lastEventId = '') {
    this.#lastEventId = lastEventId;
    this.#parser = createParser({
      onEvent: ({ event = 'message', data, id }) => {
        // A block that has an id and no data does not come here. Firefox and npm eventsource ignore its id as well, and a
        // test should not pass on behaviour that only some clients have.
        if (id !== undefined) this.#lastEventId = id;
        handlers.onEvent({ event, data, id, lastEventId: this.#lastEventId });
      },
      onComment: (text) => handlers.onComment(text),
      onRetry: (milliseconds) => handlers.onRetry(milliseconds),
    });
  }

  /** The id that a client would send when it reconnects. */
  get lastEventId(): string {
    return this.#lastEventId;
  }

  /** Parses one chunk. */
  feed(chunk: Uint8Array): void {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (text === '') return;
    // The parser holds back a CR at the end of a chunk, because an LF may follow, and with it an event that is complete.
    // As a CRLF it ends the line at once; an LF that does follow is dropped.
    if (this.#endedWithCarriageReturn && text.startsWith('\n')) text = text.slice(1);
    this.#endedWithCarriageReturn = text.endsWith('\r');
    this.#parser.feed(this.#endedWithCarriageReturn ? `${text}\n` : text);
  }
}
