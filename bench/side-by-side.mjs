// The measured process of the scenarios `private` and `audiences`: it runs several peers at once, each on a port of its own.
// So the blocks of all peers share the state of the machine and of V8, and a ratio between them is a ratio of their work alone.
// Invariant: every peer sends the same data, which is made before the clock starts.
import { setImmediate as nextTick } from 'node:timers/promises';
import { answer } from './processes.mjs';
import { payload } from './events.mjs';
import { cpu, machineTime, since, Watch } from './gauges.mjs';
import { steadily } from './pace.mjs';

/** By the name of the peer: its adapter. */
const adapters = new Map();
const watch = new Watch();
let seq = 0;
let arrived = () => {};

async function listen({ peer, adapter: file, options }) {
  const { create } = await import(`./adapters/${file}.mjs`);
  const adapter = await create(options);
  adapters.set(peer, adapter);
  await new Promise((resolve) => adapter.server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, resolve));
  return { port: adapter.server.address().port };
}

/**
 * Resolves when the peer has done what it defers within the tick. So its immediates come before the one that begins the next tick, as
 * if a request or a timer began it. In the other order, it would join the events of two ticks.
 */
async function microtasks() {
  for (let i = 0; i < 5; i++) await Promise.resolve();
}

/**
 * Sends `events` events, `perTick` in each tick, and waits until the clients have them. `shapes`: the receivers of the events in turn.
 * `loop` in the result: the longest time from the first broadcast of a tick until the code after them can run.
 */
async function block({ peer, events, perTick, stride, users, bytes, shapes = ['own'], watched = false }) {
  const { send, prepare = (data) => data } = adapters.get(peer);
  const items = Array.from({ length: events }, (_, i) => prepare(payload(seq + 1 + i, bytes)));
  const all = new Promise((resolve) => (arrived = resolve));
  globalThis.gc({ type: 'minor' });
  if (watched) watch.start();
  const start = cpu();
  let loop = 0;
  for (let sent = 0; sent < events;) {
    const begun = performance.now();
    for (const end = Math.min(events, sent + perTick); sent < end; sent++) {
      send((++seq * stride) % users, items[sent], shapes[sent % shapes.length]);
    }
    await microtasks();
    loop = Math.max(loop, performance.now() - begun);
    await nextTick();
  }
  await all;
  items.length = 0;
  globalThis.gc({ type: 'minor' }); // each peer pays for its own garbage
  const cost = since(start);
  return { ...cost, loop, ...(watched && watch.stop()) };
}

/** Sends `count` private events to one user, `rate` per second, while an event for all leaves every `every` milliseconds. */
async function latency({ peer, user, count, rate, every, bytes }) {
  const { send } = adapters.get(peer);
  const sent = [];
  const timer = setInterval(() => send(0, payload(++seq, bytes), 'all'), every);
  await steadily(count, rate, async () => {
    const data = payload(++seq, bytes);
    sent.push(machineTime());
    send(user, data, 'own');
  });
  clearInterval(timer);
  return sent;
}

answer({
  listen,
  block,
  latency,
  arrived: () => arrived(),
  seq: () => seq,
  size: ({ peer }) => adapters.get(peer).size(),
});
