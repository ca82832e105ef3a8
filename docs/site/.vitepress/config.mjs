/*
 * The site: its order of pages, its search, and the diagrams.
 */
import { defineConfig } from 'vitepress';

const page = (text, name) => ({ text, link: `/${name}` });

const SIDEBAR = [
  {
    text: 'Use',
    items: [
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
    ],
  },
  {
    text: 'Operation',
    items: [
      page('Operation', 'operating'),
      page('Journals', 'journals'),
      page('PostgreSQL', 'postgres'),
      page('Proxies', 'proxies'),
      page('Speed and scale', 'scale'),
      page('Security', 'security'),
    ],
  },
  {
    text: 'Comparisons',
    items: [
      page('Packages', 'comparison'),
      page('Browser clients', 'client-comparison'),
      page('Compatibility', 'compatibility'),
      page('Benchmarks', 'results'),
    ],
  },
  { text: 'Reference', items: [page('API', 'api/')] },
  {
    text: 'Source',
    items: [
      page('Architecture', 'architecture'),
      page('Contributing', 'contributing'),
      page('Changelog', 'changelog'),
    ],
  },
];

export default defineConfig({
  title: 'sse-router',
  description: 'Server-sent events as an Express Router',
  srcDir: 'pages',
  cleanUrls: true,
  lastUpdated: false,
  markdown: {
    config(md) {
      const fence = md.renderer.rules.fence;
      md.renderer.rules.fence = (tokens, index, ...rest) => {
        const { info, content } = tokens[index];
        if (info.trim() !== 'mermaid') return fence(tokens, index, ...rest);
        return `<Diagram text="${encodeURIComponent(content)}" />`;
      };
    },
  },
  themeConfig: {
    nav: [page('Guide', 'guide'), page('Recipes', 'recipes'), page('API', 'api/'), page('Comparison', 'comparison')],
    sidebar: SIDEBAR,
    outline: [2, 3],
    search: { provider: 'local' },
  },
});
