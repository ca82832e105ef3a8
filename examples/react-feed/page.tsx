/*
 * The page of the React example.
 */
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
// #region react
import { connect, type EventsOf, type EventStream, type StreamEvent } from '../../lib/client/index.ts';
import { shared } from '../../lib/client/tabs.ts';
import { useEvent, useEvents, useStatus, useStream } from '../../lib/react/index.ts';
import type { events, Order } from '../client/feed.ts';

type Events = EventsOf<typeof events>;
type Stream = EventStream<Events> | undefined;

function Shop({ user }: { user: string }) {
  const stream: Stream = useStream(() => connect('/events', { tabs: shared({ key: user }) }), [user]);
  return (
    <>
      <p id="status">{useStatus(stream)}</p>
      <Newest stream={stream} />
      <Orders stream={stream} />
    </>
  );
}

function Newest({ stream }: { stream: Stream }) {
  const order = useEvent(stream, 'order'); // the newest, also in a component that is mounted later
  return <p id="newest">{order ? order.item : 'No order yet'}</p>;
}

function Orders({ stream }: { stream: Stream }) {
  const orders = useEvents(stream, reduce, new Map<string, Order>());
  return (
    <ol>
      {[...orders.values()].map(({ id, item, count }) => (
        <li key={id}>{`${count} × ${item}`}</li>
      ))}
    </ol>
  );
}

function reduce(orders: Map<string, Order>, event: StreamEvent<Events>): Map<string, Order> {
  if (event.event === 'orders') return new Map(event.data.map((order) => [order.id, order])); // a new client, or after a reset
  // By id, because the order can be in the snapshot already.
  return event.event === 'order' ? new Map(orders).set(event.data.id, event.data) : orders;
}
// #endregion react

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Shop user="user 7" />
  </StrictMode>,
);
