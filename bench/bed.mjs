// One measurement's test bed: a server process, a client process, and the questions that every scenario asks them.
// May know: the commands of server.mjs and clients.mjs. Keeps: no figure leaves it for a run in which an event was missing.
import { Child } from './processes.mjs';

export const serverCore = 0;
export const clientCore = 1;

export class Refused extends Error {}

/** Runs `measure(bed)` on fresh processes and ends them, whatever happens. */
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
    this.clients.onMessage = ({ name, args }) => this.server.tell(name, args);
    await this.#listen();
  }

  /** A deploy: the old process ends in good order, a new one takes over. */
  async restart() {
    await this.server.call('drain', { over: 0 });
    await this.server.end();
    await this.#listen();
  }

  /** A further process like the first, to connect to: on the same journal, if that is one that can be shared. */
  async another() {
    const server = this.#start([]);
    this.#others.push(server);
    return { server, ...(await server.call('listen')) };
  }

  /** They leave in good order, their clients with them. */
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

  /** Says how many connections will be counted, before the first opens. */
  prepare(connections, skip, seen = 0) {
    this.#connections = connections;
    return this.clients.call('prepare', { connections, skip, seen });
  }

  /** Opens connections and waits until the server, the first or `at`, counts `size` as its own. */
  async connect({ at: { server, port } = this, size, ...args }) {
    const { ms } = await this.clients.call('open', { port, path: '/events', ...args });
    await this.#size(server, size ?? args.to);
    return ms;
  }

  async gone() {
    await this.clients.call('cut');
    await this.#size(this.server, 0);
  }

  /** Broadcasts and returns what that cost the server. */
  async publish({ from, ticks, perTick, bytes }) {
    const connections = this.#connections;
    await this.clients.call('goal', { connections, target: from + perTick - 1, perTick });
    const cost = await this.server.call('publish', { ticks, perTick, bytes });
    await this.complete(cost.last);
    return { ...cost, events: ticks * perTick * connections };
  }

  /** Refuses the run unless every client has every event up to `last`, once and in order. */
  async complete(last, { connections = this.#connections, timeout = 30_000 } = {}) {
    const seen = await this.clients.call('complete', { connections, last, timeout });
    if (seen.faults > 0) throw new Refused(`${seen.faults} events out of order or twice; ${seen.first}`);
    if (seen.behind > 0) throw new Refused(`${seen.behind} of ${connections} clients have not got every event`);
    return seen;
  }

  async #size(server, expected, timeout = 30_000) {
    const end = Date.now() + timeout;
    for (;;) {
      const size = await server.call('size');
      if (size === expected) return;
      if (Date.now() > end) throw new Refused(`the server counts ${size} connections, not ${expected}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
