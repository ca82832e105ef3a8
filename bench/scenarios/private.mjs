// An event for one user: the cost per event, by the number of events in a tick. All peers run in one process, and their blocks alternate.
import { clientCore } from '../bed.mjs';
import { startEngine } from '../engines.mjs';
import { Together } from '../together.mjs';

/** The ticks before the first block of each peer and size, and how many events they have at most. */
const WARM_TICKS = 50;
const WARM_EVENTS = 10_000;
/** The users are neither in the order of their connections nor random, so every peer serves the same ones. */
export const STRIDE = 1237;

export const privateEvents = {
  name: 'private',
  title: 'Private events: each for one user',
  peers: ['socket', 'ours', 'express', 'http', 'better-sse', 'sse-channel'],
  baseline: 'express',
  /** `blocks`: in a round. */
  size: { connections: 3000, events: 4000, blocks: 3, bytes: 100 },
  smoke: { connections: 20, events: 40, blocks: 1, bytes: 100 },
  smokePeers: ['socket', 'ours', 'express'],
  metrics: {
    one: 'CPU µs per event, one event per tick',
    ten: '10 per tick',
    hundred: '100',
    thousand: '1,000',
    tenThousand: '10,000',
  },
  together: (subjects, size, rounds) =>
    measure(subjects, size, rounds, { one: 1, ten: 10, hundred: 100, thousand: 1000, tenThousand: 10_000 }),
};

export const privateJournals = {
  name: 'private-journals',
  title: 'Private events with the journal in memory, in LMDB and in Redis',
  peers: ['ours', 'lmdb', 'lmdb-no-sync', 'node-redis', 'ioredis'],
  baseline: 'ours',
  size: { connections: 3000, events: 4000, blocks: 3, bytes: 100 },
  smoke: { connections: 20, events: 40, blocks: 1, bytes: 100 },
  smokePeers: ['ours', 'lmdb'],
  metrics: { thousand: 'CPU µs per event, 1,000 events per tick', hundred: '100 per tick' },
  async together(subjects, size, rounds) {
    const engines = [];
    try {
      const opened = [];
      for (const { options, ...subject } of subjects) {
        const engine = options.journal && (await startEngine(options.journal, clientCore));
        if (engine) engines.push(engine);
        opened.push({ ...subject, options: engine ? { ...options, journal: engine.log(), isPrivate: true } : options });
      }
      return await measure(opened, size, rounds, { thousand: 1000, hundred: 100 });
    } finally {
      await Promise.all(engines.map((engine) => engine.stop()));
    }
  },
};

/** Returns the samples of every peer: one per block. `ticks`: the events in a tick, by the name of the figure. */
function measure(subjects, { connections, events, blocks, bytes }, rounds, ticks) {
  const count = connections * subjects.length;
  return Together.run({ peers: subjects, bytes, connections: count, profile: subjects[0].profile }, async (bed) => {
    const names = subjects.map(({ name }) => name);
    const samples = Object.fromEntries(names.map((name) => [name, []]));
    for (const name of names) await bed.connect(name, connections);
    const cost = async (peer, perTick, number) => {
      const settings = { peer, perTick, bytes, stride: STRIDE, users: connections };
      const { cpu } = await bed.block({ ...settings, events: number, receivers: () => 1 });
      return cpu / number;
    };
    for (const perTick of Object.values(ticks)) {
      for (const name of names) await cost(name, perTick, Math.min(WARM_EVENTS, perTick * WARM_TICKS));
    }
    for (let block = 0; block < blocks * rounds; block++) {
      const taken = Object.fromEntries(names.map((name) => [name, {}]));
      for (const [figure, perTick] of Object.entries(ticks)) {
        for (let i = 0; i < names.length; i++) {
          const name = names[(i + block) % names.length];
          taken[name][figure] = await cost(name, perTick, Math.max(events, perTick));
        }
      }
      for (const name of names) samples[name].push(taken[name]);
    }
    return samples;
  });
}
