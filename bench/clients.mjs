// The client process: thousands of raw sockets that request a stream and count its events.
// Invariant: it needs less CPU time than the server that it measures.
import { answer } from './processes.mjs';
import { Counter } from './counter.mjs';
import { machineTime } from './gauges.mjs';
import { openSocket, openGunzipped } from './sockets.mjs';

let counter = new Counter(0);
/** The open sockets, by the number of the connection. */
let sockets = [];
let goal = { perTick: 0, target: Infinity, reached: 0 };
let lastIds = [];
/** The times at which the events of one connection were complete, if a scenario measures them. */
let stamped = { connection: -1, arrived: [] };
let touched = new Uint8Array(0);
let touchedCount = 0;
let ended = 0;
/** What the next connections count together: how many events arrive, and which connection an event belongs to. */
let shared = { events: Infinity, stride: 0, users: 0 };

// An address has about 28,000 ports. The first 20,000 connections name no address, because binding one makes the kernel search for a port.
const address = (i) => (i < 20_000 ? undefined : `127.0.0.${1 + Math.floor(i / 20_000)}`);

/** Opens connections `from` to `to`, at most `atOnce` at the same time. Resolves when each has received the head of its response. */
async function open({ port, path, from = 0, to, atOnce = 100, gzip = false, ids = false, resume = false, within = 0 }) {
  const begun = performance.now();
  let next = from;
  const worker = async () => {
    while (next < to) {
      const i = next++;
      if (within > 0) await until(begun + ((i - from) / (to - from)) * within);
      const socket = (gzip ? openGunzipped : openSocket)({
        port,
        path: path.replace('*', i - from),
        localAddress: address(i),
        lastEventId: resume ? lastIds[i] : undefined,
        onChunk: (chunk) => receive(i, chunk, ids),
        onEnd: () => finish(i),
      });
      sockets[i] = socket;
      await socket.ready;
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, to - from) }, worker));
  return { ms: performance.now() - begun };
}

const until = (at) => new Promise((resolve) => setTimeout(resolve, at - performance.now()));

function receive(i, chunk, ids) {
  if (touched[i] === 0) {
    touched[i] = 1;
    touchedCount++;
  }
  if (ids) remember(i, chunk);
  counter.feed(i, chunk);
}

/** Stores the id of the newest event. It is called only while few events are sent, so a chunk never ends within an event. */
function remember(i, chunk) {
  const at = chunk.lastIndexOf('id: ');
  if (at !== -1) lastIds[i] = chunk.toString('latin1', at + 4, chunk.indexOf(10, at));
}

function finish(i) {
  if (sockets[i] === undefined) return;
  sockets[i] = undefined;
  ended++;
}

function reached(i, seq) {
  if (i === stamped.connection) stamped.arrived.push(machineTime());
  if (shared.users > 0 && (seq * shared.stride) % shared.users !== i % shared.users) counter.faults++;
  if (counter.events === shared.events) process.send({ name: 'arrived', args: {} });
  if (seq !== goal.target) return;
  if (++goal.reached < goal.connections) return;
  goal.target += goal.perTick;
  goal.reached = 0;
  process.send({ name: 'arrived', args: { seq } });
}

/** Resolves when `done()` returns true. It is checked every 5 ms, because no measurement depends on the exact moment. */
async function when(done, timeout) {
  const end = performance.now() + timeout;
  while (!done()) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return true;
}

answer({
  open,
  /** `seen`: the last event before these connections open, which they do not receive. */
  prepare({ connections, skip, seen, hasGaps }) {
    counter = new Counter(connections, { skip, seen, hasGaps });
    shared = { events: Infinity, stride: 0, users: 0 };
    counter.onEvent = reached;
    sockets = Array.from({ length: connections });
    lastIds = [];
    stamped = { connection: -1, arrived: [] };
    touched = new Uint8Array(connections);
    ended = 0;
  },
  /** From now on, notifies the orchestrator each time all connections have received the next `perTick` events. */
  goal: ({ connections, target, perTick }) => void (goal = { connections, target, perTick, reached: 0 }),
  /**
   * Notifies the orchestrator when so many more events have arrived. With `users`, event n belongs to the user n × `stride` modulo
   * `users`, and so do the connections whose numbers have this remainder.
   */
  expect: ({ events, stride = 0, users = 0 }) => void (shared = { events: counter.events + events, stride, users }),
  faults: () => ({ faults: counter.faults, first: counter.firstFault }),
  async complete({ connections, last, timeout }) {
    await when(() => counter.faults > 0 || counter.behind(connections, last) === 0, timeout);
    return {
      behind: counter.behind(connections, last),
      faults: counter.faults,
      first: counter.firstFault,
      events: counter.events,
    };
  },
  stamp: ({ connection }) => void (stamped = { connection, arrived: [] }),
  stamps: () => stamped.arrived,
  /** Returns the bytes received over the wire, before they are inflated. */
  wire: () => sockets.reduce((sum, socket) => sum + (socket?.bytesRead() ?? 0), 0),
  /** Resets every socket, as a failing network does. */
  abort() {
    const open = sockets;
    sockets = [];
    for (const [i, socket] of open.entries()) {
      socket?.abort();
      counter.restart(i);
    }
  },
  /** Waits until each of the open connections has received something since this call. */
  async heard({ connections, timeout }) {
    touched.fill(0);
    touchedCount = 0;
    const all = await when(() => touchedCount >= connections, timeout);
    return { all, count: touchedCount };
  },
  async over({ connections, timeout }) {
    await when(() => ended >= connections, timeout);
    return { ended };
  },
});
