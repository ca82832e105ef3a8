// Other audiences than one user with one connection: what a delivery costs, how long the event loop is blocked, and how late an event is.
// It measures this package alone, in one process with an earlier version of it (`--before`).
import { ROOMS, sizesOfRooms } from '../channels.mjs';
import { percentile } from '../statistics.mjs';
import { Together } from '../together.mjs';
import { STRIDE } from './private.mjs';

/** The paths of the connections that each part needs. */
const own = '/private?user=*';

export const audiences = {
  name: 'audiences',
  title: 'Events for some connections: several tabs, several channels, exceptions, rooms, all',
  peers: ['ours'],
  /** `blocks`: in a round. */
  size: { connections: 3000, rooms: 2000, fanOut: 1000, events: 4000, blocks: 3, bytes: 100, timed: 1000 },
  smoke: { connections: 21, rooms: 20, fanOut: 10, events: 40, blocks: 1, bytes: 100, timed: 20 },
  metrics: {
    tabs: 'CPU µs per event to a user with three connections, 1,000 per tick',
    tabsFew: '100 per tick',
    topics: 'to three of the 20 channels of a user, 1,000 per tick',
    topicsFew: '100 per tick',
    except: 'with an exception, 1,000 per tick',
    exceptFew: '100 per tick',
    rooms: 'CPU µs per delivered event: 50 events per tick for rooms',
    roomsFew: '1 per tick',
    everyone: 'for all, 1 per tick',
    burst: '50 per tick',
    mixed: 'longest block, ms: 1,000 events for one or for all in a tick',
    mixedBusy: 'of it at work, ms',
    mixedCollection: 'longest garbage collection, ms',
    loop: '10,000 private events in one loop: ms until the loop has returned',
    p99: 'private event beside a fan-out to 1,000: p99, ms',
  },
  /** Returns the samples of every peer: one per block. */
  together: (subjects, { connections, rooms, fanOut, events, blocks, bytes, timed }, rounds) => {
    const names = subjects.map(({ name }) => name);
    const samples = Object.fromEntries(names.map((name) => [name, []]));
    const take = (figure, name, block, value) => ((samples[name][block] ??= {})[figure] = value);
    /** Runs a part: opens its connections for every peer, warms up, and measures the blocks in turn. */
    const part = (count, paths, measure) =>
      Together.run(
        { peers: subjects, bytes, connections: count * paths.length * names.length, profile: subjects[0].profile },
        async (bed) => {
          const firsts = {};
          for (const name of names) {
            for (const [i, path] of paths.entries()) {
              const first = await bed.connect(name, count, path);
              if (i === 0) firsts[name] = first;
            }
          }
          for (let block = -2; block < blocks * rounds; block++) {
            for (let i = 0; i < names.length; i++) {
              const peer = names[(i + Math.max(0, block)) % names.length];
              await measure(bed, peer, block, firsts[peer]);
            }
          }
        },
      );
    const costs =
      (figures, { receivers, isPrivate = true, count = events, ...settings }) =>
      async (bed, peer, block) => {
        for (const [figure, perTick] of Object.entries(figures)) {
          const number = Math.max(perTick, Math.min(count, 50 * perTick));
          const args = { peer, perTick, events: number, bytes, stride: STRIDE, receivers, isPrivate, ...settings };
          const { cpu, deliveries } = await bed.block(args);
          if (block >= 0) take(figure, peer, block, isPrivate ? cpu / number : cpu / deliveries);
        }
      };
    const third = Math.floor(connections / 3);
    return (async () => {
      await part(third, [own, own, own], costs({ tabs: 1000, tabsFew: 100 }, { users: third, receivers: () => 3 }));
      for (const [figure, shape] of [
        ['topics', 'topics'],
        ['except', 'parity'],
      ]) {
        const figures = { [figure]: 1000, [`${figure}Few`]: 100 };
        const settings = { users: connections, receivers: () => 1, shapes: [figure] };
        await part(connections, [`${own}&shape=${shape}`], costs(figures, settings));
      }
      const few = Math.ceil(events / 20);
      const sizes = sizesOfRooms(rooms);
      const inRooms = {
        users: rooms,
        receivers: (user) => sizes[user % ROOMS],
        shapes: ['room'],
        isPrivate: false,
        count: few,
      };
      await part(rooms, [`${own}&shape=rooms`], costs({ rooms: 50, roomsFew: 1 }, inRooms));
      const forAll = { users: fanOut, receivers: () => fanOut, shapes: ['everyone'], isPrivate: false, count: few };
      await part(fanOut, [own], costs({ everyone: 1, burst: 50 }, forAll));
      await part(connections, [`${own}&shape=mixed`], async (bed, peer, block) => {
        const mixed = {
          peer,
          perTick: 1000,
          events: 1000,
          bytes,
          stride: STRIDE,
          users: connections,
          isPrivate: false,
        };
        const receivers = (_user, i) => (i % 2 === 0 ? connections : 1);
        const watched = await bed.block({ ...mixed, shapes: ['all', 'own'], receivers, watched: true });
        const { loop } = await bed.block({ ...mixed, perTick: 10_000, events: 10_000, receivers: () => 1 });
        if (block < 0) return;
        take('mixed', peer, block, watched.block);
        take('mixedBusy', peer, block, watched.busy);
        take('mixedCollection', peer, block, watched.collection);
        take('loop', peer, block, loop);
      });
      await part(fanOut, [`${own}&shape=mixed`], async (bed, peer, block, first) => {
        const settings = { peer, connection: first, user: 0, count: timed, rate: 200, every: 100, bytes };
        // One sample in each round: it takes seconds.
        if (block >= 0 && block % blocks === 0) take('p99', peer, block, percentile(await bed.latency(settings), 99));
      });
      return samples;
    })();
  },
};
