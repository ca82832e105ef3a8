/*
 * Writes assets.ts: the page and the plotting library as text, so that they are there in every build without being looked for.
 *
 *   node lib/inspector/page/generate.mjs
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const own = (name) => readFileSync(new URL(name, import.meta.url), 'utf8');
const plot = (name) => readFileSync(createRequire(import.meta.url).resolve(`uplot/dist/${name}`), 'utf8');
const assets = {
  '/': { type: 'html', text: own('index.html') },
  '/style.css': { type: 'css', text: own('style.css') },
  '/page.js': { type: 'js', text: own('page.js') },
  '/plot.css': { type: 'css', text: plot('uPlot.min.css') },
  '/plot.js': { type: 'js', text: `/*\n${plot('../LICENSE')}*/\n${plot('uPlot.iife.min.js')}` },
};

const quoted = (text) => `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
const members = Object.entries(assets).map(
  ([path, { type, text }]) => `  '${path}': {\n    type: '${type}',\n    text: ${quoted(text)},\n  },\n`,
);
writeFileSync(
  new URL('../assets.ts', import.meta.url),
  `/*
 * Written by page/generate.mjs: change the files in page/, not this one. A test holds them equal.
 * Knows nothing of any other room. /plot.js is uPlot (MIT, https://github.com/leeoniya/uPlot), whole.
 * Invariant: what the page needs is here, and nothing that it needs is elsewhere.
 */

export const ASSETS: Readonly<Record<string, { readonly type: string; readonly text: string }>> = {
${members.join('')}};
`,
);
