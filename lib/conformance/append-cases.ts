/*
 * The requirements for append, ids, open and close.
 */
import { deepStrictEqual, notStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import type { Entry, NewEntry } from '../journal/journal.ts';
import { type CaseContext, entriesAfter, entryOf, fill, headOf, idsOf } from './harness.ts';

const MEBIBYTE = 1024 * 1024;

export const appendCases: Record<string, (context: CaseContext) => Promise<void>> = {
  'ids pass isId, fit into a header and increase by compare': async ({ journal }) => {
    const ids = [await headOf(journal), ...(await fill(journal, 120))]; // over 9 → 10 and 99 → 100, where text order differs from number order
    for (const id of ids) {
      ok(journal.isId(id), `isId rejects ${id}`);
      ok(/^[\x21-\x7e]{1,128}$/.test(id), `${JSON.stringify(id)} is not printable ASCII of at most 128 characters`);
    }
    for (let a = 0; a < ids.length; a++) {
      for (const b of [a, a + 1, a + 7, a + 90]) {
        if (b >= ids.length) continue;
        strictEqual(Math.sign(journal.compare(ids[a]!, ids[b]!)), Math.sign(a - b), `compare: ${ids[a]} and ${ids[b]}`);
        strictEqual(Math.sign(journal.compare(ids[b]!, ids[a]!)), Math.sign(b - a), `compare: ${ids[b]} and ${ids[a]}`);
      }
    }
  },

  'isId rejects any text that is not an id': async ({ journal }) => {
    const [id] = await fill(journal, 1);
    const around = [`${id}\n`, `\n${id}`, ` ${id}`, `${id} `, `${id}\0`, `(${id}`, `${id},${id}`, `${id}ä`];
    const foreign = ['', ' ', '-', '+', '$', '>', '*', '?', '\0', '../..', 'no log’s id', 'x'.repeat(100_000)];
    for (const text of [...around, ...foreign]) {
      ok(!journal.isId(text), `isId accepts ${JSON.stringify(text.slice(0, 60))}`);
    }
  },

  'entries that are appended together are in the log in the order of the calls': async ({ journal }) => {
    const floor = await headOf(journal);
    const texts = Array.from({ length: 200 }, (_, n) => `${n}`);
    const ids = await Promise.all(texts.map((text) => journal.append(entryOf(text))));
    const entries = await entriesAfter(journal, floor);
    deepStrictEqual(idsOf(entries), ids, 'ids');
    deepStrictEqual(
      entries.map(({ body }) => new TextDecoder().decode(body)),
      texts,
      'bodies',
    );
  },

  'two handles that append at the same time produce one order, without duplicate ids': async ({ journal, other }) => {
    const floor = await headOf(journal);
    const byJournal: Promise<string>[] = [];
    const byOther: Promise<string>[] = [];
    for (let n = 0; n < 100; n++) {
      byJournal.push(journal.append(entryOf(`a${n}`)));
      byOther.push(other.append(entryOf(`b${n}`)));
    }
    const ids = [await Promise.all(byJournal), await Promise.all(byOther)];
    const log = idsOf(await entriesAfter(journal, floor));
    deepStrictEqual(idsOf(await entriesAfter(other, floor)), log, 'both handles return the same log');
    strictEqual(new Set(log).size, 200, 'each entry has its own id');
    for (const own of ids) {
      const set = new Set(own);
      const inLog = log.filter((id) => set.has(id));
      deepStrictEqual(inLog, own, 'each handle’s own entries keep their order');
    }
  },

  'an entry is in the log for both handles once its append has resolved': async ({ journal, other }) => {
    for (let n = 0; n < 20; n++) {
      const id = await journal.append(entryOf(`${n}`));
      strictEqual(await headOf(journal), id, 'the head of the handle that appended');
      strictEqual(await headOf(other), id, 'the head of the other handle');
    }
  },

  'bodies and channels are returned as they were appended': async ({ journal, other, recorder }) => {
    const floor = await headOf(journal);
    const follower = recorder();
    other.follow(floor, follower);
    const every = Uint8Array.from({ length: 256 }, (_, n) => n);
    const large = Uint8Array.from({ length: MEBIBYTE }, (_, n) => (n * 31 + (n >> 8)) & 255);
    const given: NewEntry[] = [
      { body: every },
      { body: new Uint8Array(0) },
      { body: large },
      { body: Buffer.from('xxevent: ä€😀\ndata: 1\n\nxx').subarray(2, -2) },
      { body: every, to: [] },
      { body: every, to: ['b', 'a'], except: ['c'] },
      { body: every, except: [] },
      { body: every, to: ['räume/1', '', 'a,b', 'c\nd', '"', '\u0000', '__proto__', '😀'] },
    ];
    const ids: string[] = [];
    for (const entry of given) ids.push(await journal.append(entry));
    await follower.hasReceived(ids);
    const views: Record<string, readonly Entry[]> = {
      'read()': await entriesAfter(other, floor),
      'window()': (await journal.window(given.length)).entries,
      'a follower': follower.received,
    };
    for (const [view, entries] of Object.entries(views)) {
      strictEqual(entries.length, given.length, `${view}: the number of entries`);
      for (const [n, { to, except, body }] of given.entries()) {
        deepStrictEqual(entries[n]!.to, to, `${view}: \`to\` of entry ${n}`);
        deepStrictEqual(entries[n]!.except, except, `${view}: \`except\` of entry ${n}`);
        ok(Buffer.compare(entries[n]!.body, body) === 0, `${view}: the body of entry ${n}`);
      }
    }
  },

  'channels are copied: a later change of the caller’s list has no effect': async ({ journal }) => {
    const [to, except] = [['a'], ['b']];
    const appended = journal.append({ ...entryOf('x'), to, except });
    to.push('c');
    except.length = 0;
    await appended;
    const [entry] = (await journal.window(1)).entries;
    deepStrictEqual([entry!.to, entry!.except], [['a'], ['b']]);
  },

  'an entry with a key is stored once, whichever handle appends it again': async ({ journal, other }) => {
    const floor = await headOf(journal);
    for (const key of ['order 1', '', 'ä€😀', 'k'.repeat(5000), '__proto__']) {
      const id = await journal.append({ ...entryOf('first'), key });
      await journal.append(entryOf('first'));
      strictEqual(await journal.append({ ...entryOf('again'), key }), id, 'the same handle returns the first id');
      strictEqual(await other.append({ ...entryOf('again'), key }), id, 'the other handle returns it too');
    }
    const concurrent = await Promise.all(
      [journal, other, journal].map((each) => each.append({ ...entryOf('first'), key: 'race' })),
    );
    strictEqual(new Set(concurrent).size, 1, 'of three concurrent appends one is stored');
    notStrictEqual(
      await journal.append({ ...entryOf('first'), key: 'race 2' }),
      concurrent[0],
      'another key stores another entry',
    );
    const bodies = (await entriesAfter(journal, floor)).map(({ body }) => new TextDecoder().decode(body));
    deepStrictEqual(
      bodies,
      Array.from({ length: 12 }, () => 'first'),
    );
  },

  'open is idempotent': async ({ journal }) => {
    await Promise.all([journal.open(), journal.open()]);
    const ids = await fill(journal, 2);
    await journal.open();
    deepStrictEqual(idsOf((await journal.window(10)).entries), ids);
  },

  'close stores the appends that were called before it': async ({ journal, other, shared }) => {
    const floor = await headOf(journal);
    const appended = Promise.all(Array.from({ length: 50 }, (_, n) => journal.append(entryOf(`${n}`))));
    appended.catch(() => {}); // awaited below
    await journal.close();
    const ids = await appended;
    if (shared) deepStrictEqual(idsOf(await entriesAfter(other, floor)), ids, 'the log after the close');
  },

  'close is idempotent; a closed journal rejects appends and delivers nothing': async ({
    journal,
    other,
    shared,
    recorder,
  }) => {
    const floor = await headOf(journal);
    const [follower, witness] = [recorder(), recorder()];
    journal.follow(floor, follower);
    const [id] = await fill(journal, 1);
    await follower.hasReceived([id!]);
    await Promise.all([journal.close(), journal.close()]);
    await journal.close();
    await rejects(journal.append(entryOf('late')), { code: 'ERR_SSE_CLOSED' }, 'append after close');
    if (!shared) return;
    other.follow(floor, witness);
    const next = await other.append(entryOf('2')); // the other handle is not affected
    await witness.hasReceived([id!, next]);
    await follower.hasReceived([id!], 'the entries received from a closed journal');
  },
};
