// All connections break at once, and all clients reconnect within a second: whether each receives the missed events, and the cost.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { skippable } from '../events.mjs';
import { withBed } from '../bed.mjs';

/**
 * The server's queue of connections to accept has 4,096 places. If it overflows while the server is busy, the kernel resets some of the
 * other connections (measured: 360 of 8,000). The scenario would then measure the kernel.
 */
const ACCEPTED_AT_ONCE = 4000;

const metrics = {
  complete: 'all complete after, s',
  cpu: 'CPU µs per client',
  perEvent: 'CPU µs per event',
  peak: 'RSS at its peak, MB above the start',
  block: 'longest block, ms',
  busy: 'of it at work, ms',
  collection: 'longest garbage collection, ms',
};

export const storm = {
  name: 'storm',
  title: 'Resume storm: 5,000 clients back within a second, each missing 100 events of 500 bytes',
  peers: ['ours', 'sse-channel'],
  smokePeers: ['ours'],
  baseline: 'sse-channel',
  size: { connections: 5000, seen: 10, missed: 100, bytes: 500, within: 1000 },
  smoke: { connections: 20, seen: 2, missed: 10, bytes: 500, within: 50 },
  metrics,
  run: (subject, size) =>
    withBed(subject, async (bed) => {
      await missEvents(bed, size);
      return reconnectAll(bed, size);
    }),
};

export const coldStorm = {
  name: 'cold-storm',
  title: 'Resume storm on a process that has just started: 8,000 clients, journal in LMDB',
  peers: ['ours'],
  size: { connections: 8000, seen: 10, missed: 100, bytes: 500, within: 1000 },
  smoke: { connections: 20, seen: 2, missed: 10, bytes: 500, within: 50 },
  metrics,
  async run({ options, ...subject }, size) {
    const directory = await mkdtemp(join(tmpdir(), 'sse-router-bench-'));
    try {
      const durable = { ...subject, options: { ...options, journal: { at: join(directory, 'journal') } } };
      return await withBed(durable, async (bed) => {
        await missEvents(bed, size);
        await bed.restart();
        return reconnectAll(bed, size);
      });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
};

/** All clients receive a few events, disconnect, and miss `missed` events. Further events without recipients make it `among` in total. */
export async function missEvents(bed, { connections, seen, missed, among = missed, bytes }) {
  await bed.prepare(connections, skippable(bytes));
  await bed.connect({ to: connections, ids: true });
  await bed.publish({ from: 1, ticks: seen, perTick: 1, bytes });
  await bed.disconnectAll();
  await bed.server.call('scatter', { missed, among, bytes });
}

export async function reconnectAll(bed, { connections, seen, missed, within }) {
  const { rss } = await bed.server.call('memory');
  await bed.server.call('watch');
  await bed.server.call('start');
  await bed.connect({ to: connections, atOnce: ACCEPTED_AT_ONCE, resume: true, within });
  await bed.complete(seen + missed, { timeout: 60_000 });
  const { cpu, ms } = await bed.server.call('stop');
  const { block, busy, collection, peakRss } = await bed.server.call('unwatch');
  return {
    complete: ms / 1000,
    cpu: cpu / connections,
    perEvent: cpu / connections / missed,
    peak: (peakRss - rss) / 2 ** 20,
    block,
    busy,
    collection,
  };
}
