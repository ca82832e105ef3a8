/*
 * The clients for Node.js that are tested. Those of browsers are in docs/client-comparison.md.
 */
const client = (name, pack, more = {}) => ({
  group: 'clients',
  folder: 'packages',
  name,
  pack,
  client: name,
  command: ['node-24'],
  ...more,
});

export const clients = [
  client("Node.js' own `EventSource`", 'node-24', { client: 'node' }),
  client('undici `EventSource`', 'undici', { client: 'undici' }),
  client('eventsource', 'eventsource'),
  client('eventsource 4', 'eventsource4', { client: 'eventsource4' }),
  client('eventsource-client', 'eventsource-client'),
  client('event-source-plus', 'event-source-plus', {
    known: {
      events: 'keeps only the last line of `data`: send one line, as JSON is',
      end: 'sends requests for ever: close it at `end`',
    },
  }),
  client('extended-eventsource', 'extended-eventsource'),
  client('launchdarkly-eventsource', 'launchdarkly-eventsource'),
  client('@microsoft/fetch-event-source', '@microsoft/fetch-event-source'),
];
