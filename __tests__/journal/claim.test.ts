/*
 * A journal belongs to one router: `sse()` refuses a second router for it until the first one has closed.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { memoryJournal, sse, type Journal, type SseRouter } from '../../lib/index.ts';
import { lmdbJournal } from '../../lib/journal/lmdb/index.ts';
import { asInAnotherProcess } from '../fixtures/another-process.ts';
import { later } from '../fixtures/support.ts';

const refusal = expect.objectContaining({
  name: 'TypeError',
  code: 'ERR_SSE_OPTION',
  message: expect.stringMatching(/^history must be a journal that no other router uses.*await events\.close\(\)/),
});

function router(history: Journal): SseRouter {
  const events = sse({ history });
  later(() => events.close());
  return events;
}

function errorOf(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return error;
  }
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'sse-router-claim-'));
  later(() => rmSync(path, { recursive: true }));
  return path;
}

test('one journal object for two routers is refused, and the first router works', async () => {
  const journal = memoryJournal();
  const events = router(journal);
  expect(errorOf(() => sse({ history: journal }))).toEqual(refusal);
  expect(errorOf(() => sse(() => {}, { history: journal }))).toEqual(refusal);
  await expect(events.broadcast('x')).resolves.toMatch(/-1$/);
});

test('one LMDB path for two routers is refused, however it is written, until the first router has closed', async () => {
  const path = folder();
  const link = join(path, 'link');
  mkdirSync(join(path, 'data'));
  symlinkSync('data', link);
  const log = join(path, 'data', 'log'); // it does not exist before the first router opens it
  const events = router(lmdbJournal(log, { sync: false }));
  for (const same of [log, `${log}/`, join(link, 'log'), relative(process.cwd(), log)]) {
    expect(errorOf(() => sse({ history: lmdbJournal(same) }))).toEqual(refusal);
  }
  expect(errorOf(() => sse({ history: lmdbJournal(log) }))).toMatchObject({ message: expect.stringContaining(log) });
  router(lmdbJournal(join(path, 'data', 'other'), { sync: false }));

  const closing = events.close();
  expect(errorOf(() => sse({ history: lmdbJournal(log) }))).toEqual(refusal);
  await closing;
  const next = router(lmdbJournal(log, { sync: false }));
  await expect(next.broadcast('x')).resolves.toMatch(/-1$/);
});

test('an invalid option claims nothing', () => {
  const journal = memoryJournal();
  expect(() => sse({ history: journal, retry: -1 })).toThrow('retry');
  expect(router(journal).size).toBe(0);
});

test('two journals on one log, as two processes have them, are allowed; only sse() claims, not open()', async () => {
  const path = folder();
  const make = () => lmdbJournal(path, { sync: false });
  const [plain, other] = [make(), make()];
  await Promise.all([plain.open(), other.open()]);
  const [one, two] = [router(make()), router(asInAnotherProcess(make()))];
  await one.broadcast('x');
  await expect(two.broadcast('y')).resolves.toMatch(/-2$/);
  await Promise.all([plain.close(), other.close()]);
});

test('routers without a journal of the application, and unrelated journals, are independent', () => {
  for (const history of [undefined, false, { size: 1 }, memoryJournal(), memoryJournal()] as const) {
    const events = sse({ history });
    later(() => events.close());
  }
});
