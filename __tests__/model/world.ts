/*
 * Two processes, an engine and some clients. A program decides which of them acts next.
 * Invariant: when no work is left, every client has received what it must receive. The next heartbeat sets its last event id to the head.
 */

import type { Connection } from '../../lib/api/connection.ts';
import { Hub } from '../../lib/hub/hub.ts';
import { broadcast, disconnect } from '../../lib/hub/publish.ts';
import { checkOptions } from '../../lib/options/options.ts';
import { Client, type Guarantees } from './client.ts';
import { Engine, SimulatedJournal } from './engine.ts';
import { Loop, settled } from './loop.ts';
import { Pipe } from './pipe.ts';

/** How the engine may lose data. An engine that is unreachable for a while is not a fault: it can happen in every run. */
export type Faults = 'none' | 'trims' | 'losses';

export interface Rules {
  readonly faults: Faults;
  /** The number of entries in the ring: so few that connections are often overrun. */
  readonly ring: number;
  readonly snapshot: 'none' | 'at once' | 'later';
  /** The number of entries in one answer of the engine. */
  readonly page: number;
  /** Whether the journal reports trims to the hub. */
  readonly reportsTrims: boolean;
  /** Whether some broadcasts are larger than one write may be. */
  readonly large: boolean;
  /** The capacity of the kernel's buffer for a connection. */
  readonly kernelBytes: number;
  /** The bytes in a response's buffer from which on a write returns false. */
  readonly highWaterMark: number;
  /** Whether the processes are slow, so that work that is done in slices is interrupted. */
  readonly isSlow: boolean;
  /** Which connections have a socket for direct writes: those of the clients with even names (0), or of the others (1). */
  readonly socketParity: 0 | 1;
  /** Whether most channels have one client or two, and most broadcasts are for few of them. */
  readonly hasSmallChannels: boolean;
}

const SNAPSHOTS = ['none', 'none', 'at once', 'later'] as const;

/** Derives the rules of a run from one number. */
export function rulesOf(faults: Faults, number: number): Rules {
  const take = (choices: number): number => {
    const choice = number % choices;
    number = Math.floor(number / choices);
    return choice;
  };
  const ring = 2 + take(6);
  const large = take(8) === 0;
  return {
    faults,
    ring,
    snapshot: SNAPSHOTS[take(4)]!,
    page: 1 + take(4),
    reportsTrims: take(2) === 1,
    large,
    kernelBytes: [40, 150, 1000][take(3)]! * (large ? 100 : 1),
    highWaterMark: [1, 100][take(2)]!,
    isSlow: take(2) === 0,
    socketParity: take(2) as 0 | 1,
    hasSmallChannels: take(2) === 1,
  };
}

interface Process {
  hub: Hub;
  journal: SimulatedJournal;
  /** Functions that complete the pending snapshots. */
  snapshots: (() => void)[];
  closesInSnapshot: boolean;
}

const CLIENT_CHANNELS = [['a'], ['a', 'b'], ['c'], []] as const;
const ADDRESSES = [
  {},
  { to: ['a'] },
  { to: ['b'] },
  { to: ['c'] },
  { to: ['a', 'b'] },
  { to: ['b', 'c'], except: ['a'] },
  { except: ['b'] },
  { to: [] as string[] },
] as const;
/** As a notification feed has them: a channel for each user, some users with two clients, and some channels that users share. */
const SMALL_CHANNELS = [['u0', 'a'], ['u0', 'a'], ['u1'], ['u1', 'a', 'b'], ['u2', 'c', 'd', 'e'], ['u3'], []] as const;
const SMALL_ADDRESSES = [
  { to: ['u0'] },
  { to: ['u1'] },
  { to: ['u2'] },
  { to: ['u3'] },
  { to: ['u0'] },
  { to: ['u1', 'u2'] },
  { to: ['u3', 'u3', 'nobody'] },
  { to: ['c', 'd', 'e'] },
  { to: ['a'] },
  { to: ['a', 'u0'] },
  { to: ['u1'], except: ['b'] },
  { to: ['u0', 'u1', 'u2'], except: ['c'] },
  { except: ['u3'] },
  { except: ['a', 'u2'] },
  { to: ['nobody'] },
  {},
] as const;
const JOINED = 'abc';
const JOINED_SMALL = ['a', 'b', 'c', 'u0', 'u1', 'u3'];

/** Ids that the engine never issues. The last two have the form of its ids. */
const FOREIGN_IDS = ['42', '6f1c9a4e-6a39-4c8e-9d39-2f1d3c1b7a55', '"9-2"', 'null', '1795352641531-0', '1-zz'] as const;

/** Each step receives two random numbers, from which it derives its arguments. */
type Step = (world: World, x: number, y: number) => unknown;

const STEPS: Record<string, [weight: number, step: Step]> = {
  publish: [9, (world, x, y) => world.publish(x & 1, x >> 1, y)],
  elsewhere: [4, (world, x, y) => world.elsewhere(x, y)],
  poll: [7, (world, x) => world.processes[x & 1]!.journal.poll()],
  deliver: [8, (world, x) => world.run(x & 1, ({ journal }) => journal.deliver())],
  turn: [9, (world, x) => world.loop.tick(x & 1)],
  execute: [5, (world, x) => world.run(x & 1, ({ journal }) => journal.execute())],
  reply: [5, (world, x) => world.run(x & 1, ({ journal }) => journal.reply())],
  connect: [4, (world, x, y) => world.connect(x, y & 1)],
  open: [4, (world, x, y) => world.open(x, y % 3)],
  read: [9, (world, x, y) => world.read(x, 1 + y)],
  drop: [2, (world, x, y) => world.drop(x, y)],
  push: [3, (world, x) => world.push(x)],
  join: [2, (world, x, y) => world.join(x, y)],
  close: [1, (world, x) => world.close(x)],
  time: [2, (world, x) => world.loop.advance(500 + 100 * x)],
  snapshot: [2, (world, x) => world.run(x & 1, ({ snapshots }) => snapshots.shift()?.())],
  down: [1, (world, x) => world.run(x & 1, ({ journal }) => journal.down())],
  up: [2, (world, x) => world.run(x & 1, ({ journal }) => journal.up())],
  crash: [1, (world, x) => world.crash(x & 1)],
  trim: [1, (world, x) => world.trim(1 + (x % 8))],
  rollback: [1, (world, x) => world.rollback(1 + (x % 6))],
  flush: [1, (world, x) => x < 64 && world.flush()],
  endInSnapshot: [1, (world, x) => world.closeInSnapshot(x & 1)],
  pushOnAbort: [1, (world, x) => world.pushOnAbort(x)],
  disconnect: [1, (world, x, y) => world.disconnect(x & 1, y)],
  end: [1, (world, x) => world.end(x)],
  foreign: [1, (world, x, y) => world.foreign(x, y)],
  many: [2, (world, x, y) => world.many(x, y)],
};
/** The names of the steps, each as often as its weight. */
const WEIGHTED_NAMES = Object.entries(STEPS).flatMap(([name, [weight]]) => Array.from({ length: weight }, () => name));

/** Derives a step from a random number: a name and two numbers. */
export function stepOf(code: number): string {
  const name = WEIGHTED_NAMES[code % WEIGHTED_NAMES.length]!;
  const rest = Math.floor(code / WEIGHTED_NAMES.length);
  return `${name} ${rest & 0xff} ${(rest >> 8) & 0x3ff}`;
}

export class World {
  readonly loop = new Loop();
  readonly engine = new Engine();
  readonly processes: Process[] = [];
  readonly clients: readonly Client[];
  readonly trace: string[] = [];
  readonly #rules: Rules;
  readonly #guarantees: Guarantees;
  readonly #errors: unknown[] = [];
  #published = 0;

  constructor(rules: Rules) {
    this.#rules = rules;
    this.loop.isSlow = rules.isSlow;
    this.#guarantees = {
      isLossless: rules.faults === 'none',
      idsOnlyGrow: rules.faults !== 'losses',
      hasSnapshots: rules.snapshot !== 'none',
    };
    const channels = rules.hasSmallChannels ? SMALL_CHANNELS : CLIENT_CHANNELS;
    this.clients = channels.map((channels, name) => new Client(name, channels, this.engine, this.#guarantees));
  }

  /** Runs a program, then completes all work that is left, and checks every client. */
  async play(steps: readonly string[]): Promise<void> {
    const restore = this.loop.install();
    try {
      await this.#boot(0);
      await this.#boot(1);
      for (const step of steps) await this.step(step);
      await this.#rest();
      this.#check();
      const last = this.#rules.hasSmallChannels ? SMALL_ADDRESSES.keys() : [0, 1, 7];
      for (const address of last) this.elsewhere(address, 0); // from here on, the entries are live
      await this.#rest();
      this.#check();
      await this.loop.advance(16_000); // a heartbeat, for clients whose channels had no entries
      await this.#rest();
      this.#check();
      for (const client of this.clients) {
        if (client.lastEventId !== this.engine.head)
          throw new Error(`Client ${client.name} is at ${client.lastEventId}, and the head is ${this.engine.head}`);
      }
    } finally {
      restore();
    }
  }

  async step(step: string): Promise<void> {
    const [name, x, y] = step.split(' ') as [string, string, string];
    this.trace.push(step);
    await STEPS[name]![1](this, Number(x), Number(y));
    await this.#settled();
  }

  /** Runs code in a process. */
  run(processNumber: number, code: (process: Process) => unknown): unknown {
    this.loop.current = processNumber;
    return code(this.processes[processNumber]!);
  }

  publish(processNumber: number, address: number, size: number): void {
    const channels = this.#address(address);
    const data = this.#data(size);
    void this.run(processNumber, ({ hub }) => broadcast(hub, { event: 'b', data }, channels).catch(() => undefined));
  }

  disconnect(processNumber: number, number: number): void {
    const channel = this.#channel(number);
    void this.run(processNumber, ({ hub }) => disconnect(hub, { to: channel }).catch(() => undefined));
  }

  /** A third process publishes. */
  elsewhere(address: number, size: number): void {
    const body = Buffer.from(`event: b\ndata: ${this.#data(size)}\n\n`);
    this.engine.append({ ...this.#address(address), body });
  }

  /** A third process publishes several broadcasts, so that a segment has entries for many receivers. */
  many(address: number, count: number): void {
    for (let i = 0; i <= count % 8; i++) this.elsewhere(address + i * (1 + (count >> 3)), count + i);
  }

  connect(clientNumber: number, processNumber: number): void {
    const client = this.clients[clientNumber % this.clients.length]!;
    if (client.attachment) return;
    const { kernelBytes, highWaterMark, socketParity } = this.#rules;
    const pipe = new Pipe(kernelBytes, highWaterMark, client.name % 2 === socketParity, (call) =>
      this.loop.setImmediate(call, processNumber),
    );
    this.run(processNumber, ({ hub }) => client.admit(hub, processNumber, pipe));
  }

  open(clientNumber: number, pushes: number): boolean {
    return this.#withAttached(clientNumber, (client) => {
      if (client.attachment!.connection.isUnopened) client.open(pushes);
    });
  }

  read(clientNumber: number, bytes: number): boolean {
    let some = false;
    this.#withAttached(clientNumber, (client) => (some = client.read(bytes)));
    return some;
  }

  drop(clientNumber: number, bytes: number): void {
    this.#withAttached(clientNumber, (client) => {
      client.read(bytes % (client.attachment!.pipe.readable + 1));
      if (client.attachment) client.detach();
    });
  }

  push(clientNumber: number): void {
    this.#withAttached(clientNumber, (client) => client.push());
  }

  join(clientNumber: number, number: number): void {
    this.#withAttached(clientNumber, (client) => client.join(this.#channel(number)));
  }

  /** Makes the next snapshot function of this process close its connection. */
  closeInSnapshot(processNumber: number): void {
    this.processes[processNumber]!.closesInSnapshot = true;
  }

  /** Adds an abort listener that pushes to the closed connection itself, and to all others of its process. */
  pushOnAbort(clientNumber: number): void {
    this.#withAttached(clientNumber, ({ attachment }) => {
      const { connection, process } = attachment!;
      connection.signal.addEventListener('abort', () => {
        if (connection.push('never sent')) throw new Error('A closed connection accepted a push');
        for (const other of this.clients)
          if (other.attachment?.process === process && other.attachment.connection !== connection) other.push();
      });
    });
  }

  close(clientNumber: number): void {
    this.#withAttached(clientNumber, (client) => client.attachment!.connection.close());
  }

  end(clientNumber: number): void {
    this.#withAttached(clientNumber, (client) => client.end());
  }

  /** A client that is not connected comes from another library, or from another journal. */
  foreign(clientNumber: number, id: number): void {
    const client = this.clients[clientNumber % this.clients.length]!;
    if (!client.attachment) client.moveHereWith(FOREIGN_IDS[id % FOREIGN_IDS.length]!);
  }

  /** Kills a process, and starts another one in its place. */
  async crash(processNumber: number): Promise<void> {
    this.run(processNumber, ({ journal }) => journal.close());
    for (const client of this.clients) if (client.attachment?.process === processNumber) client.detach();
    this.loop.kill(processNumber);
    await this.#boot(processNumber);
  }

  trim(count: number): void {
    if (this.#rules.faults !== 'none') this.engine.trim(count);
  }

  rollback(count: number): void {
    if (this.#rules.faults === 'losses') this.engine.rollback(count);
  }

  flush(): void {
    if (this.#rules.faults === 'losses') this.engine.flush();
  }

  /** Runs an action in the process of a client's connection. Returns false if the client is not connected. */
  #withAttached(clientNumber: number, act: (client: Client) => void): boolean {
    const client = this.clients[clientNumber % this.clients.length]!;
    if (!client.attachment) return false;
    this.loop.current = client.attachment.process;
    act(client);
    return true;
  }

  async #settled(): Promise<void> {
    await settled();
    for (const client of this.clients) if (client.attachment) client.observe();
  }

  async #boot(processNumber: number): Promise<void> {
    this.loop.current = processNumber;
    const { page, reportsTrims, snapshot } = this.#rules;
    const journal = new SimulatedJournal(this.engine, page, reportsTrims);
    const snapshots: (() => void)[] = [];
    const options = {
      history: journal,
      retry: false,
      onError: (error: { code?: string }) => {
        if (error.code !== 'ERR_SSE_TIMEOUT') this.#errors.push(error); // this one is expected: the engine was down for long, and the client reconnects
      },
      ...(snapshot !== 'none' && {
        snapshot: (conn: Connection): unknown => {
          if (process.closesInSnapshot) conn.close();
          process.closesInSnapshot = false;
          const state = { event: 'snapshot', data: hub.ring.headId };
          return snapshot === 'at once' ? state : new Promise((resolve) => snapshots.push(() => resolve(state)));
        },
      }),
    };
    const hub = new Hub(checkOptions(options as never), { entries: this.#rules.ring, bytes: 600 });
    const process: Process = { hub, journal, snapshots, closesInSnapshot: false };
    void hub.open();
    await settled();
    this.processes[processNumber] = process;
  }

  /** Completes all work of the processes, the engine and the clients. */
  async #rest(): Promise<void> {
    let hasWaited = false;
    for (let round = 0, quiet = 0; quiet < 3; round++) {
      if (round > 500) throw new Error('The model still has work after 500 rounds');
      let busy = false;
      for (const processNumber of [0, 1]) {
        const { journal, snapshots } = this.processes[processNumber]!;
        this.run(processNumber, () => journal.up());
        for (const client of this.clients) this.connect(client.name, processNumber ^ (client.name & 1));
        await this.#settled();
        while (this.run(processNumber, () => journal.execute())) busy = true;
        while (this.run(processNumber, () => journal.reply())) busy = true;
        busy ||= snapshots.length > 0;
        this.run(processNumber, () => snapshots.shift()?.());
        await this.#settled();
        journal.poll();
        busy = (this.run(processNumber, () => journal.deliver()) as boolean) || busy;
        await this.#settled();
        busy = (await this.loop.tick(processNumber)) || busy;
        await this.#settled();
      }
      for (const client of this.clients) {
        this.open(client.name, 0);
        while (this.read(client.name, Infinity)) busy = true;
        busy ||= client.attachment === undefined;
        await this.#settled();
      }
      quiet = busy ? 0 : quiet + 1;
      // The hub retries a failed request to the engine after a while. After a restart, connections close within five seconds.
      await this.loop.advance(quiet === 1 && !hasWaited ? 6000 : 200);
      hasWaited ||= quiet === 1;
    }
  }

  #check(): void {
    if (this.#errors.length > 0) throw this.#errors[0];
    for (const client of this.clients) {
      try {
        client.check();
      } catch (error) {
        throw new Error(`Client ${client.name}: ${(error as Error).message}`, { cause: error });
      }
    }
  }

  #address(number: number): { readonly to?: readonly string[]; readonly except?: readonly string[] } {
    const addresses = this.#rules.hasSmallChannels ? SMALL_ADDRESSES : ADDRESSES;
    return addresses[number % addresses.length]!;
  }

  #channel(number: number): string {
    const channels = this.#rules.hasSmallChannels ? JOINED_SMALL : JOINED;
    return channels[number % channels.length]!;
  }

  #data(size: number): string {
    const large = this.#rules.large && size % 3 === 0;
    return `${++this.#published}${'.'.repeat(large ? 40_000 : size % 60)}`;
  }
}
