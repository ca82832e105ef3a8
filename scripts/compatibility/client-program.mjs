/*
 * Opens a stream with one client, and prints every event `message` and `order` as a line of JSON.
 */
const [name, url] = process.argv.slice(2);
const names = ['message', 'order'];
const print = (event, data, id) => process.stdout.write(`@${JSON.stringify({ event, data, id })}\n`);

/** Listens to a class with the interface of a browser's EventSource. */
function listen(EventSource) {
  const source = new EventSource(url);
  for (const type of names) source.addEventListener(type, ({ data, lastEventId }) => print(type, data, lastEventId));
  source.onerror = () => {};
}

const openers = {
  node: () => listen(globalThis.EventSource),
  undici: async () => listen((await import('undici')).EventSource),
  eventsource: async () => listen((await import('eventsource')).EventSource),
  eventsource4: async () => listen((await import('eventsource4')).EventSource),
  'extended-eventsource': async () => listen((await import('extended-eventsource')).EventSource),
  'launchdarkly-eventsource': async () => listen((await import('launchdarkly-eventsource')).EventSource),
  'eventsource-client': async () => {
    const { createEventSource } = await import('eventsource-client');
    createEventSource({
      url,
      onMessage: ({ event = 'message', data, id }) => names.includes(event) && print(event, data, id),
    });
  },
  'event-source-plus': async () => {
    const { EventSourcePlus } = await import('event-source-plus');
    new EventSourcePlus(url).listen({
      onMessage: ({ event, data, id }) => names.includes(event || 'message') && print(event || 'message', data, id),
    });
  },
  '@microsoft/fetch-event-source': async () => {
    Object.assign(globalThis, { window: globalThis, document: { removeEventListener() {}, addEventListener() {} } });
    const { fetchEventSource } = await import('@microsoft/fetch-event-source');
    const abort = new AbortController();
    await fetchEventSource(url, {
      signal: abort.signal,
      openWhenHidden: true,
      async onopen({ status }) {
        if (status === 204) abort.abort(); // its documentation leaves the check of the status to the application
      },
      onmessage: ({ event, data, id }) => names.includes(event || 'message') && print(event || 'message', data, id),
      onclose() {
        throw new Error('closed'); // so that it reconnects
      },
    });
  },
};

setInterval(() => {}, 1000); // keeps the process alive when the client has stopped
await openers[name]();
