import { conformance } from '../../lib/conformance/index.ts';
import type { Entry, Follower, Journal, NewEntry, ReadResult, JournalWindow } from '../../lib/journal/journal.ts';
import { memoryJournal } from '../../lib/journal/memory-journal.ts';

describe('the journal in memory', () => {
  for (const { name, run } of conformance(() => ({ journal: memoryJournal() }))) test(name, run);
});

describe('a journal in memory with a second handle and a trim of its own', () => {
  const make = () => {
    const journal = memoryJournal({ size: 1000 });
    const second: Journal = new Honest(journal);
    second.close = async () => {};
    const trim = async (id: string) => {
      while ((await journal.read(id, 0)).ok) await journal.append({ body: new Uint8Array(1) });
    };
    return { journal, trim, reopen: () => second };
  };
  // Closing the one closes the log of both here, so that case is not for this pair.
  for (const { name, run } of conformance(make)) if (!name.startsWith('close')) test(name, run);
});

test('a log that never lets go says what its harness lacks', async () => {
  const trimmed = conformance(() => ({ journal: memoryJournal({ size: Infinity }) })).find(({ name }) =>
    name.includes('trimmed is lost'),
  )!;
  await expect(trimmed.run()).rejects.toThrow(/give the harness a trim\(\)/);
});

/** Does everything by another journal. Each broken one below does one thing wrong. */
class Honest implements Journal {
  protected readonly inner: Journal;
  constructor(inner: Journal = memoryJournal()) {
    this.inner = inner;
  }
  open(): Promise<void> {
    return this.inner.open();
  }
  append(entry: NewEntry): Promise<string> {
    return this.inner.append(entry);
  }
  window(max: number): Promise<JournalWindow> {
    return this.inner.window(max);
  }
  read(after: string, limit: number): Promise<ReadResult> {
    return this.inner.read(after, limit);
  }
  follow(after: string, follower: Follower): () => void {
    return this.inner.follow(after, follower);
  }
  compare(a: string, b: string): number {
    return this.inner.compare(a, b);
  }
  isId(text: string): boolean {
    return this.inner.isId(text);
  }
  close(): Promise<void> {
    return this.inner.close();
  }
}

/** A follower whose batches pass through `change` on their way to another. */
function changed(follower: Follower, change: (batch: readonly Entry[]) => readonly Entry[]): Follower {
  return {
    entries: (batch) => {
      const left = change(batch);
      if (left.length > 0) follower.entries(left);
    },
    known: () => follower.known(),
    rewind: (id) => follower.rewind(id),
    restart: (window, reason) => follower.restart(window, reason),
  };
}

const broken: Record<string, new () => Journal> = {
  'tells every seventh entry to nobody': class extends Honest {
    override follow(after: string, follower: Follower) {
      return super.follow(
        after,
        changed(follower, (batch) => batch.filter(({ id }) => !/[07]$/.test(id))),
      );
    }
  },
  'tells an entry twice': class extends Honest {
    override follow(after: string, follower: Follower) {
      return super.follow(
        after,
        changed(follower, (batch) => (batch.length === 1 ? [...batch, ...batch] : batch)),
      );
    }
  },
  'tells a batch in the wrong order': class extends Honest {
    override follow(after: string, follower: Follower) {
      return super.follow(
        after,
        changed(follower, (batch) => [...batch].reverse()),
      );
    }
  },
  'tells a batch without entries': class extends Honest {
    override follow(after: string, follower: Follower) {
      const unfollow = super.follow(after, follower);
      follower.entries([]);
      return unfollow;
    }
  },
  'begins one too early': class extends Honest {
    override follow(after: string, follower: Follower) {
      const before = after.replace(/\d+$/, (n) => `${Math.max(0, Number(n) - 1)}`);
      return super.follow(before, follower);
    }
  },
  'has a gap between the past and the live': class extends Honest {
    override follow(after: string, follower: Follower) {
      let unfollow = () => {};
      void super.read(after, Infinity).then((past) => {
        if (past.ok && past.entries.length > 0) follower.entries(past.entries);
        setImmediate(async () => (unfollow = super.follow((await super.window(0)).floor, follower)));
      });
      return () => unfollow();
    }
  },
  'goes on at the head from a bad position, silently': class extends Honest {
    override follow(after: string, follower: Follower) {
      return super.follow(after, { entries: (b) => follower.entries(b), known: () => [], rewind() {}, restart() {} });
    }
  },
  'calls every bad position unknown to followers': class extends Honest {
    override follow(after: string, follower: Follower) {
      const told = changed(follower, (batch) => batch);
      return super.follow(after, { ...told, restart: (window) => follower.restart(window, 'unknown') });
    }
  },
  'restarts with an empty window': class extends Honest {
    override follow(after: string, follower: Follower) {
      const told = changed(follower, (batch) => batch);
      return super.follow(after, {
        ...told,
        restart: ({ floor }, reason) => follower.restart({ floor, entries: [] }, reason),
      });
    }
  },
  'goes on telling who has unfollowed': class extends Honest {
    override follow(after: string, follower: Follower) {
      super.follow(after, follower);
      return () => {};
    }
  },
  'never tells anything': class extends Honest {
    override follow() {
      return () => {};
    }
  },
  'compares ids as texts': class extends Honest {
    override compare(a: string, b: string) {
      return a < b ? -1 : a > b ? 1 : 0;
    }
  },
  'takes any text for an id': class extends Honest {
    override isId() {
      return true;
    }
  },
  'takes an id with a line break behind it': class extends Honest {
    override isId(text: string) {
      return super.isId(text.replace(/\n$/, ''));
    }
  },
  'refuses its own ids': class extends Honest {
    override isId(text: string) {
      return super.isId(text) && !text.endsWith('-0');
    }
  },
  'reads without verifying': class extends Honest {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      return result.ok ? result : { ok: true, entries: (await super.window(limit)).entries };
    }
  },
  'does not verify for limit 0': class extends Honest {
    override async read(after: string, limit: number): Promise<ReadResult> {
      return limit === 0 ? { ok: true, entries: [] } : super.read(after, limit);
    }
  },
  'calls what is trimmed unknown': class extends Honest {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      return result.ok ? result : { ok: false, reason: 'unknown' };
    }
  },
  'calls what is unknown lost': class extends Honest {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      return result.ok ? result : { ok: false, reason: 'lost' };
    }
  },
  'does not know its head as a position': class extends Honest {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, Infinity);
      if (result.ok && result.entries.length === 0) return { ok: false, reason: 'unknown' };
      return super.read(after, limit);
    }
  },
  'reads the position itself, too': class extends Honest {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      const all = (await super.window(Infinity)).entries;
      const self = all.filter(({ id }) => id === after);
      return result.ok ? { ok: true, entries: [...self, ...result.entries].slice(0, limit) } : result;
    }
  },
  'reads one more than the limit': class extends Honest {
    override read(after: string, limit: number) {
      return super.read(after, limit && limit + 1);
    }
  },
  'gives the oldest entries as the window': class extends Honest {
    override async window(max: number): Promise<JournalWindow> {
      const { floor, entries } = await super.window(Infinity);
      return { floor, entries: entries.slice(0, max) };
    }
  },
  'gives the first entry’s id as the floor': class extends Honest {
    override async window(max: number): Promise<JournalWindow> {
      const { floor, entries } = await super.window(max);
      return { floor: entries[0]?.id ?? floor, entries };
    }
  },
  'does not know a key': class extends Honest {
    override append({ key: _, ...entry }: NewEntry) {
      return super.append(entry);
    }
  },
  'takes a key for an id of what was appended last': class extends Honest {
    #seen = new Set<string>();
    override async append(entry: NewEntry): Promise<string> {
      if (entry.key !== undefined && this.#seen.has(entry.key)) return (await super.window(0)).floor;
      if (entry.key !== undefined) this.#seen.add(entry.key);
      return super.append({ ...entry, key: undefined });
    }
  },
  'forgets a key at once when two come together': class extends Honest {
    override async append(entry: NewEntry): Promise<string> {
      const { entries } = await super.window(Infinity);
      const key = entries.length > 5 ? undefined : entry.key;
      await new Promise(setImmediate);
      return super.append({ ...entry, key });
    }
  },
  'takes an empty list of channels for none': class extends Honest {
    override append({ to, ...entry }: NewEntry) {
      return super.append({ ...entry, to: to?.length ? to : undefined });
    }
  },
  'forgets whom to leave out': class extends Honest {
    override append({ except: _, ...entry }: NewEntry) {
      return super.append(entry);
    }
  },
  'keeps the caller’s own list': class extends Honest {
    override async append(entry: NewEntry): Promise<string> {
      await new Promise(setImmediate);
      return super.append(entry);
    }
  },
  'joins channels with commas': class extends Honest {
    override append(entry: NewEntry) {
      return super.append({ ...entry, to: entry.to && (entry.to.length ? entry.to.join(',').split(',') : []) });
    }
  },
  'makes text of the bodies': class extends Honest {
    override append(entry: NewEntry) {
      return super.append({ ...entry, body: Buffer.from(Buffer.from(entry.body).toString()) });
    }
  },
  'cuts large bodies': class extends Honest {
    override append(entry: NewEntry) {
      return super.append({ ...entry, body: entry.body.subarray(0, 65_535) });
    }
  },
  'resolves before the entry is in the log': class extends Honest {
    #n = 0;
    override async append(entry: NewEntry): Promise<string> {
      const { floor } = await super.window(0);
      setTimeout(() => super.append(entry).catch(() => {}), 20);
      return floor.replace(/\d+$/, `${++this.#n}`);
    }
  },
  'stores in the order of its own choice': class extends Honest {
    override async append(entry: NewEntry): Promise<string> {
      await new Promise((go) => setTimeout(go, entry.body.byteLength === 1 ? 2 : 0));
      return super.append(entry);
    }
  },
  'appends after close': class extends Honest {
    override async close() {}
  },
  'cannot be closed twice': class extends Honest {
    #closed = false;
    override async close() {
      if (this.#closed) throw new Error('closed');
      this.#closed = true;
      await super.close();
    }
  },
  'starts afresh when it is opened again': class extends Honest {
    #opened = 0;
    override async window(max: number): Promise<JournalWindow> {
      const window = await super.window(max);
      return this.#opened > 1 && max === 10 ? { ...window, entries: [] } : window;
    }
    override async open() {
      this.#opened++;
    }
  },
};

describe('a journal that is broken is found out: it', () => {
  test.each(Object.entries(broken))('%s', async (_name, Broken) => {
    let red = '';
    for (const { name, run } of conformance(() => ({ journal: new Broken() }), { patience: 150 })) {
      await run().catch(() => (red = name));
      if (red) break;
    }
    expect(red).not.toBe('');
  });

  test('and one that does everything by another is not', async () => {
    for (const { run } of conformance(() => ({ journal: new Honest() }))) await run();
  });
});
