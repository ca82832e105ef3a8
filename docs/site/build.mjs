/*
 * Builds the documentation site from the Markdown of the project, and the API reference from its TSDoc.
 *
 *   npm run docs             serves it at http://localhost:5173, and builds a page again after a change
 *   npm run docs:build       writes static files to docs/site/dist
 *   node docs/site/build.mjs build folder
 *
 * DOCS_BASE is the path at which the files are served: DOCS_BASE=/sse-router/ npm run docs:build.
 *
 * VitePress needs one folder with all pages, so they are copied to docs/site/pages: the README becomes the guide, and links to
 * files that are not pages become text, with the path of the file in an installed package if the package contains it.
 */
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { basename, dirname, join, posix, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, Comment, ReflectionKind } from 'typedoc';
import { build, createServer } from 'vitepress';

const site = dirname(fileURLToPath(import.meta.url));
const root = join(site, '../..');
const pages = join(site, 'pages');
const output = resolve(process.argv[3] ?? join(site, 'dist'));
const read = (file) => readFileSync(join(root, file), 'utf8');

const PACKAGE = JSON.parse(read('package.json'));

/** The name of each page in the site, by its file in the project. */
const NAMES = {
  'README.md': 'guide',
  'CHANGELOG.md': 'changelog',
  'CONTRIBUTING.md': 'contributing',
  'SECURITY.md': 'security',
  'bench/RESULTS.md': 'results',
  'skills/sse-router/SKILL.md': 'skill',
};
for (const file of readdirSync(join(root, 'docs'))) {
  if (file.endsWith('.md')) NAMES[`docs/${file}`] = file.replace('.md', '');
}

rmSync(pages, { recursive: true, force: true });
mkdirSync(pages, { recursive: true });
copyPages();
await makeReference();

if (process.argv[2] === 'build') {
  rmSync(output, { recursive: true, force: true });
  await build(site, { outDir: output });
  writeTexts();
} else {
  const names = Object.keys(NAMES).map((file) => basename(file));
  for (const folder of new Set(Object.keys(NAMES).map((file) => posix.dirname(file)))) {
    watch(join(root, folder), (_event, file) => names.includes(file) && copyPages());
  }
  const server = await createServer(site);
  await server.listen();
  server.printUrls();
}

function copyPages() {
  for (const [file, name] of Object.entries(NAMES)) {
    const text = withLinksOfSite(file);
    writeFileSync(join(pages, `${name}.md`), asPage(name, text));
  }
  copyFileSync(join(site, 'index.md'), join(pages, 'index.md'));
  for (const folder of ['docs', 'bench/plots']) {
    for (const file of readdirSync(join(root, folder))) {
      if (/\.(png|svg|gif)$/.test(file)) copyFileSync(join(root, folder, file), join(pages, file));
    }
  }
}

/** Writes what tools read: llms.txt, and the Markdown of each page beside the page. */
function writeTexts() {
  cpSync(pages, output, {
    recursive: true,
    filter: (file) => file !== join(pages, 'index.md') && !/\.\w+g$/.test(file),
  });
  writeFileSync(join(output, 'llms.txt'), withLinksOfSite('llms.txt'));
}

/** Returns the text of a file in which every link leads to a page of the site. Code stays as it is: `names[0](1)` is no link. */
function withLinksOfSite(file) {
  return read(file)
    .replaceAll(/`([\w/.-]+\.md)` of the repository/g, (whole, path) =>
      NAMES[path] ? `[${path}](./${NAMES[path]}.md)` : whole,
    )
    .split(/(^ *```[^]*?^ *```$|`[^`\n]+`(?!\]))/m)
    .map((part, index) => (index % 2 === 0 ? convertLinks(part, file) : part))
    .join('');
}

function convertLinks(text, file) {
  return text.replaceAll(/(!?)\[([^\]]*)\]\(([^)\s]+)\)/g, (whole, image, label, link) => {
    if (/^(https?:|#)/.test(link)) return whole;
    const [path, anchor] = link.split('#');
    const target = posix.normalize(posix.join(posix.dirname(file), path));
    if (NAMES[target]) return `[${label}](./${NAMES[target]}.md${anchor ? `#${anchor}` : ''})`;
    if (image) return `![${label}](./${posix.basename(target)})`;
    return isPackaged(target) ? `${label} (\`node_modules/${PACKAGE.name}/${target}\`)` : label;
  });
}

/** Whether the package contains a file: npm adds the license to what the package lists. */
function isPackaged(file) {
  return file === 'LICENSE' || PACKAGE.files.includes(file);
}

/**
 * Removes the frontmatter of the skill, which is for tools: VitePress would take it for its own. The README has the title of the main
 * entry of the API. In the search, the two pages need two titles.
 */
function asPage(name, text) {
  if (name === 'skill') return text.replace(/^---\n[^]*?\n---\n/, '');
  return name === 'guide' ? text.replace(/^# .*$/m, '# Guide') : text;
}

/** Makes a page for each entry point of the package, in the order of `exports`: the main entry is the first. */
async function makeReference() {
  const { name, exports } = PACKAGE;
  const entries = Object.entries(exports).filter(([, target]) => typeof target === 'object');
  const sources = entries.map(([, target]) => sourceOf(target.import?.default ?? target.default));
  const app = await Application.bootstrapWithPlugins({
    entryPoints: sources,
    sortEntryPoints: false,
    tsconfig: join(site, 'tsconfig.json'),
    plugin: [fileURLToPath(import.meta.resolve('typedoc-plugin-markdown'))],
    outputs: [{ name: 'markdown', path: join(pages, 'api') }],
    router: 'module',
    entryFileName: 'index',
    readme: 'none',
    name: 'API',
    excludePrivate: true,
    excludeInternal: true,
    excludeExternals: true,
    disableSources: true,
    skipErrorChecking: true, // the compiler of the project is newer than that of TypeDoc, and has checked the types
    logLevel: 'Error',
    hidePageHeader: true,
    hideBreadcrumbs: true,
    flattenOutputFiles: true,
    pageTitleTemplates: { index: 'API', module: '{name}', member: '{name}' },
    groupOrder: ['Functions', 'Classes', 'Interfaces', '*'],
    indexFormat: 'table',
    parametersFormat: 'table',
    useCodeBlocks: true,
    useCustomAnchors: true, // else the anchors of members with one name depend on their order
  });
  const project = await app.convert();
  if (project === undefined) throw new Error('TypeDoc must make the API reference; it failed. See its messages above.');
  for (const [index, module] of project.getChildrenByKind(ReflectionKind.Module).entries()) {
    module.name = posix.join(name, entries[index][0]);
    module.comment ??= new Comment([{ kind: 'text', text: headerOf(sources[index]) }]);
  }
  const kinds = [ReflectionKind.Function, ReflectionKind.Method];
  for (const { signatures = [] } of kinds.flatMap((kind) => project.getReflectionsByKind(kind))) {
    const [first, ...others] = signatures;
    for (const one of others) if (isSame(one.comment, first.comment)) one.comment = undefined; // one description for all
  }
  for (const parameter of project.getReflectionsByKind(ReflectionKind.Parameter)) {
    if (parameter.name === '__namedParameters') parameter.name = 'options'; // TypeDoc's name for `({ key, url }: Options)`
  }
  await app.generateOutputs(project);
  for (const file of readdirSync(join(pages, 'api'))) improve(join(pages, 'api'), file);
  if (app.logger.hasErrors())
    throw new Error('TypeDoc must write the API reference; it failed. See its messages above.');
}

/**
 * TypeDoc writes a default value as a heading and a block of code; one line is enough. The headings that it gives no anchor
 * (Methods, Returns …) get one here, because theirs would be that of a member with the same name. A web server takes a dot for an
 * extension, so the names of the pages have none.
 */
function improve(folder, file) {
  let parts = 0;
  const text = readFileSync(join(folder, file), 'utf8')
    .replaceAll(/\]\([\w.-]+\.md/g, withoutDots)
    .replaceAll(/^#+ Default Value\n\n```ts\n([^\n]*)\n```$/gm, 'Default: `$1`')
    .replace(/^## See\n\n/m, 'See ')
    .replaceAll(/^## (\w+)[^{\n]*$/gm, (heading, word) => `${heading} {#all-${word.toLowerCase()}}`)
    .replaceAll(/^#{4,6} [^{\n]*$/gm, (heading) => `${heading} {#part-${++parts}}`);
  rmSync(join(folder, file));
  writeFileSync(join(folder, withoutDots(file)), text);
}

function withoutDots(name) {
  return name.replaceAll(/\.(?!md$)/g, '-');
}

/** Returns the text in the header of a source file, without its invariants and references. */
function headerOf(source) {
  const [, header = ''] = /^\/\*\n([^]*?)\*\//.exec(readFileSync(source, 'utf8')) ?? [];
  const text = header.replaceAll(/^ \* ?/gm, '');
  return text.split(/^(?:Invariants?:|@)/m, 1)[0].trim();
}

function isSame(comment, other) {
  const textOf = ({ summary = [] } = {}) => Comment.combineDisplayParts(summary);
  return textOf(comment) === textOf(other);
}

function sourceOf(built) {
  return join(root, built.replace(/^\.\/dist\/(?:esm|browser)\//, 'lib/').replace(/\.js$/, '.ts'));
}
