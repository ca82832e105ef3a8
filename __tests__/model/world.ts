/*
 * Two processes, an engine, some clients, and a program that decides who does what next.
 * Knows hubs as the router does, and everything of the model.
 * Invariant: when all is quiet every client has what it must have, and the next heartbeat brings it to the head.
 */

import type { Connection } from '../../lib/api/connection.ts';
import { Hub } from '../../lib/hub/hub.ts';
import { broadcast, disconnect } from '../../lib/hub/publish.ts';
import { checkOptions } from '../../lib/options/options.ts';
import { Client, type Terms } from './client.ts';
import { Engine, SimulatedJournal } from './engine.ts';
import { Loop, settled } from './loop.ts';
import { Pipe } from './pipe.ts';

/** What may go wrong with the engine's data. That it cannot be reached for a while is no fault. */
export type Faults = 'none' | 'trims' | 'losses';

export interface Rules {
  readonly faults: Faults;
  /** How many entries the ring holds: so few that a connection is often overrun. */
  readonly ring: number;
  readonly snapshot: 'none' | 'at once' | 'later';
  /** Entries in one answer of the engine. */
  readonly page: number;
  /** The journal tells the hub of trims. */
  readonly tellsTrims: boolean;
  /** Some broadcasts are larger than one write may be. */
  readonly large: boolean;
  /** Bytes that the kernel takes, and that a response takes before it says no. */
  readonly room: number;
  readonly mark: number;
  /** The processes are slow: what goes in slices is left in its midst. */
  readonly busy: boolean;
  /** Whose broadcasts go past the outlet: of the clients with even names, or of the others. */
  readonly direct: 0 | 1;
}

const SNAPSHOTS = ['none', 'none', 'at once', 'later'] as const;

/** The rules of a run, made of one number. */
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
    tellsTrims: take(2) === 1,
    large,
    room: [40, 150, 1000][take(3)]! * (large ? 100 : 1),
    mark: [1, 100][take(2)]!,
    busy: take(2) === 0,
    direct: take(2) as 0 | 1,
  };
}

interface Process {
  hub: Hub;
  journal: SimulatedJournal;
  /** Snapshots under way. */
  snapshots: (() => void)[];
  endsInSnapshot: boolean;
}

const JOINED = [['a'], ['a', 'b'], ['c'], []] as const;
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

type Step = (world: World, a: number, b: number) => unknown;

const STEPS: Record<string, [weight: number, step: Step]> = {
  publish: [9, (world, a, b) => world.publish(a & 1, a >> 1, b)],
  elsewhere: [4, (world, a, b) => world.elsewhere(a, b)],
  poll: [7, (world, a) => world.processes[a & 1]!.journal.poll()],
  deliver: [8, (world, a) => world.run(a & 1, ({ journal }) => journal.deliver())],
  turn: [9, (world, a) => world.loop.turn(a & 1)],
  execute: [5, (world, a) => world.run(a & 1, ({ journal }) => journal.execute())],
  reply: [5, (world, a) => world.run(a & 1, ({ journal }) => journal.reply())],
  connect: [4, (world, a, b) => world.connect(a, b & 1)],
  open: [4, (world, a, b) => world.open(a, b % 3)],
  read: [9, (world, a, b) => world.read(a, 1 + b)],
  drop: [2, (world, a, b) => world.drop(a, b)],
  push: [3, (world, a) => world.push(a)],
  join: [2, (world, a, b) => world.join(a, 'abc'[b % 3]!)],
  close: [1, (world, a) => world.close(a)],
  time: [2, (world, a) => world.loop.advance(500 + 100 * a)],
  snapshot: [2, (world, a) => world.run(a & 1, ({ snapshots }) => snapshots.shift()?.())],
  down: [1, (world, a) => world.run(a & 1, ({ journal }) => journal.down())],
  up: [2, (world, a) => world.run(a & 1, ({ journal }) => journal.up())],
  crash: [1, (world, a) => world.crash(a & 1)],
  trim: [1, (world, a) => world.trim(1 + (a % 8))],
  rollback: [1, (world, a) => world.rollback(1 + (a % 6))],
  flush: [1, (world, a) => a < 64 && world.flush()],
  endInSnapshot: [1, (world, a) => world.endInSnapshot(a & 1)],
  pushOnAbort: [1, (world, a) => world.pushOnAbort(a)],
  disconnect: [1, (world, a, b) => world.disconnect(a & 1, 'abc'[b % 3]!)],
};
const WHEEL = Object.entries(STEPS).flatMap(([name, [weight]]) => Array.from({ length: weight }, () => name));

/** The step that a random number stands for: a name and two numbers. */
export function stepOf(code: number): string {
  const name = WHEEL[code % WHEEL.length]!;
  const rest = Math.floor(code / WHEEL.length);
  return `${name} ${rest & 0xff} ${(rest >> 8) & 0x3ff}`;
}

export class World {
  readonly loop = new Loop();
  readonly engine = new Engine();
  readonly processes: Process[] = [];
  readonly clients: readonly Client[];
  readonly trace: string[] = [];
  readonly #rules: Rules;
  readonly #terms: Terms;
  readonly #errors: unknown[] = [];
  #published = 0;

  constructor(rules: Rules) {
    this.#rules = rules;
    this.loop.isBusy = rules.busy;
    this.#terms = {
      lossless: rules.faults === 'none',
      faithful: rules.faults !== 'losses',
      snapshots: rules.snapshot !== 'none',
    };
    this.clients = JOINED.map((channels, name) => new Client(name, channels, this.engine, this.#terms));
  }

  /** Runs a program to its end, then lets everything come to rest, and looks whether everyone has what is theirs. */
  async play(steps: readonly string[]): Promise<void> {
    const restore = this.loop.install();
    try {
      await this.#boot(0);
      await this.#boot(1);
      for (const step of steps) await this.step(step);
      await this.#rest();
      this.#check();
      for (const address of [0, 1, 7]) this.elsewhere(address, 0); // and from here on it is live
      await this.#rest();
      this.#check();
      await this.loop.advance(16_000); // a heartbeat, for those whose channels were quiet
      await this.#rest();
      this.#check();
      for (const client of this.clients) {
        if (client.lastEventId !== this.engine.head)
          throw new Error(`client ${client.name} is at ${client.lastEventId}, and the head is ${this.engine.head}`);
      }
    } finally {
      restore();
    }
  }

  async step(step: string): Promise<void> {
    const [name, a, b] = step.split(' ') as [string, string, string];
    this.trace.push(step);
    await STEPS[name]![1](this, Number(a), Number(b));
    await this.#settled();
  }

  /** Runs code of a process. */
  run(at: number, code: (process: Process) => unknown): unknown {
    this.loop.current = at;
    return code(this.processes[at]!);
  }

  publish(at: number, address: number, size: number): void {
    const channels = ADDRESSES[address % ADDRESSES.length];
    const data = this.#data(size);
    void this.run(at, ({ hub }) => broadcast(hub, { event: 'b', data }, channels).catch(() => undefined));
  }

  disconnect(at: number, channel: string): void {
    void this.run(at, ({ hub }) => disconnect(hub, { to: channel }).catch(() => undefined));
  }

  /** A process that is none of these two publishes. */
  elsewhere(address: number, size: number): void {
    const body = Buffer.from(`event: b\ndata: ${this.#data(size)}\n\n`);
    this.engine.append({ ...ADDRESSES[address % ADDRESSES.length], body });
  }

  connect(who: number, at: number): void {
    const client = this.clients[who % this.clients.length]!;
    if (client.visit) return;
    const { room, mark, direct } = this.#rules;
    const pipe = new Pipe(room, mark, client.name % 2 === direct, (call) => this.loop.soon(call, at));
    this.run(at, ({ hub }) => client.admit(hub, at, pipe));
  }

  open(who: number, pushes: number): boolean {
    return this.#visitor(who, (client) => {
      if (client.visit!.stream.isUnopened) client.open(pushes);
    });
  }

  read(who: number, bytes: number): boolean {
    let some = false;
    this.#visitor(who, (client) => (some = client.read(bytes)));
    return some;
  }

  drop(who: number, bytes: number): void {
    this.#visitor(who, (client) => {
      client.read(bytes % (client.visit!.pipe.readable + 1));
      if (client.visit) client.leave();
    });
  }

  push(who: number): void {
    this.#visitor(who, (client) => client.push());
  }

  join(who: number, channel: string): void {
    this.#visitor(who, (client) => client.join(channel));
  }

  /** The next snapshot of this process closes the connection that it is for. */
  endInSnapshot(at: number): void {
    this.processes[at]!.endsInSnapshot = true;
  }

  /** When this connection ends, an abort listener pushes: to the connection itself, and to all others of the process. */
  pushOnAbort(who: number): void {
    this.#visitor(who, ({ visit }) => {
      const { stream, process } = visit!;
      stream.signal.addEventListener('abort', () => {
        if (stream.push('never sent')) throw new Error('a closed connection took a push');
        for (const other of this.clients)
          if (other.visit?.process === process && other.visit.stream !== stream) other.push();
      });
    });
  }

  close(who: number): void {
    this.#visitor(who, (client) => client.visit!.stream.close());
  }

  /** A process is killed, and another one starts in its place. */
  async crash(at: number): Promise<void> {
    this.run(at, ({ journal }) => journal.close());
    for (const client of this.clients) if (client.visit?.process === at) client.leave();
    this.loop.kill(at);
    await this.#boot(at);
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

  #visitor(who: number, act: (client: Client) => void): boolean {
    const client = this.clients[who % this.clients.length]!;
    if (!client.visit) return false;
    this.loop.current = client.visit.process;
    act(client);
    return true;
  }

  async #settled(): Promise<void> {
    await settled();
    for (const client of this.clients) if (client.visit) client.observe();
  }

  async #boot(at: number): Promise<void> {
    this.loop.current = at;
    const { page, tellsTrims, snapshot } = this.#rules;
    const journal = new SimulatedJournal(this.engine, page, tellsTrims);
    const snapshots: (() => void)[] = [];
    const options = {
      history: journal,
      retry: false,
      onError: (error: { code?: string }) => {
        if (error.code !== 'ERR_SSE_TIMEOUT') this.#errors.push(error); // the engine was down for long, and the client comes back
      },
      ...(snapshot !== 'none' && {
        snapshot: (conn: Connection): unknown => {
          if (process.endsInSnapshot) conn.close();
          process.endsInSnapshot = false;
          const state = { event: 'snapshot', data: hub.ring.headId };
          return snapshot === 'at once' ? state : new Promise((resolve) => snapshots.push(() => resolve(state)));
        },
      }),
    };
    const hub = new Hub(checkOptions(options as never), { entries: this.#rules.ring, bytes: 600 });
    const process: Process = { hub, journal, snapshots, endsInSnapshot: false };
    void hub.open();
    await settled();
    this.processes[at] = process;
  }

  /** Lets everybody do all that is to be done. */
  async #rest(): Promise<void> {
    let hasWaited = false;
    for (let round = 0, quiet = 0; quiet < 3; round++) {
      if (round > 500) throw new Error('it does not come to rest');
      let busy = false;
      for (const at of [0, 1]) {
        const { journal, snapshots } = this.processes[at]!;
        this.run(at, () => journal.up());
        for (const client of this.clients) this.connect(client.name, at ^ (client.name & 1));
        await this.#settled();
        while (this.run(at, () => journal.execute())) busy = true;
        while (this.run(at, () => journal.reply())) busy = true;
        busy ||= snapshots.length > 0;
        this.run(at, () => snapshots.shift()?.());
        await this.#settled();
        journal.poll();
        busy = (this.run(at, () => journal.deliver()) as boolean) || busy;
        await this.#settled();
        busy = (await this.loop.turn(at)) || busy;
        await this.#settled();
      }
      for (const client of this.clients) {
        this.open(client.name, 0);
        while (this.read(client.name, Infinity)) busy = true;
        busy ||= client.visit === undefined;
        await this.#settled();
      }
      quiet = busy ? 0 : quiet + 1;
      // The engine is asked again after a while. After a restart, connections close within five seconds.
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
        throw new Error(`client ${client.name}: ${(error as Error).message}`, { cause: error });
      }
    }
  }

  #data(size: number): string {
    const large = this.#rules.large && size % 3 === 0;
    return `${++this.#published}${'.'.repeat(large ? 40_000 : size % 60)}`;
  }
}
