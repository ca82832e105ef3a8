/*
 * Bytes become events, comments and retries, as a browser would read them.
 * Knows eventsource-parser and the decoder of the platform.
 * Invariant: however the bytes are cut into chunks, the same events come out, each as soon as its last byte is in.
 */
import { createParser, type EventSourceParser } from 'eventsource-parser';
import { ReceivedEvent } from './event.ts';

/** Where what was read goes. */
export interface IntakeSink {
  event(event: ReceivedEvent): void;
  comment(text: string): void;
  retry(milliseconds: number): void;
}

/** The reading end of one stream. */
export class Intake {
  readonly #decoder = new TextDecoder();
  readonly #parser: EventSourceParser;
  #afterCarriageReturn = false;
  #lastEventId: string;

  constructor(sink: IntakeSink, lastEventId = '') {
    this.#lastEventId = lastEventId;
    this.#parser = createParser({
      onEvent: ({ event = 'message', data, id }) => {
        // Not so a block that has an id and no data: Firefox and npm eventsource do not learn it, and a test should
        // not pass on what only some clients do.
        if (id !== undefined) this.#lastEventId = id;
        sink.event(new ReceivedEvent(event, data, id, this.#lastEventId));
      },
      onComment: (text) => sink.comment(text),
      onRetry: (milliseconds) => sink.retry(milliseconds),
    });
  }

  /** The id that a client would come back with. */
  get lastEventId(): string {
    return this.#lastEventId;
  }

  feed(chunk: Uint8Array): void {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (text === '') return;
    // The parser holds back a CR at the end of a chunk, for an LF may follow, and with it an event that is complete.
    // Made a CRLF, it is a line end at once; the LF that may follow is then dropped.
    if (this.#afterCarriageReturn && text.startsWith('\n')) text = text.slice(1);
    this.#afterCarriageReturn = text === '' ? false : text.endsWith('\r');
    this.#parser.feed(this.#afterCarriageReturn ? `${text}\n` : text);
  }
}
