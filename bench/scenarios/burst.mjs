// Fifty broadcasts in one tick: which peers join them into one write, and how fast they are directly after the start.
import { skippable } from '../events.mjs';
import { withBed } from '../bed.mjs';
import { perEvent } from './fan-out.mjs';

export const burst = {
  name: 'burst',
  title: 'Burst: 50 broadcasts per tick',
  peers: ['net', 'joined', 'ours', 'http', 'express', 'better-sse', 'express-sse', 'sse-channel'],
  baseline: 'http',
  size: { connections: 400, perTick: 50, first: 8, warm: 100, ticks: 100, bytes: 100 },
  smoke: { connections: 10, perTick: 50, first: 1, warm: 1, ticks: 1, bytes: 100 },
  metrics: {
    cpu: 'CPU µs per delivered event, warm',
    user: 'of it in user code',
    first: 'over the first 400 events',
    perSecond: 'events/s',
  },
  run: (subject, { connections, perTick, first, warm, ticks, bytes }) =>
    withBed(subject, async (bed) => {
      await bed.prepare(connections, skippable(bytes));
      await bed.connect({ to: connections });
      const cold = await bed.publish({ from: 1, ticks: first, perTick, bytes });
      const middle = await bed.publish({ from: cold.last + 1, ticks: warm, perTick, bytes });
      const hot = await bed.publish({ from: middle.last + 1, ticks, perTick, bytes });
      return { ...perEvent(hot), first: perEvent(cold).cpu };
    }),
};
