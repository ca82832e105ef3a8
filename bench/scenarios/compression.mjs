// gzip: each broadcast is compressed once for all connections, compared with one compression per connection.
import { document, frame } from '../events.mjs';
import { withBed } from '../bed.mjs';

export const compression = {
  name: 'compression',
  title: 'Compression: JSON events of ~850 bytes as gzip',
  peers: ['ours', 'better-sse'],
  baseline: 'better-sse',
  size: { connections: 300, warm: 30, ticks: 100 },
  smoke: { connections: 5, warm: 1, ticks: 2 },
  smokePeers: ['ours'],
  metrics: {
    cpu: 'CPU µs per delivered event',
    bytes: `bytes on the wire per event (of ${frame(document(1)).length})`,
    rss: 'RSS, KB per connection',
  },
  run: ({ options, ...subject }, { connections, warm, ticks }) =>
    withBed({ ...subject, options: { ...options, compress: true } }, async (bed) => {
      const publish = (from, count) => bed.publish({ from, ticks: count, perTick: 1, bytes: 'document' });
      // The first broadcasts make the process grow. That memory does not belong to the connections, so it is measured before.
      await bed.prepare(20, 0);
      await bed.connect({ to: 20, gzip: true });
      await publish(1, warm);
      await bed.disconnectAll();
      const before = await bed.server.call('memory');
      await bed.prepare(connections, 0, warm);
      await bed.connect({ to: connections, gzip: true });
      await publish(warm + 1, warm);
      const after = await bed.server.call('memory');
      const wire = await bed.clients.call('wire');
      const { cpu, events } = await publish(2 * warm + 1, ticks);
      const bytes = (await bed.clients.call('wire')) - wire;
      return { cpu: cpu / events, bytes: bytes / events, rss: (after.rss - before.rss) / 1024 / connections };
    }),
};
