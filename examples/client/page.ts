/*
 * A typed stream: the names and the data of the events are those of the router.
 */
// #region page
import { connect, type EventsOf } from '../../lib/client/index.ts';
import type { events } from './feed.ts';

const stream = connect<EventsOf<typeof events>>('/events');

stream.on('orders', (orders) => showOrders(orders)); // the snapshot
stream.on('order', (order) => addOrder(order)); // `order.count` is a number
stream.onStatus((status) => showStatus(status)); // 'connecting', 'open', 'waiting', 'offline' …
// #endregion page

import { addOrder, showOrders, showStatus } from './show.ts';
