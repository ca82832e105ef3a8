/*
 * The site: its order of pages, its search, the diagrams, and the path at which it is served.
 * A page that this project does not have is left out of the sidebar and of the home page.
 */
import { existsSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { defineConfig } from 'vitepress';

const { name, exports } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
const exists = ({ link }) =>
  ['.md', '/index.md'].some((end) => existsSync(new URL(`../pages${link.replace(/\/$/, '')}${end}`, import.meta.url)));

/** Where the files are served: a project of GitHub Pages has the path of its repository. */
const { DOCS_BASE = '/' } = process.env;
if (!/^\/(?:[\w.-]+\/)*$/.test(DOCS_BASE)) {
  throw new Error(`DOCS_BASE must be a path such as /sse-router/; received ${JSON.stringify(DOCS_BASE)}.`);
}

const page = (text, name) => ({ text, link: `/${name}` });
const group = (text, ...items) => ({ text, items: items.filter(exists) });

const SIDEBAR = [
  group(
    'Use',
    page('Guide', 'guide'),
    page('Handlers and messages', 'handlers'),
    page('The client', 'client'),
    page('Resume and snapshots', 'resume'),
    page('Runs', 'runs'),
    page('Recipes', 'recipes'),
    page('Ten mistakes', 'mistakes'),
    page('Testing', 'testing'),
    page('Error codes', 'errors'),
    page('Migration', 'migrating'),
  ),
  group(
    'Operation',
    page('Operation', 'operating'),
    page('Deployment', 'deploying'),
    page('Journals', 'journals'),
    page('PostgreSQL', 'postgres'),
    page('Proxies', 'proxies'),
    page('Speed and scale', 'scale'),
    page('Compatibility', 'compatibility'),
    page('Security', 'security'),
  ),
  group(
    'Comparisons',
    page('Packages', 'comparison'),
    page('Browser clients', 'client-comparison'),
    page('Runs', 'runs-comparison'),
    page('Benchmarks', 'results'),
  ),
  group(
    'API',
    page('All entry points', 'api/'),
    ...Object.keys(exports).map((entry) =>
      page(posix.join(name, entry), `api/${posix.join(name, entry).replaceAll('/', '-')}`),
    ),
  ),
  group(
    'Source',
    page('Architecture', 'architecture'),
    page('Contributing', 'contributing'),
    page('Changelog', 'changelog'),
    page('Summary for tools', 'skill'),
  ),
];

/** Pages of wide tables: they have the width of the window, and no list of their headings beside them. */
const WIDE = new Set(['comparison.md', 'client-comparison.md', 'runs-comparison.md', 'compatibility.md', 'results.md']);
/** Pages that the search leaves out: they are not for users, or repeat the words of the guides more often than these. */
const UNSEARCHED = new Set(['results.md', 'architecture.md', 'contributing.md', 'changelog.md', 'skill.md']);
/** Sections of the API reference that repeat the description of a member: tables of parameters, its errors and where it comes from. */
const UNSEARCHED_SECTIONS =
  /^#{2,6} (?:(?:Type )?Parameters?|Throws|Inherited from)\b[^\n]*\n[^]*?(?=^#{1,6} |$(?![^]))/gm;

/** Returns the part of a page that the search contains, as HTML. */
function renderForSearch(text, env, md) {
  if (UNSEARCHED.has(env.relativePath)) return '';
  const isReference = env.relativePath.startsWith('api/');
  return md.render(isReference ? text.replaceAll(UNSEARCHED_SECTIONS, '') : text, env);
}

/**
 * Ranks the pages of the search: first the guide, which has the tables of options, last the reference and the comparisons. The browser gets the text of this function,
 * so it uses nothing outside of it.
 */
function boostDocument(id) {
  if (id.includes('/guide#')) return 2;
  if (id.includes('/api/')) return 0.2;
  return /\/(?:[\w-]*comparison|compatibility)/.test(id) ? 0.4 : 1;
}

/** The icon of the site: three waves of a sender. A data URL needs no request, whatever the path of the site is. */
const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#3a5ccc" stroke-width="3" stroke-linecap="round"><path d="M4 20h.01M4 13a7 7 0 0 1 7 7M4 5a15 15 0 0 1 15 15"/></svg>';

/** Returns the anchor of a heading as GitHub makes it, because the same Markdown is read there. */
function anchorOf(heading) {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replaceAll(' ', '-');
}

export default defineConfig({
  title: 'sse-router',
  description: 'Server-sent events as an Express Router',
  srcDir: 'pages',
  base: DOCS_BASE,
  cleanUrls: true,
  lastUpdated: false,
  head: [['link', { rel: 'icon', href: `data:image/svg+xml,${encodeURIComponent(ICON)}` }]],
  ignoreDeadLinks: 'localhostLinks',
  transformPageData({ relativePath, frontmatter }) {
    if (relativePath.startsWith('api/')) frontmatter.pageClass = 'api';
    if (WIDE.has(relativePath)) Object.assign(frontmatter, { pageClass: 'wide', aside: false });
    const { hero } = frontmatter;
    if (hero) Object.assign(hero, { actions: hero.actions.filter(exists) });
    if (frontmatter.features) frontmatter.features = frontmatter.features.filter(exists);
  },
  markdown: {
    anchor: { slugify: anchorOf },
    languageAlias: { caddyfile: 'nginx', haproxy: 'nginx', vcl: 'c' }, // Shiki has no grammar for these
    config(md) {
      const fence = md.renderer.rules.fence;
      md.renderer.rules.fence = (tokens, index, ...rest) => {
        const { info, content } = tokens[index];
        if (info.trim() !== 'mermaid') return fence(tokens, index, ...rest);
        return `<Diagram text="${encodeURIComponent(content)}" />`;
      };
    },
  },
  vite: { build: { chunkSizeWarningLimit: 2000 } }, // Mermaid is large. Only a page with a diagram loads it.
  themeConfig: {
    nav: [
      page('Guide', 'guide'),
      page('Recipes', 'recipes'),
      page('API', 'api/'),
      page('Comparison', 'comparison'),
    ].filter(exists),
    sidebar: SIDEBAR,
    outline: [2, 3],
    search: {
      provider: 'local',
      options: { _render: renderForSearch, miniSearch: { searchOptions: { boostDocument } } },
    },
  },
});
