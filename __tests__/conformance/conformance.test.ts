import { conformance, runStoreConformance } from '../../lib/conformance/index.ts';
import type { Entry, Follower, Journal, NewEntry, ReadResult, JournalWindow } from '../../lib/journal/journal.ts';
import { memoryJournal } from '../../lib/journal/memory-journal.ts';
import { memoryRuns } from '../../lib/runs/stores/memory-runs.ts';

describe('the journal in memory', () => {
  for (const { name, run } of conformance(() => ({ journal: memoryJournal() }))) test(name, run);
});

describe('a journal in memory, with a second handle and its own trim', () => {
  const make = () => {
    const journal = memoryJournal({ size: 1000 });
    const second: Journal = new Delegate(journal);
    second.close = async () => {};
    const trim = async (id: string) => {
      while ((await journal.read(id, 0)).ok) await journal.append({ body: new Uint8Array(1) });
    };
    return { journal, trim, reopen: () => second };
  };
  // Here, closing one handle closes the log of both, so the case about close does not apply.
  for (const { name, run } of conformance(make)) if (!name.startsWith('close')) test(name, run);
});

test('the error for a log that never trims names the missing function of its harness', async () => {
  const trimmed = conformance(() => ({ journal: memoryJournal({ size: Infinity }) })).find(({ name }) =>
    name.includes('trimmed is lost'),
  )!;
  await expect(trimmed.run()).rejects.toThrow(/Give the harness a trim\(\)/);
});

/** Delegates every call to another journal. Each broken journal below changes one thing. */
class Delegate implements Journal {
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

/** A follower that passes its batches through `change` to another follower. */
function withChangedBatches(follower: Follower, change: (batch: readonly Entry[]) => readonly Entry[]): Follower {
  return {
    entries: (batch) => {
      const entries = change(batch);
      if (entries.length > 0) follower.entries(entries);
    },
    known: () => follower.known(),
    rewind: (id) => follower.rewind(id),
    restart: (window, reason) => follower.restart(window, reason),
  };
}

const broken: Record<string, new () => Journal> = {
  'does not deliver every seventh entry': class extends Delegate {
    override follow(after: string, follower: Follower) {
      return super.follow(
        after,
        withChangedBatches(follower, (batch) => batch.filter(({ id }) => !/[07]$/.test(id))),
      );
    }
  },
  'delivers an entry twice': class extends Delegate {
    override follow(after: string, follower: Follower) {
      return super.follow(
        after,
        withChangedBatches(follower, (batch) => (batch.length === 1 ? [...batch, ...batch] : batch)),
      );
    }
  },
  'delivers a batch in the wrong order': class extends Delegate {
    override follow(after: string, follower: Follower) {
      return super.follow(
        after,
        withChangedBatches(follower, (batch) => [...batch].reverse()),
      );
    }
  },
  'delivers a batch without entries': class extends Delegate {
    override follow(after: string, follower: Follower) {
      const unfollow = super.follow(after, follower);
      follower.entries([]);
      return unfollow;
    }
  },
  'begins one entry too early': class extends Delegate {
    override follow(after: string, follower: Follower) {
      const before = after.replace(/\d+$/, (n) => `${Math.max(0, Number(n) - 1)}`);
      return super.follow(before, follower);
    }
  },
  'has a gap between the past entries and the new ones': class extends Delegate {
    override follow(after: string, follower: Follower) {
      let unfollow = () => {};
      void super.read(after, Infinity).then((past) => {
        if (past.ok && past.entries.length > 0) follower.entries(past.entries);
        setImmediate(async () => (unfollow = super.follow((await super.window(0)).floor, follower)));
      });
      return () => unfollow();
    }
  },
  'continues at the head from an invalid position, without a restart': class extends Delegate {
    override follow(after: string, follower: Follower) {
      return super.follow(after, { entries: (b) => follower.entries(b), known: () => [], rewind() {}, restart() {} });
    }
  },
  'restarts every follower on an invalid position as unknown': class extends Delegate {
    override follow(after: string, follower: Follower) {
      const inner = withChangedBatches(follower, (batch) => batch);
      return super.follow(after, { ...inner, restart: (window) => follower.restart(window, 'unknown') });
    }
  },
  'restarts with an empty window': class extends Delegate {
    override follow(after: string, follower: Follower) {
      const inner = withChangedBatches(follower, (batch) => batch);
      return super.follow(after, {
        ...inner,
        restart: ({ floor }, reason) => follower.restart({ floor, entries: [] }, reason),
      });
    }
  },
  'continues to deliver after unfollow': class extends Delegate {
    override follow(after: string, follower: Follower) {
      super.follow(after, follower);
      return () => {};
    }
  },
  'never delivers anything': class extends Delegate {
    override follow() {
      return () => {};
    }
  },
  'compares ids as text': class extends Delegate {
    override compare(a: string, b: string) {
      return a < b ? -1 : a > b ? 1 : 0;
    }
  },
  'accepts any text as an id': class extends Delegate {
    override isId() {
      return true;
    }
  },
  'accepts an id followed by a line break': class extends Delegate {
    override isId(text: string) {
      return super.isId(text.replace(/\n$/, ''));
    }
  },
  'rejects its own ids': class extends Delegate {
    override isId(text: string) {
      return super.isId(text) && !text.endsWith('-0');
    }
  },
  'reads without verifying the position': class extends Delegate {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      return result.ok ? result : { ok: true, entries: (await super.window(limit)).entries };
    }
  },
  'does not verify the position for limit 0': class extends Delegate {
    override async read(after: string, limit: number): Promise<ReadResult> {
      return limit === 0 ? { ok: true, entries: [] } : super.read(after, limit);
    }
  },
  'reports a trimmed position as unknown': class extends Delegate {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      return result.ok ? result : { ok: false, reason: 'unknown' };
    }
  },
  'reports an unknown position as lost': class extends Delegate {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      return result.ok ? result : { ok: false, reason: 'lost' };
    }
  },
  'rejects its head as a position': class extends Delegate {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, Infinity);
      if (result.ok && result.entries.length === 0) return { ok: false, reason: 'unknown' };
      return super.read(after, limit);
    }
  },
  'also returns the entry at the position': class extends Delegate {
    override async read(after: string, limit: number): Promise<ReadResult> {
      const result = await super.read(after, limit);
      const all = (await super.window(Infinity)).entries;
      const self = all.filter(({ id }) => id === after);
      return result.ok ? { ok: true, entries: [...self, ...result.entries].slice(0, limit) } : result;
    }
  },
  'returns one entry more than the limit': class extends Delegate {
    override read(after: string, limit: number) {
      return super.read(after, limit && limit + 1);
    }
  },
  'returns the oldest entries as the window': class extends Delegate {
    override async window(max: number): Promise<JournalWindow> {
      const { floor, entries } = await super.window(Infinity);
      return { floor, entries: entries.slice(0, max) };
    }
  },
  'returns the id of the first entry as the floor': class extends Delegate {
    override async window(max: number): Promise<JournalWindow> {
      const { floor, entries } = await super.window(max);
      return { floor: entries[0]?.id ?? floor, entries };
    }
  },
  'ignores keys': class extends Delegate {
    override append({ key: _, ...entry }: NewEntry) {
      return super.append(entry);
    }
  },
  'returns the id of the newest entry for a known key': class extends Delegate {
    #seen = new Set<string>();
    override async append(entry: NewEntry): Promise<string> {
      if (entry.key !== undefined && this.#seen.has(entry.key)) return (await super.window(0)).floor;
      if (entry.key !== undefined) this.#seen.add(entry.key);
      return super.append({ ...entry, key: undefined });
    }
  },
  'ignores a key if two appends are concurrent': class extends Delegate {
    override async append(entry: NewEntry): Promise<string> {
      const { entries } = await super.window(Infinity);
      const key = entries.length > 5 ? undefined : entry.key;
      await new Promise(setImmediate);
      return super.append({ ...entry, key });
    }
  },
  'treats an empty list of channels as no list': class extends Delegate {
    override append({ to, ...entry }: NewEntry) {
      return super.append({ ...entry, to: to?.length ? to : undefined });
    }
  },
  'ignores the excepted channels': class extends Delegate {
    override append({ except: _, ...entry }: NewEntry) {
      return super.append(entry);
    }
  },
  'keeps the caller’s own list': class extends Delegate {
    override async append(entry: NewEntry): Promise<string> {
      await new Promise(setImmediate);
      return super.append(entry);
    }
  },
  'joins channels with commas': class extends Delegate {
    override append(entry: NewEntry) {
      return super.append({ ...entry, to: entry.to && (entry.to.length ? entry.to.join(',').split(',') : []) });
    }
  },
  'converts bodies to text': class extends Delegate {
    override append(entry: NewEntry) {
      return super.append({ ...entry, body: Buffer.from(Buffer.from(entry.body).toString()) });
    }
  },
  'truncates large bodies': class extends Delegate {
    override append(entry: NewEntry) {
      return super.append({ ...entry, body: entry.body.subarray(0, 65_535) });
    }
  },
  'resolves before the entry is in the log': class extends Delegate {
    #n = 0;
    override async append(entry: NewEntry): Promise<string> {
      const { floor } = await super.window(0);
      setTimeout(() => super.append(entry).catch(() => {}), 20);
      return floor.replace(/\d+$/, `${++this.#n}`);
    }
  },
  'stores entries in another order than that of the calls': class extends Delegate {
    override async append(entry: NewEntry): Promise<string> {
      await new Promise((resolve) => setTimeout(resolve, entry.body.byteLength === 1 ? 2 : 0));
      return super.append(entry);
    }
  },
  'appends after close': class extends Delegate {
    override async close() {}
  },
  'cannot be closed twice': class extends Delegate {
    #closed = false;
    override async close() {
      if (this.#closed) throw new Error('closed');
      this.#closed = true;
      await super.close();
    }
  },
  'starts with an empty log when it is opened again': class extends Delegate {
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

describe('the suite fails for a journal that', () => {
  test.each(Object.entries(broken))('%s', async (_name, Broken) => {
    let failed = '';
    for (const { name, run } of conformance(() => ({ journal: new Broken() }), { patience: 150 })) {
      await run().catch(() => (failed = name));
      if (failed) break;
    }
    expect(failed).not.toBe('');
  });
});

test('the suite passes for a journal that delegates every call to a correct one', async () => {
  for (const { run } of conformance(() => ({ journal: new Delegate() }))) await run();
});

describe('the end of a case', () => {
  /** A harness whose journal and its second handle record their closes; `journal` overrides methods of the first one. */
  const recorded = (journal: Partial<Journal>, harness: { reopen?: () => Journal } = {}) => {
    const released: string[] = [];
    const handle = (name: string, methods: Partial<Journal>): Journal =>
      Object.assign(new Delegate(), {
        close: async () => {
          released.push(name);
          throw new Error(`${name} does not close`);
        },
        ...methods,
      });
    const make = () => ({
      journal: handle('journal', journal),
      reopen: () => handle('other', {}),
      cleanup: () => void released.push('cleanup'),
      ...harness,
    });
    return { released, run: () => conformance(make)[0]!.run() };
  };
  const fails = (message: string) => async () => {
    throw new Error(message);
  };

  test('the error of the case is reported, and every journal is closed, if a close fails as well', async () => {
    const { released, run } = recorded({ append: fails('the defect'), window: fails('the defect') });
    await expect(run()).rejects.toThrow('the defect');
    expect(released).toEqual(['journal', 'other', 'cleanup']);
  });

  test('a close that fails is an error of the case', async () => {
    const { released, run } = recorded({});
    await expect(run()).rejects.toThrow('does not close');
    expect(released).toEqual(['journal', 'other', 'cleanup']);
  });

  test('what was opened is closed if a handle cannot be opened', async () => {
    const first = recorded({ open: fails('cannot open') });
    await expect(first.run()).rejects.toThrow('cannot open');
    expect(first.released).toEqual(['cleanup']);
    const second = recorded(
      {},
      {
        reopen: () => {
          throw new Error('cannot reopen');
        },
      },
    );
    await expect(second.run()).rejects.toThrow('cannot reopen');
    expect(second.released).toEqual(['journal', 'cleanup']);
  });

  test('the same holds for a store of runs', async () => {
    const released: string[] = [];
    const store = memoryRuns();
    Object.assign(store, {
      begin: fails('the defect'),
      close: async () => {
        released.push('store');
        throw new Error('the store does not close');
      },
    });
    const [first] = runStoreConformance(() => ({ store, cleanup: () => void released.push('cleanup') }));
    await expect(first!.run()).rejects.toThrow('the defect');
    expect(released).toEqual(['store', 'cleanup']);
  });
});

describe('the arguments of the suites', () => {
  test.each<[unknown, unknown, string]>([
    [
      undefined,
      undefined,
      'The first argument of conformance() must be a function that returns a harness; received undefined. Pass a function, as in conformance(() => ({ journal: myJournal() })).',
    ],
    [() => {}, { patinece: 1 }, 'Did you mean patience?'],
    [
      () => {},
      null,
      'The second argument of conformance() must be a plain object such as { patience: 5000 }; received null.',
    ],
    [
      () => {},
      { patience: -1 },
      'patience must be an integer from 1 to 2147483647 (milliseconds); received the number -1.',
    ],
    [() => {}, { patience: 'x' }, 'received the string "x". Leave it out for 5,000 milliseconds.'],
  ])('%p and %p are refused at once', (make, options, message) => {
    const call = () => conformance(make as never, options as never);
    expect(call).toThrow(message);
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_SSE_OPTION' }));
    const callForRuns = () => runStoreConformance(make as never, options as never);
    expect(callForRuns).toThrow(message.replaceAll('conformance()', 'runStoreConformance()').split(' Pass')[0]);
  });

  test.each<[unknown, string]>([
    [
      undefined,
      'The harness that the function returns must be an object with a journal; received undefined. Return an object such as { journal: … }.',
    ],
    [
      {},
      'journal of the harness must be a journal with the methods open, append, window, read, follow, compare, isId, close; received undefined. Return it as { journal: … }.',
    ],
    [
      { journal: { open() {}, append() {} } },
      'received an object of Object. Add window, read, follow, compare, isId, close.',
    ],
    [
      { journal: memoryJournal(), reopen: () => 7 },
      'The journal that reopen() returns must be a journal with the methods',
    ],
  ])('the harness %p is refused by its case', async (harness, message) => {
    await expect(conformance((() => harness) as never)[0]!.run()).rejects.toThrow(message);
  });

  test('a harness without a store is refused by its case', async () => {
    await expect(runStoreConformance((() => ({ journal: 1 })) as never)[0]!.run()).rejects.toThrow(
      'store of the harness must be a store with the methods open, begin,',
    );
  });
});
