/*
 * Runs with their readers, one after another in each of several places, and the comparison of what each reader received with the log.
 */
import type { RunState, RunStore } from '../../../lib/runs/run-store.ts';
import { frameOf } from '../../../lib/runs/chunk-codec.ts';
import type { Random } from '../../fixtures/random.ts';
import type { Processes, ServerProcess } from './processes.ts';
import { Reader, type ReaderHost } from './reader.ts';
import { LEASE_MS, readersPerRun } from './settings.ts';

/**
 * How long a reader may wait for the end beyond the leases, plus the time that its server took at that time for a request without
 * runs. (Measured with all of this on two cores: a process that has just started answers such a request within 0.1 to 1 s.)
 */
const END_TOLERANCE_MS = 1_000;

export class Scenario implements ReaderHost {
  readonly faults: string[] = [];
  readonly statuses: Record<string, number> = {};
  cuts = 0;
  connects = 0;
  chunks = 0;
  /** The longest time from the interruption of a producer to a reader's end beyond what is allowed; negative if all were in time. */
  worstDelay = -Infinity;
  /** The longest time that a server took for a request without runs when a reader got the end after its limit, in milliseconds. */
  slowestProbe = 0;
  /** When Redis accepted connections again. */
  readonly redisUpAt: number[] = [];
  readonly #processes: Processes;
  readonly #random: Random;
  readonly #store: RunStore;
  readonly #readers = new Set<Reader>();
  #runs = 0;

  /** `store` is used for the comparison. It must not end runs: it is asked only for runs that have ended. */
  constructor(processes: Processes, random: Random, store: RunStore) {
    this.#processes = processes;
    this.#random = random;
    this.#store = store;
  }

  get runs(): number {
    return this.#runs;
  }

  server(): ServerProcess | undefined {
    return this.#random.of(this.#processes.live);
  }

  /** Most readers reconnect at once, and some stay away for longer than a lease. */
  pause(): number {
    return this.#random.next() < 0.03 ? this.#random.between(LEASE_MS, LEASE_MS * 1.5) : this.#random.between(0, 20);
  }

  fault(text: string): void {
    this.faults.push(text);
  }

  /** Cuts this number of random sockets each second, and stops random runs. Returns a function that ends this. */
  startCutting(perSecond: number): () => void {
    const cutting = setInterval(() => {
      this.cuts++;
      this.#random.of([...this.#readers])?.cut();
    }, 1000 / perSecond);
    const stopping = setInterval(() => void this.#stopRun().catch(() => {}), 700);
    return () => {
      for (const timer of [cutting, stopping]) clearInterval(timer);
    };
  }

  /** Starts one run after another, each with its readers, until `isOver` returns true. Settles when the last one was compared. */
  async keepRunning(isOver: () => boolean): Promise<void> {
    while (!isOver()) await this.#oneRun(`run${++this.#runs}`);
  }

  disconnect(): void {
    for (const reader of this.#readers) reader.disconnect();
  }

  async #oneRun(id: string): Promise<void> {
    const readers = Array.from({ length: readersPerRun }, (_, i) => new Reader(this, id, i === 0));
    for (const reader of readers) this.#readers.add(reader);
    readers[0]!.connect();
    await readers[0]!.opened;
    for (const reader of readers.slice(1)) setTimeout(() => reader.connect(), this.#random.between(0, 1500));
    await Promise.all(readers.map(({ ended }) => ended));
    await this.#compare(id, readers);
    for (const reader of readers) this.#readers.delete(reader);
  }

  async #stopRun(): Promise<void> {
    const [run, port] = [this.#random.of([...this.#readers])?.run, this.server()?.port];
    if (run !== undefined && port !== undefined) {
      await fetch(`http://127.0.0.1:${port}/runs/${run}`, { method: 'DELETE', signal: AbortSignal.timeout(5000) });
    }
  }

  /** Compares each reader of a run with the log of its generation. */
  async #compare(id: string, readers: readonly Reader[]): Promise<void> {
    const states: RunState[] = [];
    for (const generation of new Set(readers.map((reader) => reader.generation))) {
      const chunks = await this.#logOf(id, generation);
      const state = await this.#store.state(id, generation);
      if (chunks === undefined || state === undefined) {
        this.fault(`${id}: the log ${generation} is not there`);
        continue;
      }
      states.push(state);
      this.statuses[state.status] = (this.statuses[state.status] ?? 0) + 1;
      this.chunks += chunks.length;
      const interruptedAt = this.#checkLog(id, state, chunks);
      for (const reader of readers) {
        if (reader.generation === generation) this.#checkReader(reader, state, chunks, interruptedAt);
      }
    }
    states.sort((a, b) => a.startedAt - b.startedAt);
    for (let i = 1; i < states.length; i++) {
      if (states[i]!.startedAt < states[i - 1]!.endedAt!) this.fault(`${id}: two generations at the same time`);
    }
  }

  /** Checks that one producer has made the log. Returns when it was interrupted, if it was. */
  #checkLog(id: string, { status, startedAt, endedAt }: RunState, chunks: readonly string[]): number | undefined {
    const tokens = new Set(chunks.map((chunk) => chunk.split(' ', 1)[0]!));
    if (tokens.size > 1) this.fault(`${id}: several producers, ${[...tokens].join(', ')}`);
    const numbers = chunks.map((chunk) => Number(/ (\d+)\//.exec(chunk)?.[1]));
    if (numbers.some((number, i) => number !== i + 1))
      this.fault(`${id}: a chunk is missing in the log: ${numbers.join(' ')}`);
    const length = Number(/\/(\d+) /.exec(chunks[0] ?? '')?.[1]);
    if (status === 'done' && chunks.length !== length)
      this.fault(`${id}: done with ${chunks.length} of ${length} chunks`);
    const [name] = [...tokens].map((token) => token.split('.', 1)[0]!);
    const interruptedAt = name === undefined ? undefined : this.#processes.interruptedAt.get(name);
    if (status === 'failed') this.fault(`${id}: failed`);
    // A producer that was interrupted before its first chunk has left no name.
    if (status === 'lost' && name !== undefined && interruptedAt === undefined) {
      const upAt = this.redisUpAt.map((at) => Math.round(endedAt! - performance.timeOrigin - at));
      this.fault(
        `${id}: lost after ${endedAt! - startedAt} ms, although its process ${name} was not interrupted; ` +
          `Redis was up ${upAt.join(', ')} ms before`,
      );
    }
    return interruptedAt;
  }

  #checkReader(reader: Reader, state: RunState, chunks: readonly string[], interruptedAt: number | undefined): void {
    if (reader.status !== state.status)
      this.fault(`${reader.run}: a reader got ${reader.status}, the log has ${state.status}`);
    if (reader.chunks.length !== chunks.length || reader.chunks.some((chunk, i) => chunk !== chunks[i])) {
      this.fault(
        `${reader.run}: a reader has ${reader.chunks.length} chunks, which are not the ${chunks.length} of the log`,
      );
    }
    this.connects += reader.connects;
    if (state.status !== 'lost' || interruptedAt === undefined) return;
    const upAt = this.redisUpAt.findLast((at) => at < reader.endedAt && at > interruptedAt - LEASE_MS) ?? -Infinity;
    const due = Math.max(
      interruptedAt + LEASE_MS,
      upAt + 2 * LEASE_MS,
      reader.connectedAt,
      (reader.server?.continuedAt ?? -Infinity) + LEASE_MS, // a server that was stopped judges no lease before
    );
    const slowest = reader.endedAt <= due ? 0 : (reader.server?.slowestProbe(due, reader.endedAt) ?? 0);
    this.slowestProbe = Math.max(this.slowestProbe, slowest);
    const delay = reader.endedAt - (due + END_TOLERANCE_MS + slowest);
    this.worstDelay = Math.max(this.worstDelay, delay);
    if (delay <= 0) return;
    const ago = (at: number): number => Math.round(reader.endedAt - at);
    this.fault(
      `${reader.run}: a reader of ${reader.server?.name} got its end ${Math.round(delay)} ms too late (a request without runs took ${Math.round(slowest)} ms): ${ago(interruptedAt)} ms ` +
        `after its producer was interrupted, ${ago(upAt)} ms after Redis was up, ${ago(reader.connectedAt)} ms after it connected, ` +
        `${ago(reader.server?.continuedAt ?? -Infinity)} ms after its server continued`,
    );
  }

  async #logOf(id: string, generation: string): Promise<string[] | undefined> {
    const texts: string[] = [];
    for (;;) {
      const page = await this.#store.read({ id, generation }, texts.length, 1000);
      if (page === undefined) return undefined;
      if (page.chunks.length === 0) return texts;
      for (const chunk of page.chunks) {
        texts.push(/^data: (.*)$/m.exec(Buffer.from(frameOf(chunk)).toString())![1]!);
      }
    }
  }
}
