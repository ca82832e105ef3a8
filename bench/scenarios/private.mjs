// An event for one user: the cost per event, by the number of events in a tick. All peers run in one process, and their blocks alternate.
import { Together } from '../together.mjs';

/** The events in a tick, by the name of the figure. */
const TICKS = { one: 1, ten: 10, hundred: 100, thousand: 1000, tenThousand: 10_000 };
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
  /** Returns the samples of every peer: one per block. */
  together: (subjects, { connections, events, blocks, bytes }, rounds) => {
    const count = connections * subjects.length;
    return Together.run({ peers: subjects, bytes, connections: count, profile: subjects[0].profile }, async (bed) => {
      const samples = Object.fromEntries(subjects.map(({ name }) => [name, []]));
      for (const { name } of subjects) await bed.connect(name, connections);
      const measure = async (peer, perTick, isWarmUp = false) => {
        const number = isWarmUp ? Math.min(WARM_EVENTS, perTick * WARM_TICKS) : Math.max(events, perTick);
        const { cpu } = await bed.block({
          ...{ peer, perTick, bytes, stride: STRIDE, users: connections },
          ...{ events: number, receivers: () => 1 },
        });
        return cpu / number;
      };
      for (const perTick of Object.values(TICKS)) for (const { name } of subjects) await measure(name, perTick, true);
      for (let block = 0; block < blocks * rounds; block++) {
        const order = subjects.map((_, i) => subjects[(i + block) % subjects.length]);
        const taken = Object.fromEntries(subjects.map(({ name }) => [name, {}]));
        for (const [figure, perTick] of Object.entries(TICKS)) {
          for (const { name } of order) taken[name][figure] = await measure(name, perTick);
        }
        for (const { name } of subjects) samples[name].push(taken[name]);
      }
      return samples;
    });
  },
};
