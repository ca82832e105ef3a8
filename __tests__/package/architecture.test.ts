/*
 * The rules of the house: who may know whom, and how a room is kept. Most of them are here because their opposite was seen
 * to grow in other servers. A room that moves takes its row in the table along.
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

/*
 * room: what it may import at run time | what it may import as types only
 * A room is named as its file, what is not ours with npm: or node: in front. What may be run may be imported as a type, too.
 */
const ROOMS = table(`
  index:          errors memory-journal sse | broadcast connection frame journal message options source span stats
  sse:            npm:express check drain errors gate hub insight options request signals | broadcast connection message stats
  options:        node:http check cors errors frame gzip memory-journal span | npm:cors npm:express connection journal message
  gate:           npm:accepts answer cors errors gzip heading options outlet request source | npm:express connection hub stream
  cors:           npm:cors check errors heading same-origin | npm:express
  same-origin:    | npm:express
  request:        node:net | npm:express
  heading:        | node:http
  answer:         frame span | node:http heading
  hub:            node:crypto audience broadcast catch-up errors hand-out opening range registry report ring signals stats stream
                  | connection cursor home journal options outlet
  opening:        | journal
  drain:          errors frame span | hub
  insight:        | hub journal signals stream
  signals:        node:diagnostics_channel | connection journal
  stats:          | connection journal
  report:         node:util errors source | connection
  registry:       audience clock | connection stats stream
  clock:          |
  home:           | npm:express catch-up connection journal life options range ring stats
  broadcast:      channel check errors frame | journal options
  connection:     | npm:express message source
  stream:         node:util audience channel check cursor errors frame life source words | npm:express connection home outlet
  life:           cursor frame reader report span | connection home journal outlet
  reader:         cursor frame words | home journal
  cursor:         changes | node:net audience home journal outlet packet words
  changes:        | journal
  catch-up:       cursor errors run | home journal reader
  run:            packet | journal range
  hand-out:       cursor volley | audience packet range ring stats
  volley:         | node:net cursor
  range:          packet | journal ring
  ring:           | journal
  words:          |
  packet:         | journal
  outlet:         node:http node:net | packet
  gzip:           node:zlib packet | outlet
  source:         errors | connection message
  audience:       | journal
  channel:        errors |
  memory-journal: bounds errors position | journal
  position:       node:crypto |
  bounds:         errors |
  journal:        |
  message:        |
  check:          errors frame nearest | span
  nearest:        |
  span:           node:crypto |
  frame:          errors |
  errors:         |
`);

/* folder: the same for what lies outside of it; inside, its rooms know one another. One folder is one subpath, or the command. */
const FOLDERS = table(`
  conformance: node:assert/strict | journal
  inspector:   npm:express node:crypto node:fs node:path check errors frame same-origin signals sse | node:http connection journal message stats
  lmdb:        npm:lmdb node:crypto node:fs node:fs/promises node:path node:timers/promises bounds check errors frame position | journal
  metrics:     npm:prom-client check errors signals | message sse stats
  redis:       node:crypto node:timers/promises bounds errors frame | journal
  tail:        node:http node:https node:timers/promises node:util testing/content testing/intake | node:net testing/event
  testing:     npm:eventsource-parser node:http node:https node:net node:timers node:tls node:util node:zlib |
`);

test('the line of every planted mistake is there', () => {
  const { status, stderr } = spawnSync(process.execPath, ['__tests__/mutation/run.mjs', '--check'], {
    cwd: root,
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([0, '']);
});

describe('doors', () => {
  const imports = sources.map(importsOf);

  test('every room has its row', () => {
    const rooms = sources.map(roomOf).filter((room) => !room.includes('/'));
    expect([...ROOMS.keys()].sort()).toEqual(rooms.sort());
    expect([...FOLDERS.keys()]).toEqual(expect.arrayContaining([...new Set(sources.map(folderOf))].filter(Boolean)));
  });

  test.each(imports)('$room imports no more than it may', ({ room, folder, runs, types }) => {
    const { runs: mayRun, types: mayType } = (folder ? FOLDERS.get(folder) : ROOMS.get(room)) ?? {};
    const outside = (to: string): boolean => !folder || !to.startsWith(`${folder}/`);
    expect(runs.filter(outside).filter((to) => !mayRun?.includes(to))).toEqual([]);
    expect(types.filter(outside).filter((to) => !mayRun?.includes(to) && !mayType?.includes(to))).toEqual([]);
  });

  test('a door of the core that nobody uses is walled up', () => {
    const doors = imports
      .filter(({ folder }) => !folder)
      .map(({ room, runs, types }) => {
        const row = ROOMS.get(room)!;
        const unused = [
          ...row.runs.filter((to) => !runs.includes(to)),
          ...row.types.filter((to) => !types.includes(to)),
        ];
        return [room, unused] as const;
      });
    expect(doors.filter(([, unused]) => unused.length > 0)).toEqual([]);
  });

  test('at run time arrows point down only: no room leads back to itself', () => {
    const next = new Map(imports.map(({ room, runs }) => [room, runs]));
    const done = new Set<string>();
    const visit = (room: string, path: readonly string[]): void => {
      if (path.includes(room)) throw new Error([...path.slice(path.indexOf(room)), room].join(' → '));
      if (done.has(room)) return;
      for (const to of next.get(room) ?? []) visit(to, [...path, room]);
      done.add(room);
    };
    for (const { room } of imports) visit(room, []);
  });

  test('the core runs none of the folders, and Express runs in sse.ts and the inspector only', () => {
    const core = imports.filter(({ folder }) => !folder);
    expect(core.flatMap(({ runs, types }) => [...runs, ...types]).filter((to) => to.includes('/'))).toEqual([]);
    const express = imports
      .filter(({ runs }) => runs.includes('npm:express'))
      .map(({ room, folder }) => folder || room);
    expect([...new Set(express)].filter((room) => room !== 'inspector')).toEqual(['sse']);
  });

  test('what is imported from outside at run time is a dependency, or an optional peer in the folder of its name', () => {
    const { dependencies, peerDependencies } = json('package.json');
    const packages = imports.flatMap(({ folder, runs }) =>
      runs.filter((to) => to.startsWith('npm:')).map((to) => ({ name: to.slice('npm:'.length), folder })),
    );
    const free = packages.filter(({ name }) => dependencies[name] === undefined && name !== 'express');
    expect(free.filter(({ name, folder }) => !folder || peerDependencies[name] === undefined)).toEqual([]);
    expect(imports.filter(({ text }) => /\b(?:require|import)\s*\(/.test(text)).map(({ room }) => room)).toEqual([]);
  });
});

describe('rooms', () => {
  test.each(sources)('%s fits on a few screens', (file) => {
    expect(textOf(file).split('\n').length - 1).toBeLessThanOrEqual(250);
  });

  test.each(sources.filter((file) => !isFrontDoor(file)))(
    '%s says what it is, what it knows and what it keeps',
    (file) => {
      const opening = /^(?:#!.*\n)?\/\*\n \* (?!Knows)[A-Z][^]*?\n \* Knows [^]+?\n \* Invariants?: [^]+?\n \*\/\n/;
      expect(textOf(file)).toMatch(opening);
    },
  );

  test.each(sources.filter(isFrontDoor))('%s has no furniture', (file) => {
    const statements = textOf(file).replace(/\/\*[^]*?\*\//g, '');
    expect(statements.replace(/^export (?:type )?\{[^}]*\} from '[^']+';$/gm, '').trim()).toBe('');
  });

  test('no drawer for everything', () => {
    const drawer = /(?:^|\/)(?:utils?|helpers?|common|misc|shared|types|constants|lib|core)\.ts$/;
    expect(sources.filter((file) => drawer.test(file))).toEqual([]);
  });

  test('nothing changes at the level of a module: two routers in one process do not know each other', () => {
    const variable = /^(?:export )?(?:let|var) .*/gm;
    const collection = /^(?:export )?const \w+ = new (?:Map|Set|WeakMap|WeakSet|Array)\b.*/gm;
    const found = sources.flatMap((file) =>
      [variable, collection].flatMap((what) => (textOf(file).match(what) ?? []).map((line) => `${file}: ${line}`)),
    );
    expect(found).toEqual([]);
  });

  test('what a module hands out cannot be changed by who gets it', () => {
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

describe('the front doors', () => {
  const { exports } = json('package.json') as { exports: Record<string, Record<string, Record<string, string>>> };

  test('each folder with an index is a subpath, with types and code for both kinds of modules', () => {
    const rooms = sources.map(roomOf).filter((room) => /^(?:[\w-]+\/)?index$/.test(room));
    const expected = rooms.map((room) => {
      const entry = (kind: string) => ({ types: `./dist/${kind}/${room}.d.ts`, default: `./dist/${kind}/${room}.js` });
      return [`./${room}`.replace(/\/index$/, ''), { import: entry('esm'), require: entry('cjs') }];
    });
    expect(exports).toEqual({ ...Object.fromEntries(expected), './package.json': './package.json' });
  });

  test('the names that are handed out', () => {
    const names = Object.fromEntries(
      Object.keys(exports)
        .filter((subpath) => subpath !== './package.json')
        .map((subpath) => [subpath, exportedBy(posix.join(subpath, 'index.ts')).join(' ')]),
    );
    expect(names).toMatchInlineSnapshot(`
{
  ".": "AnyEvents BroadcastOptions CloseReason Connection Entry EventMap Follower HeaderValues Journal Limits MemoryJournalOptions Message NewEntry ReadResult ResetReason Serialize Snapshot Source Span SseError SseErrorCode SseHandler SseOptions SseRouter SseStats SseTypeError Window memoryJournal sse",
  "./conformance": "Case ConformanceOptions Harness conformance",
  "./inspector": "InspectorOptions inspector",
  "./lmdb": "LmdbJournalOptions lmdbJournal",
  "./metrics": "MetricsOptions metrics",
  "./redis": "IORedis NodeRedisClient RedisJournalOptions redisJournal",
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
  readonly room: string;
  readonly folder: string;
  readonly text: string;
  readonly runs: readonly string[];
  readonly types: readonly string[];
}

/** What a room imports or re-exports. */
function importsOf(file: string): Imports {
  const text = textOf(file).replace(/^\s*\/?\*.*$/gm, '');
  const runs = new Set<string>();
  const types = new Set<string>();
  const statement = /^(?:import|export)\s+(type\s+)?(?:([^;'"]*?)\s+from\s+)?'([^']+)';/gm;
  for (const [, type, names = '', from = ''] of text.matchAll(statement)) {
    const [, braced] = /^\{([^]*)\}$/.exec(names) ?? [];
    const typesOnly = type ?? braced?.split(',').every((name) => /^\s*(?:type\s|$)/.test(name));
    (typesOnly ? types : runs).add(nameOf(from, file));
  }
  for (const to of runs) types.delete(to);
  return { room: roomOf(file), folder: folderOf(file), text, runs: [...runs], types: [...types] };
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

function table(rows: string): Map<string, { runs: string[]; types: string[] }> {
  const words = (text = ''): string[] => text.split(/\s+/).filter(Boolean);
  return new Map(
    [...rows.matchAll(/^ {2}(\S+):\s([^|]*)\|(.*)$/gm)].map(([, room, runs, types]) => [
      room!,
      { runs: words(runs), types: words(types) },
    ]),
  );
}

function roomOf(file: string): string {
  return file.replace(/\.ts$/, '');
}

function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : '';
}

function nameOf(from: string, file: string): string {
  if (from.startsWith('.')) return roomOf(posix.join(posix.dirname(file), from));
  return from.startsWith('node:') ? from : `npm:${from}`;
}

function isFrontDoor(file: string): boolean {
  return textOf(file).includes('@packageDocumentation');
}
