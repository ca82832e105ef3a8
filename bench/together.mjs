// The test bed of the scenarios in which all peers run in one process: that process, a client process, and the commands to both.
// Invariant: a run in which an event is missing, or has reached another connection, has no figure.
import { clientCore, Refused, serverCore } from './bed.mjs';
import { skippable } from './events.mjs';
import { Child } from './processes.mjs';

/** How many connections open at the same time. */
const AT_ONCE = 100;
const TIMEOUT_MS = 60_000;

export class Together {
  #server;
  #clients;
  #arrived = () => {};
  /** By the name of the peer: its port. */
  #ports = new Map();
  #sizes = new Map();
  #connections = 0;
  /** The number of the last event. */
  #last = 0;

  /** Starts the process with these peers, and runs `measure(bed)`. Ends the processes also after an error. */
  static async run({ peers, bytes, connections, profile = [] }, measure) {
    const bed = new Together();
    try {
      bed.#server = new Child('./side-by-side.mjs', { core: serverCore, nodeArgs: profile });
      bed.#clients = new Child('./clients.mjs', { core: clientCore });
      bed.#clients.onMessage = ({ name }) => name === 'arrived' && bed.#arrived();
      for (const { name, peer, options } of peers) {
        const { port } = await bed.#server.call('listen', { peer: name, adapter: peer, options });
        bed.#ports.set(name, port);
        bed.#sizes.set(name, 0);
      }
      await bed.#clients.call('prepare', { connections, skip: skippable(bytes), hasGaps: true });
      return await measure(bed);
    } finally {
      await Promise.all([bed.#server?.end(), bed.#clients?.end()]);
    }
  }

  /** Opens `count` connections of a peer, of one user each. Waits until the peer has all of them. */
  async connect(peer, count, path = '/private?user=*') {
    const from = this.#connections;
    this.#connections += count;
    this.#sizes.set(peer, this.#sizes.get(peer) + count);
    await this.#clients.call('open', { port: this.#ports.get(peer), path, from, to: from + count, atOnce: AT_ONCE });
    const end = Date.now() + TIMEOUT_MS;
    for (;;) {
      const size = await this.#server.call('size', { peer });
      if (size === this.#sizes.get(peer)) return from;
      if (Date.now() > end) throw new Refused(`${peer} has ${size} connections`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /**
   * Sends a block of events, and returns its cost for the server. `receivers`: how many connections receive an event for this user.
   * The result contains the number of deliveries.
   */
  async block({ receivers, isPrivate = true, ...args }) {
    const { stride, users, events } = args;
    let deliveries = 0;
    for (let i = 0; i < events; i++) deliveries += receivers((++this.#last * stride) % users, i);
    await this.#clients.call('expect', { events: deliveries, ...(isPrivate && { stride, users }) });
    let timer;
    const all = new Promise((resolve, reject) => {
      this.#arrived = resolve;
      timer = setTimeout(() => reject(new Refused(`${args.peer}: not every event arrived`)), TIMEOUT_MS);
    });
    const cost = this.#server.call('block', args);
    cost.catch(() => {});
    await all.finally(() => clearTimeout(timer));
    this.#server.notify('arrived');
    const { faults, first } = await this.#clients.call('faults');
    if (faults > 0) throw new Refused(`${faults} events were out of order, or reached another connection; ${first}`);
    return { ...(await cost), deliveries };
  }

  /** Returns the milliseconds from each broadcast to a user until its connection has the event. */
  async latency({ connection, ...args }) {
    await this.#clients.call('stamp', { connection });
    const sent = await this.#server.call('latency', args);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const arrived = await this.#clients.call('stamps');
    if (arrived.length < sent.length) throw new Refused(`${arrived.length} of ${sent.length} events arrived`);
    return sent.map((at, i) => arrived[i] - at);
  }
}
