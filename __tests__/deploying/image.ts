/*
 * Makes the files that a reader of docs/deploying.md has, and runs the steps of the Dockerfile in a clean folder.
 * Invariant: the server, the Dockerfile and its health check are the blocks of the page.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = join(__dirname, '../..');
const PACKAGES = join(root, '.tmp/deploying/packages');
const QUIETLY = ['--ignore-scripts', '--no-audit', '--no-fund'];

/** Returns the text of the blocks of docs/deploying.md in a language, in their order. */
export async function blocksOf(language: string): Promise<string[]> {
  const page = await readFile(join(root, 'docs/deploying.md'), 'utf8');
  return [...page.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(([, text]) => text!);
}

/** Installs pm2 and the parsers of this test from their lock file. Returns the folder. */
export async function installPackages(): Promise<string> {
  const source = join(__dirname, 'packages');
  const lock = await readFile(join(source, 'package-lock.json'), 'utf8');
  const installed = await readFile(join(PACKAGES, 'installed.json'), 'utf8').catch(() => '');
  if (installed !== lock) {
    await rm(PACKAGES, { recursive: true, force: true });
    await cp(source, PACKAGES, { recursive: true });
    await run('npm', ['ci', ...QUIETLY], { cwd: PACKAGES });
    await writeFile(join(PACKAGES, 'installed.json'), lock);
  }
  return PACKAGES;
}

/** Writes the files that the Dockerfile copies. The package is the tarball that npm would publish. */
export async function writeContext(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf('[\n'))) as [{ filename: string }];
  const [manifest] = (await blocksOf('json')) as [string];
  const { dependencies, ...rest } = JSON.parse(manifest) as { dependencies: Record<string, string> };
  const own = { ...dependencies, 'sse-router': `file:${join(folder, filename)}`, lmdb: '3' };
  const [server] = (await blocksOf('ts')) as [string];
  const healthCheck = (await blocksOf('js')).find((text) => text.includes('AbortSignal.timeout'))!;
  await writeFile(join(folder, 'package.json'), JSON.stringify({ ...rest, dependencies: own }));
  await writeFile(join(folder, 'server.js'), server);
  await writeFile(join(folder, 'health-check.mjs'), healthCheck);
  await run('npm', ['install', '--package-lock-only', '--prefer-offline', ...QUIETLY], { cwd: folder });
}

/** What a built image runs. */
export interface Image {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user: string | undefined;
  readonly port: string | undefined;
  readonly command: readonly string[];
  readonly healthCheck: readonly string[];
}

/** Runs the instructions of a Dockerfile in an empty folder, which is the WORKDIR. Each instruction is one line. */
export async function build(dockerfile: string, context: string, folder: string): Promise<Image> {
  await mkdir(folder, { recursive: true });
  const env: Record<string, string> = {};
  let user: string | undefined;
  let port: string | undefined;
  let command: string[] = [];
  let healthCheck: string[] = [];
  for (const line of dockerfile.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [, instruction = '', rest = ''] = /^([A-Z]+) (.*)$/.exec(line)!;
    const words = rest.split(' ');
    /* oxlint-disable no-await-in-loop -- the steps of a Dockerfile run in sequence */
    if (instruction === 'ENV') for (const word of words) env[word.split('=')[0]!] = word.split('=')[1]!;
    else if (instruction === 'COPY') {
      for (const file of words.slice(0, -1)) await cp(join(context, file), join(folder, words.at(-1)!, file));
    } else if (instruction === 'RUN') await run('bash', ['-c', rest], { cwd: folder, env: { ...process.env, ...env } });
    else if (instruction === 'CMD') command = JSON.parse(rest) as string[];
    else if (instruction === 'HEALTHCHECK') healthCheck = JSON.parse(/ CMD (.*)$/.exec(rest)![1]!) as string[];
    else if (instruction === 'USER') user = rest;
    else if (instruction === 'EXPOSE') port = rest;
    else if (!['FROM', 'WORKDIR'].includes(instruction)) throw new Error(`This test has no step for: ${line}`);
    /* oxlint-enable no-await-in-loop */
  }
  return { folder, env, user, port, command, healthCheck };
}

/** Runs a command of an image. Resolves with its exit code. */
export async function exitCode(image: Image, [program, ...args]: readonly string[], port: string): Promise<number> {
  const env = { ...process.env, ...image.env, PORT: port };
  const child = spawn(program!, args, { cwd: image.folder, env, stdio: 'ignore' });
  return ((await once(child, 'exit')) as [number])[0];
}

/** Whether the modules of an image include a package. */
export function hasModule(image: Image, name: string): boolean {
  return existsSync(join(image.folder, 'node_modules', name, 'package.json'));
}
