/*
 * A typed stream: the names and the data of the events are those of the router.
 */
// #region page
import { connect, type EventsOf } from '../../lib/client/index.ts';
import type { events } from './feed.ts';

const stream = connect<EventsOf<typeof events>>('/events');

stream.on('orders', (orders) => showOrders(orders)); // the snapshot
stream.on('order', (order) => showOrder(order)); // adds it, or replaces the order with the same id
stream.onStatus((status) => showStatus(status)); // 'connecting', 'open', 'waiting', 'offline' …
// #endregion page

import { showOrder, showOrders, showStatus } from './show.ts';
