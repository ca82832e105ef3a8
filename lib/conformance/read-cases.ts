/*
 * The requirements for read and window. The most important one: a position that is not in the log is never valid.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { type CaseContext, entriesAfter, entryOf, fill, headOf, idsOf } from './harness.ts';

export const readCases: Record<string, (context: CaseContext) => Promise<void>> = {
  'an empty log has a first position': async ({ journal, other }) => {
    const { floor, entries } = await journal.window(10);
    deepStrictEqual(entries, [], 'an empty log has no entries');
    ok(journal.isId(floor), `isId rejects the first position, ${floor}`);
    strictEqual((await other.window(0)).floor, floor, 'all handles return the same one');
    deepStrictEqual(await entriesAfter(journal, floor), []);
    const ids = await fill(journal, 2);
    deepStrictEqual(idsOf(await entriesAfter(journal, floor)), ids, 'it stays valid when entries are appended');
    strictEqual((await journal.window(10)).floor, floor);
    ok(journal.compare(floor, ids[0]!) < 0, 'it is before the first entry');
  },

  'the window has the newest entries, and its floor is the position before them': async ({ journal }) => {
    const first = await headOf(journal);
    const ids = [first, ...(await fill(journal, 20))];
    for (const max of [0, 1, 7, 20, 21, 1000]) {
      const { floor, entries } = await journal.window(max);
      deepStrictEqual(idsOf(entries), ids.slice(1).slice(Math.max(0, 20 - max)), `the entries of window(${max})`);
      strictEqual(floor, ids[Math.max(0, 20 - max)], `the floor of window(${max})`);
      deepStrictEqual(idsOf(await entriesAfter(journal, floor)), idsOf(entries), `the entries after the floor`);
    }
  },

  'read returns the entries after each position, at most `limit`': async ({ journal, other }) => {
    const ids = [await headOf(journal), ...(await fill(journal, 12))];
    for (const [n, id] of ids.entries()) {
      for (const limit of [0, 1, 5, 100]) {
        const got = idsOf(await entriesAfter(n % 2 ? journal : other, id, limit));
        deepStrictEqual(got, ids.slice(n + 1, n + 1 + limit), `read(${id}, ${limit})`);
      }
    }
  },

  'a position that was never in the log is unknown': async ({ journal, other, foreignId }) => {
    const [id] = await fill(journal, 5);
    const head = await headOf(journal);
    const foreign = await foreignId(head);
    for (const limit of [0, 10]) {
      for (const each of [journal, other]) {
        deepStrictEqual(
          await each.read(foreign, limit),
          { ok: false, reason: 'unknown' },
          `read(${foreign}, ${limit})`,
        );
      }
    }
    ok((await journal.read(id!, 0)).ok, 'a position that is in the log is valid');
  },

  'a position that has been trimmed is lost; the remaining positions and the head are valid': async (context) => {
    const { journal, other } = context;
    const floor = await headOf(journal);
    const ids = await fill(journal, 9);
    const trimmedUpTo = ids[4]!;
    await context.trim(trimmedUpTo);
    for (const each of [journal, other]) {
      for (const id of [floor, ...ids.slice(0, 5)]) {
        for (const limit of [0, 10]) {
          deepStrictEqual(await each.read(id, limit), { ok: false, reason: 'lost' }, `read(${id}, ${limit})`);
        }
      }
      const { entries } = await each.window(100_000);
      for (const [n, { id }] of entries.entries()) {
        deepStrictEqual(idsOf(await entriesAfter(each, id, 3)), idsOf(entries.slice(n + 1, n + 4)), `read(${id}, 3)`);
      }
      deepStrictEqual(await entriesAfter(each, await headOf(each)), [], 'the head is valid');
    }
    const next = await journal.append(entryOf('next'));
    strictEqual(await headOf(other), next, 'the log continues');
    ok(journal.compare(trimmedUpTo, next) < 0, 'its ids keep increasing');
  },

  'a key whose entry has been trimmed may be used again': async (context) => {
    const { journal } = context;
    const id = await journal.append({ ...entryOf('first'), key: 'k' });
    await journal.append(entryOf('newer'));
    await context.trim(id);
    const again = await journal.append({ ...entryOf('second'), key: 'k' });
    // A journal may keep a key longer than its entry, as Redis does with an expiry per key. It must not return another entry's id.
    ok(again === id || again === (await headOf(journal)), `${again} is neither the first id nor the new one`);
  },
};
