// Runs `npm run bench -- clients`: every behaviour with every client in a real Chromium, and writes docs/client-comparison.md.
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { behaviours, typed } from './behaviours.mjs';
import { Feed } from './feed.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../../..');
const { dependencies: versions } = createRequire(import.meta.url)('../../package.json');

const CLIENTS = {
  EventSource: undefined,
  'reconnecting-eventsource': "export { default } from 'reconnecting-eventsource'",
  '@microsoft/fetch-event-source': "export { fetchEventSource } from '@microsoft/fetch-event-source'",
  'eventsource-client': "export { createEventSource } from 'eventsource-client'",
  'event-source-plus': "export { EventSourcePlus } from 'event-source-plus'",
  'extended-eventsource': "export { EventSource } from 'extended-eventsource'",
  'event-source-polyfill': "export { EventSourcePolyfill } from 'event-source-polyfill'",
  'sse-router/client': `export { connect } from ${JSON.stringify(join(root, 'lib/client/index.ts'))}`,
};
const OURS = 'sse-router/client';
const options = { bundle: true, format: 'esm', target: 'es2022', platform: 'browser', write: false, logLevel: 'error' };

const { outputFiles } = await build({
  ...options,
  entryPoints: { page: join(here, 'page.mjs'), worker: join(root, 'lib/client/worker.ts') },
  outdir: '/',
});
const files = new Map(outputFiles.map(({ path, text }) => [path, text]));
files.set('/', '<!DOCTYPE html><title>-</title><script type="module" src="/page.js"></script>');

/** Minified and compressed, KiB. */
async function sizeOf(code) {
  if (code === undefined) return '0';
  const { outputFiles } = await build({ ...options, minify: true, stdin: { contents: code, resolveDir: here } });
  return (gzipSync(outputFiles[0].contents, { level: 9 }).length / 1024).toFixed(1);
}

/** A tab by its DevTools session. */
class Tab {
  constructor(send, close) {
    this.send = send;
    this.close = close;
  }

  async run(expression) {
    const { result } = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    return result.value;
  }

  async load(url) {
    await this.send('Page.enable');
    await this.goto(url);
    while (!(await this.run("typeof open === 'function' && typeof clients === 'object'").catch(() => false)));
  }

  goto = (url) => this.send('Page.navigate', { url });
  open = (client, how) => this.run(`open(${JSON.stringify(client)}, ${JSON.stringify({ url: '/events', ...how })})`);
  seen = () => this.run('seen');
  crash = () => void this.send('Page.crash').catch(() => {});
  block = () => void this.run('setTimeout(() => alert(1))').catch(() => {});
  freeze = (isFrozen) => this.send('Page.setWebLifecycleState', { state: isFrozen ? 'frozen' : 'active' });
}

/** Runs one behaviour with one client, in a browser context of its own. */
async function perform(browser, client, behaviour) {
  const feed = await new Feed(files).start();
  const context = await browser.newContext();
  const bare = [];
  const tab = async () => {
    const page = await context.newPage();
    page.on('dialog', () => {}); // it stays open
    const session = await context.newCDPSession(page);
    const one = new Tab(
      (method, params) => session.send(method, params),
      () => page.close(),
    );
    await one.load(feed.url + '/');
    return one;
  };
  // Playwright keeps its own pages visible, so they cannot be frozen.
  const bareTab = async () => {
    const root = await browser.newBrowserCDPSession();
    const { targetId } = await root.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await root.send('Target.attachToTarget', { targetId, flatten: false });
    const answers = new Map();
    let last = 0;
    root.on('Target.receivedMessageFromTarget', ({ message }) => {
      const { id, result } = JSON.parse(message);
      answers.get(id)?.(result);
    });
    const send = async (method, params = {}) => {
      const id = ++last;
      const answer = new Promise((resolve) => answers.set(id, resolve));
      await root.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id, method, params }) });
      return answer;
    };
    bare.push(() => root.send('Target.closeTarget', { targetId }));
    const one = new Tab(send, () => {});
    await one.load(feed.url + '/');
    return one;
  };
  try {
    const scene = { client, feed, tab, bareTab, setOffline: (isOffline) => context.setOffline(isOffline) };
    return await Promise.race([behaviour(scene), pause(60_000, 'hangs')]);
  } catch (error) {
    return `fails: ${error.message.split('\n')[0].slice(0, 60)}`;
  } finally {
    for (const close of bare) await close().catch(() => {});
    await context.close();
    await feed.stop();
  }
}

Object.assign(globalThis, { __dirname: join(root, '__tests__/fixtures') }); // the module below is CommonJS and uses __dirname
const { launchChromium } = await import('../../../__tests__/fixtures/chromium.ts');
const only = process.argv[3];
const names = Object.keys(CLIENTS);
const rows = [];
const browser = await launchChromium();
try {
  for (const [name, behaviour] of behaviours) {
    if (only !== undefined && !name.includes(only)) continue;
    const cells = [];
    for (const client of names) cells.push(await perform(browser, client, behaviour));
    rows.push([name, ...cells]);
    console.log([name, ...cells].join(' | '));
  }
} finally {
  await browser.close();
}

const versionOf = (name) => {
  if (name === 'EventSource') return `EventSource of Chromium ${browser.version().split('.')[0]}`;
  return name === OURS ? '`sse-router/client`' : `${name} ${versions[name]}`;
};
rows.push(['types name the events and their data', ...names.map((name) => (typed.includes(name) ? 'yes' : 'no'))]);
rows.push([
  'size, minified and compressed',
  ...(await Promise.all(names.map(async (name) => `${await sizeOf(CLIENTS[name])} KiB`))),
]);

if (only === undefined) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const table = [line(['', ...names.map(versionOf)]), line(['', ...names].map(() => '---')), ...rows.map(line)].join(
    '\n',
  );
  const path = join(root, 'docs/client-comparison.md');
  const text = await readFile(path, 'utf8');
  const stamp = `Run on ${new Date().toISOString().slice(0, 10)} with Node ${process.versions.node.split('.')[0]} and ${cpus().length} cores.`;
  const begin = '<!-- begin: npm run bench -- clients -->';
  const end = '<!-- end -->';
  const [before] = text.split(begin);
  const [, after] = text.split(end);
  await writeFile(path, `${before}${begin}\n${stamp}\n\n${table}\n${end}${after}`);
}
process.exit();
