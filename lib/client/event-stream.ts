/*
 * The public types of the client.
 */

import type { AnyEvents, EventMap } from '../api/message.ts';
import type { StreamError } from './stream-error.ts';
import type { Source, SourceListener } from './source.ts';

/**
 * The event map of a router: `connect<EventsOf<typeof events>>('/events')`. It is read off the messages that the router
 * broadcasts, so the types of the client lead to neither Express nor Node.
 */
export type EventsOf<Router> = Router extends { broadcast(message: infer M, ...rest: never[]): unknown }
  ? { [N in Named<M> as N['event']]: N['data'] }
  : never;

/** The messages that have a name. */
type Named<M> = Extract<M, { event: string }> & { event: string; data?: unknown };

/** The state of a stream. `refused` and `ended` last until `reconnect()`, `closed` for good. */
export type Status = 'idle' | 'connecting' | 'open' | 'waiting' | 'offline' | 'refused' | 'ended' | 'closed';

/** What the router sends when the events that the client missed are no longer in the log. */
export interface Reset {
  readonly reason: 'lost' | 'unknown' | 'diverged';
  readonly lastEventId: string;
}

/** The names that `on` accepts. */
export type EventName<E extends EventMap> = (keyof E & string) | 'message' | 'reset' | 'end';

/** The data of an event: as in the map; `reset` and `end` have the router's own. */
export type EventData<E extends EventMap, K> = K extends keyof E
  ? E[K]
  : K extends 'reset'
    ? Reset
    : K extends 'end'
      ? string
      : unknown;

/** One event. `id` is the position after it: the last event id of the stream. */
export type StreamEvent<E extends EventMap = AnyEvents> = {
  [K in EventName<E>]: { readonly event: K; readonly data: EventData<E, K>; readonly id: string };
}[EventName<E>];

export interface ConnectOptions {
  /** Shares one stream between all tabs: `shared({ key })` of `sse-router/client/tabs`. */
  tabs?: Tabs | undefined;
  /** The headers of the request. The client calls a function at every connect, so a token is never stale. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | undefined;
  /** @defaultValue `'same-origin'` */
  credentials?: RequestCredentials | undefined;
  /**
   * A POST is never repeated automatically, and cannot be shared by tabs. It stays while the page is suspended.
   * @defaultValue `'GET'`
   */
  method?: 'GET' | 'POST' | undefined;
  /** The body of a POST. */
  body?: BodyInit | undefined;
  /** The stream begins after this position: the router's `position`, which the server embedded in the page. */
  from?: string | undefined;
  /**
   * Turns the text of an event into its data. By default, text that begins with `{` or `[` is read as JSON, and all other text
   * stays as it is: as JSON, the token `" 12"` would become the number 12.
   */
  parse?: ((data: string, event: string) => unknown) | undefined;
  /**
   * After this many ms without a byte, the client treats the connection as lost. Applies to an open stream only after a
   * comment, as a server without heartbeats may be quiet for long. @defaultValue `45_000`
   */
  silence?: number | false | undefined;
  /** The delay before a retry, in ms, if the server sends none. @defaultValue `{ min: 1_000, max: 30_000 }` */
  retry?: { min?: number | undefined; max?: number | undefined } | undefined;
  /** Closes the stream when it aborts. */
  signal?: AbortSignal | undefined;
  /** Replaces `fetch`. With `tabs`, it selects Web Locks, as a function cannot be passed to a worker. */
  fetch?: typeof fetch | undefined;
}

/**
 * A stream of events. It opens with its first listener or iterator. A `break` out of a loop closes the stream of a POST if it has no
 * listeners and no other loop.
 */
export interface EventStream<E extends EventMap = AnyEvents> extends AsyncIterable<StreamEvent<E>> {
  /** Calls `listener` with every event of this name. Returns a function that removes the listener. */
  on<K extends EventName<E>>(
    name: K,
    listener: (data: EventData<E, K>, event: Extract<StreamEvent<E>, { readonly event: K }>) => void,
  ): () => void;
  /** Calls `listener` with every change of `status`. Returns a function that removes the listener. */
  onStatus(listener: (status: Status) => void): () => void;
  /** Calls `listener` with every error. Returns a function that removes the listener. */
  onError(listener: (error: StreamError) => void): () => void;
  readonly status: Status;
  /** The position of the stream: `''` before the first event with an id. */
  readonly lastEventId: string;
  /** Connects now, whatever the status, unless the stream is closed. The request has the position. */
  reconnect(): void;
  /** Ends the stream of this tab for good. */
  close(): void;
}

/** One stream for all tabs: the result of `shared()`. */
export interface Tabs {
  readonly key: string;
  /** @internal */
  check(options: ConnectOptions): void;
  /** @internal */
  join(url: string, options: ConnectOptions, place: Place, ...listener: SourceListener): Source;
}

/** @internal Where a tab is in its stream. It survives a suspension of the page. */
export interface Place {
  /** The last event id. */
  id: string;
  /** The line of frames that the tab follows, and the number of its last frame. */
  term?: number;
  n: number;
  /** Whether the stream has ended. */
  isOver?: boolean;
}
