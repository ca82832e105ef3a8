/*
 * One event as a client has received it.
 * Knows nothing of any other room.
 * Invariant: data is exactly the text that came; whether it is JSON is only asked when somebody reads `json`.
 */

/** An event that has arrived. Its own properties are plain, so `toEqual` and `toMatchObject` compare them. */
export class ReceivedEvent<Name extends string = string, Data = any> {
  /** The event's name; `message` when the server gave none. */
  readonly event: Name;
  /** The data as text, its lines joined by `\n`. */
  readonly data: string;
  /** The id that came with this very event; `undefined` when it brought none. */
  readonly id: string | undefined;
  /** What a browser's `event.lastEventId` says: this event's id, or the one before it. */
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
   * @throws SyntaxError when it is not JSON; the message shows the data.
   */
  get json(): Data {
    try {
      return JSON.parse(this.data) as Data;
    } catch (cause) {
      const start = this.data.length > 200 ? `${this.data.slice(0, 200)}…` : this.data;
      throw new SyntaxError(`The data of this ${this.event} event is not JSON: ${start}`, { cause });
    }
  }
}

/** The events of a stream, told apart by their names: `TestEvent<{ tick: { n: number } }>`. Without a map, `json` is anything. */
export type TestEvent<Events = Record<string, any>> = {
  [Name in keyof Events & string]: ReceivedEvent<Name, Events[Name]>;
}[keyof Events & string];
