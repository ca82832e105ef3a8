// The measured process: one peer, told what to do over IPC, so that nothing but its own work is in its CPU time.
// May know: the adapters by name. Keeps: the bytes of an event and the pace are the same for every peer.
import { answer } from './processes.mjs';
import { document, payload } from './events.mjs';
import { cpu, settledMemory, since, Watch } from './gauges.mjs';

const [peer, json = '{}'] = process.argv.slice(2);
const { create } = await import(`./adapters/${peer}.mjs`);
const adapter = await create(JSON.parse(json));
const watch = new Watch();

let seq = 0;
let started = cpu();
let resume = () => {};

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

/** `ticks` times `perTick` broadcasts within one turn of the event loop, each tick when every client has the last one. */
async function publish({ ticks, perTick, bytes, paced = true }) {
  const make = bytes === 'document' ? document : (n) => payload(n, bytes);
  const start = cpu();
  for (let tick = 0; tick < ticks; tick++) {
    const all = paced ? new Promise((resolve) => (resume = resolve)) : nextTurn();
    const done = [];
    for (let i = 0; i < perTick; i++) done.push(adapter.broadcast(make(++seq)));
    await all;
    // Where nobody listens, only the journal can say that an event is safe.
    if (!paced) await Promise.all(done);
  }
  return { ...since(start), last: seq };
}

async function listen() {
  await new Promise((resolve) => adapter.server.listen({ port: 0, host: '0.0.0.0', backlog: 4096 }, resolve));
  return { port: adapter.server.address().port };
}

answer({
  listen,
  publish,
  arrived: () => resume(),
  size: () => adapter.size(),
  start: () => void (started = cpu()),
  stop: () => since(started),
  memory: settledMemory,
  watch: () => watch.start(),
  unwatch: () => watch.stop(),
  drain: ({ over }) => adapter.close(over),
  position: () => adapter.position?.() ?? '',
});
