/*
 * Compares the documentation with the code: programs with examples/, tables with the sources, links with files and headings.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { transformSync } from 'esbuild';
import { Script } from 'node:vm';
import { functionStatements, namesOf, tableStatements } from '../../lib/journal/postgres/schema.ts';
import { runFunctionStatements, runNames, runTableStatements } from '../../lib/runs/stores/postgres/run-schema.ts';
import { checkOptions } from '../../lib/options/options.ts';

const root = join(__dirname, '../..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
];
const papers = [...pages, 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'];
const blocks = pages.flatMap(blocksOf);

const regions = readdirSync(join(root, 'examples'), { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.tsx?$/.test(file))
  .flatMap(regionsOf);

describe('the programs', () => {
  test.each(blocks.filter(({ language }) => language === 'ts' || language === 'tsx'))(
    '$page, “$under”: is part of an example',
    ({ text }) => {
      expect(regions.map((region) => region.text)).toContain(text);
    },
  );

  test.each(regions)('$file, region “$name”: is shown in the documentation', ({ text }) => {
    expect(blocks.map((block) => block.text)).toContain(text);
  });

  test.each(blocks.filter(({ language }) => language === 'js'))(
    '$page, “$under”: a browser can parse it',
    ({ text }) => {
      expect(() => transformSync(text, { loader: 'js', format: 'esm' })).not.toThrow();
    },
  );

  test.each([
    ['nginx', 'nginx.conf'],
    ['haproxy', 'haproxy.cfg'],
    ['vcl', 'varnish.vcl'],
    ['caddyfile', 'Caddyfile'],
    ['apache', 'apache.conf'],
  ])('the configuration of %s is the file that the proxy tests run', (proxy, file) => {
    const shown = blocks.filter(({ language }) => language === proxy).map(({ text }) => text);
    expect(shown).toEqual([read(join('examples/proxies', file)).trim()]);
  });

  test('the first program of the README begins in its first ten lines, and is short', () => {
    const lines = read('README.md').split('\n');
    expect(lines.slice(0, 10).filter((line) => line.startsWith('```ts'))).toHaveLength(1);
    const [server, client] = blocksOf('README.md').filter(({ language }) => language !== 'sh');
    expect(server!.text.split('\n').filter(Boolean).length).toBeLessThanOrEqual(8);
    expect(client!.text.split('\n').length).toBeLessThanOrEqual(3);
  });

  test.each([
    ['docs/runs.md', 'runs-page.html'],
    ['docs/recipes.md', 'inbox/page.html'],
  ])('%s shows the page of the example %s', (page, file) => {
    const shown = blocks.filter((block) => block.page === page && block.language === 'html');
    expect(shown.map(({ text }) => text)).toContain(read(join('examples', file)).trim());
  });

  test('the README has the commands for a fresh clone', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    expect(read('README.md')).toContain('\nnpm ci && npm start\nnpm ci && npm test\n');
    const commands = papers.flatMap((page) =>
      [...read(page).matchAll(/\bnpm run ([\w:-]+)/g)].map(([, name]) => name!),
    );
    expect(commands.filter((name) => scripts[name] === undefined)).toEqual([]);
  });
});

test('llms.txt and the skill for tools that write code are made of the current sources', () => {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/tool-docs.mjs', '--check'], {
    cwd: root,
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([0, '']);
});

describe('the tables', () => {
  const optionsText = read('lib/options/options.ts');

  test('every option is there, with the default that its description has', () => {
    const described = { ...defaultsIn(optionsText, 'SseOptions'), ...prefixed(defaultsIn(optionsText, 'Limits')) };
    delete described['limits.clientKey']; // in the row of perClient
    const written = Object.fromEntries(
      rowsOf('README.md', 'option', 'unit', 'default', 'values').map(([name, , value]) => [name, value]),
    );
    expect(written).toEqual(described);
  });

  test('every default is the one that is in force', () => {
    const settings = checkOptions({}) as unknown as Record<string, unknown>;
    const written = rowsOf('README.md', 'option', 'unit', 'default', 'values').map(([name = '', , value]) => [
      name.replace('limits.', ''),
      valueOf(`(${value})`),
    ]);
    const values = Object.fromEntries(written.filter(([, value]) => value !== undefined));
    const { methods, heartbeat, retry, maxBuffered, slowTimeout, compress, whenFull } = settings;
    expect(values).toEqual({
      methods,
      heartbeat,
      retry,
      maxBuffered,
      slowTimeout,
      compress,
      whenFull,
      cors: false,
      maxAge: false,
    });
    expect([settings.cors, settings.maxAge]).toEqual([undefined, undefined]); // checkOptions() turns `false` into undefined
  });

  test.each([
    ['memory', 'lib/journal/memory-journal.ts', 'MemoryJournalOptions'],
    ['LMDB', 'lib/journal/lmdb/index.ts', 'LmdbJournalOptions'],
    ['Redis', 'lib/journal/redis/index.ts', 'RedisJournalOptions'],
  ])('every option of the journal in %s is there, with its default', (journal, file, type) => {
    const rows = rowsOf('docs/journals.md', 'option', 'journal', 'unit', 'default', '').filter(
      ([, which]) => which === journal,
    );
    const described = defaultsIn(read(file), type);
    for (const name of Object.keys(described))
      described[name] = described[name]!.replace(/ \(.*\)$/, '').replace(/'/g, '');
    expect(Object.fromEntries(rows.map(([name, , , value]) => [name, value]))).toEqual(described);
  });

  test('every option of the journal in PostgreSQL is there, with its default', () => {
    const described = defaultsIn(read('lib/journal/postgres/index.ts'), 'PostgresJournalOptions');
    for (const name of Object.keys(described))
      described[name] = described[name]!.replace(/ \(.*\)$/, '').replace(/'/g, '');
    const rows = rowsOf('docs/postgres.md', 'option', 'unit', 'default', '');
    expect(Object.fromEntries(rows.map(([name, , value]) => [name, value]))).toEqual(described);
  });

  test('the statements for a migration by hand are those that the journal in PostgreSQL runs', () => {
    const names = namesOf('public', 'sse');
    const statements = [...tableStatements(names), ...functionStatements(names).map(({ create }) => create)];
    const shown = blocksOf('docs/postgres.md').filter(({ under }) => under.endsWith('Migration by hand'));
    expect(shown.map(({ text }) => text)).toEqual([statements.map((statement) => `${statement};`).join('\n\n')]);
  });

  test('the statements for the tables of runs are those that the store in PostgreSQL runs', () => {
    const names = runNames('public', 'sse');
    const statements = [...runTableStatements(names), ...runFunctionStatements(names).map(({ create }) => create)];
    const shown = blocksOf('docs/postgres.md').filter(({ under }) => under.endsWith('The tables of runs'));
    expect(shown.map(({ text }) => text).slice(1)).toEqual([
      statements.map((statement) => `${statement};`).join('\n\n'),
    ]);
  });

  test('every option, status and error code of the client is there', () => {
    const types = read('lib/client/event-stream.ts');
    const [, options = ''] = /^export interface ConnectOptions \{\n([^]*?)^\}/m.exec(types)!;
    const names = [...options.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name);
    expect(rowsOf('docs/client.md', 'option', 'default', 'meaning').map(([name]) => name)).toEqual(names);
    const described = defaultsIn(types, 'ConnectOptions');
    for (const [name = '', written = ''] of rowsOf('docs/client.md', 'option', 'default', 'meaning')) {
      if (described[name] !== 'none') expect([name, written]).toEqual([name, described[name]]);
    }
    const [statuses = ''] = /^export type Status = ([^;]*);/m.exec(types)!.slice(1);
    expect(
      rowsOf('docs/client.md', 'status', 'meaning')
        .map(([status]) => `'${status}'`)
        .join(' | '),
    ).toBe(statuses);
    const codes = [...read('lib/client/stream-error.ts').matchAll(/^ {2}\| '(\w+)'/gm)].map(([, code]) => code);
    expect(rowsOf('docs/client.md', 'code', 'meaning', 'then').map(([code]) => code)).toEqual(codes);
  });

  test('every error code is there', () => {
    const codes = [...read('lib/errors.ts').matchAll(/^ {2}\| '(ERR_SSE_\w+)'/gm)].map(([, code]) => code);
    expect(codes.length).toBeGreaterThan(10);
    expect(rowsOf('docs/errors.md', 'code', 'when', 'cure').map(([code]) => code)).toEqual(codes);
  });

  test('every reason for the end of a connection is there', () => {
    const [type] = /^export type CloseReason = ([^;]*);/m.exec(read('lib/api/connection.ts'))!.slice(1);
    const reasons = [...type!.matchAll(/'(\w+)'/g)].map(([, reason]) => reason);
    expect(rowsOf('docs/operating.md', 'reason', 'meaning').map(([reason]) => reason)).toEqual(reasons);
  });

  test('every metric and every diagnostics channel is there', () => {
    const sources = ['metrics/metric-definitions.ts', 'metrics/histograms.ts', 'diagnostics/channels.ts'];
    const names = sources.flatMap(
      (file) => read(`lib/${file}`).match(/(?<=')(?:sse_\w+|sse-router:[\w-]+)(?=')/g) ?? [],
    );
    expect(new Set(names).size).toBeGreaterThan(20);
    const page = read('docs/operating.md');
    expect(names.filter((name) => !page.includes(`\`${name}\``) && !page.includes(`\`${name}{`))).toEqual([]);
  });

  test('the headers are the ones that are sent', () => {
    const [sent] = /export const HEADERS[^{]*\{([^}]*)\}/.exec(optionsText)!.slice(1);
    for (const [, name, value] of sent!.matchAll(/'([^']+)': '([^']+)'/g))
      expect(read('docs/proxies.md')).toContain(`\`${name}: ${value}\``);
  });

  test('every folder of the sources is in the architecture', () => {
    const [tree] = /^```\nlib\/\n[^]*?^```$/m.exec(read('docs/architecture.md'))!;
    const folders = readdirSync(join(root, 'lib'), { withFileTypes: true }).filter((item) => item.isDirectory());
    expect(folders.map(({ name }) => `\n  ${name}/ `).filter((line) => !tree.includes(line))).toEqual([]);
  });
});

test.each(['feed', 'chat', 'orders', 'inspector-light', 'site'])('the documentation shows %s.png', (name) => {
  const shown = papers.flatMap((page) => linksIn(read(page)).map((to) => join(dirname(page), to)));
  expect(shown).toContain(`docs/${name}.png`);
});

describe.each(papers)('%s', (page) => {
  const text = read(page);

  test('every relative link leads to a file and to a heading', () => {
    const broken = linksIn(text).filter((to) => {
      const [path = '', anchor] = to.split('#');
      const file = path === '' ? page : join(dirname(page), path);
      if (!existsSync(join(root, file))) return true;
      return anchor !== undefined && !anchorsOf(read(file)).includes(anchor);
    });
    expect(broken).toEqual([]);
  });

  test('every picture has a text that describes it', () => {
    const pictures = [...text.matchAll(/!\[([^\]]*)\]\(([^)]+)\)/g)];
    expect(pictures.filter(([, description = '']) => description.split(' ').length < 6)).toEqual([]);
  });

  test('every link to another site is one of https, and leads to a public host', () => {
    const urls = [...text.matchAll(/\]\((https?:[^)]+)\)/g)].map(([, url]) => new URL(url!));
    const isPublic = ({ protocol, hostname }: URL): boolean =>
      protocol === 'https:' && /^[a-z\d-]+(\.[a-z\d-]+)*\.(com|org|io|dev|net|sh)$/.test(hostname);
    expect(urls.filter((url) => !isPublic(url)).map(String)).toEqual([]);
  });

  test('every test file that it names is there', () => {
    const named = [...text.matchAll(/`(__tests__\/[\w./-]+)`/g)].map(([, file]) => file!);
    expect(named.filter((file) => !existsSync(join(root, file)))).toEqual([]);
  });

  test('has no emoji, no badges and no open tasks', () => {
    expect(text).not.toMatch(/\p{Extended_Pictographic}/u);
    expect(text).not.toMatch(/!\[[^\]]*\]\(https?:/);
    expect(text).not.toMatch(/\b(?:TODO|FIXME|TBD)\b/);
  });
});

test('the newest entry of the changelog is this version', () => {
  const { version } = JSON.parse(read('package.json'));
  expect(/^## \[(\d[^\]]*)\]/m.exec(read('CHANGELOG.md'))?.[1]).toBe(version);
});

/** The code blocks of a page, each with the heading above it. */
function blocksOf(page: string): { page: string; under: string; language: string; text: string }[] {
  const source = read(page);
  return [...source.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(({ index, 1: language = '', 2: text = '' }) => ({
    page,
    under:
      source
        .slice(0, index)
        .match(/^#+ .*/gm)
        ?.at(-1)
        ?.replace(/^#+ /, '') ?? '',
    language,
    text: text.trim(),
  }));
}

/** The regions of an example, as an application that has installed the package writes them. Regions may be nested. */
function regionsOf(file: string): { file: string; name: string; text: string }[] {
  const source = read(join('examples', file));
  return [...source.matchAll(/^\/\/ #region (\w+)\n/gm)].map(({ 0: start, 1: name = '', index }) => {
    const from = index + start.length;
    const to = source.indexOf(`// #endregion ${name}\n`, from);
    if (to === -1) throw new Error(`examples/${file}: region ${name} has no end.`);
    const text = source
      .slice(from, to)
      .replace(/^\/\/ #(?:end)?region \w+\n/gm, '')
      .replace(/'(?:\.\.\/)+lib\/index\.ts'/g, "'sse-router'")
      .replace(/'(?:\.\.\/)+lib\/(?:journal\/)?([\w-]+)\/index\.ts'/g, "'sse-router/$1'")
      .replace(/'(?:\.\.\/)+lib\/(client\/tabs)\.ts'/g, "'sse-router/$1'");
    return { file, name, text: text.trim() };
  });
}

/** The relative links of a page, pictures included. */
function linksIn(text: string): string[] {
  const prose = text.replace(/^```[^]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)]+)\)/g)].map(([, to = '']) => to).filter((to) => !/^https?:/.test(to));
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(text: string): string[] {
  const headings = text.replace(/^```[^]*?^```$/gm, '').match(/^#+ .*/gm) ?? [];
  return headings.map((heading) =>
    heading
      .replace(/^#+ /, '')
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replace(/\s/g, '-'),
  );
}

/** The default in the description of each member: `none` if it has none. */
function defaultsIn(text: string, type: string): Record<string, string> {
  const [, body = ''] = new RegExp(`^export interface ${type}\\b.*\\{\\n([^]*?)^\\}`, 'm').exec(text) ?? [];
  const members = [...body.matchAll(/\/\*\*([^]*?)\*\/\n {2}(?:readonly )?(\w+)\?:/g)];
  return Object.fromEntries(
    members.map(([, words = '', name]) => {
      const [, value = 'none'] = /@defaultValue (.*?)\s*(?:\n|$)/.exec(words) ?? [];
      return [name, value.replace(/`/g, '').trim()];
    }),
  );
}

function prefixed(defaults: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(defaults).map(([name, value]) => [`limits.${name}`, value]));
}

/** The value of a default that is written as code; `undefined` for a default in words. */
function valueOf(code: string): unknown {
  try {
    return new Script(code).runInNewContext();
  } catch {
    return undefined;
  }
}

/** The rows of the tables of a page that have this head. */
function rowsOf(page: string, ...head: string[]): string[][] {
  const tables = [...read(page).matchAll(/(?:^\|.*\|\n)+/gm)].map(([table]) => table.trim().split('\n').map(cellsOf));
  const found = tables.filter(([first = []]) => first.join('|') === head.join('|'));
  expect(found).toHaveLength(1);
  return found[0]!.slice(2);
}

function cellsOf(row: string): string[] {
  return row
    .replace(/^\||\|$/g, '')
    .split('|')
    .map((cell) => cell.trim().replace(/`/g, ''));
}
