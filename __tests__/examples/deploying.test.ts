/*
 * The example for process managers: the signals, the message and the health check that their configurations rely on.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { TYPESCRIPT } from '../fixtures/typescript.ts';
import { clear, keptPort, read, start } from './example-process.ts';

const root = join(__dirname, '../..');
const folder = join(root, 'examples/deploying');
const textOf = (file: string): string => readFileSync(join(folder, file), 'utf8');
const server = textOf('server.ts');
const OVER_MS = Number(/CLOSE_OVER_MS = (\d+)/.exec(server)![1]);
/** The longest time that the server takes to stop. */
const STOP_MS = OVER_MS + 1000 + 100;

let child: ChildProcess | undefined;
afterEach(() => {
  clear();
  child?.kill('SIGKILL');
});

/** Runs the command of the Dockerfile's HEALTHCHECK in the folder of the example. Resolves with its exit code. */
async function healthCheck(port: string): Promise<number> {
  const [, command = ''] = /^HEALTHCHECK .*CMD (\[.*\])$/m.exec(textOf('Dockerfile'))!;
  const [program, ...args] = JSON.parse(command) as [string, ...string[]];
  expect(program).toBe('node');
  const check = spawn(process.execPath, args, { cwd: folder, env: { ...process.env, PORT: port }, stdio: 'ignore' });
  const [code] = (await once(check, 'exit')) as [number];
  return code;
}

test.each(['SIGTERM', 'SIGINT'] as const)('%s ends the streams, and the process exits with 0', async (signal) => {
  const file = join(folder, 'server.ts');
  const env = { ...process.env, PORT: await keptPort(), CLOSE_OVER_MS: '0' };
  child = fork(file, { execArgv: [...TYPESCRIPT], cwd: root, env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  expect(await once(child, 'message')).toEqual(['ready', undefined]); // as wait_ready of pm2
  const { next } = await read(`http://localhost:${env.PORT}/events`);
  expect((await next())!.event).toBe('checkpoint');
  const exited = once(child, 'exit');
  child.kill(signal);
  expect(await next()).toBeUndefined();
  expect(await exited).toEqual([0, null]);
});

test('the health check succeeds, and fails while the server stops and without a server', async () => {
  const port = await keptPort();
  const example = await start('deploying/server.ts', { PORT: port, CLOSE_OVER_MS: '2000' });
  expect(await healthCheck(port)).toBe(0);
  const streams = await Promise.all([1, 2].map(() => read(`${example.url}/events`)));
  for (const { next } of streams) expect((await next())!.event).toBe('checkpoint');
  const stopped = example.stop();
  expect(await streams[0]!.next()).toBeUndefined(); // the first of two ends at once; the second keeps the server open
  expect((await fetch(`${example.url}/health`)).status).toBe(503);
  expect(await healthCheck(port)).toBe(1);
  streams[1]!.disconnect();
  expect((await stopped).code).toBe(0);
  expect(await healthCheck(port)).toBe(1);
});

describe('each configuration', () => {
  test('gives the server more time than its shutdown takes', () => {
    const { apps } = createRequire(__filename)(join(folder, 'ecosystem.config.cjs')) as {
      apps: { kill_timeout: number; wait_ready: boolean }[];
    };
    expect(apps[0]!.kill_timeout).toBeGreaterThan(STOP_MS);
    expect(apps[0]!.wait_ready).toBe(true);
    const [, systemd] = /^TimeoutStopSec=(\d+)$/m.exec(textOf('app.service'))!;
    expect(Number(systemd) * 1000).toBeGreaterThan(STOP_MS);
    const kubernetes = textOf('kubernetes.yaml');
    const [, grace] = /terminationGracePeriodSeconds: (\d+)/.exec(kubernetes)!;
    const [, sleep] = /sleep: \{ seconds: (\d+) \}/.exec(kubernetes)!;
    expect((Number(grace) - Number(sleep)) * 1000).toBeGreaterThan(STOP_MS);
    expect(10_000).toBeGreaterThan(STOP_MS); // the default of `docker stop`
  });

  test('sends a signal that the server handles', () => {
    const handled = [...server.matchAll(/process\.on\('(SIG\w+)', stop\)/g)].map(([, signal]) => signal);
    expect(handled).toEqual(['SIGTERM', 'SIGINT']);
    expect(textOf('app.service')).toContain('\nKillSignal=SIGTERM\n');
    expect(textOf('Dockerfile')).toMatch(/^CMD \["node", "server\.js"\]$/m); // a shell would not pass the signal on
    expect(textOf('Dockerfile')).not.toContain('STOPSIGNAL'); // the default is SIGTERM, also in Kubernetes
  });

  test.each([
    ['js', 'ecosystem.config.cjs'],
    ['ini', 'app.service'],
    ['dockerfile', 'Dockerfile'],
    ['js', 'health-check.mjs'],
    ['yaml', 'kubernetes.yaml'],
  ])('as %s is shown in the documentation: %s', (language, file) => {
    const page = readFileSync(join(root, 'docs/deploying.md'), 'utf8');
    expect(page).toContain(`\`\`\`${language}\n${textOf(file)}\`\`\`\n`);
  });

  test('of the probes asks for the path that the server has', () => {
    const paths = [...textOf('kubernetes.yaml').matchAll(/httpGet: \{ path: (\S+),/g)].map(([, path]) => path);
    expect(paths).toEqual(['/health', '/health']);
    expect(server).toContain("app.get('/health'");
  });
});
