// The process of one peer: it starts the peer's program, and answers the calls of the comparison.
// Invariant: a call that the peer does not offer is answered as such, and does not fail.
import { once } from 'node:events';
import { setImmediate as tick } from 'node:timers/promises';

const [peer, setupText] = process.argv.slice(2);
const setup = JSON.parse(setupText);
const produced = { count: 0, isFinalized: false };

/** The source of the route /items. A `for await` that ends runs its `finally`. */
setup.items = async function* () {
  try {
    while (produced.count < setup.itemCount) {
      produced.count++;
      yield freshText(65_536, produced.count);
    }
  } finally {
    produced.isFinalized = true;
  }
};

const { create, offers } = await import(`./peers/${peer}.mjs`);
const program = await create(setup);
let { server } = program;
if (program.listen) server = await program.listen();
else {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}

let serialized = 0;
/** Values that a message between processes cannot carry. */
const VALUES = {
  $function: () => {},
  $counted: { toJSON: () => ({ serialized: ++serialized }) },
};

const refusals = [];
process.on('unhandledRejection', (error) => refusals.push(`unhandled rejection: ${error.message}`));
process.on('warning', ({ name, message }) => refusals.push(`${name}: ${message}`));

const calls = {
  broadcast({ data, ...message }) {
    for (const field of ['event', 'id', 'retry']) {
      if (message[field] !== undefined && !offers.fields.includes(field)) return { isMissing: true };
    }
    if (message.to && offers.channels === undefined) return { isMissing: true };
    return program.broadcast({ ...message, ...(data === undefined ? {} : { data: VALUES[data] ?? data }) });
  },
  /** Broadcasts texts. */
  async flood({ count, bytes }) {
    for (let n = 0; n < count; n++) {
      await program.broadcast({ data: freshText(bytes, n) });
      await tick();
    }
  },
  /** Broadcasts numbers from `from`, one each millisecond at the most. */
  async numbers({ from, count, withIds }) {
    for (let n = from; n < from + count; n++) {
      await program.broadcast({ data: n, ...(withIds ? { id: n } : {}) });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  },
  size: () => program.size(),
  sendToLast: ({ data }) => (program.sendToLast ? program.sendToLast(data) : { isMissing: true }),
  produced: () => ({ ...produced }),
  serialized: () => serialized,
  refusals: () => refusals,
  memory() {
    for (let i = 0; i < 4; i++) globalThis.gc();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  },
  fetch: () => (program.fetch ? program.fetch() : { isMissing: true }),
  /** The package's own call for a shutdown, then the server's. */
  async close() {
    if (!program.close) return { isMissing: true };
    const begun = performance.now();
    const closed = new Promise((resolve) => server.once('close', resolve));
    await program.close();
    server.close();
    await closed;
    return performance.now() - begun;
  },
};

process.on('message', async ({ id, name, args }) => {
  try {
    const value = await calls[name](args);
    process.send({ id, value: value instanceof Object && 'isMissing' in value ? { isMissing: true } : plain(value) });
  } catch (error) {
    process.send({ id, error: String(error?.message ?? error) });
  }
});
process.on('disconnect', () => process.exit());
process.send({ port: server.address().port, offers: { ...offers, unwrap: undefined } });

/** A string of its own: a peer that queues one string several times would need no memory for it. */
function freshText(bytes, n) {
  return Buffer.alloc(bytes, 97 + (n % 26)).toString('latin1');
}

/** What the comparison reads: numbers, texts, booleans, lists and plain objects; never an object of a peer. */
function plain(value) {
  if (value === null || typeof value !== 'object') return value;
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype ? value : undefined;
}
