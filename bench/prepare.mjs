// Prepares a run: compiles our sources as they are published, and installs the peers.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { journals } from './journals.mjs';
import { bare } from './machine.mjs';

const bench = dirname(fileURLToPath(import.meta.url));
const root = dirname(bench);
const scratch = join(bench, '.tmp');
const inBench = (name) => existsSync(join(bench, 'node_modules', name));

/** Compiles the sources, because a loader would add to the measured memory and CPU time. It does not check types. */
export function build(from = root, to = 'esm') {
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
  const flags = ['--declaration', 'false', '--noCheck', '--outDir', join(scratch, to)];
  run(process.execPath, [tsc, '-p', join(from, 'lib', 'tsconfig.esm.json'), ...flags]);
}

/** Compiles an earlier git revision, or copies a folder with compiled sources. */
export function buildRevision(revision) {
  if (existsSync(join(revision, 'index.js'))) return cpSync(revision, join(scratch, 'before'), { recursive: true });
  const from = join(scratch, 'revision');
  const archive = join(scratch, 'revision.tar');
  rmSync(from, { recursive: true, force: true });
  mkdirSync(from);
  run('git', ['archive', '-o', archive, revision, 'lib', 'tsconfig.json'], { cwd: root });
  run('tar', ['-xf', archive, '-C', from]);
  build(from, 'before');
}

/** Installs the peers, unless every requested peer needs only packages that the repository has installed already. */
export function install(peers) {
  const own = ['ours', ...bare, 'express', ...Object.keys(journals)];
  if (peers.every((peer) => own.includes(peer) || inBench(peer))) return;
  console.error('Installing the peers into bench/node_modules …');
  run('npm', ['ci', '--no-audit', '--no-fund'], { cwd: bench });
}

export const canPlot = () => inBench('vega') && inBench('vega-lite');

function run(command, args, options) {
  const { status, stdout, error } = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    ...options,
  });
  if (status !== 0) throw new Error(`${command} failed (${error ?? status})\n${stdout}`);
}
