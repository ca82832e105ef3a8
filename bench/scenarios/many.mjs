// 15,000 connections in one process: admission, broadcasts, heartbeats and shutdown, and how long each of them blocks the event loop.
import { skippable } from '../events.mjs';
import { Refused, withBed } from '../bed.mjs';

export const many = {
  name: 'many',
  title: '15,000 connections in one process',
  peers: ['ours', 'express'],
  baseline: 'express',
  size: { connections: 15_000, warm: 5, ticks: 20, bytes: 100, heartbeat: 3000 },
  smoke: { connections: 100, warm: 1, ticks: 2, bytes: 100, heartbeat: 400 },
  metrics: {
    cpu: 'CPU µs per delivered event',
    broadcastBlock: 'longest block while broadcasting, ms',
    broadcastBusy: 'of it at work, ms',
    broadcastCollection: 'longest garbage collection, ms',
    admitted: 'admitted within, s',
    admitBlock: 'longest block meanwhile, ms',
    heartbeatBlock: 'longest block by heartbeats, ms',
    drained: 'drained within, s',
    drainBlock: 'longest block meanwhile, ms',
    rss: 'RSS of the process, MB',
  },
  run: ({ options, ...subject }, { connections, warm, ticks, bytes, heartbeat }) =>
    withBed({ ...subject, options: { ...options, heartbeat } }, async (bed) => {
      const watched = async (work) => {
        await bed.server.call('watch');
        const result = await work();
        return { result, ...(await bed.server.call('unwatch')) };
      };
      await bed.prepare(connections, skippable(bytes));
      const admit = await watched(() => bed.connect({ to: connections, atOnce: 200 }));
      await bed.publish({ from: 1, ticks: warm, perTick: 1, bytes });
      const broadcast = await watched(() => bed.publish({ from: warm + 1, ticks, perTick: 1, bytes }));
      const beat = subject.peer === 'ours' ? await watched(() => heartbeats(bed, connections, heartbeat)) : undefined;
      const { rss } = await bed.server.call('memory');
      const begun = performance.now();
      const drain = await watched(async () => {
        const over = bed.clients.call('over', { connections, timeout: 60_000 });
        await bed.server.call('drain', { over: 0 });
        const { ended } = await over;
        if (ended !== connections) throw new Refused(`${ended} of ${connections} streams were ended`);
      });
      return {
        cpu: broadcast.result.cpu / broadcast.result.events,
        broadcastBlock: broadcast.block,
        broadcastBusy: broadcast.busy,
        broadcastCollection: broadcast.collection,
        admitted: admit.result / 1000,
        admitBlock: admit.block,
        heartbeatBlock: beat?.block,
        drained: (performance.now() - begun) / 1000,
        drainBlock: drain.block,
        rss: rss / 2 ** 20,
      };
    }),
};

async function heartbeats(bed, connections, heartbeat) {
  const { all, count } = await bed.clients.call('heard', { connections, timeout: heartbeat + 60_000 });
  if (!all) throw new Refused(`${count} of ${connections} connections received a heartbeat`);
}
