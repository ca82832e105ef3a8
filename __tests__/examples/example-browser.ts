/*
 * One Chromium for the tests of a file, and a context of its own for each test: its pages share storage and cookies.
 */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { clear } from './example-process.ts';
import { launchChromium } from '../fixtures/chromium.ts';

export interface ExampleBrowser {
  readonly context: BrowserContext;
  /** Errors of the pages of this test. */
  readonly complaints: string[];
  /** Opens an empty page whose errors become complaints. */
  newPage(): Promise<Page>;
}

/** Call it once, at the top of a file, before the hooks of the file itself. After each test, it ends the processes of the examples. */
export function exampleBrowser(): ExampleBrowser {
  let browser: Browser | undefined;
  let context: BrowserContext;
  let complaints: string[];
  beforeAll(async () => {
    browser = await launchChromium();
  }, 300_000); // Chromium may have to be unpacked, or installed
  afterAll(() => browser?.close());
  beforeEach(async () => {
    complaints = [];
    context = await browser!.newContext();
  });
  afterEach(async () => {
    await context.close();
    clear();
  });
  return {
    get context() {
      return context;
    },
    get complaints() {
      return complaints;
    },
    async newPage() {
      const page = await context.newPage();
      page.on('pageerror', (error) => complaints.push(error.message));
      return page;
    },
  };
}
