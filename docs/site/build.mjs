/*
 * Builds the documentation site from the Markdown of the project, and the API reference from its TSDoc.
 *
 *   npm run docs             serves it at http://localhost:5173, and builds it again after a change
 *   npm run docs:build       writes static files to docs/site/dist
 *
 * VitePress needs one folder with all pages, so they are copied to docs/site/pages: the README becomes the guide, and links to
 * files that are not pages become text.
 */
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application } from 'typedoc';
import { build, createServer } from 'vitepress';

const site = dirname(fileURLToPath(import.meta.url));
const root = join(site, '../..');
const pages = join(site, 'pages');
const read = (file) => readFileSync(join(root, file), 'utf8');

/** The name of each page in the site, by its file in the project. */
const NAMES = {
  'README.md': 'guide',
  'CHANGELOG.md': 'changelog',
  'CONTRIBUTING.md': 'contributing',
  'SECURITY.md': 'security',
  'bench/RESULTS.md': 'results',
};
for (const file of readdirSync(join(root, 'docs'))) {
  if (file.endsWith('.md')) NAMES[`docs/${file}`] = file.replace('.md', '');
}

rmSync(pages, { recursive: true, force: true });
mkdirSync(join(pages, 'public'), { recursive: true });
copyPages();
await makeReference();

if (process.argv[2] === 'build') await build(site, { outDir: join(site, 'dist') });
else {
  for (const folder of ['docs', '.']) {
    watch(join(root, folder), (_event, file) => file?.endsWith('.md') && copyPages());
  }
  const server = await createServer(site);
  await server.listen();
  server.printUrls();
}

function copyPages() {
  for (const [file, name] of Object.entries(NAMES)) writeFileSync(join(pages, `${name}.md`), pageOf(file));
  copyFileSync(join(site, 'index.md'), join(pages, 'index.md'));
  copyFileSync(join(root, 'llms.txt'), join(pages, 'public/llms.txt'));
  cpSync(join(root, 'bench/plots'), join(pages, 'public/plots'), { recursive: true });
  for (const file of readdirSync(join(root, 'docs'))) {
    if (/\.(png|svg|gif)$/.test(file)) copyFileSync(join(root, 'docs', file), join(pages, file));
  }
}

/** Returns a page with its links as they are in the site. */
function pageOf(file) {
  return read(file).replaceAll(/(!?)\[([^\]]*)\]\(([^)\s]+)\)/g, (whole, image, text, link) => {
    if (/^(https?:|#)/.test(link)) return whole;
    const [path, anchor] = link.split('#');
    const target = posix.normalize(posix.join(posix.dirname(file), path));
    if (NAMES[target]) return `[${text}](./${NAMES[target]}.md${anchor ? `#${anchor}` : ''})`;
    if (image && target.startsWith('docs/')) return `![${text}](./${posix.basename(target)})`;
    if (image) return `![${text}](/plots/${posix.basename(target)})`;
    return text;
  });
}

/** Makes a page for each entry point of the package. */
async function makeReference() {
  const { exports } = JSON.parse(read('package.json'));
  const entryPoints = Object.entries(exports)
    .filter(([, target]) => typeof target === 'object')
    .map(([, target]) => (target.import?.default ?? target.default).replace(/^\.\/dist\/(?:esm|browser)\//, 'lib/'))
    .map((file) => file.replace(/\.js$/, '.ts'));
  const app = await Application.bootstrapWithPlugins({
    entryPoints: entryPoints.map((file) => join(root, file)),
    tsconfig: join(site, 'tsconfig.json'),
    plugin: ['typedoc-plugin-markdown'],
    readme: 'none',
    name: 'API',
    excludePrivate: true,
    excludeInternal: true,
    excludeExternals: true,
    disableSources: true,
    skipErrorChecking: true,
    validation: false,
    logLevel: 'Error',
    router: 'module',
    entryFileName: 'index',
    hidePageHeader: true,
    hideBreadcrumbs: true,
  });
  const project = await app.convert();
  if (project === undefined) throw new Error('The API reference could not be made. The messages above have the reason.');
  await app.generateDocs(project, join(pages, 'api'));
}
