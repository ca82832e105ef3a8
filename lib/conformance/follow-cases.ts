/*
 * The requirements for follow: deliver every entry once, in order, without a gap, or restart the follower.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import type { Journal } from '../journal/journal.ts';
import { type CaseContext, type Recorder, entriesAfter, entryOf, fill, headOf, idsOf } from './harness.ts';

export const followCases: Record<string, (context: CaseContext) => Promise<void>> = {
  'a follower receives the past entries, then the new ones, whichever handle appends them': async ({
    journal,
    other,
    recorder,
  }) => {
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
      await follower.hasReceived(ids.slice([0, 2, 6][n >> 1]), `the entries received by follower ${n}`);
      strictEqual(follower.restarts.length, 0, 'no follower is restarted');
    }
  },

  'no gap and no duplicate while two handles append': async ({ journal, other, recorder }) => {
    const floor = await headOf(journal);
    const followers: { readonly from: string; readonly follower: Recorder }[] = [];
    const writers = [journal, other].map(async (each, w) => {
      for (let n = 0; n < 150; n++) {
        const id = await each.append(entryOf(`${w} ${n}`));
        if (n % 25 !== 0) continue;
        const follower = recorder(); // begins in between, at the entry that has just been stored
        followers.push({ from: id, follower });
        (n % 50 ? each : journal).follow(id, follower);
      }
    });
    await Promise.all(writers);
    await Promise.all(Array.from({ length: 50 }, () => journal.append(entryOf('burst'))));
    const log = idsOf(await entriesAfter(journal, floor));
    strictEqual(log.length, 350);
    for (const { from, follower } of followers) {
      await follower.hasReceived(log.slice(log.indexOf(from) + 1), `the entries received after ${from}`);
    }
  },

  'an append from within a follower does not change the order': async ({ journal, other, recorder }) => {
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
    await first.until(() => appended.length === 20, 'ten received entries');
    await Promise.all(appended);
    const log = idsOf(await entriesAfter(journal, floor));
    strictEqual(log.length, 23);
    for (const follower of [first, second, third]) await follower.hasReceived(log);
  },

  'a follower on a trimmed position is restarted as lost, and continues from there': async (context) => {
    const { journal, other, recorder } = context;
    const ids = await fill(journal, 6);
    await context.trim(ids[3]!);
    for (const each of [journal, other]) {
      await checkRestart(context, each, ids[1]!, 'lost');
      const follower = recorder();
      const head = await headOf(each);
      each.follow(head, follower);
      await follower.hasReceived(
        [await journal.append(entryOf('live'))],
        'the entries received after a valid position',
      );
      strictEqual(follower.restarts.length, 0, 'delivery continues from a valid position');
    }
  },

  'a follower on an unknown position is restarted as unknown, and continues from there': async (context) => {
    const { journal, other } = context;
    await fill(journal, 3);
    const foreign = await context.foreignId(await headOf(journal));
    for (const each of [journal, other]) await checkRestart(context, each, foreign, 'unknown');
  },

  'unfollow stops one follower at once, even during a delivery': async ({ journal, recorder }) => {
    const floor = await headOf(journal);
    const [stopped, stopping, witness] = [recorder(), recorder(), recorder()];
    const unfollow = journal.follow(floor, stopped);
    const [id] = await fill(journal, 1);
    await stopped.hasReceived([id!]);
    unfollow();
    unfollow();
    const handle: { unfollow?: () => void } = {};
    stopping.onEntry = () => handle.unfollow?.();
    handle.unfollow = journal.follow(id!, stopping);
    journal.follow(floor, witness);
    const ids = [id!, ...(await fill(journal, 3))];
    await witness.hasReceived(ids);
    await stopped.hasReceived([id!], 'the entries received after unfollow');
    await stopping.until(() => stopping.received.length > 0, 'the first entry of the follower that stops');
    strictEqual(stopping.received[0]?.id, ids[1], 'the follower that stops has received the first entry');
    const { length } = stopping.received;
    await witness.hasReceived([...ids, ...(await fill(journal, 2))]);
    strictEqual(stopping.received.length, length, 'the follower that stopped receives nothing more');
  },

  'a follower receives the same entries that read returns': async ({ journal, recorder }) => {
    const floor = await headOf(journal);
    const follower = recorder();
    journal.follow(floor, follower);
    const to = ['a'];
    const ids: string[] = [];
    for (const text of ['x', 'y']) ids.push(await journal.append({ ...entryOf(text), to }));
    await follower.hasReceived(ids);
    const plain = (entries: readonly { id: string; to?: readonly string[]; body: Uint8Array }[]) =>
      entries.map((entry) => ({ id: entry.id, to: entry.to, body: Buffer.from(entry.body).toString('hex') }));
    deepStrictEqual(plain(follower.received), plain(await entriesAfter(journal, floor)));
  },
};

/** Follows from an invalid position. The window of the restart and the entries after it must be the complete log. */
async function checkRestart(context: CaseContext, journal: Journal, from: string, reason: string): Promise<void> {
  const follower = context.recorder();
  const writing = Promise.all(Array.from({ length: 20 }, () => context.other.append(entryOf('meanwhile'))));
  const unfollow = journal.follow(from, follower);
  await follower.until(() => follower.restarts.length > 0, `the restart of a follower on ${from}`);
  await writing;
  const last = await context.journal.append(entryOf('last'));
  await follower.until(() => follower.received.some(({ id }) => id === last), 'the entries after the restart');
  unfollow();
  deepStrictEqual(
    follower.restarts.map((restart) => restart.reason),
    [reason],
    'the reason of the one restart',
  );
  const { window } = follower.restarts[0]!;
  ok(journal.isId(window.floor), 'the floor of the restart’s window is an id');
  const head = window.entries.at(-1)?.id ?? window.floor;
  const since = follower.received.slice(window.entries.length);
  deepStrictEqual(
    idsOf(since),
    idsOf(await entriesAfter(journal, head)),
    'the entries received after the window have no gap',
  );
  const log = (await journal.window(follower.received.length)).entries; // shorter than what was received if more has been trimmed
  deepStrictEqual(idsOf(follower.received.slice(-log.length)), idsOf(log), 'the window is the newest part of the log');
}
