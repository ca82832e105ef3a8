/*
 * The context of one case for stores of runs: a store, a second handle on its runs, and followers that record what they receive.
 * Invariant: every store that is opened here is a resource of the case, so it is closed at its end, whether it passed or not.
 */
import { AssertionError, deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import type { NewRun, RunFollower, RunKey, RunState, RunStore, RunStoreListener } from '../runs/run-store.ts';
import { type CaseResources, checkHandle, checkHarness } from './case-resources.ts';
import type { RunStoreHarness } from './run-stores.ts';

const POLL_MS = 20;
/** A lease and a `keep` that do not end within a case. */
const LONG_MS = 60_000;

/** A follower that records what it receives. A case can wait for it. */
export class RunRecorder implements RunFollower {
  readonly received: Uint8Array[] = [];
  /** The number of the first chunk that was received; 0 before. */
  first = 0;
  ended: RunState | undefined;
  /** Called for each delivery, within it. */
  onChunks: () => void = () => {};
  #failure: string | undefined;
  #onChange: () => void = () => {};
  readonly #timeoutMs: number;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  chunks(first: number, chunks: readonly Uint8Array[]): void {
    if (chunks.length === 0) this.#failure ??= 'a delivery without chunks';
    if (this.ended !== undefined) this.#failure ??= 'chunks after the end';
    if (this.first === 0) this.first = first;
    else if (first !== this.first + this.received.length)
      this.#failure ??= `chunk ${first} after chunk ${this.first + this.received.length - 1}`;
    this.received.push(...chunks);
    this.onChunks();
    this.#onChange();
  }

  end(state: RunState): void {
    if (this.ended !== undefined) this.#failure ??= 'two ends';
    this.ended = state;
    this.#onChange();
  }

  get texts(): string[] {
    return this.received.map((chunk) => new TextDecoder().decode(chunk));
  }

  /** Resolves when `condition` is true; rejects if it does not become true in time, or after an invalid delivery. */
  async until(condition: () => boolean, what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      this.#onChange = () => void ((condition() || this.#failure !== undefined) && resolve());
      const onTimeout = () => reject(new AssertionError({ message: `${what}: not within ${this.#timeoutMs} ms` }));
      timer = setTimeout(onTimeout, this.#timeoutMs);
      this.#onChange();
    }).finally(() => clearTimeout(timer));
    this.check();
  }

  /** Rejects after an invalid delivery. */
  check(): void {
    if (this.#failure !== undefined) throw new AssertionError({ message: `a follower received ${this.#failure}` });
  }

  /** Waits for as many chunks, then requires that exactly these have been received, in this order. */
  async hasReceived(texts: readonly string[], what = 'the chunks received'): Promise<void> {
    await this.until(() => this.received.length >= texts.length, `${what}: ${texts.length} chunks`);
    deepStrictEqual(this.texts, texts, `${what} are not those of the log`);
  }

  /** Waits for the end, then requires that exactly these chunks have been received. */
  async hasEnded(texts: readonly string[], status: string, what = 'a follower'): Promise<void> {
    await this.until(() => this.ended !== undefined, `the end for ${what}`);
    deepStrictEqual(this.texts, texts, `the chunks that ${what} received are not those of the log`);
    strictEqual(this.ended!.status, status, `the status that ${what} received`);
  }
}

/** A listener that records the stops that are reported to it. */
export class StopRecorder implements RunStoreListener {
  readonly stops: RunKey[] = [];

  onStop({ id, generation }: RunKey): void {
    this.stops.push({ id, generation });
  }
}

/** What one case works with. */
export interface RunCaseContext {
  readonly store: RunStore;
  /** The second handle on the same runs; `store` itself if the harness has none. */
  readonly other: RunStore;
  /** Whether {@link RunCaseContext.other} is a handle of its own. */
  readonly shared: boolean;
  /** The stops that each handle has reported. */
  readonly stops: StopRecorder;
  readonly otherStops: StopRecorder;
  readonly recorder: () => RunRecorder;
  /** Polls until `condition` resolves with true; rejects if it does not in time. */
  readonly eventually: (condition: () => boolean | Promise<boolean>, what: string) => Promise<void>;
}

const METHODS: readonly (keyof RunStore)[] = [
  'open',
  'begin',
  'append',
  'end',
  'renew',
  'stop',
  'state',
  'read',
  'follow',
  'noteReaders',
  'close',
];

/** Creates the context of a case, with both handles open. */
export async function createRunContext(
  make: () => RunStoreHarness | Promise<RunStoreHarness>,
  timeoutMs: number,
  resources: CaseResources,
): Promise<RunCaseContext> {
  const harness = await make();
  if (typeof harness === 'object' && harness !== null) resources.addCleanup(harness);
  checkHarness(harness, 'store', METHODS);
  const { store } = harness;
  const [stops, otherStops] = [new StopRecorder(), new StopRecorder()];
  await resources.open(store, () => store.open(stops));
  const other = (await harness.reopen?.()) ?? store;
  checkHandle('The store that reopen() returns', other, 'store', METHODS);
  if (other !== store) await resources.open(other, () => other.open(otherStops));
  return {
    store,
    other,
    shared: other !== store,
    stops,
    otherStops,
    recorder: () => new RunRecorder(timeoutMs),
    async eventually(condition, what) {
      const deadline = performance.now() + timeoutMs;
      // oxlint-disable-next-line no-await-in-loop -- each poll follows the previous one
      while (!(await condition())) {
        if (performance.now() > deadline) throw new AssertionError({ message: `${what}: not within ${timeoutMs} ms` });
        // oxlint-disable-next-line no-await-in-loop
        await new Promise((resolve) => void setTimeout(resolve, POLL_MS));
      }
    },
  };
}

/** Returns the argument of a begin. Each test chooses the generation: two generations of one id must differ. */
export function newRun(id: string, generation: string, others: Partial<NewRun> = {}): NewRun {
  return { id, generation, again: 'join', lease: LONG_MS, keep: LONG_MS, ...others };
}

/** Begins a run that nothing else has begun. */
export async function begun(store: RunStore, run: NewRun): Promise<RunKey> {
  const { started, state } = await store.begin(run);
  ok(started, `begin() joins ${run.id}, which is not running`);
  deepStrictEqual([state.id, state.generation, state.status], [run.id, run.generation, 'running'], 'the begun run');
  return { id: run.id, generation: run.generation };
}

/** Encodes chunks. */
export function chunksOf(...texts: string[]): Uint8Array[] {
  return texts.map((text) => new TextEncoder().encode(text));
}

/** Appends texts as one append, which must be stored. */
export async function appended(store: RunStore, run: RunKey, first: number, ...texts: string[]): Promise<void> {
  strictEqual(await store.append(run, first, chunksOf(...texts)), 'stored', `the append of chunk ${first}`);
}

/** Reads a whole log in pages. Every page but an empty log's last must have a chunk. */
export async function textsOf(store: RunStore, run: RunKey, after = 0, limit = 1000): Promise<string[]> {
  const chunks = await chunksAfter(store, run, after, limit);
  return chunks.map((chunk) => new TextDecoder().decode(chunk));
}

/** Reads a whole log in pages, as bytes. */
export async function chunksAfter(store: RunStore, run: RunKey, after = 0, limit = 1000): Promise<Uint8Array[]> {
  const all: Uint8Array[] = [];
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- a page begins where the previous one ends
    const page = await store.read(run, after + all.length, limit);
    ok(page !== undefined, `read() does not find the log of ${run.id}`);
    ok(page.chunks.length <= limit, `read() returns ${page.chunks.length} chunks for the limit ${limit}`);
    all.push(...page.chunks);
    if (page.state.chunks <= after + all.length) return all;
    ok(page.chunks.length > 0, 'read() returns an empty page, although there are more chunks');
  }
}
