/*
 * Builds dist/: the sources as ES modules and as CommonJS, each with its types.
 *
 *   npm run build
 *
 * The build is written to a temporary folder, which then replaces dist/. So a process that reads dist/ meanwhile never sees
 * parts of two builds. The types keep their comments, because editors show them; the code has none, which saves a third of
 * the tarball. Types that no entry point leads to are not shipped.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { buildBrowser } from './build-browser.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = promisify(execFile);
const require = createRequire(import.meta.url);
const { exports: entryPoints } = require('../package.json');
const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc');
const SPECIFIER = /(\b(?:from|import)\s*\(?\s*['"])(\.[^'"]*)\.ts(?=['"])/g;

await mkdir(join(root, '.tmp'), { recursive: true });
const folder = await mkdtemp(join(root, '.tmp/build-'));
try {
  // Waits for all of them even if one fails: the folder cannot be removed while another still writes to it.
  const results = await Promise.allSettled([
    buildCode('esm'),
    buildCode('cjs'),
    buildBrowser(join(folder, 'browser')),
    buildTypes('esm'),
    buildTypes('cjs'),
    buildTypes('browser'),
  ]);
  for (const { reason } of results) if (reason) throw reason;
  // Node reads a .js file as the type in the nearest package.json, which is "module" in the package's own.
  await writeFile(join(folder, 'cjs/package.json'), '{ "type": "commonjs" }\n');
  await chmod(join(folder, 'esm/cli/cli.js'), 0o755);
  // The inspector's page is large and the same for both kinds of modules, so it is shipped once.
  const assets = join(folder, 'esm/inspector/assets');
  for (const file of await readdir(assets)) await rm(join(assets, file));
  await writeFile(join(assets, 'index.js'), "export { ASSETS } from '../../../cjs/inspector/assets/index.js';\n");
  await rm(join(root, 'dist'), { recursive: true, force: true });
  await rename(folder, join(root, 'dist'));
} catch (error) {
  await rm(folder, { recursive: true, force: true });
  console.error(error.stdout || error);
  process.exitCode = 1;
}

function buildCode(kind) {
  return compile(kind, '--declaration', 'false', '--removeComments', '--noCheck'); // buildTypes() checks the types
}

async function buildTypes(kind) {
  await compile(kind, '--emitDeclarationOnly');
  const shipped = new Set();
  const entries = { esm: ({ import: entry }) => entry, cjs: ({ require: entry }) => entry, browser: (entry) => entry };
  for (const { types } of Object.values(entryPoints).map(entries[kind]).filter(Boolean))
    if (types) await followTypes(types, shipped);
  const files = await readdir(join(folder, kind), { recursive: true });
  const declarations = files.filter((file) => file.endsWith('.d.ts')).map((file) => join(folder, kind, file));
  await Promise.all(declarations.filter((file) => !shipped.has(file)).map((file) => rm(file)));
}

/**
 * Adds the types that an entry point leads to. The compiler rewrites `./module.ts` to `./module.js` in the code but not in the
 * types, where no file of that name exists, so this function rewrites it there.
 */
async function followTypes(entry, shipped) {
  const files = [join(folder, entry.replace('./dist/', ''))];
  for (const file of files) {
    if (shipped.has(file)) continue;
    shipped.add(file);
    const text = await readFile(file, 'utf8');
    for (const [, , path] of text.matchAll(SPECIFIER)) files.push(join(dirname(file), `${path}.d.ts`));
    await writeFile(file, text.replace(SPECIFIER, '$1$2.js'));
  }
}

async function compile(kind, ...options) {
  const project = join(root, `lib/tsconfig.${kind}.json`);
  await run(process.execPath, [tsc, '-p', project, '--outDir', join(folder, kind), ...options]);
}
