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

/** The folder of the built site. */
export const SITE = join(root, 'docs/site/dist');

/** One page of the built site. */
export interface BuiltPage {
  /** Its address, for example `/guide`. */
  readonly path: string;
  readonly html: string;
  /** The elements that a link can lead to. */
  readonly ids: ReadonlySet<string>;
  /** The values of all `href` and `src`. */
  readonly links: readonly string[];
}

/** Builds the site, and returns what the build printed. */
export async function buildSite(): Promise<string> {
  await installPackages();
  const { stdout, stderr } = await run(process.execPath, ['docs/site/build.mjs', 'build'], { cwd: root });
  return stdout + stderr;
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

/** Returns every page of the built site, except the one for an address that does not exist. */
export function readPages(): BuiltPage[] {
  return readdirSync(SITE, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.html') && file !== '404.html')
    .map((file) => {
      const html = readFileSync(join(SITE, file), 'utf8');
      return {
        path: `/${file.replace(/(?:index)?\.html$/, '')}`,
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
export function faultOf(link: string, page: BuiltPage, pages: ReadonlyMap<string, BuiltPage>): string | undefined {
  const url = new URL(link, `http://site.invalid${page.path}`);
  if (url.host !== 'site.invalid')
    return /^(?:https?:|data:|mailto:)$/.test(url.protocol) ? undefined : 'a wrong protocol';
  const path = decodeURIComponent(url.pathname);
  const target = pages.get(path);
  if (target === undefined) {
    return existsSync(join(SITE, path)) && posix.extname(path) !== '' ? undefined : 'no such page or file';
  }
  const id = decodeURIComponent(url.hash.slice(1));
  return id === '' || target.ids.has(id) ? undefined : `no element #${id} on ${path}`;
}
