/*
 * The built client in a page: bundled by Vite, bundled by esbuild, and without a build. Each under a strict
 * Content-Security-Policy, with the shared worker. And the sizes.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import express from 'express';
import type { Browser, Page } from 'playwright-core';
import { sse } from '../../lib/index.ts';
import { launchChromium } from '../fixtures/chromium.ts';
import { serve } from '../fixtures/http.ts';
import { later } from '../fixtures/support.ts';

const root = join(__dirname, '../..');
const run = promisify(execFile);
jest.setTimeout(60_000);

const APP = `
import { connect } from 'sse-router/client';
import { shared } from 'sse-router/client/tabs';
const stream = connect('/events', { tabs: shared({ key: '' }) });
stream.onStatus((status) => (document.title = status));
stream.on('message', (data) => document.body.append(data));
`;
const HTML = '<!DOCTYPE html><title>-</title><body><script type="module" src="./app.js"></script>';

/** A project that has installed the package. */
let project: string;
let browser: Browser;

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'sse-router-client-'));
  const installed = join(project, 'node_modules/sse-router');
  await mkdir(installed, { recursive: true });
  const script = `import { buildBrowser } from ${JSON.stringify(join(root, 'scripts/build-browser.mjs'))};
    await buildBrowser(${JSON.stringify(join(installed, 'dist/browser'))});`;
  const [launched] = await Promise.all([
    launchChromium(),
    run(process.execPath, ['--input-type=module', '-e', script]),
    cp(join(root, 'package.json'), join(installed, 'package.json')),
    writeFile(join(project, 'app.js'), APP),
    writeFile(join(project, 'index.html'), HTML),
    writeFile(join(project, 'package.json'), '{ "type": "module" }'),
  ]);
  browser = launched;
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await rm(project, { recursive: true, force: true });
});

/** Serves a folder; two tabs show its page, and share a stream by the worker. */
async function expectShared(folder: string, path = '/'): Promise<void> {
  const events = sse();
  later(() => events.close());
  const { url } = await serve((app) => {
    app.use((_req, res, next) => {
      res.set('Content-Security-Policy', "default-src 'none'; script-src 'self'; connect-src 'self'");
      next();
    });
    app.use('/events', events);
    app.use(express.static(folder));
  });
  const context = await browser.newContext();
  later(() => context.close());
  const complaints: string[] = [];
  const open = async (): Promise<Page> => {
    const page = await context.newPage();
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(url + path);
    return page;
  };
  const pages = [await open(), await open()];
  const isOpen =
    "new Promise((resolve) => { const look = () => document.title === 'open' ? resolve() : setTimeout(look, 10); look(); })";
  for (const page of pages) await page.evaluate(isOpen);
  await events.broadcast('hello');
  for (const page of pages) await page.locator('body', { hasText: 'hello' }).waitFor();
  expect(events.size).toBe(1);
  expect(complaints.filter((text) => !text.includes('favicon'))).toEqual([]);
}

test('bundled by esbuild, with the worker beside the bundle', async () => {
  const out = join(project, 'esbuild');
  await build({ entryPoints: [join(project, 'app.js')], outdir: out, bundle: true, format: 'esm', minify: true });
  await cp(join(project, 'index.html'), join(out, 'index.html'));
  await cp(join(project, 'node_modules/sse-router/dist/browser/client/worker.js'), join(out, 'worker.js'));
  await expectShared(out);
});

test('built by Vite, which emits the worker', async () => {
  const out = join(project, 'vite');
  const vite = join(root, 'node_modules/vite/bin/vite.js');
  const { stdout } = await run(process.execPath, [vite, 'build', '--outDir', out, '--logLevel', 'info'], {
    cwd: project,
    env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' }, // colors would split the names of files
  });
  expect(stdout).toMatch(/assets\/worker-[\w-]+\.js/);
  await expectShared(out);
});

test('without a build, from a folder', async () => {
  const out = join(project, 'plain');
  await cp(join(project, 'node_modules/sse-router/dist/browser'), join(out, 'sse'), { recursive: true });
  await writeFile(
    join(out, 'app.js'),
    APP.replace(/'sse-router\/client'/, "'/sse/client/index.js'").replace(
      /'sse-router\/client\/tabs'/,
      "'/sse/client/tabs.js'",
    ),
  );
  await cp(join(project, 'index.html'), join(out, 'index.html'));
  await expectShared(out);
});

test('every module has a source map with its source', async () => {
  for (const file of ['connect.js', 'shared-tabs.js', 'worker.js']) {
    const path = join(project, 'node_modules/sse-router/dist/browser/client', file);
    expect(await readFile(path, 'utf8')).toContain(`//# sourceMappingURL=${file}.map`);
    const { sourcesContent } = JSON.parse(await readFile(`${path}.map`, 'utf8'));
    expect(sourcesContent[0].length).toBeGreaterThan(100);
  }
});

describe('sizes, minified and compressed', () => {
  const KIB = 1024;
  const sizeOf = async (code: string): Promise<number> => {
    const { outputFiles } = await build({
      stdin: { contents: code, resolveDir: project },
      bundle: true,
      minify: true,
      format: 'esm',
      target: 'es2022',
      external: ['react'],
      write: false,
      logLevel: 'error',
    });
    return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
  };
  const client = "export { connect } from 'sse-router/client';";

  test('the client takes at most 2.5 KiB, with shared tabs 5 KiB, with the hooks 0.5 KiB more', async () => {
    const alone = await sizeOf(client);
    expect(alone).toBeLessThanOrEqual(2.5 * KIB);
    expect(await sizeOf(`${client} export { shared } from 'sse-router/client/tabs';`)).toBeLessThanOrEqual(5 * KIB);
    expect(await sizeOf(`${client} export * from 'sse-router/react';`)).toBeLessThanOrEqual(alone + 0.5 * KIB);
  });

  test('the worker takes at most 2.5 KiB, and a bundler keeps it', async () => {
    const worker = await sizeOf("import 'sse-router/client/worker';");
    expect(worker).toBeGreaterThan(2 * KIB);
    expect(worker).toBeLessThanOrEqual(2.5 * KIB);
  });
});
