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
  { name: 'nginx', source: { program: 'nginx', args: ['-v'] }, tests: 'proxies/' },
  { name: 'HAProxy', source: { program: 'haproxy', args: ['-v'] }, tests: 'proxies/' },
  { name: 'Varnish', source: { program: 'varnishd', args: ['-V'] }, tests: 'proxies/' },
  { name: 'Caddy', source: { program: 'caddy', args: ['version'] }, tests: 'proxies/' },
  { name: 'Apache', source: { program: 'apache2', args: ['-v'] }, tests: 'proxies/' },
  { name: 'curl', source: { program: 'curl', args: ['--version'] }, tests: 'proxies/' },
  { name: 'Firefox', source: { program: 'firefox-esr', args: ['--version'] }, tests: 'proxies/' },
  { name: 'Chromium', source: { pack: '@sparticuz/chromium' }, tests: 'clients/browser.test.ts' },
  {
    name: 'event-source-polyfill (Yaffle)',
    source: { pack: 'event-source-polyfill' },
    tests: 'clients/node-clients.test.ts',
  },
  {
    name: 'eventsource-polyfill (amvtek)',
    source: { pack: 'eventsource-polyfill' },
    tests: 'clients/polyfills.test.ts',
  },
  { name: 'openai', source: { pack: 'openai' }, tests: 'clients/ai-clients.test.ts' },
  { name: '@anthropic-ai/sdk', source: { pack: '@anthropic-ai/sdk' }, tests: 'clients/ai-clients.test.ts' },
  { name: 'ai (AI SDK)', source: { pack: 'ai' }, tests: 'clients/ai-clients.test.ts' },
  { name: 'tRPC `tracked()`', source: { pack: '@trpc/server' }, tests: 'examples/examples.test.ts' },
  { name: 'Redis', source: { program: 'redis-server', args: ['--version'] }, tests: 'journal/redis/' },
  { name: 'ioredis', source: { pack: 'ioredis' }, tests: 'journal/redis/' },
  { name: 'node-redis', source: { pack: 'redis' }, tests: 'journal/redis/' },
  { name: 'pg', source: { pack: 'pg' }, tests: 'journal/postgres/' },
  { name: 'lmdb', source: { pack: 'lmdb' }, tests: 'journal/lmdb/' },
  { name: 'prom-client', source: { pack: 'prom-client' }, tests: 'metrics/' },
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
  for (const { name, source, tests } of OTHER_TESTS) {
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
