/*
 * What an application says, as types: messages, and the map that names its events.
 * Knows nothing of any other room, and nothing at run time.
 * Invariant: with an event map a wrong name or payload does not compile; without one nothing is in the way.
 */

/** An application's events by name: `{ order: Order; tick: number }`. A payload that may be `undefined` may be left out. */
// oxlint-disable-next-line no-explicit-any -- only `any` lets an interface without an index signature pass as a map
export type EventMap = Record<string, any>;

/** The map of who has none: every name, every payload. (Only `any` lets a typed router pass where any router will do.) */
// oxlint-disable-next-line no-explicit-any
export type AnyEvents = any;

/** The fields that every message may have. */
interface Fields {
  /** The id that a client sends back as `Last-Event-ID`: printable ASCII, at most 1 KiB. Only on pushes, or with `history: false`. */
  id?: string | number;
  /** How long the client waits before it reconnects: milliseconds, an integer from 1 to 2147483647. */
  retry?: number;
}

type Payload<T> = undefined extends T ? { data?: T } : { data: T };

/** A message with a name out of the map. */
type Named<E extends EventMap> = { [K in keyof E & string]: Fields & { event: K } & Payload<E[K]> }[keyof E & string];

/** A message without a name is a `message` event: to be had where the map has one. */
type Unnamed<E extends EventMap> = 'message' extends keyof E
  ? Fields & { event?: undefined } & Payload<E['message']>
  : { event?: undefined; data?: undefined; id?: undefined; retry: number };

/**
 * One event, or only a `retry`. Strings in `data` are sent as they are, everything else as JSON (see `serialize`).
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export type Message<E extends EventMap = AnyEvents> = Named<E> | Unnamed<E>;

/** State for clients that are new or cannot be resumed: a message, a string, some of them, or nothing. */
export type Snapshot<E extends EventMap = AnyEvents> =
  | Message<E>
  | string
  | Iterable<Message<E> | string>
  | null
  | undefined
  | void;

/** Which connections receive a broadcast. Without `to`, all of them. */
export interface BroadcastOptions {
  /** Connections that have joined one of these channels. `[]`: no connection. */
  to?: string | readonly string[];
  /** Connections that have joined one of these channels do not receive it. */
  except?: string | readonly string[];
  /** The application's own name for this broadcast: a second broadcast with the same key is not stored again. */
  key?: string;
}
