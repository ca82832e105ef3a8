/*
 * The types of what the application sends: messages, the map of its events, snapshots and the options of a broadcast.
 *
 * Invariants: nothing of this module exists at run time. With an event map a wrong name or payload does not compile; without one
 * every name and payload does.
 */

/**
 * The payloads of an application's events by name: `{ order: Order; tick: number }`. A payload that may be `undefined` may be
 * omitted.
 */
// oxlint-disable-next-line no-explicit-any -- only `any` lets an interface without an index signature pass as a map
export type EventMap = Record<string, any>;

/**
 * The map of a router without an event map: every name, every payload. (Only `any` makes a typed router assignable to an untyped
 * one.)
 */
// oxlint-disable-next-line no-explicit-any
export type AnyEvents = any;

/** The fields that every message may have. */
interface CommonFields {
  /**
   * The id that the client sends back as `Last-Event-ID`: printable ASCII without leading or trailing spaces, at most 1024
   * characters; a number is written in decimal. Allowed in `push`, and in `broadcast` only with `history: false`. A connection
   * that has pushed an id of its own receives broadcasts without an id, so that the client keeps the application's.
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#concept-event-stream-last-event-id
   */
  id?: string | number;
  /**
   * The time in milliseconds that the client waits before it reconnects: an integer from 1 to 2147483647.
   * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#concept-event-stream-reconnection-time
   */
  retry?: number;
}

type Payload<T> = undefined extends T ? { data?: T } : { data: T };

/** A message whose name is in the map. */
type NamedMessage<E extends EventMap> = {
  [K in keyof E & string]: CommonFields & { event: K } & Payload<E[K]>;
}[keyof E & string];

/** A message without a name, which clients receive as a `message` event: with data only if the map has `message`. */
type UnnamedMessage<E extends EventMap> = 'message' extends keyof E
  ? CommonFields & { event?: undefined } & Payload<E['message']>
  : { event?: undefined; data?: undefined; id?: undefined; retry: number };

/**
 * One event, or only a `retry`.
 * - `event` is the name: a string without CR, LF and NUL. Without it, or with `''`, clients receive a `message` event. The names
 *   `error`, `open`, `end`, `reset` and `checkpoint` are allowed only with `controlEvents: false`.
 * - `data` is sent unchanged if it is a string, and as JSON otherwise (see the option `serialize`). It may be omitted if there is a
 *   name; the event then has empty data.
 *
 * @example
 * ```ts
 * conn.push({ event: 'order', data: { item: 'tea', count: 2 }, id: 7 }, { retry: 5000 });
 * ```
 * @typeParam E - the event map; see {@link EventMap}
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export type Message<E extends EventMap = AnyEvents> = NamedMessage<E> | UnnamedMessage<E>;

/**
 * A message that can be broadcast where there is a history: its id is the log's, so it has none of its own.
 * @typeParam E - the event map; see {@link EventMap}
 */
export type BroadcastMessage<E extends EventMap = AnyEvents> = Message<E> & { id?: undefined };

/**
 * The strings that may be broadcast instead of a message. A string is a `message` event, so with an event map it must have an event
 * of this name.
 * @typeParam E - the event map; see {@link EventMap}
 */
export type BroadcastText<E extends EventMap = AnyEvents> = 0 extends 1 & E // whether E is `any`
  ? string
  : 'message' extends keyof E
    ? string extends E['message']
      ? string
      : E['message'] & string
    : never;

/** The state for clients that are new or cannot be resumed: a message, a string, several of them, or nothing. */
export type Snapshot<E extends EventMap = AnyEvents> =
  | Message<E>
  | string
  | Iterable<Message<E> | string>
  | null
  | undefined
  | void;

/**
 * Forbids an explicit `to: undefined` or `except: undefined` in the options `O` of a broadcast: such a channel is missing by mistake,
 * and the event would reach connections that must not receive it. Properties that are declared as optional stay allowed.
 */
export type DefinedChannels<O> = O & {
  [K in keyof O]: K extends 'to' | 'except'
    ? object extends Pick<O, K>
      ? O[K]
      : Exclude<O[K], undefined>
    : K extends keyof BroadcastOptions
      ? O[K]
      : never;
};

/**
 * Which connections receive a broadcast, and whether it is stored again. Channel names are non-empty strings.
 * @example
 * ```ts
 * await events.broadcast({ event: 'note', data: note }, { to: ['team:7', 'admins'], except: `user:${author}`, key: note.uuid });
 * ```
 */
export interface BroadcastOptions {
  /**
   * One channel or several. Each connection that has joined at least one of them receives the event once. `[]`: no connection. An
   * explicit `undefined` throws: `{ to: user?.channel }` must not reach every connection.
   * @defaultValue every connection
   */
  to?: string | readonly string[];
  /**
   * One channel or several. A connection that has joined one of them does not receive the event, whatever `to` is. `[]`: no
   * exception. An explicit `undefined` throws.
   * @defaultValue no exception
   */
  except?: string | readonly string[];
  /**
   * The application's own name for this broadcast: a non-empty string. A second broadcast with the same key stores nothing and
   * resolves with the id of the first, so it is safe to repeat one that failed with `ERR_SSE_TIMEOUT`. `undefined` means no key. The journals in memory and
   * in LMDB remember a key as long as its entry, the journal in Redis for its `keyAge`.
   * @defaultValue none: every broadcast is stored
   */
  key?: string | undefined;
}
