/*
 * React hooks: a component opens a stream, and it or others show what arrives.
 * What a hook returns changes only with the stream, so a component renders once for each event that it uses.
 */

import { useCallback, useEffect, useReducer, useState, useSyncExternalStore } from 'react';
import type { AnyEvents, EventMap } from '../api/message.ts';
import type { EventData, EventName, EventStream, Status, StreamEvent } from '../client/index.ts';
import type { ObservedStream } from '../client/connect.ts';

type Observed = EventStream & ObservedStream;

/** A state, and the stream whose events have led to it. */
interface Reduced<S> {
  readonly stream: unknown;
  readonly state: S;
}

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
  const [made, setMade] = useState<{ stream: EventStream<E>; deps: readonly unknown[] }>();
  useEffect(() => {
    const stream = make();
    setMade({ stream, deps });
    return () => {
      setMade(undefined);
      stream.close();
    };
  }, deps);
  // The effect runs after the first frame with other dependencies: this frame must not show what belongs to the old ones.
  const stream = made?.deps.every((dep, index) => Object.is(dep, deps[index])) ? made.stream : undefined;
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

/**
 * Reduces the events that arrive after the component is mounted, whatever their name, to a state. With another stream, the state
 * is `initial` again.
 */
export function useEvents<E extends EventMap, S>(
  stream: EventStream<E> | undefined,
  reduce: (state: S, event: StreamEvent<E>) => S,
  initial: S,
): S {
  /** Of the stream `from`: applies an event or, without one, begins afresh. */
  function step(was: Reduced<S>, [from, event]: [from: unknown, event?: StreamEvent]): Reduced<S> {
    if (!event) return { stream: from, state: initial };
    if (was.stream !== from) return was;
    const state = reduce(was.state, event as StreamEvent<E>);
    return Object.is(state, was.state) ? was : { stream: from, state };
  }

  const [{ stream: current, state }, dispatch] = useReducer(step, { stream, state: initial });
  // During the render, so that no frame shows the events of the previous stream: React renders again before it shows anything.
  const isNew = current !== stream;
  if (isNew) dispatch([stream]);
  useEffect(() => (stream as Observed | undefined)?.on('', (_data, event) => dispatch([stream, event])), [stream]);
  return isNew ? initial : state;
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
