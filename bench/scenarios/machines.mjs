// Several processes on one log: the throughput of each engine, and the cost of an additional process for the engine.
// Invariant: every part has a log of its own, and returns no figure for a log with a fault.
import { Refused, serverCore, clientCore, withBed } from '../bed.mjs';
import { startEngine } from '../engines.mjs';
import { skippable } from '../events.mjs';
import { journals } from '../journals.mjs';
import { Child } from '../processes.mjs';
import { percentile } from '../statistics.mjs';
import { missEvents, reconnectAll } from './storm.mjs';

export const machines = {
  name: 'machines',
  title: 'Several processes on one log: Redis, LMDB and Postgres',
  peers: Object.keys(journals),
  smokePeers: ['node-redis', 'ioredis', 'lmdb', 'postgres'],
  size: {
    bytes: 200,
    events: 60_000,
    window: 1000,
    page: 1000,
    rate: 500,
    timed: 2500,
    connections: 8000,
    seen: 10,
    missed: 100,
    ring: 5000,
    log: 20_000,
    within: 1000,
    load: 4000,
    loaded: 20_000,
  },
  smoke: {
    bytes: 200,
    events: 1500,
    window: 1000,
    page: 1000,
    rate: 500,
    timed: 50,
    connections: 20,
    seen: 2,
    missed: 10,
    ring: 50,
    log: 17_000, // more than a ring holds
    within: 20,
    load: 1000,
    loaded: 100,
  },
  metrics: {
    publishes: 'publishes/s',
    p50: 'broadcast to a client of another process, p50, ms',
    p99: 'p99, ms',
    catchUp: 'catch-up, entries/s',
    ring: 'all back on a new process, from its ring, s',
    log: 'older than its ring, s',
    one: "the engine's CPU ms per 1,000 events, 1 process",
    three: '3 processes',
    each: 'of it per process',
    bytes: 'bytes kept per event',
  },
  async run({ profile, ...subject }, size) {
    const engine = await startEngine(subject.options.journal, clientCore);
    const onNewLog = () => ({ ...subject, options: { ...subject.options, journal: engine.log() }, profile });
    try {
      const { kept, ...shared } = await together(engine, onNewLog(), size);
      return {
        ...(await bare(engine, onNewLog(), size)),
        ...shared,
        ...(await allBack(onNewLog(), size)),
        notes: [...engine.notes, ...(kept ? [] : [tooSlow])],
      };
    } finally {
      await engine.stop();
    }
  },
};

// Late events are sent together, and an event in a larger batch costs the engine less.
const tooSlow =
  'Not in every round did the machine keep up with the load under which the CPU of the engine was measured.';

/** Measures the journal alone: one process appends events, and reads them from the beginning. */
async function bare(engine, { options: { journal, lib }, profile }, { events, bytes, window, page }) {
  const args = [JSON.stringify(journal), ...(lib === undefined ? [] : [lib])];
  const child = new Child('./bare-journal.mjs', { core: serverCore, args, nodeArgs: profile });
  try {
    const warm = Math.ceil(events / 10);
    await child.call('append', { count: warm, bytes, window });
    const { ms } = await child.call('append', { count: events, bytes, window });
    await child.call('read', { page });
    const read = await child.call('read', { page });
    return {
      publishes: (events / ms) * 1000,
      catchUp: (read.entries / read.ms) * 1000,
      bytes: (await engine.bytes(journal)) / (warm + events),
    };
  } finally {
    await child.end();
  }
}

/**
 * Measures three processes with one client each, of which the first process broadcasts: the cost for the engine, and the time from the
 * call of broadcast until a client of another process has received the whole event. Then measures the same load with one process.
 */
async function together(engine, subject, { bytes, rate, timed, load, loaded }) {
  return withBed(subject, async (bed) => {
    const send = async (count, perSecond, connections) => {
      const { sent, last } = await bed.server.call('steadily', { count, rate: perSecond, bytes });
      await bed.complete(last, { connections });
      return sent;
    };
    let kept = true;
    const cost = async (connections) => {
      const before = await engine.cpu();
      if (before === undefined) return undefined;
      const sent = await send(loaded, load, connections);
      if (sent.at(-1) - sent[0] > (1.1 * 1000 * loaded) / load) kept = false;
      return ((await engine.cpu()) - before) / (loaded / 1000);
    };
    await bed.prepare(3, skippable(bytes));
    await bed.connect({ to: 1 });
    for (const from of [1, 2]) await bed.connect({ at: await bed.another(), from, to: from + 1, size: 1 });
    await send(Math.ceil(load / 4), load, 3);
    const three = await cost(3);
    await bed.clients.call('stamp', { connection: 1 });
    const sent = await send(timed, rate, 3);
    const arrived = await bed.clients.call('stamps');
    const times = arrived.map((at, i) => at - sent[i]);
    await bed.endOthers();
    const one = await cost(1);
    const each = one === undefined ? undefined : (three - one) / 2;
    return { p50: percentile(times, 50), p99: percentile(times, 99), one, three, each, kept };
  });
}

/**
 * Measures how many seconds all clients need after they reconnect to a process that has just started. First their ids are in its
 * ring, and then only in the log.
 */
async function allBack(subject, size) {
  return withBed(subject, async (bed) => {
    const reconnect = async (among) => {
      await missEvents(bed, { ...size, among });
      await bed.restart(); // events are numbered from 1 again
      const { complete } = await reconnectAll(bed, size);
      const held = await bed.server.call('ring');
      await bed.disconnectAll();
      return { complete, inRing: held >= among };
    };
    const ring = await reconnect(size.ring);
    const log = await reconnect(size.log);
    if (!ring.inRing || log.inRing)
      throw new Refused('the ids must be in the ring, and then only in the log: set other values for ring and log');
    return { ring: ring.complete, log: log.complete };
  });
}
