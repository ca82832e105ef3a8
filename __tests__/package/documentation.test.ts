/*
 * What the README says is what the code does: its programs are the examples', its tables the sources'.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { checkOptions } from '../../lib/options/options.ts';

const root = join(__dirname, '../..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const readme = read('README.md');
const lines = readme.split('\n');
const blocks = [...readme.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(({ index, 1: language = '', 2: text = '' }) => ({
  under:
    readme
      .slice(0, index)
      .match(/^#+ .*/gm)
      ?.at(-1) ?? '',
  language,
  text: text.trim(),
}));

const tables = [...readme.matchAll(/(?:^\|.*\|\n)+/gm)].map(([table]) => {
  const [head = [], , ...rows] = table.trim().split('\n').map(cellsOf);
  return { head, rows };
});

describe('the programs', () => {
  const examples = readdirSync(join(root, 'examples'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => regionOf(read(join('examples', file))))
    .filter((region) => region !== undefined);

  test.each(blocks.filter(({ language }) => language === 'ts'))('under $under, is an example’s', ({ text }) => {
    expect(examples).toContain(text);
  });

  test.each(blocks.filter(({ language }) => language === 'js'))(
    'under $under, is something that a browser can read',
    ({ text }) => {
      expect(() => new Script(text)).not.toThrow();
    },
  );

  test.each([
    ['nginx', 'nginx.conf'],
    ['haproxy', 'haproxy.cfg'],
    ['vcl', 'varnish.vcl'],
    ['caddyfile', 'Caddyfile'],
    ['apache', 'apache.conf'],
  ])('the recipe for %s is the file that is tested', (proxy, file) => {
    const recipes = blocks.filter(({ language }) => language === proxy).map(({ text }) => text);
    expect(recipes).toEqual([read(join('examples/proxies', file)).trim()]);
  });

  test('the first is there at line 10, and short', () => {
    expect(lines.slice(0, 10).filter((line) => line.startsWith('```ts'))).toHaveLength(1);
    const [server, client] = blocks.filter(({ language }) => language !== 'sh');
    expect(server!.text.split('\n').filter(Boolean).length).toBeLessThanOrEqual(8);
    expect(client!.text.split('\n').length).toBeLessThanOrEqual(3);
  });
});

describe('the tables', () => {
  const optionsText = read('lib/options/options.ts');

  test('every option is there, with the default that its description has', () => {
    const described = { ...defaultsIn(optionsText, 'SseOptions'), ...prefixed(defaultsIn(optionsText, 'Limits')) };
    delete described['limits.clientKey']; // told of in perClient's row
    const told = Object.fromEntries(
      rowsOf('option', 'unit', 'default', 'edge values').map(([name, , value]) => [name, value]),
    );
    expect(told).toEqual(described);
  });

  test('every default is the one that is in force', () => {
    const settings = checkOptions({}) as unknown as Record<string, unknown>;
    const written = rowsOf('option', 'unit', 'default', 'edge values').map(([name = '', , value]) => [
      name.replace('limits.', ''),
      valueOf(`(${value})`),
    ]);
    const told = Object.fromEntries(written.filter(([, value]) => value !== undefined));
    const { methods, heartbeat, retry, maxBuffered, slowTimeout, compress, whenFull } = settings;
    expect(told).toEqual({
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
    expect([settings.cors, settings.maxAge]).toEqual([undefined, undefined]); // what `false` has become
  });

  test.each([
    ['memory', 'lib/journal/memory-journal.ts', 'MemoryJournalOptions'],
    ['LMDB', 'lib/journal/lmdb/index.ts', 'LmdbJournalOptions'],
    ['Redis', 'lib/journal/redis/index.ts', 'RedisJournalOptions'],
  ])('every option of the journal in %s is there, with its default', (journal, file, type) => {
    const rows = rowsOf('option', 'journal', 'unit', 'default', '').filter(([, which]) => which === journal);
    const described = defaultsIn(read(file), type);
    for (const name of Object.keys(described))
      described[name] = described[name]!.replace(/ \(.*\)$/, '').replace(/'/g, '');
    expect(Object.fromEntries(rows.map(([name, , , value]) => [name, value]))).toEqual(described);
  });

  test('every error code is there', () => {
    const codes = [...read('lib/errors.ts').matchAll(/^ {2}\| '(ERR_SSE_\w+)'/gm)].map(([, code]) => code);
    expect(codes.length).toBeGreaterThan(10);
    expect(rowsOf('code', 'when', 'cure').map(([code]) => code)).toEqual(codes);
  });

  test('the headers are the ones that are sent', () => {
    const [sent] = /export const HEADERS[^{]*\{([^}]*)\}/.exec(optionsText)!.slice(1);
    for (const [, name, value] of sent!.matchAll(/'([^']+)': '([^']+)'/g))
      expect(readme).toContain(`\`${name}: ${value}\``);
  });
});

describe('the rest', () => {
  test('links lead somewhere', () => {
    const anchors = lines
      .filter((line) => line.startsWith('#'))
      .map(
        (line) =>
          `#${line
            .replace(/^#+ /, '')
            .toLowerCase()
            .replace(/[^\w\s-]/g, '')
            .replace(/\s/g, '-')}`,
      );
    const links = [...readme.matchAll(/\]\(([^)]+)\)/g)]
      .map(([, to = '']) => to)
      .filter((to) => !to.startsWith('https://'));
    expect(links.filter((to) => (to.startsWith('#') ? !anchors.includes(to) : !existsSync(join(root, to))))).toEqual(
      [],
    );
  });

  test.each(['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md'])(
    '%s is calm: no pictures in words, no badges',
    (file) => {
      const text = read(file);
      expect(text).not.toMatch(/\p{Extended_Pictographic}/u);
      expect(text).not.toMatch(/!\[[^\]]*\]\(https?:/);
      expect(text).not.toMatch(/\b(?:TODO|FIXME|TBD)\b/);
    },
  );

  test('the newest entry of the changelog is this version', () => {
    const { version } = JSON.parse(read('package.json'));
    expect(/^## \[(\d[^\]]*)\]/m.exec(read('CHANGELOG.md'))?.[1]).toBe(version);
  });
});

/** The part of an example that the README shows, as somebody who has installed the package writes it. */
function regionOf(text: string): string | undefined {
  return /^\/\/ #region readme\n([^]*?)^\/\/ #endregion/m
    .exec(text)?.[1]
    ?.trim()
    .replace(/'(?:\.\.\/)+lib\/index\.ts'/g, "'sse-router'")
    .replace(/'(?:\.\.\/)+lib\/([\w-]+)\/index\.ts'/g, "'sse-router/$1'");
}

/** What each member's description says of its default: `none` where it says nothing. */
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

/** What a default is worth that is written as code; `undefined` for one in words. */
function valueOf(code: string): unknown {
  try {
    return new Script(code).runInNewContext();
  } catch {
    return undefined;
  }
}

function rowsOf(...head: string[]): string[][] {
  const found = tables.filter((table) => table.head.join('|') === head.join('|'));
  expect(found).toHaveLength(1);
  return found[0]!.rows;
}

function cellsOf(row: string): string[] {
  return row
    .replace(/^\||\|$/g, '')
    .split('|')
    .map((cell) => cell.trim().replace(/`/g, ''));
}
