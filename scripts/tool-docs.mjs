/*
 * Writes the documentation for tools that write code: llms.txt, a list of all pages, and skills/sse-router/SKILL.md, what such a tool
 * needs to use the package correctly. Both are made of the README, the pages in docs/ and the programs in examples/.
 *
 *   node scripts/tool-docs.mjs             writes them
 *   node scripts/tool-docs.mjs --check     fails if they differ from what it would write
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file) => readFileSync(join(root, file), 'utf8');
const { name, description, version } = JSON.parse(read('package.json'));
const pages = readdirSync(join(root, 'docs'))
  .filter((file) => file.endsWith('.md'))
  .map((file) => `docs/${file}`)
  .sort();

const written = { 'llms.txt': llms(), 'skills/sse-router/SKILL.md': skill() };
const isCheck = process.argv.includes('--check');
for (const [file, text] of Object.entries(written)) {
  if (isCheck) {
    if (tryRead(file) === text) continue;
    console.error(`${file} must be what its sources make; received another text. Run node scripts/tool-docs.mjs.`);
    process.exitCode = 1;
  } else {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
}

/** The form of https://llmstxt.org: a title, a summary, and lists of links with descriptions. */
function llms() {
  const rows = pages.map((page) => `- [${titleOf(page)}](${page}): ${summaryOf(page)}`);
  return `# ${name}

> ${description}

Express developers install ${name} when a page must receive events from the server. It needs Node 20 or later and Express 4.18 or 5.
[README.md](README.md) shows every part in one screen each, and has the table of options.
[skills/sse-router/SKILL.md](skills/sse-router/SKILL.md) is a summary for tools that write code.

## Documentation

${rows.join('\n')}

## Optional

- [CHANGELOG.md](CHANGELOG.md): all notable changes
- [CONTRIBUTING.md](CONTRIBUTING.md): where what is in the source
- [SECURITY.md](SECURITY.md): what the package protects, and how to report a fault
`;
}

function skill() {
  return `---
name: ${name}
description: Write, review or debug server-sent events (SSE, EventSource, text/event-stream) in an Express application with the npm package ${name}. Use it for live pages, notifications, token streams of language models, broadcasts to channels, resume by Last-Event-ID, and SSE over several processes.
---

# ${name} ${version}

${description}

Use it if a page must receive events and the server is Express. Do not use it if clients must send over the same connection
(WebSockets), or for a queue that workers read.

## Programs that are tested

${[
  ['A stream, and a broadcast from a route', 'quick-start.ts', 'readme'],
  ['', 'broadcast-from-a-route.ts', 'docs'],
  ['Channels of users, with CORS and authentication', 'private-channels.ts', 'readme'],
  ['State, then its changes, without a gap', 'snapshot.ts', 'docs'],
  ['Typed events', 'typed-events.ts', 'readme'],
  ['Tokens of a language model', 'token-stream.ts', 'docs'],
  ['Answers that survive a reload', 'runs.ts', 'docs'],
  ['Shutdown', 'graceful-shutdown.ts', 'docs'],
]
  .map(([title, file, region]) => `${title && `### ${title}\n\n`}\`\`\`ts\n${programOf(file, region)}\n\`\`\``)
  .join('\n\n')}

In the page, an \`EventSource\` receives these events. \`reset\` means that the server could not send what the page missed:

\`\`\`js
const events = new EventSource('/events');
events.addEventListener('order', ({ data }) => show(JSON.parse(data)));
events.addEventListener('reset', () => location.reload());
\`\`\`

## Options

${sectionOf('README.md', 'Options').replaceAll('](docs/', '](../../docs/')}

${read('docs/mistakes.md')
  .replace(/^# /, '## ')
  .replaceAll(/\]\((?!\.)/g, '](../../docs/')
  .trim()}

## More

${pages.map((page) => `- [${titleOf(page)}](../../${page}): ${summaryOf(page)}`).join('\n')}
`;
}

function titleOf(page) {
  return /^# (.*)$/m.exec(read(page))[1];
}

/** The first sentence of a page, as plain text. */
function summaryOf(page) {
  const [, paragraph] = /^# .*\n\n([^]*?)\n\n/.exec(read(page));
  const plain = paragraph.replaceAll(/\s+/g, ' ').replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1');
  const [sentence] = /^.*?[.:](?= |$)/.exec(plain) ?? [plain];
  return sentence.replace(/:$/, '.');
}

function sectionOf(file, heading) {
  const [, text] = new RegExp(`^## ${heading}\\n([^]*?)(?=^## )`, 'm').exec(read(file));
  return text.trim();
}

/** A region of an example, as an application that has installed the package writes it. */
function programOf(file, region) {
  const [, text] = new RegExp(`^// #region ${region}\\n([^]*?)^// #endregion ${region}$`, 'm').exec(
    read(`examples/${file}`),
  );
  return text
    .replaceAll(/^\/\/ #(?:end)?region \w+\n/gm, '')
    .replaceAll(/'(?:\.\.\/)+lib\/index\.ts'/g, `'${name}'`)
    .replaceAll(/'(?:\.\.\/)+lib\/(?:journal\/)?([\w-]+)\/index\.ts'/g, `'${name}/$1'`)
    .trim();
}

function tryRead(file) {
  try {
    return read(file);
  } catch {
    return undefined;
  }
}
