/*
 * Runs long work in slices, one piece of work after the other, so that the event loop serves the clients between the slices.
 * Invariant: a slice ends at the first `yield` after SLICE_MS. Work that fits into the first slice of an idle queue is done when
 * `add()` returns.
 */

const SLICE_MS = 4;

/** Work that can be interrupted at each of its `yield`s. */
export type Work<T = void> = Generator<void, T, void>;

interface Job {
  readonly work: Work;
  /** Receives the time that the work has taken, without the pauses. */
  readonly onDone: (ms: number) => void;
  ms: number;
}

/** The queue of one inspector. */
export class SlicedQueue {
  #jobs: Job[] = [];
  #next: NodeJS.Immediate | undefined;

  /** Adds work, and begins it if nothing else waits. */
  add(work: Work, onDone: (ms: number) => void): void {
    this.#jobs.push({ work, onDone, ms: 0 });
    if (this.#jobs.length === 1) this.#runSlice();
  }

  /** Drops everything that is not done. */
  clear(): void {
    this.#jobs = [];
    clearImmediate(this.#next);
  }

  #runSlice(): void {
    const end = performance.now() + SLICE_MS;
    for (let job; (job = this.#jobs[0]) !== undefined;) {
      if (performance.now() >= end) {
        this.#next = setImmediate(() => this.#runSlice());
        return;
      }
      const start = performance.now();
      let isDone: boolean | undefined = false;
      while (isDone !== true && performance.now() < end) isDone = job.work.next().done;
      job.ms += performance.now() - start;
      if (isDone === true && this.#jobs[0] === job) {
        this.#jobs.shift();
        job.onDone(job.ms);
      }
    }
  }
}
