/*
 * Builds the documentation site, and reads its pages from the files.
 * The packages of docs/ are installed if they are missing, but only as root or with CI=true, like the programs of the other tests.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = join(__dirname, '../..');
const INSTALL = ['ci', '--prefix', 'docs', '--no-audit', '--no-fund'];

/** A built site. */
export interface BuiltSite {
  /** The path at which its files are served, with a slash at both ends. */
  readonly base: string;
  readonly folder: string;
  /** What the build printed. */
  readonly printed: string;
  /** The pages, by their address. The page for an address that does not exist is none of them. */
  readonly pages: ReadonlyMap<string, BuiltPage>;
}

/** One page of the built site. */
export interface BuiltPage {
  /** Its address, for example `/guide`, or `/base/guide`. */
  readonly path: string;
  readonly html: string;
  /** The elements that a link can lead to. */
  readonly ids: ReadonlySet<string>;
  /** The values of all `href` and `src`. */
  readonly links: readonly string[];
}

export async function buildSite(base: string, folder: string): Promise<BuiltSite> {
  await installPackages();
  const env = { ...process.env, DOCS_BASE: base };
  const { stdout, stderr } = await run(process.execPath, ['docs/site/build.mjs', 'build', folder], { cwd: root, env });
  const pages = new Map(readPages(base, folder).map((page) => [page.path, page]));
  return { base, folder, printed: stdout + stderr, pages };
}

async function installPackages(): Promise<void> {
  const installed = join(root, 'docs/node_modules/.package-lock.json');
  const lock = join(root, 'docs/package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  if (process.env['CI'] !== 'true' && process.getuid?.() !== 0) {
    throw new Error(`This test needs the packages of docs/. Install them (npm ${INSTALL.join(' ')}).`);
  }
  await run('npm', INSTALL, { cwd: root });
}

function readPages(base: string, folder: string): BuiltPage[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.html') && file !== '404.html')
    .map((file) => {
      const html = readFileSync(join(folder, file), 'utf8');
      return {
        path: `${base}${file.replace(/(?:index)?\.html$/, '')}`,
        html,
        ids: new Set(valuesOf(html, 'id')),
        links: [...valuesOf(html, 'href'), ...valuesOf(html, 'src')],
      };
    });
}

function valuesOf(html: string, attribute: string): string[] {
  const markup = html.replaceAll(/(<script[^>]*>)[^]*?<\/script>/g, '$1');
  return [...markup.matchAll(new RegExp(`<[^>]*\\s${attribute}="([^"]*)"`, 'g'))].map(([, value = '']) =>
    value.replaceAll('&amp;', '&'),
  );
}

/** Returns why a link of a page leads nowhere, or `undefined` if it leads to a page and an element, to a file or to another site. */
export function faultOf(link: string, page: BuiltPage, { base, folder, pages }: BuiltSite): string | undefined {
  const url = new URL(link, `http://site.invalid${page.path}`);
  if (url.host !== 'site.invalid')
    return /^(?:https?:|data:|mailto:)$/.test(url.protocol) ? undefined : 'a wrong protocol';
  const path = decodeURIComponent(url.pathname);
  const target = pages.get(path);
  if (target === undefined) {
    if (!path.startsWith(base)) return `outside of ${base}`;
    const isFile = existsSync(join(folder, path.slice(base.length))) && posix.extname(path) !== '';
    return isFile ? undefined : 'no such page or file';
  }
  const id = decodeURIComponent(url.hash.slice(1));
  return id === '' || target.ids.has(id) ? undefined : `no element #${id} on ${path}`;
}
