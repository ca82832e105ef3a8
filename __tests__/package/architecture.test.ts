/*
 * The rules that keep the code readable: which folder may import which, what a module may contain, and what the package exports.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

const root = join(__dirname, '../..');
const lib = join(root, 'lib');
const sources = readdirSync(lib, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .sort();
const textOf = (file: string): string => readFileSync(join(lib, file), 'utf8');
const json = (file: string): any => JSON.parse(readFileSync(join(root, file), 'utf8'));

/**
 * What each folder may import: other folders or files of lib/, npm packages and Node modules. `type` allows only types.
 * A folder may always import itself, `errors` and `validation`. The order of the core's rows is the order of its layers.
 */
const RULES: Readonly<Record<string, string>> = {
  errors: '',
  validation: '',
  api: 'type:npm:express',
  journal: 'node:crypto',
  wire: 'node:async_hooks node:events node:http node:net node:zlib type:node:stream type:journal/journal',
  options: 'api journal wire node:crypto node:http type:npm:cors type:npm:express',
  fanout: 'wire journal/deque type:journal/journal',
  diagnostics: 'api node:diagnostics_channel node:util type:journal/journal',
  connection:
    'api wire options fanout diagnostics node:async_hooks node:events node:util type:journal/journal type:node:net type:npm:express',
  hub: 'api wire options fanout diagnostics connection journal/closing node:async_hooks node:crypto type:journal/journal type:node:net',
  http: 'api journal/claim wire options diagnostics connection hub node:async_hooks node:net type:node:http npm:accepts npm:cors npm:express type:journal/journal',
  index: 'api journal/journal journal/memory-journal wire options fanout diagnostics connection hub http',

  'journal/lmdb': 'journal wire/event-stream runs/stores node:* npm:lmdb',
  'journal/postgres': 'journal wire/event-stream runs/stores node:*',
  'journal/redis': 'journal wire/event-stream runs/stores node:*',
  conformance: 'validation type:journal/journal type:runs/run-store node:*',
  runs: 'api wire options fanout diagnostics connection hub http journal/claim journal/closing journal/deque journal/opening runs/stores/memory-runs node:* npm:express type:journal/journal',
  'runs/stores': 'runs journal journal/lmdb journal/postgres journal/redis node:* type:npm:lmdb',
  inspector: 'api diagnostics http wire/event-stream node:* npm:express type:journal/journal type:runs/api',
  metrics: 'api diagnostics http npm:prom-client type:runs/api',
  'http-client': 'node:* npm:eventsource-parser',
  testing: 'http-client validation node:*',
  cli: 'http-client node:*',

  client: 'type:api/message',
  react: 'npm:react type:api/message type:client',
};
/** The core: what `index` leads to. */
const CORE = [
  'errors',
  'validation',
  'api',
  'journal',
  'wire',
  'options',
  'fanout',
  'diagnostics',
  'connection',
  'hub',
  'http',
  'index',
];

test('the line of every planted mistake is there', () => {
  const { status, stderr } = spawnSync(process.execPath, ['__tests__/mutation/run.mjs', '--check'], {
    cwd: root,
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([0, '']);
});

describe('imports', () => {
  const imports = sources.map(importsOf);

  test('every folder has its rule', () => {
    const folders = new Set(sources.map(ownerOf));
    expect([...folders].filter((folder) => RULES[folder] === undefined)).toEqual([]);
  });

  test.each(imports)('$file imports no more than its folder may', ({ owner, runs, types }) => {
    expect(runs.filter((to) => !isAllowed(owner, to, false))).toEqual([]);
    expect(types.filter((to) => !isAllowed(owner, to, true))).toEqual([]);
  });

  test('no module leads back to itself at run time', () => {
    const next = new Map(imports.map(({ file, runs }) => [file, runs.map((to) => `${to}.ts`)]));
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) throw new Error([...path.slice(path.indexOf(file)), file].join(' → '));
      if (done.has(file)) return;
      for (const to of next.get(file) ?? []) visit(to, [...path, file]);
      done.add(file);
    };
    for (const { file } of imports) visit(file, []);
  });

  test('a folder imports only the layers before it, types included', () => {
    const later = imports
      .filter(({ owner }) => CORE.includes(owner))
      .flatMap(({ file, owner, runs, types }) =>
        [...runs, ...types]
          .filter((to) => CORE.indexOf(ownerOf(`${to}.ts`)) > CORE.indexOf(owner))
          .map((to) => `${file} → ${to}`),
      );
    expect(later).toEqual([]);
  });

  test('what runs in a browser imports nothing but itself and React', () => {
    const outside = imports
      .filter(({ owner }) => owner === 'client' || owner === 'react')
      .flatMap(({ owner, runs }) => runs.filter((to) => ![owner, 'npm:react'].includes(to.split('/')[0]!)));
    expect(outside).toEqual([]);
  });

  test('Express runs in the routers and the inspector only', () => {
    const express = imports
      .filter(({ runs }) => runs.includes('npm:express'))
      .map(({ file, owner }) => (owner === 'http' ? file : owner));
    expect([...new Set(express)].sort()).toEqual(['http/router.ts', 'inspector', 'runs']);
  });

  test('what is imported from outside at run time is a dependency, or an optional peer in the folder of its name', () => {
    const { dependencies, peerDependencies } = json('package.json');
    const packages = imports.flatMap(({ owner, runs }) =>
      runs.filter((to) => to.startsWith('npm:')).map((to) => ({ name: to.slice('npm:'.length), owner })),
    );
    const free = packages.filter(({ name }) => dependencies[name] === undefined && name !== 'express');
    expect(free.filter(({ name, owner }) => CORE.includes(owner) || peerDependencies[name] === undefined)).toEqual([]);
    expect(imports.filter(({ text }) => /\b(?:require|import)\s*\(/.test(text)).map(({ file }) => file)).toEqual([]);
  });
});

describe('modules', () => {
  test.each(sources.filter(isEntryPoint))('the entry point %s only re-exports', (file) => {
    const statements = textOf(file).replace(/\/\*[^]*?\*\//g, '');
    expect(statements.replace(/^export (?:type )?\{[^}]*\} from '[^']+';$/gm, '').trim()).toBe('');
  });

  test('no module is a collection of unrelated helpers', () => {
    const collection = /(?:^|\/)(?:utils?|helpers?|common|misc|shared|types|constants|lib|core)\.ts$/;
    expect(sources.filter((file) => collection.test(file))).toEqual([]);
  });

  test('no module has state that changes: two routers in one process share nothing', () => {
    const variable = /^(?:export )?(?:let|var) .*/gm;
    const collection = /^(?:export )?const \w+ = new (?:Map|Set|WeakMap|WeakSet|Array)\b.*/gm;
    const found = sources.flatMap((file) =>
      [variable, collection].flatMap((what) => (textOf(file).match(what) ?? []).map((line) => `${file}: ${line}`)),
    );
    expect(found).toEqual([]);
  });

  test('an exported value cannot be changed by the module that imports it', () => {
    const literal = /^export const (\w+)(: [^=\n]+)? = (?:\[|\{|new )(?:.*;$|[^]*?^[\]})].*;$)/gm;
    const isReadonly = (type: string, file: string): boolean => {
      const [, members] = new RegExp(`^export interface ${type} \\{\n([^]*?)^\\}`, 'm').exec(textOf(file)) ?? [];
      if (members === undefined) return /^(?:readonly |Readonly)/.test(type);
      return members.split('\n').every((line) => /^ {2}readonly |^\s*(?:\/?\*.*)?$/.test(line));
    };
    const found = sources.flatMap((file) =>
      [...textOf(file).matchAll(literal)]
        .filter(([statement, , type = '']) => !statement.endsWith(' as const;') && !isReadonly(type.slice(2), file))
        .map(([, name]) => `${file}: ${name}`),
    );
    expect(found).toEqual([]);
  });
});

describe('the entry points', () => {
  const { exports } = json('package.json') as { exports: Record<string, Record<string, Record<string, string>>> };

  /** What browsers load: ES modules only, and the worker by its URL. */
  const BROWSER = ['client/index', 'client/tabs', 'client/worker', 'react/index'];
  const forBrowsers = BROWSER.map((name) => [
    `./${name.replace('/index', '')}`,
    { types: `./dist/browser/${name}.d.ts`, default: `./dist/browser/${name}.js` },
  ]);

  test('each folder with an index is a subpath, with types and code for both kinds of modules, or for browsers', () => {
    const modules = sources.filter(
      (file) => /(?:^|\/)index\.ts$/.test(file) && !/\/assets\/|^(?:client|react)\//.test(file),
    );
    const expected = modules.map((file) => {
      const name = file.replace(/\.ts$/, '');
      const entry = (kind: string) => ({ types: `./dist/${kind}/${name}.d.ts`, default: `./dist/${kind}/${name}.js` });
      const subpath = `./${name}`.replace(/\/index$/, '').replace('./journal/', './');
      return [subpath, { import: entry('esm'), require: entry('cjs') }];
    });
    expect(exports).toEqual({
      ...Object.fromEntries([...expected, ...forBrowsers]),
      './package.json': './package.json',
    });
  });

  test('a bundler keeps the worker, which nothing imports', () => {
    expect(json('package.json').sideEffects).toEqual(['./dist/browser/client/worker.js']);
  });

  test('each subpath is there for the module resolution of TypeScript that does not read `exports`', () => {
    const { typesVersions } = json('package.json') as { typesVersions: Record<string, Record<string, string[]>> };
    const subpaths = Object.keys(exports).filter((subpath) => !['.', './package.json'].includes(subpath));
    const typesOf = (subpath: string): unknown => exports[subpath]!['require']?.['types'] ?? exports[subpath]!['types'];
    const expected = subpaths.map((subpath) => [subpath.replace('./', ''), [typesOf(subpath)]]);
    expect(typesVersions).toEqual({ '*': Object.fromEntries(expected as [string, string[]][]) });
  });

  test('the exported names', () => {
    const names = Object.fromEntries(
      Object.keys(exports)
        .filter((subpath) => subpath !== './package.json')
        .map((subpath) => {
          const { import: esm, types } = exports[subpath] as unknown as { import?: { types: string }; types: string };
          return [subpath, exportedBy(moduleOf(esm?.types ?? types)).join(' ')];
        }),
    );
    expect(names).toMatchInlineSnapshot(`
{
  ".": "AnyEvents BroadcastMessage BroadcastOptions BroadcastText CloseReason Connection DefinedChannels DelayRange Entry EventMap FollowOptions FollowedEvent Follower HandlerResult HeaderValues Journal JournalWindow Limits MemoryJournalOptions Message NewEntry ReadResult ResetReason Serialize Snapshot Source Span SseError SseErrorCode SseHandler SseOptions SseRouter SseRouterWithoutHistory SseStats SseTypeError Transaction TransactionalBroadcast Window memoryJournal sse",
  "./client": "AnyEvents ConnectOptions EventData EventMap EventName EventStream EventsOf Reset Status StreamError StreamErrorCode StreamEvent Tabs connect",
  "./client/tabs": "SharedOptions shared",
  "./client/worker": "",
  "./conformance": "Case ConformanceOptions Harness RunStoreHarness conformance runStoreConformance",
  "./inspector": "InspectorOptions inspector",
  "./lmdb": "LmdbJournalOptions LmdbRunsOptions lmdbJournal lmdbRuns",
  "./metrics": "MetricsOptions metrics",
  "./postgres": "PostgresJournalOptions PostgresPool PostgresRunsOptions postgresJournal postgresRuns",
  "./react": "useEvent useEvents useStatus useStream",
  "./redis": "IORedis NodeRedisClient RedisJournalOptions RedisRunsOptions redisJournal redisRuns",
  "./runs": "BeginResult ChunkPage NewRun Producer Renewal Run RunEvent RunFollower RunInfo RunKey RunSource RunState RunStatus RunStore RunStoreListener RunsOptions RunsRouter RunsStats Wire events memoryRuns openai runs uiMessages",
  "./testing": "ConnectOptions ConnectTarget ReceivedEvent StreamOver TestEvent TestStream connect",
}
`);
  });
});

describe('the package', () => {
  const manifest = json('package.json');
  const { packages } = json('package-lock.json') as { packages: Record<string, Record<string, unknown>> };

  test('few dependencies, and nothing of them runs when they are installed', () => {
    expect(Object.keys(manifest.dependencies)).toEqual(['@types/cors', 'accepts', 'cors', 'eventsource-parser']);
    const installed = Object.entries(packages).filter(
      ([path, { dev, devOptional, peer }]) => path && !dev && !devOptional && !peer,
    );
    expect(installed.length).toBeGreaterThanOrEqual(4);
    expect(installed.filter(([, { hasInstallScript }]) => hasInstallScript)).toEqual([]);
    const hooks = ['preinstall', 'install', 'postinstall', 'prepare'];
    expect(Object.keys(manifest.scripts).filter((name) => hooks.includes(name))).toEqual([]);
  });

  test('every peer but Express is optional', () => {
    const optional = Object.entries(manifest.peerDependenciesMeta).filter(([, meta]) => (meta as any).optional);
    expect(
      Object.keys(manifest.peerDependencies)
        .filter((name) => name !== 'express')
        .sort(),
    ).toEqual(optional.map(([name]) => name).sort());
  });

  test('the oldest Node that is promised is the one that is compiled for, typed for and tested on', () => {
    const [, oldest] = /^>=(\d+)$/.exec(manifest.engines.node) ?? [];
    expect(packages['node_modules/@types/node']?.version).toMatch(new RegExp(`^${oldest}\\.`));
    for (const paper of ['README.md', 'CONTRIBUTING.md', '.ci/run']) {
      expect(readFileSync(join(root, paper), 'utf8')).toContain(`Node ${oldest} or later`);
    }
  });
});

interface Imports {
  readonly file: string;
  /** The key of its rule: the longest folder that has one, or the file itself. */
  readonly owner: string;
  readonly text: string;
  /** The imports that exist at run time: paths in lib/ without `.ts`, `npm:…`, `node:…`. */
  readonly runs: readonly string[];
  /** The imports of types alone. */
  readonly types: readonly string[];
}

/** What a module imports or re-exports. */
function importsOf(file: string): Imports {
  const text = textOf(file).replace(/^\s*\/?\*.*$/gm, '');
  const runs = new Set<string>();
  const types = new Set<string>();
  const statement = /^(?:import|export)\s+(type\s+)?(?:([^;'"]*?)\s+from\s+)?'([^']+)';/gm;
  for (const [, type, names = '', from = ''] of text.matchAll(statement)) {
    const [, braced] = /^\{([^]*)\}$/.exec(names) ?? [];
    const typesOnly = type ?? braced?.split(',').every((name) => /^\s*(?:type\s|$)/.test(name));
    (typesOnly ? types : runs).add(targetOf(from, file));
  }
  for (const to of runs) types.delete(to);
  return { file, owner: ownerOf(file), text, runs: [...runs], types: [...types] };
}

function isAllowed(owner: string, to: string, typeOnly: boolean): boolean {
  const target = /^(?:npm|node):/.test(to) ? to : ownerOf(`${to}.ts`);
  if ([owner, 'errors', 'validation'].includes(target)) return true;
  const allowed = RULES[owner]!.split(' ');
  const names = [to, target, to.startsWith('node:') ? 'node:*' : to];
  return names.some((name) => allowed.includes(name) || (typeOnly && allowed.includes(`type:${name}`)));
}

/** The names that a module exports, types included. */
function exportedBy(file: string): string[] {
  const text = textOf(file);
  const lists = [...text.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap(([, names = '']) => names.split(','));
  const own = [...text.matchAll(/^export (?:async )?(?:function|class|interface|type|const) (\w+)/gm)];
  const names = [
    ...lists.map((name) => name.trim().replace(/^(?:type )?(?:\w+ as )?/, '')),
    ...own.map(([, name]) => name),
  ];
  return [...new Set(names.filter(Boolean) as string[])].sort();
}

function ownerOf(file: string): string {
  const parts = file.replace(/\.ts$/, '').split('/');
  for (let length = Math.min(2, parts.length); length > 0; length--) {
    const name = parts.slice(0, length).join('/');
    if (RULES[name] !== undefined) return name;
  }
  return parts[0]!;
}

function targetOf(from: string, file: string): string {
  if (from.startsWith('.')) return posix.join(posix.dirname(file), from).replace(/\.ts$/, '');
  return from.startsWith('node:') ? from : `npm:${from}`;
}

/** The source of a file in dist/. */
function moduleOf(types: string): string {
  return types.replace(/^\.\/dist\/\w+\//, '').replace(/\.d\.ts$/, '.ts');
}

function isEntryPoint(file: string): boolean {
  return textOf(file).includes('@packageDocumentation');
}
