// What a peer is as a package: its size, its modules and its types. Nothing here is run in a server.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const scratch = join(here, '.tmp');
const pinned = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')).dependencies;

/** The packages that an application installs for each peer, and the import that its documentation shows. */
export const PEERS = {
  'better-sse': { packages: ['better-sse'], named: 'createSession' },
  'express-sse': { packages: ['express-sse'] },
  'sse-channel': { packages: ['sse-channel'] },
  fastify: { packages: ['@fastify/sse'] },
  transmit: { packages: ['@boringnode/transmit'], named: 'Transmit' },
  nest: {
    title: 'Nest `@Sse`',
    packages: ['@nestjs/common', '@nestjs/core', '@nestjs/platform-express', 'reflect-metadata', 'rxjs'],
    named: 'Sse',
    isFramework: true,
  },
  'sse-router': { packages: ['sse-router'], named: 'sse' },
};

export function titleOf(peer, own) {
  const { title, packages } = PEERS[peer];
  const [name] = packages;
  return name === 'sse-router' ? `sse-router ${own}` : `${title ?? name} ${pinned[name]}`;
}

/** Compiles our sources and packs them, as `npm publish` does. Returns the file. */
export function pack() {
  mkdirSync(scratch, { recursive: true });
  const output = run('npm', ['pack', '--json', '--pack-destination', scratch], root);
  return join(scratch, JSON.parse(output.slice(output.indexOf('[\n')))[0].filename);
}

/** Installs a peer alone, without its peer dependencies, and measures it. */
export function measure(peer, tarball) {
  const { packages, named, isFramework } = PEERS[peer];
  const folder = join(scratch, peer);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const dependencies = Object.fromEntries(
    packages.map((name) => [name, name === 'sse-router' ? `file:${tarball}` : pinned[name]]),
  );
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }));
  const quietly = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-bin-links', '--prefer-offline'];
  run('npm', ['install', '--omit=peer', ...quietly], folder);
  const { packages: all } = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8'));
  const installed = Object.entries(all).filter(([path, { peer: isPeer }]) => path !== '' && isPeer !== true);
  const bytes = installed.reduce((sum, [path]) => sum + sizeOf(join(folder, path)), 0);
  const suffix = isFramework ? ', the whole framework' : '';
  return {
    size: `${installed.length} package${installed.length > 1 ? 's' : ''}, ${Math.round(bytes / 1024).toLocaleString('en')} KiB${suffix}`,
    modules: modulesOf(packages[0], named),
    types: typesOf(packages[0], named),
    typedEvents: peer === 'sse-router' ? typedEvents() : 'no',
  };
}

function sizeOf(folder) {
  let sum = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.name === 'node_modules') continue; // each package counts once
    const path = join(entry.parentPath ?? entry.path, entry.name);
    sum += entry.isDirectory() ? sizeOf(path) : statSync(path).size;
  }
  return sum;
}

/** Whether a program can `import` and `require` it. */
function modulesOf(name, named) {
  const specifier = name === 'sse-router' ? '../dist/esm/index.js' : name;
  const required = name === 'sse-router' ? '../dist/cjs/index.js' : name;
  const works = (code, type) =>
    spawnSync(process.execPath, [`--input-type=${type}`, '-e', code], { cwd: here }).status === 0;
  const imported = named ? `{ ${named} }` : 'made';
  const esm = works(`import ${imported} from '${specifier}'; if (!${named ?? 'made'}) process.exit(1);`, 'module');
  const cjs = works(
    `const made = require('${required}'); if (!made${named ? `.${named}` : ''}) process.exit(1);`,
    'commonjs',
  );
  return esm && cjs ? 'yes' : esm ? '`import` only' : '`require` only';
}

const typesOf = (name, named) => {
  const from = name === 'sse-router' ? '../../dist/esm/index.js' : name;
  const missing = compile(
    `import ${named ? `{ ${named} }` : 'made'} from '${from}';\nexport const it = ${named ?? 'made'};\n`,
  );
  return /TS7016/.test(missing) ? 'no' : missing === '' ? 'yes' : `no: ${missing.slice(0, 60)}`;
};

/** Whether a wrong name of an event and a wrong payload are errors of the compiler. */
function typedEvents() {
  const errors = compile(`
    import { sse } from '../../dist/esm/index.js';
    const events = sse<{ order: { item: string } }>();
    void events.broadcast({ event: 'order', data: { item: 'tea' } });
    void events.broadcast({ event: 'ordr', data: { item: 'tea' } });
    void events.broadcast({ event: 'order', data: { item: 7 } });
  `);
  return /\(5,/.test(errors) && /\(6,/.test(errors) && !/\(4,/.test(errors) ? 'yes' : `no: ${errors.slice(0, 60)}`;
}

function compile(text) {
  writeFileSync(join(scratch, 'check.ts'), text);
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
  const flags = [
    '--noEmit',
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2022',
    '--types',
    'node',
    '--skipLibCheck',
    '--allowImportingTsExtensions',
    '--esModuleInterop',
    '--ignoreConfig',
  ];
  const { stdout } = spawnSync(process.execPath, [tsc, ...flags, 'check.ts'], { cwd: scratch, encoding: 'utf8' });
  return stdout.trim();
}

function run(command, args, cwd) {
  const { status, stdout, error } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${command} failed (${error ?? status})\n${stdout}`);
  return stdout;
}
