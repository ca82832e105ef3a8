/*
 * React hooks: a component opens a stream, and it or others show what arrives.
 * What a hook returns changes only with the stream, so a component renders once for each event that it uses.
 */

import { useCallback, useEffect, useReducer, useState, useSyncExternalStore } from 'react';
import type { AnyEvents, EventMap } from '../api/message.ts';
import type { EventData, EventName, EventStream, Status, StreamEvent } from '../client/index.ts';
import type { ObservedStream } from '../client/connect.ts';

type Observed = EventStream & ObservedStream;

const nothing = (): void => {};

/**
 * Opens the stream that `make` returns, and closes it when the component is unmounted or `deps` change. Returns `undefined`
 * until the first effect has run, and always on a server. In StrictMode, React opens and closes a first stream at once.
 * @example
 * ```tsx
 * const stream = useStream(() => connect<Events>('/events'), []);
 * const order = useEvent(stream, 'order');
 * ```
 */
export function useStream<E extends EventMap = AnyEvents>(
  make: () => EventStream<E>,
  deps: readonly unknown[],
): EventStream<E> | undefined {
  const [stream, setStream] = useState<EventStream<E>>();
  useEffect(() => {
    const made = make();
    setStream(made);
    return () => {
      setStream(undefined);
      made.close();
    };
  }, deps);
  // In the commit in which the components below add their listeners: an event is for all of them.
  useEffect(() => stream?.onStatus(nothing), [stream]);
  return stream;
}

/** Returns the data of the newest event of this name, also for a component that is mounted after it. */
export function useEvent<E extends EventMap, K extends EventName<E>>(
  stream: EventStream<E> | undefined,
  name: K,
): EventData<E, K> | undefined {
  const subscribe = useCallback((onChange: () => void) => stream?.on(name, onChange) ?? nothing, [stream, name]);
  const newest = (): EventData<E, K> | undefined => (stream as Observed | undefined)?.newest.get(name)?.data;
  return useSyncExternalStore(subscribe, newest, nothing as () => undefined);
}

/** Reduces the events that arrive after the component is mounted, whatever their name, to a state. */
export function useEvents<E extends EventMap, S>(
  stream: EventStream<E> | undefined,
  reduce: (state: S, event: StreamEvent<E>) => S,
  initial: S,
): S {
  const [state, dispatch] = useReducer(reduce, initial);
  useEffect(
    () => (stream as Observed | undefined)?.on('', (_data, event) => dispatch(event as StreamEvent<E>)),
    [stream],
  );
  return state;
}

/** Returns the status of the stream: `idle` as long as there is none. */
export function useStatus(stream: EventStream | undefined): Status {
  const subscribe = useCallback((onChange: () => void) => stream?.onStatus(onChange) ?? nothing, [stream]);
  return useSyncExternalStore(
    subscribe,
    () => stream?.status ?? 'idle',
    () => 'idle',
  );
}
