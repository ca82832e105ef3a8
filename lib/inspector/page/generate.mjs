/*
 * Writes ../assets/: the page and the plotting library as text, so that they are there in every build without being looked for.
 *
 *   node lib/inspector/page/generate.mjs
 *
 * In pieces of less than 32 KB: the package has each of them twice, as an ES module and as CommonJS, side by side, and gzip
 * takes the second for nothing if it is within its window.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const PIECE = 30_000;
const own = (name) => readFileSync(new URL(name, import.meta.url), 'utf8');
const plot = (name) => readFileSync(createRequire(import.meta.url).resolve(`uplot/dist/${name}`), 'utf8');
/** uPlot writes numbers in the browser's language, which is no language tag where Chromium has no locale: `en-US@posix`. */
const LANGUAGE = `try{Intl.getCanonicalLocales(navigator.language)}catch{Object.defineProperty(navigator,"language",{value:"en"})}`;
const assets = [
  { path: '/', type: 'html', name: 'html', text: own('index.html') },
  { path: '/style.css', type: 'css', name: 'style', text: own('style.css') },
  { path: '/page.js', type: 'js', name: 'script', text: own('page.js') },
  { path: '/plot.css', type: 'css', name: 'plot-style', text: plot('uPlot.min.css') },
  {
    path: '/plot.js',
    type: 'js',
    name: 'plot',
    text: `${LANGUAGE}\n/*\n${plot('../LICENSE')}*/\n${plot('uPlot.iife.min.js')}`,
  },
];

const folder = new URL('../assets/', import.meta.url);
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);

const imports = [];
const members = [];
for (const { path, type, name, text } of assets) {
  const pieces = [];
  for (let at = 0; at < text.length; at += PIECE) {
    const file = text.length > PIECE ? `${name}-${pieces.length + 1}` : name;
    const variable = file.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
    // With its type, or the declarations would hold the text once more.
    write(file, `const ${variable}: string =\n  ${quoted(text.slice(at, at + PIECE))};\nexport default ${variable};\n`);
    imports.push(`import ${variable} from './${file}.ts';\n`);
    pieces.push(variable);
  }
  members.push(`  '${path}': { type: '${type}', text: ${pieces.join(' + ')} },\n`);
}
write(
  'index',
  `${imports.join('')}
export const ASSETS: Readonly<Record<string, { readonly type: string; readonly text: string }>> = {
${members.join('')}};
`,
);

function quoted(text) {
  return `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
}

function write(file, code) {
  writeFileSync(
    new URL(`${file}.ts`, folder),
    `/*
 * Written by page/generate.mjs: change the files in page/, not this one. A test holds them equal.
 * Knows nothing of any other room. /plot.js is uPlot (MIT, github.com/leeoniya/uPlot), whole.
 * Invariant: what the page needs is here, and nothing that it needs is elsewhere.
 */

${code}`,
  );
}
