// What it costs to admit a connection: accept, parse, route, register, and answer with the head.
import { withBed } from '../bed.mjs';

export const setUp = {
  name: 'set-up',
  title: 'Connection set-up',
  peers: ['net', 'ours', 'http', 'express', 'better-sse', 'express-sse', 'sse-channel'],
  baseline: 'express',
  size: { connections: 4000, warm: 1500, atOnce: 100 },
  smoke: { connections: 30, warm: 10, atOnce: 10 },
  metrics: {
    cpu: 'CPU µs per connection',
    user: 'of it in user code',
    perSecond: 'connections/s',
  },
  run: (subject, { connections, warm, atOnce }) =>
    withBed(subject, async (bed) => {
      await bed.prepare(warm + connections);
      await bed.connect({ to: warm, atOnce });
      await bed.server.call('start');
      const ms = await bed.connect({ from: warm, to: warm + connections, atOnce });
      const { cpu, user } = await bed.server.call('stop');
      return { cpu: cpu / connections, user: user / connections, perSecond: (connections / ms) * 1000 };
    }),
};
