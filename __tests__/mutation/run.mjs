/*
 * Makes one classic mistake after another in a copy of the package. After each mistake, at least one test must fail.
 * Invariant: it changes nothing outside the copy.
 *
 *   npm run mutation
 *   npm run mutation -- ring                  only the mistakes whose names contain "ring"
 *   npm run mutation -- --check               runs no test: checks that the line of each mistake exists
 *   npm run mutation -- --report file.json    also writes { "passed": …, "failed": …, "failures": … }: the numbers of the
 *                                             detected and the other mistakes, and the names of the others
 *
 * MUTATION_RUNS is the number of runs of the model in which a mistake must be detected (default 6000).
 */

import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DEFAULT_TEST, mutants } from './mutants.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const runs = process.env.MUTATION_RUNS ?? '6000';
const seed = process.env.MODEL_SEED ?? '20261123';
const { values: flags, positionals } = parseArgs({
  options: { check: { type: 'boolean', default: false }, report: { type: 'string' } },
  allowPositionals: true,
});
const namePart = positionals[0] ?? '';

/** After this time, a test counts as failed. A mistake may make a test wait for ever. */
const TEST_TIMEOUT_MS = 90_000;

/**
 * Runs one test file in the copy, or its tests whose names contain `part`. Resolves with the exit code and the output.
 * The seeds are the same in each run. Otherwise a random test might detect a mistake today and miss it tomorrow.
 */
function test(copy, file, part) {
  return new Promise((resolve) => {
    const jest = join(copy, 'node_modules/jest/bin/jest.js');
    const options = ['--runInBand', '--bail', '--forceExit', ...(part === undefined ? [] : ['-t', part])];
    const child = spawn(process.execPath, [jest, `__tests__/${file}`, ...options], {
      cwd: copy,
      env: { ...process.env, MODEL_RUNS: runs, MODEL_SEED: seed, TEST_SEED: seed, MODEL_SHRINK: '0', CI: 'true' },
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), TEST_TIMEOUT_MS);
    let text = '';
    child.stdout.on('data', (chunk) => (text += chunk));
    child.stderr.on('data', (chunk) => (text += chunk));
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 'hung', text });
    });
  });
}

/** Returns the test files of these mistakes, each with the parts that detect them; undefined: the whole file. */
function partsOfFiles(chosen) {
  const files = new Map();
  for (const { test: file = DEFAULT_TEST, part } of chosen) {
    const parts = files.get(file) ?? files.set(file, []).get(file);
    if (!parts.includes(part)) parts.push(part);
  }
  return files;
}

/** Returns the reason of a failure, from the output of Jest. */
function reasonOf(text) {
  const lines = text.split('\n').map((line) => line.trim());
  const after = /Property failed after (\d+) tests/.exec(text)?.[1];
  const cause = lines[lines.indexOf('Cause:') + 1];
  if (after !== undefined) return `${after} runs: ${cause}`;
  return lines.find((line) => line.startsWith('●'))?.slice(2) ?? 'the test did not end';
}

/** Makes a mistake in the copy. Returns a function that restores the file. */
async function makeMistake(copy, { name, file, from, to }) {
  const path = join(copy, 'lib', file);
  const source = await readFile(path, 'utf8');
  const times = source.split(from).length - 1;
  if (times !== 1)
    throw new Error(
      `The line of the mistake "${name}" must be in lib/${file} exactly once; found it ${times} times:\n${from}`,
    );
  await writeFile(
    path,
    source.replace(from, () => to),
  );
  return () => writeFile(path, source);
}

const copy = await mkdtemp(join(tmpdir(), 'mutation-'));
const survivors = [];
try {
  for (const part of ['lib', '__tests__', 'examples', 'scripts', 'jest.config.js', 'package.json', 'tsconfig.json']) {
    await cp(join(root, part), join(copy, part), { recursive: true });
  }
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'));
  const chosen = mutants.filter(({ name }) => name.includes(namePart));
  const missing = [];
  for (const mutant of chosen) {
    try {
      await (
        await makeMistake(copy, mutant)
      )();
    } catch (error) {
      missing.push(error.message);
    }
  }
  if (missing.length > 0) throw new Error(missing.join('\n\n'));
  if (flags.check) chosen.length = 0; // so no test is run
  for (const [file, parts] of partsOfFiles(chosen)) {
    const { code, text } = await test(copy, file, parts.includes(undefined) ? undefined : parts.join('|'));
    if (code !== 0) throw new Error(`${file} fails without any mistake:\n${text}`);
  }
  console.log(`Seed ${seed}, at most ${runs} runs\n`);
  for (const mutant of chosen) {
    const file = mutant.test ?? DEFAULT_TEST;
    const restore = await makeMistake(copy, mutant);
    const start = performance.now();
    const { code, text } = await test(copy, file, mutant.part);
    await restore();
    if (code === 0) survivors.push(mutant.name);
    const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(5);
    console.log(
      `${code === 0 ? 'SURVIVED' : 'killed  '} ${seconds} s  ${mutant.name}  [${file}${code === 0 ? '' : `, ${reasonOf(text)}`}]`,
    );
  }
  console.log(`\n${chosen.length - survivors.length} of ${chosen.length} killed`);
  if (flags.report) {
    const failed = survivors.length;
    await writeFile(flags.report, JSON.stringify({ passed: chosen.length - failed, failed, failures: survivors }));
  }
} finally {
  await rm(copy, { recursive: true, force: true });
}
process.exitCode = survivors.length === 0 ? 0 : 1;
