// The cost of admitting a connection: accept, parse, route, register, and answer with the head.
import { withBed } from '../bed.mjs';

export const setUp = {
  name: 'set-up',
  title: 'Connection set-up',
  peers: ['net', 'ours', 'http', 'express', 'better-sse', 'express-sse', 'sse-channel'],
  baseline: 'express',
  // V8 continues to compile until about 8,000 connections have been admitted. The last figure contains this cost.
  size: { first: 4000, warm: 4000, connections: 6000, atOnce: 100 },
  smoke: { first: 10, warm: 10, connections: 30, atOnce: 10 },
  metrics: {
    cpu: 'CPU µs per connection, warm',
    user: 'of it in user code',
    perSecond: 'connections/s',
    first: 'over the first 4,000 of a process',
  },
  run: (subject, { first, warm, connections, atOnce }) =>
    withBed(subject, async (bed) => {
      await bed.prepare(first + warm + connections);
      const cold = await admit(bed, { to: first, atOnce });
      await bed.connect({ from: first, to: first + warm, atOnce });
      const hot = await admit(bed, { from: first + warm, to: first + warm + connections, atOnce });
      return { ...hot, first: cold.cpu };
    }),
};

async function admit(bed, { from = 0, to, atOnce }) {
  await bed.server.call('start');
  const ms = await bed.connect({ from, to, atOnce });
  const { cpu, user } = await bed.server.call('stop');
  const count = to - from;
  return { cpu: cpu / count, user: user / count, perSecond: (count / ms) * 1000 };
}
