/*
 * The documentation site: its build, every link and anchor of its files, and its pages in a real Chromium.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import express from 'express';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { launchChromium } from '../fixtures/chromium.ts';
import { serve } from '../fixtures/http.ts';
import { buildSite, type BuiltPage, type BuiltSite, faultOf } from './built-site.ts';

const root = join(__dirname, '../..');
const SITE = join(root, 'docs/site/dist');
const BASE = '/a/sse-router/';
const SWITCH = '.VPNavBarAppearance .VPSwitchAppearance';
const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 800 };

/** A script for the browser: the elements that reach beyond the window, and do not scroll in themselves. */
const FIND_OUTSIDE = `(() => {
  const { clientWidth, scrollWidth } = document.documentElement;
  const scrolls = (element) =>
    element !== null && (/auto|scroll/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  const outside = [...document.querySelectorAll('.VPContent *')].filter((element) => {
    const { right, width } = element.getBoundingClientRect();
    return width > 0 && right > clientWidth + 1 && !scrolls(element.parentElement);
  });
  return [
    ...(scrollWidth > clientWidth ? ['the document: ' + scrollWidth] : []),
    ...outside.map((element) => element.tagName + ': ' + element.textContent.slice(0, 40)),
  ];
})()`;

let browser: Browser;
let context: BrowserContext;
let site: BuiltSite;
let pages: ReadonlyMap<string, BuiltPage>;
let problems: string[];

beforeAll(async () => {
  [site, browser] = await Promise.all([buildSite('/', SITE), launchChromium()]);
  ({ pages } = site);
}, 300_000); // the packages may have to be installed
afterAll(() => browser?.close());
afterEach(() => context?.close());

/** Returns the links that lead nowhere, each with its page. */
function faultsOf(one: BuiltSite): string[] {
  const links = [...one.pages.values()].flatMap((page) => page.links.map((link) => ({ page, link })));
  expect(links.length).toBeGreaterThan(1000);
  const faults = links.flatMap(({ page, link }) => {
    const fault = faultOf(link, page, one);
    return fault === undefined ? [] : [`${page.path} → ${link}: ${fault}`];
  });
  return [...new Set(faults)];
}

/** Opens a page, and collects the errors and warnings of the browser. */
async function open(path: string, options: Parameters<Browser['newContext']>[0] = {}, from = site): Promise<Page> {
  const { url } = await serve((app) => app.use(from.base, express.static(from.folder, { extensions: ['html'] })));
  context = await browser.newContext({ baseURL: url, viewport: DESKTOP, colorScheme: 'light', ...options });
  problems = [];
  const page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(`${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`${page.url()}: ${error.message}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) problems.push(request.url());
  });
  await page.goto(path, { waitUntil: 'networkidle' });
  return page;
}

describe('the files', () => {
  test('the build prints no warning', () => {
    expect(site.printed).toMatch(/build complete/);
    expect(site.printed).not.toMatch(/warn|\(!\)|not loaded|dead link/i);
  });

  test('every link leads to a page with the anchor, or to a file', () => {
    expect(faultsOf(site)).toEqual([]);
  });

  test('every Markdown file of the project is a page, and the sidebar has every page', () => {
    const names = readdirSync(join(root, 'docs')).filter((file) => file.endsWith('.md'));
    expect([...pages.keys()]).toEqual(expect.arrayContaining(names.map((file) => `/${file.replace('.md', '')}`)));
    const [sidebar = ''] = /<aside class="VPSidebar[^]*?<\/aside>/.exec(pages.get('/guide')!.html) ?? [];
    const links = [...sidebar.matchAll(/href="([^"]+)"/g)].map(([, link]) => link!);
    expect(links.toSorted()).toEqual([...pages.keys()].filter((path) => path !== '/').toSorted());
  });

  test('every page has an icon, which needs no request', () => {
    for (const { path, links } of pages.values())
      expect([path, links.filter((link) => link.startsWith('data:image/svg+xml,'))]).toEqual([
        path,
        [expect.anything()],
      ]);
  });

  test('a link to a file of the package becomes its path in an installed package', () => {
    for (const [path, file] of [
      ['/operating', 'examples/grafana-dashboard.json'],
      ['/resume', 'examples/own-store.ts'],
      ['/testing', 'examples/shop.ts'],
    ] as const)
      expect(pages.get(path)!.html).toContain(`node_modules/sse-router/${file}`);
    expect(pages.get('/scale')!.links).toContain('/results');
  });

  test('llms.txt leads to the Markdown of the pages', () => {
    const text = readFileSync(join(SITE, 'llms.txt'), 'utf8');
    const links = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link!);
    expect(links.length).toBeGreaterThan(10);
    for (const link of links) expect(readFileSync(join(SITE, link), 'utf8')).toMatch(/^# /m);
  });
});

describe('the API reference', () => {
  const { name, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    name: string;
    exports: Record<string, unknown>;
  };

  test('has a page for each entry point, and the main one is the first', () => {
    const entries = Object.keys(exports).filter((entry) => entry !== './package.json');
    const expected = entries.map((entry) => posix.join(name, entry));
    const rows = pages.get('/api/')!.html.matchAll(/<td><a href="[^"]+">([^<]+)<\/a><\/td>/g);
    expect([...rows].map(([, title]) => title)).toEqual(expected);
  });

  test.each([
    ['-lmdb', 'lmdbjournal'],
    ['-redis', 'redisjournal'],
    ['-postgres', 'postgresjournal'],
    ['-client', 'connect'],
    ['-react', 'usestream'],
  ])('the page sse-router%s has the anchor %s', (entry, id) => {
    expect(pages.get(`/api/sse-router${entry}`)!.ids).toContain(id);
  });

  test('has the functions and options of the main entry, and nothing that is marked as internal', () => {
    const ids = pages.get('/api/sse-router')!.ids;
    for (const id of ['sse', 'sseoptions', 'memoryjournal', 'connection', 'sseerror']) expect(ids).toContain(id);
    const lib = join(root, 'lib');
    const internal = readdirSync(lib, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => [
        ...readFileSync(join(lib, file), 'utf8').matchAll(
          /@internal[^\n]*\nexport (?:interface|class|function) (\w+)/g,
        ),
      ])
      .map(([, symbol]) => symbol!.toLowerCase());
    expect(internal).not.toEqual([]);
    const reference = [...pages.values()].filter(({ path }) => path.startsWith('/api/'));
    expect(internal.filter((symbol) => reference.some((page) => page.ids.has(symbol)))).toEqual([]);
  });
});

describe('in Chromium', () => {
  test('no page is wider than a phone or a desktop, and no page reports a problem', async () => {
    const page = await open('/');
    const wide: unknown[] = [];
    for (const path of pages.keys()) {
      await page.goto(path, { waitUntil: 'load' });
      await page.waitForFunction("document.querySelector('.diagram:not(:has(svg))') === null");
      for (const size of [DESKTOP, PHONE]) {
        await page.setViewportSize(size);
        const outside = await page.evaluate<string[]>(FIND_OUTSIDE);
        if (outside.length > 0) wide.push({ path, width: size.width, outside });
      }
    }
    expect(wide).toEqual([]);
    expect(problems).toEqual([]);
  });

  test('a wide table scrolls in itself on a phone', async () => {
    const page = await open('/errors', { viewport: PHONE, hasTouch: true });
    const table = page.locator('.vp-doc table').first();
    const hidden = await table.evaluate((element) => element.scrollWidth - element.clientWidth);
    expect(hidden).toBeGreaterThan(0);
    const reached = await table.evaluate((element) => {
      element.scrollLeft = 10_000;
      return element.scrollLeft;
    });
    expect(reached).toBe(hidden);
    expect(problems).toEqual([]);
  });

  test('the search finds a word of the text, on a desktop and on a phone', async () => {
    for (const viewport of [DESKTOP, PHONE]) {
      const page = await open('/', { viewport });
      await page.locator('#local-search button').click();
      await page.locator('#localsearch-input').fill('checkpoint');
      const results = page.locator('#localsearch-list a.result');
      await results.first().waitFor();
      expect(await results.count()).toBeGreaterThan(5);
      await results.first().click();
      await page.waitForURL((to) => to.pathname !== '/');
      await page.locator('.vp-doc', { hasText: 'checkpoint' }).waitFor();
      expect(problems).toEqual([]);
      await context.close();
    }
  });

  test('the search shows a guide first, and no page that is not for users', async () => {
    const page = await open('/');
    await page.locator('#local-search button').click();
    for (const words of ['heartbeat', 'stop button', 'express 4', '502', 'install']) {
      await page.locator('#localsearch-input').fill('');
      await page.locator('#localsearch-list a.result').first().waitFor({ state: 'detached' });
      await page.locator('#localsearch-input').fill(words);
      const results = page.locator('#localsearch-list a.result');
      await results.first().waitFor();
      const found = await results.evaluateAll((links) => links.map((link) => link.getAttribute('href')!));
      expect([words, found[0]]).not.toEqual([words, expect.stringMatching(/^\/(?:api|compatibility|\w+-comparison)/)]);
      expect(found.filter((to) => /^\/(?:results|architecture|contributing|changelog|skill)\b/.test(to))).toEqual([]);
    }
    expect(problems).toEqual([]);
  });

  test('the colours are those of the system until the reader changes them, and they stay after a reload', async () => {
    const brightness = (page: Page): Promise<number> =>
      page.evaluate(
        'getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)',
      );
    const page = await open('/guide', { colorScheme: 'dark' });
    expect(await brightness(page)).toBeLessThan(150);
    await page.locator(SWITCH).click();
    await page.waitForFunction("!document.documentElement.classList.contains('dark')");
    await page.reload();
    expect(await brightness(page)).toBeGreaterThan(700);
    expect(problems).toEqual([]);
  });

  test('each diagram is drawn, and again in the colours of the other theme', async () => {
    const sources = readdirSync(join(root, 'docs')).filter((file) => file.endsWith('.md'));
    const withDiagrams = sources
      .map((file) => ({ file, count: readFileSync(join(root, 'docs', file), 'utf8').split('```mermaid').length - 1 }))
      .filter(({ count }) => count > 0);
    expect(withDiagrams).not.toEqual([]);
    for (const { file, count } of withDiagrams) {
      const page = await open(`/${file.replace('.md', '')}`);
      const drawn = page.locator('.diagram svg');
      await drawn.nth(count - 1).waitFor();
      expect(await drawn.count()).toBe(count);
      expect(await page.locator('.diagram svg g text, .diagram svg foreignObject').count()).toBeGreaterThan(count);
      const before = await drawn.first().innerHTML();
      await page.locator(SWITCH).click();
      await page.waitForFunction(`document.querySelector('.diagram svg').innerHTML !== ${JSON.stringify(before)}`);
      expect(problems).toEqual([]);
      await context.close();
    }
  });
});

describe('below a path of its host', () => {
  let below: BuiltSite;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sse-router-site-'));
    below = await buildSite(BASE, folder);
  }, 300_000);
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('the build has the same pages, and every link stays below the path', () => {
    expect([...below.pages.keys()].toSorted()).toEqual(
      [...pages.keys()].map((path) => BASE + path.slice(1)).toSorted(),
    );
    expect(faultsOf(below)).toEqual([]);
  });

  test('every page and its pictures load, and the pages link to each other', async () => {
    const page = await open(BASE, {}, below);
    for (const path of below.pages.keys()) {
      await page.goto(path, { waitUntil: 'load' });
      await page.locator('.VPContent h1, .VPContent .name').first().waitFor();
      const broken = await page.evaluate<string[]>(
        '[...document.images].filter((image) => image.complete && image.naturalWidth === 0).map(({ src }) => src)',
      );
      expect([path, broken]).toEqual([path, []]);
    }
    await page.goto(BASE, { waitUntil: 'networkidle' });
    await page.locator('.VPHero .action a', { hasText: 'Guide' }).click();
    await page.waitForURL(`**${BASE}guide`);
    await page.locator('.VPSidebar a', { hasText: 'Proxies' }).click();
    await page.waitForURL(`**${BASE}proxies`);
    await page.locator('#local-search button').click();
    await page.locator('#localsearch-input').fill('snapshot');
    await page.locator('#localsearch-list a.result').first().click();
    await page.waitForURL((to) => !to.pathname.endsWith('/proxies') && to.pathname.startsWith(BASE));
    await page.locator('.vp-doc', { hasText: 'snapshot' }).waitFor();
    expect(problems).toEqual([]);
  });

  test('a path that is none is refused', async () => {
    await expect(buildSite('sse-router', folder)).rejects.toThrow(
      'DOCS_BASE must be a path such as /sse-router/; received "sse-router".',
    );
  });
});
