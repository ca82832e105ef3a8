/*
 * Renders the results as the tables of docs/compatibility.md, between its two markers.
 */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { arch, platform, release } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cases } from './cases.mjs';
import { clientCases } from './client-cases.mjs';

const BEGIN = '<!-- begin: npm run test:compatibility -->';
const END = '<!-- end -->';
const run = promisify(execFile);

/** What other tests of this repository start. Each version is read from the program or the package that they use. */
const OTHER_TESTS = [
  ['nginx', { program: 'nginx', args: ['-v'] }, 'proxies/'],
  ['HAProxy', { program: 'haproxy', args: ['-v'] }, 'proxies/'],
  ['Varnish', { program: 'varnishd', args: ['-V'] }, 'proxies/'],
  ['Caddy', { program: 'caddy', args: ['version'] }, 'proxies/'],
  ['Apache', { program: 'apache2', args: ['-v'] }, 'proxies/'],
  ['curl', { program: 'curl', args: ['--version'] }, 'proxies/'],
  ['Firefox', { program: 'firefox-esr', args: ['--version'] }, 'proxies/'],
  ['Chromium', { pack: '@sparticuz/chromium' }, 'clients/browser.test.ts'],
  ['event-source-polyfill (Yaffle)', { pack: 'event-source-polyfill' }, 'clients/node-clients.test.ts'],
  ['eventsource-polyfill (amvtek)', { pack: 'eventsource-polyfill' }, 'clients/polyfills.test.ts'],
  ['openai', { pack: 'openai' }, 'clients/ai-clients.test.ts'],
  ['@anthropic-ai/sdk', { pack: '@anthropic-ai/sdk' }, 'clients/ai-clients.test.ts'],
  ['ai (AI SDK)', { pack: 'ai' }, 'clients/ai-clients.test.ts'],
  ['tRPC `tracked()`', { pack: '@trpc/server' }, 'examples/examples.test.ts'],
  ['Redis', { program: 'redis-server', args: ['--version'] }, 'journal/redis/'],
  ['ioredis', { pack: 'ioredis' }, 'journal/redis/'],
  ['node-redis', { pack: 'redis' }, 'journal/redis/'],
  ['pg', { pack: 'pg' }, 'journal/postgres/'],
  ['lmdb', { pack: 'lmdb' }, 'journal/lmdb/'],
  ['prom-client', { pack: 'prom-client' }, 'metrics/'],
];

const GROUPS = [
  ['runtimes', 'Runtimes', 'runtime', 'With Express 5, and with the journals in LMDB and Redis.'],
  ['servers', 'Servers and Express', 'server', 'On Node.js 24, if the row names no other version.'],
  [
    'middleware',
    'Middleware',
    'middleware',
    'On Node.js 24, with Express 5. The middleware is in front of all routers.',
  ],
  [
    'instrumentation',
    'Instrumentation',
    'instrumentation',
    'On Node.js 24, with Express 5. It starts before the application.',
  ],
  [
    'clients',
    'Clients for Node.js',
    'client',
    'On Node.js 24. [The comparison of clients](client-comparison.md) has those for browsers.',
  ],
];

/** Writes the tables into the document. */
export async function writeTables(path, root, results) {
  const text = await readFile(path, 'utf8');
  const [before, rest] = text.split(BEGIN);
  const after = rest.slice(rest.indexOf(END));
  const sections = GROUPS.map((group) =>
    section(
      group,
      results.filter(({ group: own }) => own === group[0]),
    ),
  );
  const machine = `Measured on ${platform()} ${release()} (${arch()}).`;
  const others = await otherTests(root);
  await writeFile(path, `${before}${BEGIN}\n\n${machine}\n\n${sections.join('\n')}\n${others}\n${after}`);
}

function section([group, title, column, text], results) {
  const rows = results.map(({ name, version, outcomes }) => {
    const all = Object.values(outcomes);
    if (all.length === 0) return `| ${name} | | not on this machine | |`;
    const passed = all.filter(({ type }) => type === 'passed').length;
    const others = Object.entries(outcomes).filter(([, { type }]) => type !== 'passed');
    const notes = [
      ...new Set(others.map(([key, { type, message }]) => (type === 'known' ? message : `**fails: ${key}**`))),
    ];
    return `| ${name} | ${version ?? ''} | ${passed} of ${all.length} | ${notes.join('; ')} |`;
  });
  const heading = `## ${title}\n\n${text}\n\n| ${column} | version | checks passed | deviation |\n|---|---|---|---|`;
  return `${heading}\n${rows.join('\n')}\n${checksOf(group)}`;
}

/** Lists the checks where they are first used. */
function checksOf(group) {
  if (group !== 'runtimes' && group !== 'clients') return '';
  const list = Object.values(group === 'clients' ? clientCases : cases).map(({ text }) => `- ${text}`);
  return `\nThe checks${group === 'runtimes' ? ', also those of the next three tables' : ''}:\n\n${list.join('\n')}\n`;
}

async function otherTests(root) {
  const rows = [];
  for (const [name, source, tests] of OTHER_TESTS) {
    const version = await (source.pack === undefined ? programVersion(source) : packageVersion(root, source.pack));
    rows.push(`| ${name} | ${version ?? 'not on this machine'} | \`__tests__/${tests}\` |`);
  }
  const text =
    'These have tests of their own in the repository. The versions are those of the machine that wrote this table.';
  return `## Proxies, browsers, clients and engines\n\n${text}\n\n| with | version | tests |\n|---|---|---|\n${rows.join('\n')}\n`;
}

async function packageVersion(root, name) {
  return JSON.parse(await readFile(join(root, 'node_modules', name, 'package.json'), 'utf8')).version;
}

async function programVersion({ program, args }) {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` };
  const { stdout, stderr } = await run(program, args, { env }).catch(() => ({ stdout: '', stderr: '' }));
  return /\d+\.\d+(?:\.\d+)*/.exec(stdout + stderr)?.[0];
}
