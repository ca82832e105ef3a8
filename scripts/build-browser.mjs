/*
 * Builds what runs in a browser: ES modules with source maps. The shared worker is one file without imports, so that a page can
 * serve it from anywhere.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');

/** Writes the modules to this folder, without their types. */
export async function buildBrowser(folder) {
  const options = ['--outDir', folder, '--declaration', 'false', '--removeComments'];
  await promisify(execFile)(process.execPath, [tsc, '-p', join(root, 'lib/tsconfig.browser.json'), ...options]);
  for (const file of await readdir(folder, { recursive: true })) {
    const path = join(folder, file);
    if (!path.endsWith('.js') || !(await readFile(path, 'utf8')).startsWith('export {};')) continue;
    await Promise.all([rm(path), rm(`${path}.map`)]); // it contained only types
  }
  await build({
    entryPoints: [join(root, 'lib/client/worker.ts')],
    outfile: join(folder, 'client/worker.js'),
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    sourcemap: true,
    logLevel: 'warning',
  });
}
