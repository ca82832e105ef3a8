// The measured process: it runs one peer and receives its commands over IPC, so its CPU time contains no other work.
// Invariant: the bytes of an event and the pace are the same for every peer.
import { answer } from './processes.mjs';
import { document, payload } from './events.mjs';
import { cpu, machineTime, settledMemory, since, Watch } from './gauges.mjs';
import { steadily, windowed } from './pace.mjs';

const [peer, json = '{}'] = process.argv.slice(2);
const { create } = await import(`./adapters/${peer}.mjs`);
const adapter = await create(JSON.parse(json));
const watch = new Watch();

let seq = 0;
let started = cpu();
let resume = () => {};

/** Makes `perTick` broadcasts in one tick, `ticks` times. The next tick follows when every client has received the last broadcast. */
async function publish({ ticks, perTick, bytes }) {
  const make = bytes === 'document' ? document : (n) => payload(n, bytes);
  const start = cpu();
  for (let tick = 0; tick < ticks; tick++) {
    const all = new Promise((resolve) => (resume = resolve));
    for (let i = 0; i < perTick; i++) adapter.broadcast(make(++seq));
    await all;
  }
  return { ...since(start), last: seq };
}

/**
 * Publishes `among` events while no client is connected. Of these, `missed` are for all clients, and are spread evenly. The others are
 * for a channel without members, and their number is not counted. Each broadcast resolves when the journal has stored its event.
 */
async function scatter({ missed, among, bytes }) {
  const before = (n) => Math.floor((n * missed) / among);
  await windowed(among, 1000, (n) =>
    before(n + 1) > before(n)
      ? adapter.broadcast(payload(++seq, bytes))
      : adapter.broadcast(payload(0, bytes), { to: 'elsewhere' }),
  );
}

/** Broadcasts `rate` events per second. Returns the time at which each was sent. */
async function sendSteadily({ count, rate, bytes }) {
  const sent = [];
  await steadily(count, rate, () => {
    const data = payload(++seq, bytes);
    sent.push(machineTime());
    return adapter.broadcast(data);
  });
  return { sent, last: seq };
}

async function listen() {
  await new Promise((resolve) => adapter.server.listen({ port: 0, host: '0.0.0.0', backlog: 4096 }, resolve));
  return { port: adapter.server.address().port };
}

answer({
  listen,
  publish,
  scatter,
  steadily: sendSteadily,
  arrived: () => resume(),
  size: () => adapter.size(),
  start: () => void (started = cpu()),
  stop: () => since(started),
  memory: settledMemory,
  watch: () => watch.start(),
  unwatch: () => watch.stop(),
  drain: ({ over }) => adapter.close(over),
  position: () => adapter.position?.() ?? '',
  ring: () => adapter.ring(),
});
