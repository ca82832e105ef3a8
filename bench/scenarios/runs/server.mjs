// A measured process: it produces and serves the runs of one peer, and receives its commands over IPC.
import { createServer } from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import express from 'express';
import { cpu, machineTime, since } from '../../gauges.mjs';
import { answer } from '../../processes.mjs';
import { peers } from './peers.mjs';
import { tokens } from './tokens.mjs';

const [name, json = '{}'] = process.argv.slice(2);
const peer = await peers[name](JSON.parse(json));
const app = express();
peer.serve(app);
app.use((error, req, res, _next) => {
  if (res.headersSent) res.destroy();
  else res.status(500).end(String(error.message));
});
const server = createServer(app);

/** When the source of a run was aborted or returned early, by the id of the run. */
const stopped = new Map();
const delays = monitorEventLoopDelay({ resolution: 1 });
let open;
const gate = new Promise((resolve) => (open = resolve));
let sources = 0;
let started;

async function* counted(id, pace, signal) {
  signal?.addEventListener('abort', () => stopped.set(id, machineTime()));
  sources++;
  let isDone = false;
  try {
    yield* tokens({ ...pace, gate: pace.isGated ? gate : undefined, signal });
    isDone = true;
  } finally {
    sources--;
    if (!isDone && !stopped.has(id)) stopped.set(id, machineTime());
  }
}

const start = ({ id, ...pace }) => peer.start(id, (signal) => counted(id, pace, signal));

answer({
  async listen() {
    await new Promise((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, resolve));
    return { port: server.address().port };
  },
  start,
  /** Starts the part of process `n` of `of` processes in `runs` runs, whose tokens are spread over the pace. */
  async startMany({ runs, every, of, n, ...pace }) {
    const own = Array.from({ length: runs }, (_, i) => i).filter((i) => i % of === n);
    await Promise.all(own.map((i) => start({ id: `run-${i}`, every, offset: (i / runs) * every, ...pace })));
  },
  /** Opens the gate of the runs that wait, and begins to measure. */
  go() {
    delays.reset();
    delays.enable();
    started = cpu();
    open();
  },
  cost: () => ({ ...since(started), loop: delays.percentile(99) / 1e6 }),
  /** Resolves when every source has ended and the peer has stored the ends. */
  async finished({ timeout }) {
    const end = performance.now() + timeout;
    while (sources > 0 || peer.unfinished() > 0) {
      if (performance.now() > end) return { isFinished: false };
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return { isFinished: true };
  },
  /** Resolves with the time at which the source of a run was stopped. */
  async stopped({ id, timeout }) {
    const end = performance.now() + timeout;
    while (!stopped.has(id)) {
      if (performance.now() > end) throw new Error('The source of a stopped run continues');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return stopped.get(id);
  },
  canStop: () => peer.stop !== undefined,
  stop: async ({ id }) => void (await peer.stop(id)),
});
