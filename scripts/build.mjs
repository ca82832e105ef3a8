/*
 * Builds dist/: the sources as ES modules and as CommonJS, each with its types.
 *
 *   npm run build
 *
 * Builds aside and moves the whole into its place, so that whoever reads dist/ meanwhile reads one build and not two halves.
 * The package is read by its types: comments stay there and leave the code (a third of the tarball), and types that no
 * entry point leads to are not shipped.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = promisify(execFile);
const require = createRequire(import.meta.url);
const { exports: entryPoints } = require('../package.json');
const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc');
const SPECIFIER = /(\b(?:from|import)\s*\(?\s*['"])(\.[^'"]*)\.ts(?=['"])/g;

await mkdir(join(root, '.tmp'), { recursive: true });
const aside = await mkdtemp(join(root, '.tmp/build-'));
try {
  // All are waited for: what one of them still writes cannot be removed.
  const parts = await Promise.allSettled([code('esm'), code('cjs'), types('esm'), types('cjs')]);
  for (const { reason } of parts) if (reason) throw reason;
  // Node takes a .js file for what the nearest package.json says, and the package's own says "module".
  await writeFile(join(aside, 'cjs/package.json'), '{ "type": "commonjs" }\n');
  await chmod(join(aside, 'esm/cli/cli.js'), 0o755);
  // The inspector's page is large and the same for both kinds of modules: it is shipped once.
  const page = join(aside, 'esm/inspector/assets');
  for (const file of await readdir(page)) await rm(join(page, file));
  await writeFile(join(page, 'index.js'), "export { ASSETS } from '../../../cjs/inspector/assets/index.js';\n");
  await rm(join(root, 'dist'), { recursive: true, force: true });
  await rename(aside, join(root, 'dist'));
} catch (error) {
  await rm(aside, { recursive: true, force: true });
  console.error(error.stdout || error);
  process.exitCode = 1;
}

function code(kind) {
  return compile(kind, '--declaration', 'false', '--removeComments');
}

async function types(kind) {
  await compile(kind, '--emitDeclarationOnly');
  const reached = new Set();
  const condition = kind === 'esm' ? 'import' : 'require';
  for (const entry of Object.values(entryPoints)) if (entry[condition]) await reach(entry[condition].types, reached);
  const files = await readdir(join(aside, kind), { recursive: true });
  const made = files.filter((file) => file.endsWith('.d.ts')).map((file) => join(aside, kind, file));
  await Promise.all(made.filter((file) => !reached.has(file)).map((file) => rm(file)));
}

/**
 * Follows the types from an entry point on. The compiler rewrites `./room.ts` to `./room.js` in what runs, but leaves it in
 * the types, where nothing of that name exists: it is rewritten here.
 */
async function reach(entry, reached) {
  const files = [join(aside, entry.replace('./dist/', ''))];
  for (const file of files) {
    if (reached.has(file)) continue;
    reached.add(file);
    const text = await readFile(file, 'utf8');
    for (const [, , room] of text.matchAll(SPECIFIER)) files.push(join(dirname(file), `${room}.d.ts`));
    await writeFile(file, text.replace(SPECIFIER, '$1$2.js'));
  }
}

async function compile(kind, ...how) {
  const project = join(root, `lib/tsconfig.${kind}.json`);
  await run(process.execPath, [tsc, '-p', project, '--outDir', join(aside, kind), ...how]);
}
