/*
 * Runs the common checks against every subject, and writes the tables in docs/compatibility.md.
 *
 *   npm run test:compatibility
 *   npm run test:compatibility -- runtimes              only the runtimes, as .ci/run does; no document is written
 *   npm run test:compatibility -- --only spdy           only the subjects whose names contain "spdy"; no document is written
 *   npm run test:compatibility -- --report file.json    also writes { "passed": …, "failed": …, "failures": their names }
 *
 * The programs and packages are installed into .tmp/compatibility, from the lock files next to this file. The server under test uses
 * the package as it is published.
 */
import { execFile, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { certificate } from '../../__tests__/fixtures/certificate.ts';
import { cases } from './cases.mjs';
import { clientCases } from './client-cases.mjs';
import { clients } from './clients.mjs';
import { writeTables } from './tables.mjs';
import { packages, runtimes } from './subjects.mjs';
import { clientOf, within } from './wire.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const here = fileURLToPath(new URL('.', import.meta.url));
const cache = join(root, '.tmp/compatibility');
const run = promisify(execFile);
const { values: flags, positionals } = parseArgs({
  options: { only: { type: 'string' }, report: { type: 'string' } },
  allowPositionals: true,
});

const isChosen = (name) => flags.only === undefined || name.toLowerCase().includes(flags.only.toLowerCase());
const chosen = (positionals[0] === 'runtimes' ? runtimes : [...runtimes, ...packages]).filter(({ name }) =>
  isChosen(name),
);
const chosenClients = positionals[0] === 'runtimes' ? [] : clients.filter(({ name }) => isChosen(name));
const isComplete = positionals.length === 0 && flags.only === undefined;

await prepare();
const redis = await startRedis();
const results = [];
for (const subject of chosen) results.push(await test(subject));
for (const client of chosenClients) results.push(await test(client));
redis?.stop();
const count = (outcome) =>
  results.flatMap(({ outcomes }) => Object.values(outcomes)).filter(({ type }) => type === outcome).length;
const failures = results.flatMap(({ name, outcomes }) => {
  const failed = Object.entries(outcomes).filter(([, { type }]) => type === 'failed');
  if (Object.keys(outcomes).length === 0) return [`${name}: its program is not on this machine`];
  return failed.map(([key, { message }]) => `${name}, ${key}: ${message}`);
});
const [passed, failed] = [count('passed') + count('known'), failures.length];
if (isComplete) await writeTables(join(root, 'docs/compatibility.md'), root, results);
console.log(`${passed} passed, ${failed} failed`);
if (flags.report) await writeFile(flags.report, JSON.stringify({ passed, failed, failures }));
process.exitCode = failed === 0 ? 0 : 1;

/** Installs the programs and packages, and the package of this repository as npm would publish it. */
async function prepare() {
  const folders = [...new Set(['runtimes', ...[...chosen, ...chosenClients].map(({ folder }) => folder)])];
  await mkdir(cache, { recursive: true });
  const packed = await mkdtemp(join(cache, 'packed-'));
  await run('npm', ['pack', '--pack-destination', packed], { cwd: root });
  await run('bash', ['-c', `tar -xzf *.tgz`], { cwd: packed });
  for (const name of folders) {
    const folder = join(cache, name);
    const lock = await readFile(join(here, name, 'package-lock.json'), 'utf8');
    const installed = await readFile(join(folder, 'installed.json'), 'utf8').catch(() => '');
    if (installed !== lock) {
      console.error(`Installing ${name} …`);
      await rm(folder, { recursive: true, force: true });
      await cp(join(here, name), folder, { recursive: true });
      const quietly = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-bin-links', '--legacy-peer-deps'];
      await run('npm', ['ci', ...quietly], { cwd: folder, maxBuffer: 2 ** 26 });
      await writeFile(join(folder, 'installed.json'), lock);
    }
    await rm(join(folder, 'node_modules/sse-router'), { recursive: true, force: true });
    await cp(join(packed, 'package'), join(folder, 'node_modules/sse-router'), { recursive: true });
    for (const file of ['server.mjs', 'fronts.mjs', 'opentelemetry.mjs', 'sentry.mjs', 'client-program.mjs'])
      await cp(join(here, file), join(folder, file));
  }
  await rm(packed, { recursive: true });
}

/** Starts a Redis server, if its program is on this machine. */
async function startRedis() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const child = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'ignore'] });
  const ready = new Promise((resolve) => {
    child.on('error', () => resolve(false));
    child.on('exit', () => resolve(false));
    child.stdout?.setEncoding('utf8').on('data', (text) => text.includes('Ready to accept') && resolve(true));
  });
  if (await ready) return { port, stop: () => child.kill('SIGKILL') };
  console.log('redis-server is not on this machine, so the checks of the journal in Redis are left out.');
  return undefined;
}

/** Runs all checks against one subject. @returns its version, and the outcome of each check */
async function test(subject) {
  const { name, group, pack, known = {} } = subject;
  const start = performance.now();
  const outcomes = {};
  const program = programOf(subject);
  const folder = join(cache, subject.folder);
  if (!existsSync(join(folder, program[0])) && !existsSync(program[0])) {
    console.log(`missing  ${name}: its program is not on this machine`);
    return { name, group, version: undefined, outcomes };
  }
  let server;
  try {
    server = await startServer(subject, folder, program);
    for (const [key, { only, check }] of Object.entries(group === 'clients' ? clientCases : cases)) {
      if (only?.({ ...subject, redisPort: redis?.port }) === false || subject.cases?.includes(key) === false) continue;
      const client =
        group === 'clients'
          ? startClient(subject, folder, program)
          : clientOf(subject.server ?? 'http', server.port, subject.requestHeaders);
      const error = await within(check({ ...server, ...client }), key, 15_000).then(
        () => undefined,
        (thrown) => thrown,
      );
      client.close();
      outcomes[key] = outcomeOf(error, known[key]);
    }
  } catch (error) {
    outcomes.opens = outcomeOf(error, known.start);
  }
  await server?.stop();
  for (const [key, { type, message }] of Object.entries(outcomes))
    if (type === 'failed') console.log(`  FAILED  ${key}: ${message}`);
  const failed = Object.values(outcomes).filter(({ type }) => type === 'failed').length;
  const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(5);
  console.log(`${failed === 0 ? 'passed' : 'FAILED'}  ${seconds} s  ${name}`);
  return { name, group, version: await versionOf(folder, pack, server), outcomes };
}

function outcomeOf(error, known) {
  if (error === undefined && known === undefined) return { type: 'passed' };
  if (error === undefined) return { type: 'failed', message: `works, although it is listed as: ${known}` };
  if (known !== undefined) return { type: 'known', message: known };
  return { type: 'failed', message: String(error.message).split('\n').slice(0, 12).join(' ') };
}

function programOf({ command }) {
  return /^node-\d+$/.test(command[0]) ? [join(cache, 'runtimes/node_modules', command[0], 'bin/node')] : command;
}

async function versionOf(folder, pack, server) {
  const of = (at) =>
    readFile(join(at, 'node_modules', pack, 'package.json'), 'utf8').then((text) => JSON.parse(text).version);
  if (pack.startsWith('node-')) return of(join(cache, 'runtimes')).catch(() => server?.version);
  return of(folder).catch(() => undefined);
}

/** Starts the server of a subject. @returns its port, and functions to control it */
async function startServer(subject, folder, [program, ...args]) {
  const { framework, front, server, headers, env = {}, flags: more = [], withJournals } = subject;
  const data = await mkdtemp(join(tmpdir(), 'compatibility-'));
  const journals = withJournals ? { lmdbPath: join(data, 'log'), redisPort: redis?.port } : {};
  const settings = JSON.stringify({ framework, front, server, headers, certificate, ...journals });
  const child = spawn(program, [...args, ...more, 'server.mjs'], {
    cwd: folder,
    env: { ...process.env, NODE_ENV: 'production', NODE_OPTIONS: '', ...env, COMPATIBILITY: settings },
  });
  let noise = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (noise = (noise + text).slice(-2000)));
  const pending = new Map();
  let calls = 0;
  const hello = new Promise((resolve, reject) => {
    pending.set('hello', { resolve, reject });
    child.on('error', reject);
    child.on('exit', (code) => {
      for (const { reject: fail } of pending.values()) fail(new Error(`the process has exited with ${code}: ${noise}`));
    });
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.startsWith('@{')) return;
    const { n = 'hello', result, error, ...rest } = JSON.parse(line.slice(1));
    const { resolve, reject } = pending.get(n);
    pending.delete(n);
    if (error === undefined) resolve(n === 'hello' ? rest : result);
    else reject(new Error(error));
  });
  const stop = async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.on('exit', resolve));
    await rm(data, { recursive: true, force: true });
  };
  const call = (router, action, ...args) => {
    const n = ++calls;
    child.stdin.write(`${JSON.stringify({ n, router, action, args })}\n`);
    return within(new Promise((resolve, reject) => pending.set(n, { resolve, reject })), `${action}() of ${router}`);
  };
  try {
    return { ...(await within(hello, 'the start of the server', 20_000)), call, eventually, stop };
  } catch (error) {
    await stop();
    throw new Error(`${error.message} ${noise}`, { cause: error });
  }
}

/** Returns a function that starts the program of a client, and one that ends it. */
function startClient({ client }, folder, [program]) {
  const children = [];
  const open = (url) => {
    const child = spawn(program, ['--experimental-eventsource', '--no-warnings', 'client-program.mjs', client, url], {
      cwd: folder,
    });
    children.push(child);
    const events = [];
    createInterface({ input: child.stdout }).on(
      'line',
      (line) => line.startsWith('@') && events.push(JSON.parse(line.slice(1))),
    );
    child.stderr.setEncoding('utf8').on('data', (text) => flags.only && process.stderr.write(text));
    return events;
  };
  return { open, close: () => children.forEach((child) => child.kill('SIGKILL')) };
}

/** Resolves when a condition is true. */
async function eventually(condition, what, timeout = 3000) {
  const end = performance.now() + timeout;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${timeout} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
