/*
 * What follow must do: everything once, in order, without a hole, or a restart.
 * Knows the scene only.
 * Invariant: see index.ts.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import type { Journal } from '../journal/journal.ts';
import { type Recorder, type Scene, entriesAfter, entryOf, fill, headOf, idsOf } from './harness.ts';

export const followCases: Record<string, (scene: Scene) => Promise<void>> = {
  'a follower is told the past, then what comes, whoever appends it': async ({ journal, other, recorder }) => {
    const floor = await headOf(journal);
    const ids = [...(await fill(journal, 3)), ...(await fill(other, 3))];
    const followers: Recorder[] = [];
    for (const from of [floor, ids[1]!, ids[5]!]) {
      for (const each of [journal, other]) {
        const follower = recorder();
        followers.push(follower);
        each.follow(from, follower);
      }
    }
    ids.push(...(await fill(other, 3)), ...(await fill(journal, 3)));
    for (const [n, follower] of followers.entries()) {
      await follower.hasTold(ids.slice([0, 2, 6][n >> 1]), `the entries told to follower ${n}`);
      strictEqual(follower.restarts.length, 0, 'nobody is restarted');
    }
  },

  'no hole and nothing twice while two handles append': async ({ journal, other, recorder }) => {
    const floor = await headOf(journal);
    const followers: { readonly from: string; readonly follower: Recorder }[] = [];
    const writers = [journal, other].map(async (each, w) => {
      for (let n = 0; n < 150; n++) {
        const id = await each.append(entryOf(`${w} ${n}`));
        if (n % 25 !== 0) continue;
        const follower = recorder(); // begins in the middle of it, on the entry that has just been stored
        followers.push({ from: id, follower });
        (n % 50 ? each : journal).follow(id, follower);
      }
    });
    await Promise.all(writers);
    await Promise.all(Array.from({ length: 50 }, () => journal.append(entryOf('burst'))));
    const log = idsOf(await entriesAfter(journal, floor));
    strictEqual(log.length, 350);
    for (const { from, follower } of followers) {
      await follower.hasTold(log.slice(log.indexOf(from) + 1), `the entries told after ${from}`);
    }
  },

  'an append from within a follower does not disturb the order': async ({ journal, other, recorder }) => {
    const floor = await headOf(journal);
    const [first, second, third] = [recorder(), recorder(), recorder()];
    const appended: Promise<string>[] = [];
    let left = 10;
    first.onEntry = () => {
      if (left-- > 0) appended.push(journal.append(entryOf('from within')), journal.append(entryOf('and again')));
    };
    journal.follow(floor, first);
    journal.follow(floor, second);
    other.follow(floor, third);
    await fill(journal, 3);
    await first.until(() => appended.length === 20, 'ten of the entries told');
    await Promise.all(appended);
    const log = idsOf(await entriesAfter(journal, floor));
    strictEqual(log.length, 23);
    for (const follower of [first, second, third]) await follower.hasTold(log);
  },

  'a follower on a trimmed position is restarted as lost, and goes on from there': async (scene) => {
    const { journal, other, recorder } = scene;
    const ids = await fill(journal, 6);
    await scene.trim(ids[3]!);
    for (const each of [journal, other]) {
      await restarted(scene, each, ids[1]!, 'lost');
      const follower = recorder();
      const head = await headOf(each);
      each.follow(head, follower);
      await follower.hasTold([await journal.append(entryOf('live'))], 'the entries told on a good position');
      strictEqual(follower.restarts.length, 0, 'a good position is gone on from');
    }
  },

  'a follower on an unknown position is restarted as unknown, and goes on from there': async (scene) => {
    const { journal, other } = scene;
    await fill(journal, 3);
    const foreign = await scene.foreignId(await headOf(journal));
    for (const each of [journal, other]) await restarted(scene, each, foreign, 'unknown');
  },

  'unfollow stops one follower at once, even in the middle of being told': async ({ journal, recorder }) => {
    const floor = await headOf(journal);
    const [gone, leaving, witness] = [recorder(), recorder(), recorder()];
    const unfollow = journal.follow(floor, gone);
    const [id] = await fill(journal, 1);
    await gone.hasTold([id!]);
    unfollow();
    unfollow();
    const stop: { leave?: () => void } = {};
    leaving.onEntry = () => stop.leave?.();
    stop.leave = journal.follow(id!, leaving);
    journal.follow(floor, witness);
    const ids = [id!, ...(await fill(journal, 3))];
    await witness.hasTold(ids);
    await gone.hasTold([id!], 'the entries told after unfollow');
    await leaving.until(() => leaving.told.length > 0, 'the first entry told to the one that leaves');
    strictEqual(leaving.told[0]?.id, ids[1], 'the one that leaves had been told the first');
    const told = leaving.told.length;
    await witness.hasTold([...ids, ...(await fill(journal, 2))]);
    strictEqual(leaving.told.length, told, 'and is told nothing more');
  },

  'the entries told are those that read gives': async ({ journal, recorder }) => {
    const floor = await headOf(journal);
    const follower = recorder();
    journal.follow(floor, follower);
    const to = ['a'];
    const ids: string[] = [];
    for (const text of ['x', 'y']) ids.push(await journal.append({ ...entryOf(text), to }));
    await follower.hasTold(ids);
    const plain = (entries: readonly { id: string; to?: readonly string[]; body: Uint8Array }[]) =>
      entries.map((entry) => ({ id: entry.id, to: entry.to, body: Buffer.from(entry.body).toString('hex') }));
    deepStrictEqual(plain(follower.told), plain(await entriesAfter(journal, floor)));
  },
};

/** Follows from a bad position: the restart's window and what is told after it must be the log, whole. */
async function restarted(scene: Scene, journal: Journal, from: string, reason: string): Promise<void> {
  const follower = scene.recorder();
  const writing = Promise.all(Array.from({ length: 20 }, () => scene.other.append(entryOf('meanwhile'))));
  const unfollow = journal.follow(from, follower);
  await follower.until(() => follower.restarts.length > 0, `the restart of a follower on ${from}`);
  await writing;
  const last = await scene.journal.append(entryOf('last'));
  await follower.until(() => follower.told.some(({ id }) => id === last), 'what comes after the restart');
  unfollow();
  deepStrictEqual(
    follower.restarts.map((restart) => restart.reason),
    [reason],
    'the reason of the one restart',
  );
  const { window } = follower.restarts[0]!;
  ok(journal.isId(window.floor), 'the floor of the restart’s window is an id');
  const head = window.entries.at(-1)?.id ?? window.floor;
  const since = follower.told.slice(window.entries.length);
  deepStrictEqual(idsOf(since), idsOf(await entriesAfter(journal, head)), 'what is told after the window has no hole');
  const log = (await journal.window(follower.told.length)).entries; // shorter than what was told if more has been trimmed
  deepStrictEqual(idsOf(follower.told.slice(-log.length)), idsOf(log), 'the window is the newest part of the log');
}
