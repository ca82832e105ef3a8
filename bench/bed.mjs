// The test bed of one measurement: a server process, a client process, and the commands that the scenarios send to them.
// Invariant: a run in which an event is missing has no figure.
import { Child } from './processes.mjs';

export const serverCore = 0;
export const clientCore = 1;

export class Refused extends Error {}

/** Runs `measure(bed)` on new processes. Ends the processes also after an error. */
export async function withBed({ peer, options, profile }, measure) {
  const bed = new Bed();
  try {
    await bed.start(peer, options, profile);
    return await measure(bed);
  } finally {
    await bed.end();
  }
}

export class Bed {
  server;
  clients = new Child('./clients.mjs', { core: clientCore });
  port = 0;
  #connections = 0;
  #others = [];
  #start;
  #profile;

  async start(peer, options = {}, profile = []) {
    this.#start = (nodeArgs) =>
      new Child('./server.mjs', { core: serverCore, args: [peer, JSON.stringify(options)], nodeArgs });
    this.#profile = profile;
    this.clients.onMessage = ({ name, args }) => this.server.notify(name, args);
    await this.#listen();
  }

  /** Replaces the server, as a deployment does: the old process shuts down, then a new one starts. */
  async restart() {
    await this.server.call('drain', { over: 0 });
    await this.server.end();
    await this.#listen();
  }

  /** Starts another server with the same options. It uses the same journal, if processes can share it. */
  async another() {
    const server = this.#start([]);
    this.#others.push(server);
    return { server, ...(await server.call('listen')) };
  }

  /** Shuts the other servers down. This also closes their connections. */
  async endOthers() {
    const others = this.#others.splice(0);
    await Promise.all(others.map((server) => server.call('drain', { over: 0 })));
    await Promise.all(others.map((server) => server.end()));
  }

  async #listen() {
    this.server = this.#start(this.#profile);
    ({ port: this.port } = await this.server.call('listen'));
  }

  async end() {
    await Promise.all([this.server, this.clients, ...this.#others].map((child) => child?.end()));
  }

  /** Sets the number of connections to count, before the first one opens. */
  prepare(connections, skip, seen = 0) {
    this.#connections = connections;
    return this.clients.call('prepare', { connections, skip, seen });
  }

  /** Opens connections to the first server, or to `at`. Waits until this server has `size` connections. */
  async connect({ at: { server, port } = this, size, ...args }) {
    const { ms } = await this.clients.call('open', { port, path: '/events', ...args });
    await this.#size(server, size ?? args.to);
    return ms;
  }

  /** Breaks all connections, and waits until the server has noticed it. */
  async disconnectAll() {
    await this.clients.call('abort');
    await this.#size(this.server, 0);
  }

  /** Broadcasts, and returns the cost for the server. */
  async publish({ from, ticks, perTick, bytes }) {
    const connections = this.#connections;
    await this.clients.call('goal', { connections, target: from + perTick - 1, perTick });
    const cost = await this.server.call('publish', { ticks, perTick, bytes });
    await this.complete(cost.last);
    return { ...cost, events: ticks * perTick * connections };
  }

  /** Refuses the run unless every client has received every event up to `last`, once and in order. */
  async complete(last, { connections = this.#connections, timeout = 30_000 } = {}) {
    const seen = await this.clients.call('complete', { connections, last, timeout });
    if (seen.faults > 0) throw new Refused(`${seen.faults} events out of order or twice; ${seen.first}`);
    if (seen.behind > 0) throw new Refused(`${seen.behind} of ${connections} clients did not receive every event`);
    return seen;
  }

  async #size(server, expected, timeout = 30_000) {
    const end = Date.now() + timeout;
    for (;;) {
      const size = await server.call('size');
      if (size === expected) return;
      if (Date.now() > end) throw new Refused(`the server has ${size} connections instead of ${expected}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
