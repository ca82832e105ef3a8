/*
 * The types of the client: the event map of the router reaches the listeners. `npm run types` checks them; nothing runs.
 */
import { expectTypeOf } from 'expect-type';
import {
  connect,
  type EventsOf,
  type EventStream,
  type Reset,
  type Status,
  type StreamError,
  type StreamEvent,
} from '../../lib/client/index.ts';
import { shared } from '../../lib/client/tabs.ts';
import { sse } from '../../lib/index.ts';
import { useEvent, useEvents, useStatus, useStream } from '../../lib/react/index.ts';

interface Order {
  item: string;
  count: number;
}
type Events = { order: Order; stock: number; note: string | undefined };

const check = (_types: () => void): void => {};

test('EventsOf is the map of the router', () => {
  check(() => {
    const events = sse<Events>();
    expectTypeOf<EventsOf<typeof events>>().toEqualTypeOf<Events>();
    const named = sse<{ message: Order; order: Order[] }>();
    expectTypeOf<EventsOf<typeof named>>().toEqualTypeOf<{ message: Order; order: Order[] }>();
    const stateful = sse<Events, { user: string }>();
    expectTypeOf<EventsOf<typeof stateful>>().toEqualTypeOf<Events>();
    const withoutHistory = sse<Events>({ history: false });
    expectTypeOf<EventsOf<typeof withoutHistory>>().toEqualTypeOf<Events>();
    const untyped = connect<EventsOf<ReturnType<typeof sse>>>('/events');
    untyped.on('anything', (data) => expectTypeOf(data).toBeAny());
    expectTypeOf<EventsOf<string>>().toBeNever();
  });
});

test('listeners get the data of their event', () => {
  check(() => {
    const stream = connect<Events>('/events');
    stream.on('order', (order, event) => {
      expectTypeOf(order).toEqualTypeOf<Order>();
      expectTypeOf(event).toEqualTypeOf<{ readonly event: 'order'; readonly data: Order; readonly id: string }>();
    });
    stream.on('stock', (stock) => expectTypeOf(stock).toBeNumber());
    stream.on('message', (data) => expectTypeOf(data).toBeUnknown());
    stream.on('reset', (reset) => expectTypeOf(reset).toEqualTypeOf<Reset>());
    stream.on('end', (data) => expectTypeOf(data).toBeString());
    // @ts-expect-error: there is no such event
    stream.on('ordr', () => {});
    expectTypeOf(stream.on('order', () => {})).toEqualTypeOf<() => void>();
    stream.onStatus((status) => expectTypeOf(status).toEqualTypeOf<Status>());
    stream.onError((error) => {
      expectTypeOf(error).toEqualTypeOf<StreamError>();
      // @ts-expect-error: the list of codes is closed
      return error.code === 'nope';
    });
  });
});

test('an iterator yields a union that the name narrows', () => {
  check(async () => {
    for await (const event of connect<Events>('/events')) {
      expectTypeOf(event).toEqualTypeOf<StreamEvent<Events>>();
      if (event.event === 'order') expectTypeOf(event.data).toEqualTypeOf<Order>();
      if (event.event === 'reset') expectTypeOf(event.data).toEqualTypeOf<Reset>();
    }
  });
});

test('without a map, every name and all data', () => {
  check(() => {
    const stream = connect(new URL('https://api.example/events'), {
      tabs: shared({ key: 'user 7', worker: (name) => new SharedWorker('/worker.js', { type: 'module', name }) }),
      headers: async () => ({ authorization: 'Bearer 7' }),
      credentials: 'include',
      from: '1',
      silence: false,
      retry: { min: 1, max: 2 },
      signal: AbortSignal.timeout(1),
      fetch: globalThis.fetch,
    });
    expectTypeOf(stream).toEqualTypeOf<EventStream>();
    stream.on('order', (order) => expectTypeOf(order).toBeAny());
    // @ts-expect-error: the key is required
    shared({});
    // @ts-expect-error: tabs are made by shared()
    connect('/events', { tabs: true });
  });
});

test('the hooks', () => {
  check(() => {
    const stream = useStream(() => connect<Events>('/events'), []);
    expectTypeOf(stream).toEqualTypeOf<EventStream<Events> | undefined>();
    expectTypeOf(useEvent(stream, 'order')).toEqualTypeOf<Order | undefined>();
    expectTypeOf(useEvent(stream, 'reset')).toEqualTypeOf<Reset | undefined>();
    // @ts-expect-error: there is no such event
    useEvent(stream, 'ordr');
    const total = useEvents(stream, (sum, event) => (event.event === 'stock' ? sum + event.data : sum), 0);
    expectTypeOf(total).toBeNumber();
    expectTypeOf(useStatus(stream)).toEqualTypeOf<Status>();
  });
});
