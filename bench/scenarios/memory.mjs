// The memory of an idle connection. Each sample uses a new process, because free space in an older heap hides new memory.
import { withBed } from '../bed.mjs';

export const memory = {
  name: 'memory',
  title: 'Memory per idle connection',
  peers: ['net', 'ours', 'http', 'express', 'better-sse', 'express-sse', 'sse-channel'],
  baseline: 'express',
  size: { connections: 8000, warm: 300 },
  smoke: { connections: 30, warm: 5 },
  metrics: {
    rss: 'RSS, KB per connection',
    heap: 'of it on the JavaScript heap, KB',
  },
  run: (subject, { connections, warm }) =>
    withBed(subject, async (bed) => {
      // The first requests compile code and fill caches. That memory belongs to the process, so it is measured before.
      await bed.prepare(warm);
      await bed.connect({ to: warm });
      await bed.disconnectAll();
      const before = await bed.server.call('memory');
      await bed.prepare(connections);
      await bed.connect({ to: connections });
      const after = await bed.server.call('memory');
      return {
        rss: (after.rss - before.rss) / 1024 / connections,
        heap: (after.heapUsed - before.heapUsed) / 1024 / connections,
      };
    }),
};
