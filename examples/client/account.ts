/*
 * One stream for all tabs of a user, with a token, from the position at which the page was made.
 */
// #region account
import { connect, type EventsOf } from '../../lib/client/index.ts';
import { shared } from '../../lib/client/tabs.ts';
import type { events } from './feed.ts';

const stream = connect<EventsOf<typeof events>>('/private', {
  tabs: shared({ key: `user ${userId()}` }),
  headers: async () => ({ authorization: `Bearer ${await freshToken()}` }), // at every connect
  from: document.body.dataset.position, // of the state that the page shows
});

stream.on('order', (order) => showOrder(order)); // adds it, or replaces the order with the same id
stream.on('reset', () => location.reload()); // the missed events are no longer in the log
stream.onError(({ code, status }) => console.warn(code, status));
// #endregion account

import { showOrder, showStatus } from './show.ts';

stream.onStatus(showStatus);

function userId(): number {
  return 7;
}

async function freshToken(): Promise<string> {
  return (await fetch('/token')).text();
}
