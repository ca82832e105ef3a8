/*
 * Runs pm2 in a home of its own, so that no other pm2 of the machine is concerned.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Pm2 {
  /** Runs a command of pm2. Resolves with its output. */
  call(...args: readonly string[]): Promise<string>;
  /** Resolves with the process ids and states of the running processes. */
  processes(): Promise<{ pid: number; status: string }[]>;
  /** Returns what pm2 has logged about its processes. */
  log(): string;
  /** Ends pm2 and its processes. */
  kill(): Promise<void>;
}

export function pm2In(packages: string, home: string, cwd: string, variables: Record<string, string>): Pm2 {
  const env = { ...process.env, PM2_HOME: home, PM2_DISABLE_VERSION_CHECK: 'true', NO_COLOR: '1', ...variables };
  const bin = join(packages, 'node_modules/pm2/bin/pm2');
  const call = async (...args: readonly string[]): Promise<string> =>
    (await run(process.execPath, [bin, ...args], { cwd, env, maxBuffer: 2 ** 24 })).stdout;
  return {
    call,
    async processes() {
      const text = await call('jlist');
      const list = JSON.parse(text.slice(text.indexOf('['))) as { pid: number; pm2_env: { status: string } }[];
      return list.map(({ pid, pm2_env: { status } }) => ({ pid, status }));
    },
    log: () => readFileSync(join(home, 'pm2.log'), 'utf8'),
    async kill() {
      await call('kill').catch(() => '');
    },
  };
}
