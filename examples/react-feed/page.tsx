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
  const orders = useEvents(stream, reduce, []);
  return (
    <ol>
      {orders.map(({ item, count }, n) => (
        <li key={n}>{`${count} × ${item}`}</li>
      ))}
    </ol>
  );
}

function reduce(orders: Order[], event: StreamEvent<Events>): Order[] {
  if (event.event === 'orders') return event.data; // the snapshot: of a new client, or after a reset
  return event.event === 'order' ? [...orders, event.data] : orders;
}
// #endregion react

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Shop user="user 7" />
  </StrictMode>,
);
