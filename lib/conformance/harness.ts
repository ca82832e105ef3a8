/*
 * What a case plays with: a journal, a second handle on its log, followers that write down what they are told.
 * Knows the contract; the cases know only this.
 * Invariant: whatever was opened here is closed at the end of the case, whether it passed or not.
 */
import { AssertionError, deepStrictEqual, ok } from 'node:assert/strict';
import type { Entry, Follower, Journal, NewEntry, ResetReason, JournalWindow } from '../journal/journal.ts';
import type { Harness } from './index.ts';

const FILL_AT_MOST = 11_000;
const FILL_STEP = 256;

/** A follower that writes down what it is told, and whom one can wait for. */
export class Recorder implements Follower {
  /** All entries told since the last restart, the window of that restart included. */
  told: Entry[] = [];
  readonly restarts: { readonly window: JournalWindow; readonly reason: ResetReason }[] = [];
  /** Called for each entry, while it is being told. */
  onEntry: (entry: Entry) => void = () => {};
  emptyBatches = 0;
  #changed: () => void = () => {};
  readonly #patience: number;

  constructor(patience: number) {
    this.#patience = patience;
  }

  entries(batch: readonly Entry[]): void {
    if (batch.length === 0) this.emptyBatches++;
    this.told.push(...batch);
    this.#changed();
    for (const entry of batch) this.onEntry(entry);
  }

  known(): Iterable<string> {
    return this.told.map((entry) => entry.id).reverse();
  }

  rewind(id: string): void {
    this.told = this.told.slice(0, this.told.findIndex((entry) => entry.id === id) + 1);
  }

  restart(window: JournalWindow, reason: ResetReason): void {
    this.restarts.push({ window, reason });
    this.told = [...window.entries];
    this.#changed();
  }

  /** Settles when `happened` is true; rejects when it is not so in time. */
  async until(happened: () => boolean, what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      this.#changed = () => void (happened() && resolve());
      const late = () => reject(new AssertionError({ message: `${what}: not within ${this.#patience} ms` }));
      timer = setTimeout(late, this.#patience);
      this.#changed();
    }).finally(() => clearTimeout(timer));
    ok(this.emptyBatches === 0, 'a batch without entries was told');
  }

  /** Waits for the entry `id`, then requires that exactly these have been told, in this order. */
  async hasTold(ids: readonly string[], what = 'the entries told'): Promise<void> {
    const last = ids.at(-1);
    if (last !== undefined)
      await this.until(() => this.told.some(({ id }) => id === last), `${what}: the last, ${last}`);
    deepStrictEqual(
      this.told.map((entry) => entry.id),
      ids,
      `${what} are not those of the log`,
    );
  }
}

/** The stage of one case. */
export interface Scene {
  readonly journal: Journal;
  /** The second handle on the same log; `journal` itself when the harness has none. */
  readonly other: Journal;
  /** Whether {@link Scene.other} is a handle of its own. */
  readonly shared: boolean;
  /** An id of a log that has nothing to do with this one, beyond `head`: logs whose ids are times may share smaller ones. */
  readonly foreignId: (head: string) => Promise<string>;
  readonly recorder: () => Recorder;
  /** Makes `id` and all before it leave the log. */
  readonly trim: (id: string) => Promise<void>;
  readonly end: () => Promise<void>;
}

/** Sets the stage: all handles are open. */
export async function startScene(make: () => Harness | Promise<Harness>, patience: number): Promise<Scene> {
  const harness = await make();
  const { journal } = harness;
  const journals = new Set([journal]);
  const harnesses = [harness];
  await journal.open();
  const other = (await harness.reopen?.()) ?? journal;
  journals.add(other);
  await other.open();
  return {
    journal,
    other,
    shared: other !== journal,
    async foreignId(head) {
      const stranger = await make();
      harnesses.push(stranger);
      journals.add(stranger.journal);
      await stranger.journal.open();
      for (let n = 0; n < 1000; n++) {
        const id = await stranger.journal.append(entryOf('foreign'));
        if (journal.compare(id, head) > 0) return id;
      }
      throw new AssertionError({ message: 'compare: a thousand ids of another log are all before this log’s head' });
    },
    recorder: () => new Recorder(patience),
    trim: async (id) => (harness.trim ? harness.trim(id) : fillUntilGone(journal, id)),
    async end() {
      for (const each of journals) await each.close();
      for (const each of harnesses) await each.cleanup?.();
    },
  };
}

async function fillUntilGone(journal: Journal, id: string): Promise<void> {
  for (let filled = 0; filled < FILL_AT_MOST; filled += FILL_STEP) {
    if (!(await journal.read(id, 0)).ok) return;
    await Promise.all(Array.from({ length: FILL_STEP }, () => journal.append({ body: new Uint8Array(1) })));
  }
  throw new Error(`conformance: ${FILL_AT_MOST} entries later, ${id} is still in the log: give the harness a trim()`);
}

/** An entry whose body is this text. */
export function entryOf(text: string): NewEntry {
  return { body: new TextEncoder().encode(text) };
}

/** Appends entries one after the other, with numbers as bodies; their ids. */
export async function fill(journal: Journal, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 1; n <= count; n++) ids.push(await journal.append(entryOf(`${n}`)));
  return ids;
}

/** The id of the newest entry, or of the first position of an empty log. */
export async function headOf(journal: Journal): Promise<string> {
  const { floor, entries } = await journal.window(1);
  return entries.at(-1)?.id ?? floor;
}

/** Everything after a position that must be good. */
export async function entriesAfter(journal: Journal, id: string, limit = 100_000): Promise<readonly Entry[]> {
  const result = await journal.read(id, limit);
  ok(result.ok, `the position ${id} is in the log, and read() says that it is not`);
  return result.entries;
}

/** The ids of some entries. */
export function idsOf(entries: readonly Entry[]): string[] {
  return entries.map((entry) => entry.id);
}
