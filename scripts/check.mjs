/*
 * Runs every check that a release must pass. It changes no source file.
 *
 *   npm run check
 *   npm run check -- --without tests        leaves out the named step; may be repeated
 *   npm run check -- --report checks.json   also writes { "passed": …, "failed": …, "failures": the names of the failed steps }
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { delimiter, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { name, version } = createRequire(import.meta.url)('../package.json');
const { values: flags } = parseArgs({
  options: { without: { type: 'string', multiple: true, default: [] }, report: { type: 'string' } },
});

await mkdir(join(root, '.tmp'), { recursive: true });
const folder = await mkdtemp(join(root, '.tmp/check-'));
const tarball = relative(root, join(folder, `${name}-${version}.tgz`));

// The steps of one row run at the same time. A row needs the results of the rows before it.
const rows = [
  {
    types: 'npm run --silent types',
    format: 'oxfmt --check .',
    build: `npm pack --pack-destination ${relative(root, folder)}`, // builds first, as `npm publish` does
  },
  {
    lint: 'oxlint --type-aware --deny-warnings',
    publint: `publint run ${tarball} --strict`,
    // What runs in a browser is there as ES modules only.
    attw: `attw ${tarball} --profile node16 --ignore-rules cjs-resolves-to-esm`,
  },
  { tests: 'jest --ci' },
];

const unknown = flags.without.filter((step) => !rows.some((row) => Object.hasOwn(row, step)));
if (unknown.length > 0)
  throw new Error(`--without must be the name of a step; received ${unknown.join(', ')}. See scripts/check.mjs.`);

if (flags.without.includes('build')) flags.without.push('publint', 'attw'); // these two check its tarball

const results = [];
for (const row of rows) {
  const steps = Object.entries(row).filter(([step]) => !flags.without.includes(step));
  results.push(...(await Promise.all(steps.map(([step, command]) => perform(step, command)))));
}
await rm(folder, { recursive: true, force: true });

const failures = results.filter(({ passed }) => !passed).map(({ step }) => step);
const failed = failures.length;
console.log(failed === 0 ? 'All checks passed.' : `${failed} of ${results.length} checks failed.`);
if (flags.report) await writeFile(flags.report, JSON.stringify({ passed: results.length - failed, failed, failures }));
process.exitCode = failed === 0 ? 0 : 1;

/** Runs one step and prints its result in one line. The output of the step is printed only if it failed. */
function perform(step, command) {
  const start = performance.now();
  const env = { ...process.env, PATH: join(root, 'node_modules/.bin') + delimiter + process.env.PATH };
  const child = spawn(command, { cwd: root, env, shell: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  return new Promise((resolve) => {
    child.on('close', (code) => {
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      if (code !== 0) console.log(`\n$ ${command}\n${output.trimEnd()}\n`);
      console.log(`${code === 0 ? 'passed' : 'FAILED'}  ${step.padEnd(8)} ${seconds.padStart(6)} s`);
      resolve({ step, passed: code === 0 });
    });
  });
}
