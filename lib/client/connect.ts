/*
 * The stream of one tab: its listeners and iterators, its status, and the effects of the page's life on it.
 * The source exists from the first listener until the stream closes, except while the page is suspended.
 * An exception of a listener goes to `reportError`, and affects no other listener.
 */

import type { AnyEvents, EventMap } from '../api/message.ts';
import type { ConnectOptions, EventStream, Place, Status, StreamEvent } from './event-stream.ts';
import { type HttpSettings, openHttp } from './http-source.ts';
import { parseDefault } from './parse-default.ts';
import { headersOf } from './request-headers.ts';
import type { Frame, Source } from './source.ts';
import { StreamError, type StreamErrorCode } from './stream-error.ts';

/** A listener, and what it listens to: the events of a name, all events (`''`, which is no name), or calls of a function. */
interface Listener {
  readonly kind: unknown;
  // oxlint-disable-next-line no-explicit-any -- each kind has its own arguments
  readonly call: (value: any, event: any) => void;
}

/** The data of the router's `reset`. Another server's event of this name is an ordinary one. */
const RESET = /^{"reason":"\w+","lastEventId":"/;

/** The members of a stream that only this package's modules use. */
export interface ObservedStream {
  /** The newest event of each name. */
  readonly newest: ReadonlyMap<string, StreamEvent>;
  /** With the name `''`, which no event has, `listener` is called with every event. */
  on(name: '', listener: (data: unknown, event: StreamEvent) => void): () => void;
}

/**
 * Connects to a server of server-sent events. The stream opens with its first listener or iterator. It never opens if there
 * is no `document`, so a server may render a page that calls this.
 * @example
 * ```ts
 * const stream = connect<EventsOf<typeof events>>('/events');
 * stream.on('order', (order) => show(order));
 * ```
 * @throws {TypeError} for an invalid URL, and for `tabs` with a POST. Other options are not checked at run time.
 */
export function connect<E extends EventMap = AnyEvents>(
  url: string | URL,
  options: ConnectOptions = {},
): EventStream<E> {
  const { tabs, signal, parse = parseDefault, from = '' } = options;
  tabs?.check(options);
  /** Whether the request must not be repeated by itself, as a repeated POST may cost money. */
  const isOnce = /^p/i.test(options.method!);
  /** `undefined` where the stream must not open: without a document, and after `close()`. */
  let href = typeof document === 'undefined' ? undefined : new URL(url, document.baseURI).href;
  const listeners = new Set<Listener>();
  const newest = new Map<string, StreamEvent>();
  const place: Place = { id: from, n: 0 };
  const life = new AbortController();
  let status: Status = 'idle';
  let source: Source | undefined;
  let lastError: StreamError | undefined;

  function onFrames(frames: readonly Frame[]): void {
    for (const frame of frames) if (source) onFrame(frame); // a listener may close the stream
  }

  function onStatus(next: Status): void {
    if (status === next) return;
    status = next;
    emit(onStatus, next);
  }

  function onError(code: StreamErrorCode, status?: number, cause?: unknown): void {
    lastError = new StreamError(code, status, cause);
    emit(onError, lastError);
  }

  function onFrame({ event, data: text, id, isEnd }: Frame): void {
    place.id = id;
    if (!event) return;
    let data: unknown;
    try {
      data = (isEnd || (event === 'reset' && RESET.test(text)) ? parseDefault : parse)(text, event);
    } catch (error) {
      return onError('parse', undefined, error);
    }
    const taken: StreamEvent = { event, data, id };
    newest.set(event, taken);
    emit(event, data, taken);
  }

  function start(): void {
    // `connecting` without a source: a listener of this status calls `reconnect()`.
    if (!href || source || status === 'connecting') return;
    const own: HttpSettings = {
      ...options,
      init: options as RequestInit, // fetch takes method, body and credentials; the source sets the rest
      isOnce,
      from: place.id,
      headers: () => headersOf(options),
    };
    source = tabs
      ? tabs.join(href, options, place, onFrames, onStatus, onError)
      : openHttp(href, own, onFrames, onStatus, onError);
    if (!href) stop(); // a listener of the first status has closed the stream
  }

  function stop(): void {
    source?.close();
    source = undefined;
  }

  /** Leaves the stream before the page stops, and joins again at the same position when it runs. */
  function onPageEvent({ type }: Event): void {
    if (/hide|freeze/.test(type)) {
      if (source) {
        stop();
        if (!isFinal(status)) onStatus('waiting');
      }
    } else if (!/vis/.test(type) || !document.hidden) {
      if (source) source.wake(type === 'online');
      else if (status === 'waiting') start();
    }
  }

  function add(kind: unknown, call: Listener['call']): () => void {
    const listener = { kind, call };
    listeners.add(listener);
    // At the end of the tick, so that listeners that are added together see the same, and none is called while it is added.
    if (status === 'idle') queueMicrotask(start);
    return () => void listeners.delete(listener);
  }

  function emit(kind: unknown, value: unknown, event?: StreamEvent): void {
    // oxlint-disable-next-line no-useless-spread -- a listener that is added meanwhile is not called with this event
    for (const listener of [...listeners]) {
      try {
        const isMeant = listener.kind === kind || (event && listener.kind === '');
        if (isMeant && listeners.has(listener)) listener.call(value, event);
      } catch (error) {
        reportError(error);
      }
    }
  }

  function close(): void {
    href = undefined;
    stop();
    onStatus('closed');
    life.abort();
  }

  const stream: EventStream & ObservedStream = {
    newest,
    on: add,
    onStatus: (listener) => add(onStatus, listener),
    onError: (listener) => add(onError, listener),
    get status() {
      return status;
    },
    get lastEventId() {
      return place.id;
    },
    reconnect() {
      if (source) source.reconnect();
      else start();
    },
    close,
    async *[Symbol.asyncIterator]() {
      const events: StreamEvent[] = [];
      let isBehind = false;
      let wake = (): void => {};
      const remove = add('', (_data: unknown, event: StreamEvent) => {
        isBehind ||= events.length === 1_000; // the loop yields what is held, and then throws
        if (!isBehind) events.push(event);
        wake();
      });
      const removeStatus = add(onStatus, () => wake());
      try {
        for (;;) {
          if (events.length) yield events.shift()!;
          else if (isBehind) throw new StreamError('behind');
          else if (status === 'refused') throw lastError!;
          else if (isFinal(status)) return;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
      } finally {
        remove();
        removeStatus();
        // Without a consumer, the server would write the answer to a POST in vain.
        if (isOnce && !isBehind && !isFinal(status) && !listeners.size) close();
      }
    },
  };

  // A POST cannot join again: it goes on, unless the browser breaks it off. And the window would keep the stream of each answer.
  if (href && !isOnce) {
    // In the capture phase, the window hears the document's events as well.
    for (const type of ['pagehide', 'pageshow', 'freeze', 'resume', 'visibilitychange', 'online']) {
      addEventListener(type, onPageEvent, { capture: true, signal: life.signal });
    }
  }
  if (signal?.aborted) close();
  signal?.addEventListener('abort', close, { signal: life.signal });
  return stream;
}

function isFinal(status: Status): boolean {
  return /ed/.test(status); // refused, ended, closed
}
