/*
 * The server processes: started, killed, and started again on their ports.
 * A process that ends by itself is a failure, and recorded as a crash.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Logged } from './logged.ts';
import type { DisconnectCommand, FromServer, Spec, ToServer } from './server.ts';
import { TYPESCRIPT } from '../fixtures/typescript.ts';

const PROGRAM = join(__dirname, 'server.ts');

class Server {
  readonly #spec: Spec;
  readonly #fleet: Fleet;
  #child: ChildProcess | undefined;
  #starts = 0;
  port = 0;
  live = false;

  constructor(fleet: Fleet, spec: Spec) {
    this.#fleet = fleet;
    this.#spec = spec;
  }

  async start(): Promise<void> {
    const spec: Spec = { ...this.#spec, name: `${this.#spec.name}${++this.#starts}`, port: this.port };
    const child = spawn(process.execPath, [...TYPESCRIPT, PROGRAM, JSON.stringify(spec)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    });
    this.#child = child;
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('message', (message: FromServer) => this.#fleet.onMessage(message));
    child.once('close', (code, signal) => {
      if (this.#child === child) this.live = false;
      if (signal !== 'SIGKILL') this.#fleet.crashes.push(`${spec.name} ended with ${code ?? signal}: ${stderr}`);
    });
    const { listening } = await this.reply('listening');
    if (this.#child !== child) return; // the process was killed meanwhile
    this.port = listening;
    this.live = true;
    if (this.#fleet.publishing) this.send('publish');
  }

  send(command: ToServer): void {
    this.#child!.send(command, () => {}); // the process may have just died
  }

  reply(what: string): Promise<any> {
    const child = this.#child!;
    return new Promise((resolve, reject) => {
      const onExit = (): void => reject(new Error(`A server died before its message «${what}»`));
      const onMessage = (message: FromServer): void => {
        if (!(what in message)) return;
        child.off('message', onMessage);
        child.off('exit', onExit);
        resolve(message);
      };
      child.on('message', onMessage);
      child.once('exit', onExit);
    });
  }

  /** Ends the connections of a room. Resolves with the id of the entry, and when the server had it. */
  async disconnect(room: string, how: Omit<DisconnectCommand, 'disconnect'> = {}): Promise<{ id: string; at: number }> {
    const reply = this.reply('disconnected');
    this.send({ disconnect: room, ...how });
    const { disconnected, at } = await reply;
    return { id: disconnected, at };
  }

  /** Stops the process (SIGSTOP) or lets it continue (SIGCONT). */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child!.kill(signal);
  }

  /** Sends SIGKILL. Settles when the process has ended. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.live = false;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
}

export class Fleet {
  readonly servers: readonly Server[];
  readonly crashes: string[] = [];
  /** The data of each id with which `broadcast()` has resolved. */
  readonly acknowledged = new Map<string, string>();
  readonly refused: string[] = [];
  publishing = false;
  kills = 0;
  disconnects = 0;

  constructor(specs: readonly Omit<Spec, 'name' | 'port'>[]) {
    this.servers = specs.map((spec, i) => new Server(this, { ...spec, name: String.fromCharCode(97 + i), port: 0 }));
  }

  async start(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.start()));
  }

  /** The ports of the servers that answer. */
  get ports(): number[] {
    return this.servers.filter(({ live }) => live).map(({ port }) => port);
  }

  /** Kills a server, and starts it again at once. */
  async replace(server: Server): Promise<void> {
    this.kills++;
    await server.kill();
    await server.start();
  }

  publish(): void {
    this.publishing = true;
    for (const server of this.servers) if (server.live) server.send('publish');
  }

  /** Stops the broadcasts. Settles when the last of them has settled. */
  async stopPublishing(): Promise<void> {
    this.publishing = false;
    await Promise.all(
      this.servers.map(async (server) => {
        const stopped = server.reply('stopped');
        server.send('stop');
        await stopped;
      }),
    );
  }

  /** Broadcasts one more event to every client. Returns its id. */
  async broadcastLast(): Promise<string> {
    const [server] = this.servers;
    const last = server!.reply('last');
    server!.send('last');
    return ((await last) as { last: string }).last;
  }

  /** Returns the whole log, as the last server reads it. */
  async readLog(): Promise<readonly Logged[]> {
    const server = this.servers.at(-1)!;
    const dump = server.reply('dump');
    server.send('dump');
    return ((await dump) as { dump: readonly Logged[] }).dump;
  }

  onMessage(message: FromServer): void {
    if ('acknowledged' in message) this.acknowledged.set(...message.acknowledged);
    if ('refused' in message) this.refused.push(message.refused);
    if ('disconnected' in message) this.disconnects++;
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.kill()));
  }
}
