// The cost of a broadcast that is the only one of its tick. There is nothing to join, so this is the cost of a write.
import { skippable } from '../events.mjs';
import { withBed } from '../bed.mjs';

export const fanOut = {
  name: 'fan-out',
  title: 'Fan-out: one broadcast per tick',
  peers: ['net', 'socket', 'ours', 'http', 'express', 'better-sse', 'express-sse', 'sse-channel'],
  baseline: 'net',
  size: { connections: 1000, warm: 400, ticks: 400, bytes: 100 },
  smoke: { connections: 20, warm: 2, ticks: 3, bytes: 100 },
  smokePeers: ['net', 'socket', 'ours', 'http', 'express'],
  metrics: {
    cpu: 'CPU µs per delivered event',
    user: 'of it in user code',
    perSecond: 'events/s',
  },
  run: (subject, size) =>
    withBed(subject, async (bed) => {
      await bed.prepare(size.connections, skippable(size.bytes));
      await bed.connect({ to: size.connections });
      await bed.publish({ from: 1, ticks: size.warm, perTick: 1, bytes: size.bytes });
      return perEvent(await bed.publish({ from: size.warm + 1, ticks: size.ticks, perTick: 1, bytes: size.bytes }));
    }),
};

export const perEvent = ({ cpu, user, ms, events }) => ({
  cpu: cpu / events,
  user: user / events,
  perSecond: (events / ms) * 1000,
});
