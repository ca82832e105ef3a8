// Runs `npm run compare`: every row with every peer, over real sockets. A full run writes the table of docs/comparison.md.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const usage = `npm run compare -- [flags]

  --row words         only rows with these words
  --peers a,b         better-sse, express-sse, sse-channel, fastify, transmit, nest, sse-router (default: all)
  --help
A run without flags writes docs/comparison.md. It needs redis-server or valkey-server in the PATH, or REDIS_URL.`;
const { values: flags } = parseArgs({
  options: { row: { type: 'string' }, peers: { type: 'string' }, help: { type: 'boolean', default: false } },
});
if (flags.help) {
  console.log(usage);
  process.exit(0);
}

if (!existsSync(join(here, 'node_modules'))) {
  console.error('Installing the peers into compare/node_modules …');
  const { status } = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: here,
    stdio: 'inherit',
  });
  if (status !== 0) throw new Error('npm ci failed in compare/.');
}
const { Missing, Scene } = await import('./scene.mjs');
const { rows } = await import('./rows.mjs');
const { measure, pack, PEERS, titleOf } = await import('./packages.mjs');
const { proxied, startRedis } = await import('./redis.mjs');

const peers = flags.peers?.split(',') ?? Object.keys(PEERS);
const unknown = peers.filter((peer) => !(peer in PEERS));
if (unknown.length > 0) throw new Error(`--peers must be names of peers; received ${unknown.join(', ')}.\n\n${usage}`);
const isWanted = ([name, run]) => run !== undefined && (flags.row === undefined || name.includes(flags.row));
const isFull = flags.row === undefined && flags.peers === undefined;

const tarball = pack(); // builds dist/, which the programs use
const redis = await startRedis();
const proxiedRedis = await proxied(redis.url);

/** Runs one row with one peer. A row that fails is repeated once, because the machine may have been busy. */
async function perform(row, peer, attempt = 1) {
  const scene = Object.assign(new Scene(peer), { redis: redis.url, proxiedRedis, notes: notes[peer] });
  try {
    return await row[1](scene);
  } catch (error) {
    if (error instanceof Missing) return '-';
    if (attempt === 1) return await perform(row, peer, 2);
    return `fails: ${error.message.split('\n')[0].slice(0, 80)}`;
  } finally {
    await scene.end();
  }
}

/** What one row of a peer measured for the next. */
const notes = Object.fromEntries(peers.map((peer) => [peer, {}]));
const table = [];
const add = (name, cells) => {
  table.push([name, ...cells]);
  console.log([name, ...cells].join(' | '));
};
try {
  for (const row of rows) {
    const [name, run, how] = row;
    if (run === undefined) {
      if (isFull)
        add(
          `**${String(name)}**`,
          peers.map(() => ''),
        );
      continue;
    }
    if (!isWanted(row)) continue;
    const cells = [];
    if (how === 'parallel') cells.push(...(await Promise.all(peers.map((peer) => perform(row, peer)))));
    else for (const peer of peers) cells.push(await perform(row, peer));
    add(name, cells);
  }
  if (isFull) {
    add(
      '**The package**',
      peers.map(() => ''),
    );
    const measured = peers.map((peer) => measure(peer, tarball));
    add(
      'installed, without the framework',
      measured.map(({ size }) => size),
    );
    add(
      '`import` and `require`',
      measured.map(({ modules }) => modules),
    );
    add(
      'has its types',
      measured.map(({ types }) => types),
    );
    add(
      'names and payloads of events have types',
      measured.map(({ typedEvents }) => typedEvents),
    );
  }
} finally {
  proxiedRedis.stop();
  redis.stop();
}

if (isFull) {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const stamp = `Run on ${new Date().toISOString().slice(0, 10)} with Node ${process.versions.node}.`;
  const head = ['', ...peers.map((peer) => titleOf(peer, version))];
  const text = [stamp, '', line(head), line(head.map(() => '---')), ...table.map(line)].join('\n');
  const page = join(root, 'docs/comparison.md');
  const [before, rest] = readFileSync(page, 'utf8').split('<!-- begin: npm run compare -->');
  const [, after] = rest.split('<!-- end -->');
  writeFileSync(page, `${before}<!-- begin: npm run compare -->\n${text}\n<!-- end -->${after}`);
}
rmSync(join(here, '.tmp'), { recursive: true, force: true });
process.exit();
