/*
 * The Redis server of the example: the one at REDIS_URL, or else a server that this module starts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Redis {
  readonly url: string;
  stop(): Promise<void>;
}

/** Returns `undefined` if REDIS_URL is not set and no server program is on the PATH. */
export async function findRedis(): Promise<Redis | undefined> {
  const url = process.env.REDIS_URL;
  if (url) return { url, async stop() {} };
  return (await run('redis-server')) ?? run('valkey-server');
}

async function run(program: string): Promise<Redis | undefined> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'events-redis-'));
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'yes'];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true }); // in its own process group, so that Ctrl-C does not stop it before the servers
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const ready = await Promise.race([isReady(child), exited.then(() => false)]);
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    if (child.pid !== undefined) await exited;
    rmSync(dir, { recursive: true, force: true });
  };
  if (ready) return { url: `redis://127.0.0.1:${port}`, stop };
  await stop();
  return undefined;
}

function isReady(child: ChildProcess): Promise<boolean> {
  return new Promise((resolve) => {
    child.once('error', () => resolve(false)); // the program does not exist
    child.stdout!.on('data', (text: Buffer) => text.includes('eady to accept connections') && resolve(true));
  });
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  return port;
}
