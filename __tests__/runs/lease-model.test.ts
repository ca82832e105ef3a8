/*
 * A model of leases: random programs over several processes on one store, in fake time. Processes are cut off, killed and shut down
 * while they produce, stop and read runs. The rules of runs are checked after every 50 ms.
 *
 * LEASE_MODEL_RUNS sets the number of programs, LEASE_MODEL_SEED repeats a failure. Every planted mistake must be found.
 */
import type { NewRun, RunKey, RunState, RunStore } from '../../lib/runs/run-store.ts';
import { chunkOf } from '../../lib/runs/chunk-codec.ts';
import { MemoryRunLogs } from '../../lib/runs/stores/memory-runs.ts';
import { Random, seedFrom } from '../fixtures/random.ts';
import { type Hub, fakeTime, hubOn, Script, settle } from './fixtures.ts';

const LEASE_MS = 1000;
const STEP_MS = 50;
/** Every reader has its end within a lease and this. */
const NOTICE_MS = 1000;
/** A connected process reacts within this. */
const REACTION_MS = 200;
const ACTIONS = 30;
/**
 * A planted mistake must be found within this number of programs. The rarest one (a producer that has been fenced, and has nothing
 * to append) is found after 190 on average, and after at most 775 in 40 searches.
 */
const MISTAKE_PROGRAMS = 5000;

interface Process extends Hub {
  readonly n: number;
  link: 'up' | 'cut' | 'killed';
  /** Since when the link is what it is. */
  since: number;
  /** The length of the last cut, and when it was over. */
  lastCut: { readonly ms: number; readonly until: number };
  isFinishing: boolean;
}

/** One generation, and what the test has seen of it. */
interface Truth {
  readonly tag: string;
  readonly id: string;
  readonly process: Process;
  readonly script: Script;
  generation: string | undefined;
  signal: AbortSignal | undefined;
  yielded: number;
  made: number;
  hasFinished: boolean;
  /** Whether a call of stop() has resolved with true. */
  isStopped: boolean;
  /** Whether a stop or a replacement was asked for. */
  mayBeStopped: boolean;
  ended: { readonly at: number; readonly status: string; readonly chunks: number } | undefined;
}

interface Reading {
  readonly process: Process;
  readonly truth: Truth;
  readonly texts: string[];
  readonly since: number;
  /** The number of the first chunk that it must receive. */
  readonly first: number;
  ended: RunState | undefined;
}

type Mistake = (store: RunStore, logs: MemoryRunLogs) => RunStore;

class World {
  readonly #random: Random;
  readonly #logs = new MemoryRunLogs();
  readonly #processes: Process[];
  readonly #truths: Truth[] = [];
  readonly #readings: Reading[] = [];
  readonly #violations: string[] = [];
  /** The replacements that a cut process has asked for: they may stop a run that begins later. */
  readonly #replacing: string[] = [];
  #now = 0;

  constructor(seed: number, mistake: Mistake | undefined) {
    this.#random = new Random(seed);
    this.#processes = Array.from({ length: 3 }, (_, n) => ({
      ...hubOn(this.#logs, { lease: LEASE_MS }, mistake && ((store) => mistake(store, this.#logs))),
      n,
      link: 'up',
      since: 0,
      lastCut: { ms: 0, until: -Infinity },
      isFinishing: false,
    }));
  }

  /** Runs one program. @returns the first rule that was broken */
  async run(): Promise<string | undefined> {
    for (let n = 0; n < ACTIONS && this.#violations.length === 0; n++) {
      this.#act();
      await this.#pass(
        this.#random.below(3) === 0 ? this.#random.below(LEASE_MS * 1.5) : this.#random.below(STEP_MS * 3),
      );
    }
    for (const process of this.#processes) if (process.link === 'cut') this.#restore(process);
    for (const truth of this.#truths) this.#finish(truth);
    await this.#pass(LEASE_MS * 2 + NOTICE_MS * 2);
    for (const { process, truth, ended } of this.#readings) {
      if (process.link !== 'killed' && ended === undefined) this.#break(`a reader of ${truth.tag} has no end`);
    }
    await this.#checkLogs();
    for (const { store, hub } of this.#processes) {
      await store.close();
      void hub.close();
    }
    await settle();
    return this.#violations[0];
  }

  #act(): void {
    const process = this.#random.of(this.#processes)!;
    const truth = this.#random.of(this.#truths);
    const action = this.#random.below(20);
    if (action < 4) this.#begin(process);
    else if (action < 8) for (const each of this.#truths) this.#yield(each, 1 + this.#random.below(4));
    else if (action < 12) this.#read(process, truth);
    else if (action < 13) this.#finish(truth);
    else if (action < 15) this.#stop(process, truth);
    else if (action < 17) this.#cut(process);
    else if (action < 19) this.#restore(process);
    else if (this.#random.below(3) === 0) this.#shutDown(process);
    else if (this.#random.below(2) === 0 && this.#processes.filter(({ link }) => link !== 'killed').length > 1)
      this.#kill(process);
  }

  #begin(process: Process): void {
    if (process.link === 'killed') return;
    const again = this.#random.of(['join', 'reject', 'replace'] as const)!;
    const id = this.#random.of(['a', 'b'])!;
    const truth: Truth = {
      tag: `${id}#${this.#truths.length}`,
      id,
      process,
      script: new Script(),
      generation: undefined,
      signal: undefined,
      yielded: 0,
      made: 0,
      hasFinished: false,
      isStopped: false,
      mayBeStopped: this.#replacing.includes(id),
      ended: undefined,
    };
    this.#truths.push(truth);
    if (again === 'replace') {
      this.#replacing.push(id);
      for (const each of this.#truths) if (each.id === id) each.mayBeStopped = true;
    }
    const produce = ({ signal }: { signal: AbortSignal }): Script => {
      truth.signal = signal;
      if (++truth.made > 1) this.#break(`${truth.tag} is made twice`);
      return truth.script;
    };
    process.hub.start(id, produce, again).then(
      ({ started, state }) => {
        if (again === 'replace') this.#replacing.splice(this.#replacing.indexOf(id), 1);
        if (started) truth.generation = state.generation;
        else if (again === 'replace') this.#break('a replacement begins nothing');
      },
      (error: { code?: string }) => {
        if (error.code !== 'ERR_SSE_CLOSED') this.#break(`begin() rejects with ${error.code}`);
      },
    );
    if (this.#random.below(2) === 0) this.#yield(truth, 2);
  }

  #yield(truth: Truth, count: number): void {
    for (let n = 0; n < count && !truth.hasFinished; n++) truth.script.yield(`${truth.tag}:${++truth.yielded}`);
  }

  #finish(truth: Truth | undefined): void {
    if (truth === undefined || truth.hasFinished) return;
    truth.hasFinished = true;
    truth.script.finish();
  }

  #stop(process: Process, truth: Truth | undefined): void {
    if (process.link === 'killed' || truth?.generation === undefined) return;
    truth.mayBeStopped = true;
    process.hub.stop(truth.id, truth.generation).then(
      (wasRunning) => {
        if (wasRunning && truth.ended === undefined) truth.isStopped = true;
      },
      () => {},
    );
  }

  #read(process: Process, truth: Truth | undefined): void {
    if (process.link === 'killed' || truth?.generation === undefined) return;
    const { id, generation } = truth;
    process.hub.state(id, generation).then(
      (state) => {
        if (state === undefined) return this.#break(`${truth.tag} is unknown`);
        const feed = process.hub.feed(state);
        const first = feed.position + 1;
        const reading: Reading = { process, truth, texts: [], first, ended: undefined, since: this.#now };
        this.#readings.push(reading);
        feed.subscribe({
          chunks: (first, chunks) => {
            const next = reading.first + reading.texts.length;
            if (first !== next) this.#break(`a reader of ${truth.tag} receives ${first} after ${next - 1}`);
            if (reading.ended !== undefined) this.#break(`a reader of ${truth.tag} receives a chunk after the end`);
            for (const [n, chunk] of chunks.entries()) {
              const text = chunkOf(chunk) as string;
              if (text !== `${truth.tag}:${first + n}`) this.#break(`chunk ${first + n} of ${truth.tag} is ${text}`);
              reading.texts.push(text);
            }
          },
          end: (end) => {
            if (reading.ended !== undefined) this.#break(`a reader of ${truth.tag} receives two ends`);
            reading.ended = end;
          },
        });
      },
      () => {},
    );
  }

  #cut(process: Process): void {
    if (process.link !== 'up') return;
    this.#link(process, 'cut');
    process.store.cut();
  }

  #restore(process: Process): void {
    if (process.link !== 'cut') return;
    process.lastCut = { ms: this.#now - process.since, until: this.#now };
    this.#link(process, 'up');
    process.store.restore();
  }

  #kill(process: Process): void {
    if (process.link === 'killed') return;
    const { link, since } = process;
    process.store.cut();
    this.#link(process, 'killed');
    if (link === 'cut') process.since = since; // to the others it has been away since then
  }

  #shutDown(process: Process): void {
    if (process.link !== 'up') return;
    process.isFinishing = true;
    void process.hub.drain(this.#random.below(LEASE_MS));
  }

  #link(process: Process, link: Process['link']): void {
    process.link = link;
    process.since = this.#now;
  }

  async #pass(ms: number): Promise<void> {
    await settle();
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      jest.advanceTimersByTime(STEP_MS);
      this.#now += STEP_MS;
      await settle();
      this.#check();
    }
  }

  /** Checks the rules. It looks into the store without a call, so that no lease expires because of it. */
  #check(): void {
    const running = new Map<string, Truth>();
    for (const truth of this.#truths) {
      if (truth.generation === undefined) continue;
      const stored = this.#logs.find(truth.id, truth.generation);
      if (stored === undefined) return this.#break(`${truth.tag} has no log`);
      if (stored.status === 'running') {
        const other = running.get(truth.id);
        if (other !== undefined) this.#break(`${truth.tag} and ${other.tag} are running at the same time`);
        running.set(truth.id, truth);
        this.#checkRunning(truth);
      } else if (truth.ended === undefined) {
        truth.ended = { at: this.#now, status: stored.status, chunks: stored.chunks.length };
        this.#checkEnd(truth);
      } else if (stored.chunks.length !== truth.ended.chunks) {
        this.#break(`the log of ${truth.tag} grows after its end`);
      } else {
        this.#checkProducer(truth);
      }
    }
    for (const reading of this.#readings) this.#checkReading(reading);
  }

  #checkRunning({ tag, isStopped, process, hasFinished, made }: Truth): void {
    if (process.link !== 'up' || this.#now - process.since < REACTION_MS) return;
    if (isStopped && this.#now - process.since > LEASE_MS) this.#break(`${tag} is stopped, but is running`);
    if (hasFinished && made > 0 && this.#now - process.since > LEASE_MS)
      this.#break(`${tag} has finished, but is running`);
  }

  #checkEnd({ tag, ended, process, isStopped, mayBeStopped, hasFinished }: Truth): void {
    const { link, since, lastCut, isFinishing } = process;
    if (ended!.status === 'lost') {
      if (isStopped) this.#break(`${tag} is lost, although a stop is on record`);
      const cut = link === 'up' ? (this.#now - lastCut.until <= REACTION_MS ? lastCut.ms : 0) : this.#now - since;
      if (cut < LEASE_MS / 2 && !isFinishing) this.#break(`${tag} is lost after a cut of ${cut} ms`);
    }
    if (ended!.status === 'stopped' && !mayBeStopped)
      this.#break(`${tag} is stopped, although nothing has asked for it`);
    if (ended!.status === 'done' && !hasFinished) this.#break(`${tag} is done, but has not finished`);
    if (ended!.status === 'failed') this.#break(`${tag} has failed`);
  }

  /** A producer whose run has ended is aborted, as soon as it is connected. */
  #checkProducer({ tag, ended, process, signal, hasFinished }: Truth): void {
    if (process.link !== 'up' || hasFinished || signal === undefined || signal.aborted) return;
    const since = Math.max(ended!.at, process.since);
    if (this.#now - since > LEASE_MS / 3 + REACTION_MS) this.#break(`the producer of ${tag} is not aborted`);
  }

  #checkReading({ process, truth, ended, since }: Reading): void {
    if (ended !== undefined || process.link !== 'up') return;
    const ready = Math.max(since, process.since);
    if (truth.ended !== undefined && this.#now - Math.max(ready, truth.ended.at) > REACTION_MS)
      this.#break(`a reader of ${truth.tag} has no end, although it has ended`);
    const producer = truth.process;
    if (producer.link === 'up' || producer === process) return;
    if (this.#now - Math.max(ready, producer.since) > LEASE_MS + NOTICE_MS)
      this.#break(`a reader of ${truth.tag} has no end, a lease and a second after its producer is away`);
  }

  /** Every reader has exactly the log from its first chunk on, and the log is what was produced, from the first chunk on. */
  async #checkLogs(): Promise<void> {
    for (const truth of this.#truths) {
      if (truth.generation === undefined) continue;
      const { chunks, status } = this.#logs.find(truth.id, truth.generation)!;
      const texts = chunks.map((chunk) => chunkOf(chunk) as string);
      if (texts.some((text, n) => text !== `${truth.tag}:${n + 1}`)) this.#break(`the log of ${truth.tag} has a gap`);
      if (status === 'done' && texts.length !== truth.yielded) this.#break(`the log of ${truth.tag} is not complete`);
      for (const { truth: of, texts: read, ended, first } of this.#readings) {
        if (of !== truth || ended === undefined) continue;
        if (ended.status !== status) this.#break(`a reader of ${truth.tag} has another status`);
        const last = first + read.length - 1;
        if (last !== texts.length) this.#break(`a reader of ${truth.tag} has its end after ${last} of ${texts.length}`);
      }
    }
  }

  #break(rule: string): void {
    this.#violations.push(`at ${this.#now} ms: ${rule}`);
  }
}

async function runModel(seed: number, mistake?: Mistake): Promise<string | undefined> {
  fakeTime();
  return new World(seed, mistake).run();
}

test('every rule holds, whatever the processes do', async () => {
  const seed = seedFrom('LEASE_MODEL_SEED');
  const programs = Number(process.env['LEASE_MODEL_RUNS'] ?? 150);
  for (let n = 0; n < programs; n++) {
    const violation = await runModel(seed + n);
    if (violation !== undefined) throw new Error(`LEASE_MODEL_SEED=${seed + n} LEASE_MODEL_RUNS=1: ${violation}`);
  }
}, 600_000);

/** Delegates to another store. Each mistake below changes one call. */
function changed(store: RunStore, calls: Partial<RunStore>): RunStore {
  const methods = [
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
  ] as const;
  const bound = Object.fromEntries(methods.map((name) => [name, (...args: never[]) => (store[name] as any)(...args)]));
  return { ...(bound as unknown as RunStore), ...calls };
}

const MISTAKES: Record<string, Mistake> = {
  'a renewal extends no lease': (store) =>
    changed(store, {
      renew: async (runs) => runs.map(() => ({ running: true, stopRequested: false, hasReaders: false })),
    }),
  'a renewal does not report that the producer was fenced': (store) =>
    changed(store, {
      renew: async (runs) => (await store.renew(runs)).map((renewal) => ({ ...renewal, running: true })),
    }),
  'a fenced producer can append': (store, logs) =>
    changed(store, {
      append: async (run, _first, chunks) => {
        const stored = logs.find(run.id, run.generation);
        if (stored !== undefined) logs.append(stored, chunks);
        return 'stored';
      },
    }),
  'a run is lost after half of its lease': (store) =>
    changed(store, {
      state: async (id, generation) => {
        const state = await store.state(id, generation);
        return state?.leaseLeft !== undefined && state.leaseLeft < LEASE_MS / 2 ? store.end(state, 'lost') : state;
      },
    }),
  'an expired lease ends no run': (store, logs) =>
    changed(store, {
      state: async (id, generation) => {
        const run = logs.find(id, generation);
        const isRunning = run?.status === 'running';
        return (
          run && {
            ...run,
            chunks: run.chunks.length,
            endedAt: run.endedAt,
            leaseLeft: isRunning ? LEASE_MS : undefined,
          }
        );
      },
    }),
  'a stop is not put on record': (store) => changed(store, { stop: async () => true }),
  'a stop is not reported, and a renewal does not return it': (store) =>
    changed(store, {
      open: async () => store.open({ onStop() {} }),
      renew: async (runs) => (await store.renew(runs)).map((renewal) => ({ ...renewal, stopRequested: false })),
    }),
  'a stopped run whose lease expires is lost': (store, logs) =>
    changed(store, {
      state: async (id, generation) => {
        const run = logs.find(id, generation);
        if (run !== undefined && run.leaseEnd <= performance.now()) run.stopRequested = false;
        return store.state(id, generation);
      },
    }),
  'a begin that joins replaces': (store) =>
    changed(store, { begin: async (run: NewRun) => store.begin({ ...run, again: 'replace' }) }),
  'two generations run at the same time': (store, logs) =>
    changed(store, {
      begin: async (run: NewRun) => {
        const result = await store.begin(run);
        if (result.started) return result;
        const running = logs.find(run.id)!;
        logs.add({ ...running, generation: run.generation, chunks: [], followers: new Set() });
        return { started: true, state: { ...result.state, generation: run.generation, chunks: 0 } };
      },
    }),
  'a follower begins one chunk too late': (store) =>
    changed(store, { follow: (run, after, follower) => store.follow(run, after + (after > 0 ? 1 : 0), follower) }),
  'a follower receives no end': (store) =>
    changed(store, {
      follow: (run: RunKey, after, follower) =>
        store.follow(run, after, { chunks: (first, chunks) => follower.chunks(first, chunks), end() {} }),
    }),
  'a follower receives the end before the last chunks': (store) =>
    changed(store, {
      follow: (run, after, follower) =>
        store.follow(run, after, {
          chunks: (first, chunks) => setImmediate(() => follower.chunks(first, chunks)),
          end: (state) => follower.end(state),
        }),
    }),
};

test.each(Object.entries(MISTAKES))(
  'the model finds the planted mistake: %s',
  async (_, mistake) => {
    const seed = seedFrom('LEASE_MISTAKE_SEED');
    for (let n = 0; n < MISTAKE_PROGRAMS; n++) if ((await runModel(seed + n, mistake)) !== undefined) return;
    throw new Error(`not found in ${MISTAKE_PROGRAMS} programs`);
  },
  600_000,
);
