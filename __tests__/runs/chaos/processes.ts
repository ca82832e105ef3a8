/*
 * The server processes: started, stopped for a while, killed, and started again on their ports.
 * A process that ends by itself is a failure, and recorded as a crash.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FromServer, Spec } from './server.ts';

const PROBE_PAUSE_MS = 100;
const PROGRAM = join(__dirname, 'server.ts');

/** A request without runs. */
interface Probe {
  readonly from: number;
  /** Infinity while it is not answered. */
  to: number;
  /** The planted faults until its beginning. */
  readonly pauses: number;
  readonly redisFaults: number;
}

export class ServerProcess {
  readonly #spec: Omit<Spec, 'port'>;
  readonly #processes: Processes;
  #child: ChildProcess | undefined;
  #starts = 0;
  readonly #probes: Probe[] = [];
  /** The beginnings and ends of its pauses so far. */
  #pauses = 0;
  port = 0;
  /** Whether it accepts requests. */
  isLive = false;
  /** The name of its current process. */
  name = '';
  /** When it last continued after a SIGSTOP. */
  continuedAt = -Infinity;

  constructor(processes: Processes, spec: Omit<Spec, 'port'>) {
    this.#processes = processes;
    this.#spec = spec;
  }

  async start(): Promise<void> {
    this.name = `${this.#spec.name}${++this.#starts}`;
    const { name } = this;
    const spec: Spec = { ...this.#spec, name, port: this.port };
    const child = spawn(process.execPath, ['--import', 'tsx', PROGRAM, JSON.stringify(spec)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    });
    this.#child = child;
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('message', (message: FromServer) => {
      if ('reported' in message) this.#processes.reported.push(`${name}: ${message.reported}`);
    });
    child.once('close', (code, signal) => {
      if (this.#child === child) this.isLive = false;
      if (signal !== 'SIGKILL') this.#processes.crashes.push(`${name} ended with ${code ?? signal}: ${stderr}`);
    });
    const message = await this.#message('listening');
    if (this.#child !== child || message === undefined) return; // the process was killed meanwhile
    this.port = message.listening;
    this.isLive = true;
    void this.#probe(child);
  }

  /** Returns the time of the slowest probe between these times, in milliseconds; 0 if there was none. */
  slowestProbe(from: number, to: number): number {
    const overlapping = this.#probes.filter((probe) => probe.from <= to && probe.to >= from && !this.#isSpoiled(probe));
    return Math.max(0, ...overlapping.map((probe) => Math.min(probe.to, performance.now()) - probe.from));
  }

  /** Measures again and again how long the process takes for a request without runs. */
  async #probe(child: ChildProcess): Promise<void> {
    while (this.#child === child && child.exitCode === null && child.signalCode === null) {
      const { redisFaults } = this.#processes;
      const probe: Probe = { from: performance.now(), to: Infinity, pauses: this.#pauses, redisFaults };
      this.#probes.push(probe);
      if (!(await isAnswered(this.port)) || this.#isSpoiled(probe)) this.#probes.splice(this.#probes.indexOf(probe), 1);
      probe.to = performance.now();
      await sleep(PROBE_PAUSE_MS);
    }
  }

  /** Whether a planted fault makes a probe slow that is not answered yet: the process was stopped, or Redis was down. */
  #isSpoiled({ to, pauses, redisFaults }: Probe): boolean {
    return to === Infinity && (pauses !== this.#pauses || redisFaults !== this.#processes.redisFaults);
  }

  /** Sends SIGKILL, and starts the next process. Settles when that one answers. */
  async replace(): Promise<void> {
    this.isLive = false;
    const exited = once(this.#child!, 'exit');
    this.#child!.kill('SIGKILL');
    await exited;
    this.#processes.interruptedAt.set(this.name, performance.now());
    await this.start();
  }

  /** Stops the process (SIGSTOP) for this time. Its sockets stay open. */
  async pause(ms: number): Promise<void> {
    const child = this.#child!;
    this.isLive = false;
    this.#pauses++;
    this.#processes.interruptedAt.set(this.name, performance.now());
    child.kill('SIGSTOP');
    await new Promise((resolve) => void setTimeout(resolve, ms));
    this.continuedAt = performance.now();
    child.kill('SIGCONT');
    this.#pauses++;
    this.isLive = true;
  }

  /** Returns what it produces now. */
  async figures(): Promise<{ readonly running: number; readonly generators: number }> {
    const reply = this.#message('figures');
    this.#child!.send('figures');
    return (await reply)!.figures;
  }

  async stop(): Promise<void> {
    this.isLive = false;
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  /** Resolves with the next message that has this key; with `undefined` if the process ends. */
  #message<K extends string>(key: K): Promise<Extract<FromServer, Record<K, unknown>> | undefined> {
    const child = this.#child!;
    return new Promise((resolve) => {
      const onMessage = (message: FromServer): void => {
        if (!(key in message)) return;
        child.off('message', onMessage);
        resolve(message as never);
      };
      child.on('message', onMessage);
      child.once('exit', () => resolve(undefined));
    });
  }
}

/** Sends a request without runs. @returns whether the server has answered */
function isAnswered(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ port, host: '127.0.0.1', path: '/probe', agent: false }, (response) => {
      response.resume().on('end', () => resolve(true));
    });
    request.on('error', () => resolve(false));
    request.on('close', () => resolve(false));
  });
}

export class Processes {
  readonly servers: readonly ServerProcess[];
  /** The beginnings and ends of the outages of Redis so far. */
  redisFaults = 0;
  readonly crashes: string[] = [];
  readonly reported: string[] = [];
  /** When each process was killed or stopped, by its name. */
  readonly interruptedAt = new Map<string, number>();

  constructor(specs: readonly Omit<Spec, 'name' | 'port'>[]) {
    this.servers = specs.map((spec, i) => new ServerProcess(this, { ...spec, name: String.fromCharCode(97 + i) }));
  }

  async start(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.start()));
  }

  get live(): ServerProcess[] {
    return this.servers.filter(({ isLive }) => isLive);
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.stop()));
  }
}
