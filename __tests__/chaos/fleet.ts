/*
 * The server processes: started, killed, started again where they were.
 * Knows child processes and what server.ts says.
 * Invariant: a process that ends without having been told to is a fault of the package, and remembered as one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { FromServer, Logged, Spec, ToServer } from './server.ts';

const PROGRAM = join(__dirname, 'server.ts');

class Server {
  readonly #spec: Spec;
  readonly #fleet: Fleet;
  #child: ChildProcess | undefined;
  #life = 0;
  port = 0;
  live = false;

  constructor(fleet: Fleet, spec: Spec) {
    this.#fleet = fleet;
    this.#spec = spec;
  }

  async start(): Promise<void> {
    const spec: Spec = { ...this.#spec, name: `${this.#spec.name}${++this.#life}`, port: this.port };
    const child = spawn(process.execPath, ['--import', 'tsx', PROGRAM, JSON.stringify(spec)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    });
    this.#child = child;
    let complaint = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (complaint += text));
    child.on('message', (message: FromServer) => this.#fleet.hear(message));
    child.once('close', (code, signal) => {
      if (this.#child === child) this.live = false;
      if (signal !== 'SIGKILL') this.#fleet.crashes.push(`${spec.name} ended with ${code ?? signal}: ${complaint}`);
    });
    const { listening } = await this.reply('listening');
    if (this.#child !== child) return; // killed meanwhile
    this.port = listening;
    this.live = true;
    if (this.#fleet.publishing) this.send('publish');
  }

  send(command: ToServer): void {
    this.#child!.send(command, () => {}); // who has just died is not asked
  }

  reply(what: string): Promise<any> {
    const child = this.#child!;
    return new Promise((resolve, reject) => {
      const gone = (): void => reject(new Error(`A server died before it said «${what}»`));
      const hear = (message: FromServer): void => {
        if (!(what in message)) return;
        child.off('message', hear);
        child.off('exit', gone);
        resolve(message);
      };
      child.on('message', hear);
      child.once('exit', gone);
    });
  }

  /** kill -9; settles when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.live = false;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
}

export class Fleet {
  readonly servers: readonly Server[];
  readonly crashes: string[] = [];
  /** id → data, of what `broadcast()` has resolved. */
  readonly acknowledged = new Map<string, string>();
  readonly refused: string[] = [];
  publishing = false;
  kills = 0;

  constructor(specs: readonly Pick<Spec, 'engine' | 'at' | 'rate'>[]) {
    this.servers = specs.map((spec, i) => new Server(this, { ...spec, name: String.fromCharCode(97 + i), port: 0 }));
  }

  async start(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.start()));
  }

  /** The ports where somebody answers. */
  get ports(): number[] {
    return this.servers.filter(({ live }) => live).map(({ port }) => port);
  }

  /** kill -9 of one that lives, which is started again at once. */
  async replace(server: Server): Promise<void> {
    this.kills++;
    await server.kill();
    await server.start();
  }

  publish(): void {
    this.publishing = true;
    for (const server of this.servers) if (server.live) server.send('publish');
  }

  /** Settles when every broadcast under way has been settled. */
  async quiet(): Promise<void> {
    this.publishing = false;
    await Promise.all(
      this.servers.map(async (server) => {
        const stopped = server.reply('stopped');
        server.send('stop');
        await stopped;
      }),
    );
  }

  /** One more event, for everybody: its id. */
  async last(): Promise<string> {
    const [server] = this.servers;
    const last = server!.reply('last');
    server!.send('last');
    return ((await last) as { last: string }).last;
  }

  /** The whole log as the last server reads it. */
  async dump(): Promise<readonly Logged[]> {
    const server = this.servers.at(-1)!;
    const dump = server.reply('dump');
    server.send('dump');
    return ((await dump) as { dump: readonly Logged[] }).dump;
  }

  hear(message: FromServer): void {
    if ('acknowledged' in message) this.acknowledged.set(...message.acknowledged);
    if ('refused' in message) this.refused.push(message.refused);
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.kill()));
  }
}
