/*
 * One event as a client receives it.
 * Invariant: `data` is exactly the text that arrived; it is parsed as JSON only when a test reads `json`.
 */

/** An event that has arrived. Its own properties are plain values, so `toEqual` and `toMatchObject` compare them. */
export class ReceivedEvent<Name extends string = string, Data = any> {
  /** The event's name; `message` if the server sent none. */
  readonly event: Name;
  /** The data as text, its lines joined by `\n`. */
  readonly data: string;
  /** The id that was sent with this event; `undefined` if there was none. */
  readonly id: string | undefined;
  /** The value of a browser's `event.lastEventId`: this event's id, or the last one before it. */
  readonly lastEventId: string;

  constructor(event: Name, data: string, id: string | undefined, lastEventId: string) {
    this.event = event;
    this.data = data;
    this.id = id;
    this.lastEventId = lastEventId;
  }

  /**
   * The data, parsed as JSON.
   *
   * @throws SyntaxError if it is not JSON; the message shows the data.
   */
  get json(): Data {
    try {
      return JSON.parse(this.data) as Data;
    } catch (cause) {
      const start = this.data.length > 200 ? `${this.data.slice(0, 200)}…` : this.data;
      throw new SyntaxError(`The data of this ${this.event} event must be JSON; received ${start}`, { cause });
    }
  }
}

/**
 * The events of a stream, distinguished by their names: `TestEvent<{ tick: { n: number } }>`. Without a map, the type of
 * `json` is `any`.
 */
export type TestEvent<Events = Record<string, any>> = {
  [Name in keyof Events & string]: ReceivedEvent<Name, Events[Name]>;
}[keyof Events & string];
