/*
 * The context of one case: a journal, a second handle on its log, and followers that record what they receive.
 * Invariant: every journal that is opened here is a resource of the case, so it is closed at its end, whether it passed or not.
 */
import { AssertionError, deepStrictEqual, ok } from 'node:assert/strict';
import type { Entry, Follower, Journal, NewEntry, ResetReason, JournalWindow } from '../journal/journal.ts';
import { type CaseResources, checkHandle, checkHarness } from './case-resources.ts';
import type { Harness } from './index.ts';

const MAX_FILL = 11_000;
const FILL_STEP = 256;

/** A follower that records what it receives. A case can wait for an entry. */
export class Recorder implements Follower {
  /** All entries received since the last restart, including the window of that restart. */
  received: Entry[] = [];
  readonly restarts: { readonly window: JournalWindow; readonly reason: ResetReason }[] = [];
  /** Called for each entry during its delivery. */
  onEntry: (entry: Entry) => void = () => {};
  emptyBatches = 0;
  #onChange: () => void = () => {};
  readonly #timeoutMs: number;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  entries(batch: readonly Entry[]): void {
    if (batch.length === 0) this.emptyBatches++;
    this.received.push(...batch);
    this.#onChange();
    for (const entry of batch) this.onEntry(entry);
  }

  known(): Iterable<string> {
    return this.received.map((entry) => entry.id).reverse();
  }

  rewind(id: string): void {
    this.received = this.received.slice(0, this.received.findIndex((entry) => entry.id === id) + 1);
  }

  restart(window: JournalWindow, reason: ResetReason): void {
    this.restarts.push({ window, reason });
    this.received = [...window.entries];
    this.#onChange();
  }

  /** Resolves when `condition` is true; rejects if it does not become true in time. */
  async until(condition: () => boolean, what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      this.#onChange = () => void (condition() && resolve());
      const onTimeout = () => reject(new AssertionError({ message: `${what}: not within ${this.#timeoutMs} ms` }));
      timer = setTimeout(onTimeout, this.#timeoutMs);
      this.#onChange();
    }).finally(() => clearTimeout(timer));
    ok(this.emptyBatches === 0, 'a batch without entries was delivered');
  }

  /** Waits for the last of these entries, then requires that exactly these have been received, in this order. */
  async hasReceived(ids: readonly string[], what = 'the entries received'): Promise<void> {
    const last = ids.at(-1);
    if (last !== undefined)
      await this.until(() => this.received.some(({ id }) => id === last), `${what}: the last, ${last}`);
    deepStrictEqual(
      this.received.map((entry) => entry.id),
      ids,
      `${what} are not those of the log`,
    );
  }
}

/** What one case works with. */
export interface CaseContext {
  readonly journal: Journal;
  /** The second handle on the same log; `journal` itself if the harness has none. */
  readonly other: Journal;
  /** Whether {@link CaseContext.other} is a handle of its own. */
  readonly shared: boolean;
  /** Returns an id of an unrelated log, larger than `head`: logs whose ids are times may both contain smaller ids. */
  readonly foreignId: (head: string) => Promise<string>;
  readonly recorder: () => Recorder;
  /** Trims `id` and all entries before it. */
  readonly trim: (id: string) => Promise<void>;
}

const METHODS: readonly (keyof Journal)[] = ['open', 'append', 'window', 'read', 'follow', 'compare', 'isId', 'close'];

/** Creates the context of a case, with all handles open. */
export async function createContext(
  make: () => Harness | Promise<Harness>,
  timeoutMs: number,
  resources: CaseResources,
): Promise<CaseContext> {
  const makeHarness = async (): Promise<Harness> => {
    const harness = await make();
    if (typeof harness === 'object' && harness !== null) resources.addCleanup(harness);
    checkHarness(harness, 'journal', METHODS);
    await resources.open(harness.journal, () => harness.journal.open());
    return harness;
  };
  const harness = await makeHarness();
  const { journal } = harness;
  const other = (await harness.reopen?.()) ?? journal;
  checkHandle('The journal that reopen() returns', other, 'journal', METHODS);
  await resources.open(other, () => other.open());
  return {
    journal,
    other,
    shared: other !== journal,
    async foreignId(head) {
      const unrelated = await makeHarness();
      for (let n = 0; n < 1000; n++) {
        const id = await unrelated.journal.append(entryOf('foreign'));
        if (journal.compare(id, head) > 0) return id;
      }
      throw new AssertionError({ message: 'compare: a thousand ids of another log are all before this log’s head' });
    },
    recorder: () => new Recorder(timeoutMs),
    trim: async (id) => (harness.trim ? harness.trim(id) : fillUntilTrimmed(journal, id)),
  };
}

async function fillUntilTrimmed(journal: Journal, id: string): Promise<void> {
  for (let filled = 0; filled < MAX_FILL; filled += FILL_STEP) {
    if (!(await journal.read(id, 0)).ok) return;
    await Promise.all(Array.from({ length: FILL_STEP }, () => journal.append({ body: new Uint8Array(1) })));
  }
  throw new Error(
    `conformance: ${id} must be trimmed after ${MAX_FILL} more entries; it is still in the log. Give the harness a trim().`,
  );
}

/** Creates an entry with this text as its body. */
export function entryOf(text: string): NewEntry {
  return { body: new TextEncoder().encode(text) };
}

/** Appends entries one after the other, with numbers as bodies. Returns their ids. */
export async function fill(journal: Journal, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 1; n <= count; n++) ids.push(await journal.append(entryOf(`${n}`)));
  return ids;
}

/** Returns the id of the newest entry, or of the first position of an empty log. */
export async function headOf(journal: Journal): Promise<string> {
  const { floor, entries } = await journal.window(1);
  return entries.at(-1)?.id ?? floor;
}

/** Returns all entries after a position, which must be valid. */
export async function entriesAfter(journal: Journal, id: string, limit = 100_000): Promise<readonly Entry[]> {
  const result = await journal.read(id, limit);
  ok(result.ok, `read() rejects the position ${id}, which is in the log`);
  return result.entries;
}

/** Returns the ids of these entries. */
export function idsOf(entries: readonly Entry[]): string[] {
  return entries.map((entry) => entry.id);
}
