// Runs in the page: one adapter for each client, as its documentation shows its use, and the list of what the page is shown.
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { EventSourcePlus } from 'event-source-plus';
import { EventSourcePolyfill } from 'event-source-polyfill';
import { createEventSource } from 'eventsource-client';
import { EventSource as ExtendedEventSource } from 'extended-eventsource';
import ReconnectingEventSource from 'reconnecting-eventsource';
import { connect } from '../../../lib/client/index.ts';
import { shared } from '../../../lib/client/tabs.ts';

const NAMES = ['message', 'reset', 'end'];

/** Listens to an object with the interface of EventSource. */
function listen(source, { names = NAMES, onEvent }) {
  for (const name of names) source.addEventListener(name, ({ data, lastEventId }) => onEvent(name, data, lastEventId));
  return source;
}

/** What every adapter gets: `url`, `headers` (a function), `method`, `body`, `silence` (ms), `shared` and `onEvent`. */
const adapters = {
  EventSource: (how) => listen(new EventSource(how.url), how),
  'reconnecting-eventsource': (how) => listen(new ReconnectingEventSource(how.url), how),
  async '@microsoft/fetch-event-source'(how) {
    // Headers are an object, so they are those of the first request.
    const headers = await how.headers();
    void fetchEventSource(how.url, {
      ...(how.method && { method: how.method, body: how.body }),
      headers,
      onmessage: ({ event, data, id }) => how.onEvent(event || 'message', data, id),
    }).catch(() => {});
  },
  async 'eventsource-client'(how) {
    createEventSource({
      url: how.url,
      ...(how.method && { method: how.method, body: how.body }),
      headers: await how.headers(),
      onMessage: ({ event, data, id }) => how.onEvent(event ?? 'message', data, id),
    });
  },
  'event-source-plus'(how) {
    const options = { ...(how.method && { method: how.method, body: how.body }), headers: how.headers };
    new EventSourcePlus(how.url, options).listen({
      onMessage: ({ event, data, id }) => how.onEvent(event || 'message', data, id),
    });
  },
  async 'extended-eventsource'(how) {
    const headers = await how.headers();
    const options = { ...(how.method && { method: how.method, body: how.body }), headers, disableLogger: true };
    listen(new ExtendedEventSource(how.url, options), how);
  },
  async 'event-source-polyfill'(how) {
    const headers = await how.headers();
    listen(new EventSourcePolyfill(how.url, { headers, heartbeatTimeout: how.silence ?? 45_000 }), how);
  },
  'sse-router/client'(how) {
    const { url, headers, method, body, silence } = how;
    const tabs = how.shared ? { tabs: shared({ key: '' }) } : {};
    const stream = connect(url, { headers, method, body, silence, parse: String, ...tabs });
    for (const name of NAMES) stream.on(name, (data, { id }) => how.onEvent(name, String(data), id));
  },
};

const seen = [];
let asked = 0;

Object.assign(globalThis, {
  clients: Object.keys(adapters),
  seen,
  open(client, how) {
    const headers = async () => (how.token ? { authorization: await (await fetch(`/token?n=${++asked}`)).text() } : {});
    const onEvent = (name, data, id) => seen.push([name, data, id]);
    void adapters[client]({ ...how, headers, onEvent });
  },
});
