// One reader and a million small events: the cost of `push`, and whether memory stays constant if the server is faster than the reader.
import { withBed } from '../bed.mjs';

export const single = {
  name: 'single',
  title: 'Single stream: 1,000,000 small events to one reader',
  peers: ['http', 'ours', 'express', 'better-sse'],
  baseline: 'http',
  size: { events: 1_000_000, warm: 200_000, perTick: 100 },
  smoke: { events: 2000, warm: 500, perTick: 100 },
  metrics: {
    cpu: 'CPU µs per event',
    user: 'of it in user code',
    perSecond: 'events/s',
    peak: 'RSS at its peak, MB above the start',
  },
  run: (subject, { events, warm, perTick }) =>
    withBed(subject, async (bed) => {
      const read = async (count) => {
        const path = `/single?count=${count}&tick=${perTick}`;
        await bed.clients.call('prepare', { connections: 1, skip: 0 });
        await bed.clients.call('open', { port: bed.port, path, from: 0, to: 1 });
        await bed.complete(count, { connections: 1, timeout: 120_000 });
        await bed.clients.call('abort');
      };
      await read(warm);
      const { rss } = await bed.server.call('memory');
      await bed.server.call('watch');
      await bed.server.call('start');
      await read(events);
      const { cpu, user, ms } = await bed.server.call('stop');
      const { peakRss } = await bed.server.call('unwatch');
      return {
        cpu: cpu / events,
        user: user / events,
        perSecond: (events / ms) * 1000,
        peak: (peakRss - rss) / 2 ** 20,
      };
    }),
};
