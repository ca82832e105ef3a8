/*
 * Installs the tarball in small projects: ES modules and CommonJS, Express 4 and 5, TypeScript 5 and 7.
 * It needs the registry, or npm's cache of it.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';

const root = join(__dirname, '../..');
const run = promisify(execFile);

// The projects with Express 5 have the optional peer dependencies. The others must work without them.
const PEERS: Record<string, Record<string, string>> = {
  '4': {},
  '5': { 'prom-client': '15', lmdb: '3', redis: '6', ioredis: '5' },
};
const PROJECTS = [
  { kind: 'module', express: '4' },
  { kind: 'commonjs', express: '4' },
  { kind: 'module', express: '5' },
  { kind: 'commonjs', express: '5' },
].map((project) => ({ ...project, peers: PEERS[project.express]! }));
const COMPILERS: Record<string, string> = { TypeScript5: 'typescript5/bin/tsc', TypeScript7: 'typescript/bin/tsc' };

/** Only with `TYPE_CHECKS=all`: TypeScript 5 needs seven seconds for one program with all peers. */
const FURTHER_MODES =
  process.env['TYPE_CHECKS'] === 'all'
    ? [
        { compiler: 'TypeScript5', resolution: 'bundler' },
        { compiler: 'TypeScript7', resolution: 'nodenext' },
      ]
    : [];

let folder = '';
let packed: { size: number; filename: string; files: { path: string; mode: number }[] };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sse-router-'));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root });
  [packed] = JSON.parse(stdout.slice(stdout.indexOf('[\n')));
  // The projects with the same Express share its folder of dependencies.
  const installs = Object.entries(PEERS).map(([express, peers]) => {
    const own = { 'sse-router': `file:${join(folder, packed.filename)}`, express, '@types/express': express };
    return install(`express-${express}`, { ...own, ...peers });
  });
  await Promise.all([...installs, install('compilers', { typescript5: 'npm:typescript@5' })]);
  for (const { kind, express } of PROJECTS) {
    await mkdir(join(folder, `express-${express}`, kind));
    await writeFile(join(folder, `express-${express}`, kind, 'package.json'), JSON.stringify({ type: kind }));
  }
}, 180_000);

async function install(name: string, dependencies: Record<string, string>): Promise<void> {
  await mkdir(join(folder, name));
  await writeFile(join(folder, name, 'package.json'), JSON.stringify({ name: 'project', private: true, dependencies }));
  const quietly = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', '--no-bin-links'];
  await run('npm', ['install', '--prefer-offline', ...quietly], { cwd: join(folder, name) });
}

afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the tarball', () => {
  const isBuilt = ({ path }: { path: string }): boolean => path.startsWith('dist/') || path === 'package.json';

  // The code was 132 KiB before the journal in PostgreSQL (40 KiB) and the browser client with its source maps (52 KiB).
  test('its code takes at most 384 KiB without the plotting library of the inspector, its documentation 128 KiB', async () => {
    const plots = gzipSync(await readFile(require.resolve('uplot/dist/uPlot.iife.min.js'))).length;
    const papers = packed.files.filter((file) => !isBuilt(file));
    const texts = await Promise.all(papers.map(({ path }) => readFile(join(root, path))));
    const documentation = gzipSync(Buffer.concat(texts)).length;
    expect(packed.size - documentation - plots).toBeLessThan(384 * 1024);
    expect(documentation).toBeLessThan(128 * 1024);
  });

  test('contains the build, the documentation, and nothing else', async () => {
    const others = packed.files.filter((file) => !isBuilt(file)).map(({ path }) => path);
    const pages = (await readdir(join(root, 'docs')))
      .filter((file) => file.endsWith('.md'))
      .map((file) => `docs/${file}`);
    expect(others.toSorted()).toEqual(
      [
        ...pages,
        'CHANGELOG.md',
        'CONTRIBUTING.md',
        'LICENSE',
        'README.md',
        'SECURITY.md',
        'examples/grafana-dashboard.json',
        'examples/own-store.ts',
        'examples/shop.ts',
        'llms.txt',
        'skills/sse-router/SKILL.md',
      ].toSorted(),
    );
    const kinds = packed.files.map(({ path }) => /^dist\/.*?(\.d\.ts|\.\w+)$/.exec(path)?.[1]).filter(Boolean);
    expect(new Set(kinds)).toEqual(new Set(['.js', '.d.ts', '.json', '.map']));
  });

  test('contains every file that its documentation links to, except pictures', async () => {
    const shipped = new Set(packed.files.map(({ path }) => path));
    const missing: string[] = [];
    for (const page of [...shipped].filter((path) => path === 'README.md' || path.startsWith('docs/'))) {
      const text = (await readFile(join(root, page), 'utf8')).replace(/^```[^]*?^```$/gm, '');
      for (const [, to = ''] of text.matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
        if (/^https?:|\.(?:png|svg)$/.test(to)) continue;
        const file = posix.join(posix.dirname(page), to);
        if (!shipped.has(file)) missing.push(`${page} → ${to}`);
      }
    }
    expect(missing).toEqual([]);
  });
});

describe.each(PROJECTS)('in a project of type $kind with Express $express', ({ kind, express, peers }) => {
  test('a stream opens and an event arrives', async () => {
    const names = { '.': 'sse, memoryJournal, SseError', './testing': 'connect', './conformance': 'conformance' };
    const program = `
      ${load('express', 'express')}
      ${Object.entries(names)
        .map(([subpath, what]) => load(`{ ${what} }`, subpath.replace('.', 'sse-router')))
        .join('\n')}
      const app = express();
      const events = sse((conn) => { conn.push({ event: 'greeting', data: { hello: 'world' } }); });
      app.use('/events', events);
      (async () => {
        const stream = await connect(app, '/events');
        const { event, data } = await stream.next();
        await events.broadcast('to all');
        const second = await stream.next();
        await stream.close();
        await events.close();
        await conformance(() => ({ journal: memoryJournal() }))[0].run();
        console.log(JSON.stringify([event, data, second.data, new SseError('ERR_SSE_CLOSED', 'x').code]));
      })();
    `;
    expect(await execute(program)).toEqual(['greeting', '{"hello":"world"}', 'to all', 'ERR_SSE_CLOSED']);
  });

  test('every subpath loads, or names the package that it needs', async () => {
    const { exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
    // The modules for browsers have one build, of ES modules.
    const isForNode = ([, target]: [string, unknown]): boolean =>
      typeof target === 'string' || 'require' in (target as object);
    const subpaths = Object.entries(exports)
      .filter(isForNode)
      .map(([subpath]) => subpath.replace('.', 'sse-router'));
    const take =
      kind === 'module' ? `import(name, name.endsWith('.json') ? { with: { type: 'json' } } : {})` : 'require(name)';
    const program = `
      (async () => {
        const missing = [];
        for (const name of ${JSON.stringify(subpaths)}) {
          try { await ${take}; }
          catch (error) { missing.push(/Cannot find (?:package|module) '([^']+)'/.exec(error.message)?.[1] ?? String(error)); }
        }
        console.log(JSON.stringify(missing));
      })();
    `;
    const missing = ['lmdb', 'prom-client'].filter((name) => !(name in peers));
    expect(await execute(program)).toEqual(missing);
  });

  if (kind === 'module') {
    const modes = [
      { compiler: 'TypeScript5', resolution: 'nodenext' },
      { compiler: 'TypeScript7', resolution: 'bundler' },
      ...(express === '5' ? FURTHER_MODES : []),
    ];
    test.each(modes)(
      'a strict program compiles under $compiler, $resolution',
      async ({ compiler, resolution }) => {
        await put('consumer.ts', CONSUMER.replace('// peers', 'redis' in peers ? WITH_PEERS : ''));
        await put('consumer.cts', REQUIRING);
        const module = resolution === 'bundler' ? 'esnext' : 'nodenext';
        const target = { target: 'es2022', lib: ['es2023'], noEmit: true, types: ['node'], module };
        const strictest = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true };
        const compilerOptions = { ...target, ...strictest, skipLibCheck: false, moduleResolution: resolution };
        const files = resolution === 'bundler' ? ['consumer.ts'] : ['consumer.ts', 'consumer.cts'];
        const config = `tsconfig.${compiler}.${resolution}.json`;
        await put(config, JSON.stringify({ compilerOptions, files }));
        const tsc = join(
          compiler === 'TypeScript5' ? join(folder, 'compilers') : root,
          'node_modules',
          COMPILERS[compiler]!,
        );
        const how = { cwd: join(folder, `express-${express}`, kind) };
        const result = await run(process.execPath, [tsc, '-p', config], how).catch(
          (error: { stdout: string }) => error,
        );
        expect(result.stdout).toBe('');
      },
      60_000,
    );
  }

  if (kind === 'commonjs') {
    // The default of TypeScript 5 for `module: commonjs`. It does not read `exports`.
    test('a strict program compiles under TypeScript5, with commonjs and the old resolution', async () => {
      await put('old.ts', CONSUMER.replace('// peers', ''));
      await put(
        'old-lmdb.ts',
        "import { lmdbJournal } from 'sse-router/lmdb';\nexport const journal = lmdbJournal('./events');\n",
      );
      await put('old-metrics.ts', "export { metrics } from 'sse-router/metrics';\n");
      const target = { target: 'es2022', lib: ['es2023'], noEmit: true, types: ['node'], module: 'commonjs' };
      const compilerOptions = { ...target, strict: true, esModuleInterop: true, skipLibCheck: false };
      const files = ['old.ts', ...('lmdb' in peers ? ['old-lmdb.ts', 'old-metrics.ts'] : [])];
      await put('tsconfig.old.json', JSON.stringify({ compilerOptions, files }));
      const tsc = join(folder, 'compilers/node_modules', COMPILERS['TypeScript5']!);
      const how = { cwd: join(folder, `express-${express}`, kind) };
      const result = await run(process.execPath, [tsc, '-p', 'tsconfig.old.json'], how).catch(
        (error: { stdout: string }) => error,
      );
      expect(result.stdout).toBe('');
    }, 60_000);
  }

  if (kind === 'module' && express === '5') {
    test('the command reads a stream', async () => {
      const bin = join(folder, `express-${express}`, 'node_modules/sse-router/dist/esm/cli/cli.js');
      expect(packed.files.find(({ path }) => path === 'dist/esm/cli/cli.js')?.mode).toBe(0o755);
      const program = `
        import { execFile } from 'node:child_process';
        import express from 'express';
        import { sse } from 'sse-router';
        const app = express();
        app.use('/events', sse((conn) => { conn.push('seen on the command line'); }));
        const server = app.listen(0, '127.0.0.1', () => {
          const url = \`http://127.0.0.1:\${server.address().port}/events\`;
          execFile(process.execPath, [${JSON.stringify(bin)}, 'tail', url, '--json', '--until', '1'], (error, stdout) => {
            console.log(JSON.stringify([error?.code ?? 0, stdout.includes('seen on the command line')]));
            server.closeAllConnections();
            server.close();
          });
        });
      `;
      expect(await execute(program)).toEqual([0, true]);
    });
  }

  function load(what: string, from: string): string {
    return kind === 'module' ? `import ${what} from '${from}';` : `const ${what} = require('${from}');`;
  }

  /** Runs a program in the project and returns its output, which is JSON. The program must end by itself, without errors or warnings. */
  async function execute(program: string): Promise<unknown> {
    await put('program.js', program);
    const how = { cwd: join(folder, `express-${express}`, kind), timeout: 15_000 };
    const { stdout, stderr } = await run(process.execPath, ['program.js'], how);
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  }

  function put(name: string, text: string): Promise<void> {
    return writeFile(join(folder, `express-${express}`, kind, name), text);
  }
});

/** Uses `require`, so it needs the other half of the exports. */
const REQUIRING = `
import events = require('sse-router');
export const made: events.SseRouter = events.sse();
`;

const CONSUMER = `
import express from 'express';
import { sse, memoryJournal, SseError, type Connection, type Journal, type SseOptions, type SseRouter } from 'sse-router';
import { conformance } from 'sse-router/conformance';
import { inspector } from 'sse-router/inspector';
import { redisJournal } from 'sse-router/redis';
import { events as eventWire, memoryRuns, runs, uiMessages, type RunInfo, type RunsRouter, type Wire } from 'sse-router/runs';
import { connect } from 'sse-router/testing';
// peers

type Events = { order: { item: string }; tick: number };
const options: SseOptions<Events> = {
  cors: { origin: ['https://app.example'], credentials: true },
  history: memoryJournal({ size: 10 }),
  snapshot: () => ({ event: 'tick', data: 1 }),
  onError: (error: unknown, conn?: Connection<Events>) => console.error(error, conn?.id),
};
export const events: SseRouter<Events> = sse<Events>((conn, req, res) => {
  conn.push({ event: 'order', data: { item: String(req.params['id']) } });
  // @ts-expect-error: a tick is a number
  conn.push({ event: 'tick', data: 'soon' });
  // @ts-expect-error: there is no such event
  conn.push({ event: 'tock', data: 1 });
  res.locals['seen'] = conn.lastEventId;
}, options);

const app = express();
app.use('/events', events);
app.get('/feed', events);
app.use('/_events', inspector(events, { publish: true }));
app.post('/orders', async (_req, res) => {
  const id: string = await events.broadcast({ event: 'order', data: { item: 'tea' } }, { to: ['orders'] });
  res.json({ id });
});
app.use('/plain', sse((conn) => conn.push('a', 'b', 1)));
app.use('/tokens', sse(async function* () { yield 'a'; yield { event: 'b', data: [1] }; }, { methods: ['POST'], history: false }));

export const journal: Journal = memoryJournal();
export const names: string[] = conformance(() => ({ journal })).map(({ name }) => name);
export const text: Promise<string> = connect(app, '/events').then(async (stream) => (await stream.next()).data);
export const code = (error: unknown) => (error instanceof SseError ? error.code : undefined);
type Token = { token: string };
export const chat: RunsRouter<Token> = runs<Token>(async function* ({ id, signal }, req) {
  if (!signal.aborted) yield { token: id + String(req.body) };
}, { id: (req) => String(req.headers['x-id']), store: memoryRuns(), wire: eventWire(), onError: console.error });
// @ts-expect-error: a chunk is a token
app.use('/words', runs<Token>(async function* () { yield { word: 'x' }; }));
app.use('/chat', chat);
app.use('/_chat', inspector(chat));
app.use('/ui', runs(async function* () { yield { type: 'start' }; }, { wire: uiMessages(), again: 'replace' }));
export const wire: Wire<number> = { message: (chunk) => ({ data: chunk }), end: ({ status }) => status, control: false };
export const info: Promise<RunInfo | undefined> = chat.status('a');
export const started: Promise<RunInfo> = chat.start('b', [{ token: 'x' }]);
export const remote = (client: Parameters<typeof redisJournal>[0]): Journal => redisJournal(client);
`;

const WITH_PEERS = `
import { Redis } from 'ioredis';
import { Registry } from 'prom-client';
import { lmdbJournal } from 'sse-router/lmdb';
import { createClient } from 'redis';
import { metrics } from 'sse-router/metrics';
export const journals = (): Journal[] => [redisJournal(new Redis()), redisJournal(createClient()), lmdbJournal('./events')];
export const watched = (): void => metrics(events, new Registry());
export const watchedRuns = (): void => metrics(chat, new Registry());
`;
