/*
 * Time and turns of two processes, under the model's command: nothing runs unless the program says so.
 * Knows nothing of the package; it stands in for setImmediate, setTimeout and performance while a run lasts.
 * Invariant: the same program runs the same way, always.
 */

type Call = (...args: unknown[]) => void;

interface Timer {
  readonly at: number;
  readonly process: number;
  readonly call: () => void;
  unref(): Timer;
}

export class Loop {
  time = 0;
  /** The processes are slow: it is some milliseconds later whenever somebody looks at the clock. */
  isBusy = false;
  /** The process whose code runs: what it schedules is its own. */
  current = 0;
  #worked = 0;
  #immediates: (() => void)[][] = [[], []];
  #timers = new Set<Timer>();

  /** Puts this loop in the place of the real one. @returns what puts the real one back */
  install(): () => void {
    const real = { setImmediate, setTimeout, clearTimeout, performance };
    Object.assign(globalThis, {
      setImmediate: (call: Call, ...args: unknown[]) => this.soon(() => call(...args)),
      setTimeout: (call: Call, ms: number, ...args: unknown[]) => this.#later(() => call(...args), ms),
      clearTimeout: (timer: Timer | undefined) => timer && this.#timers.delete(timer),
    });
    // A getter of its own in some versions of Node, so it cannot be assigned.
    const set = (value: unknown): unknown =>
      Object.defineProperty(globalThis, 'performance', { value, configurable: true, writable: true });
    set({ now: () => this.time + (this.isBusy ? (this.#worked += 4) : 0) });
    return () => {
      Object.assign(globalThis, {
        setImmediate: real.setImmediate,
        setTimeout: real.setTimeout,
        clearTimeout: real.clearTimeout,
      });
      set(real.performance);
      for (const process of [0, 1]) this.kill(process); // Jest keeps what once stood in a global, and all that hangs on it
    };
  }

  soon(call: () => void, process: number = this.current): void {
    this.#immediates[process]!.push(call);
  }

  /** One turn of one process. @returns whether there was anything to do */
  async turn(process: number): Promise<boolean> {
    const calls = this.#immediates[process]!;
    this.#immediates[process] = [];
    this.current = process;
    for (const call of calls) {
      call();
      await settled();
    }
    return calls.length > 0;
  }

  async advance(ms: number): Promise<void> {
    const until = this.time + ms;
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers) if (timer.at <= until && (!next || timer.at < next.at)) next = timer;
      if (next === undefined) break;
      this.#timers.delete(next);
      this.time = Math.max(this.time, next.at);
      this.current = next.process;
      next.call();
      await settled();
      await this.turn(next.process); // as a real loop does, or what a timer is for would be due again and again
    }
    this.time = until;
  }

  /** The process is no more. */
  kill(process: number): void {
    this.#immediates[process] = [];
    for (const timer of this.#timers) if (timer.process === process) this.#timers.delete(timer);
  }

  #later(call: () => void, ms: number): Timer {
    const timer: Timer = { at: this.time + Math.max(1, ms), process: this.current, call, unref: () => timer };
    this.#timers.add(timer);
    return timer;
  }
}

/** Resolves when all promises have settled that can: the tick comes after the last of the microtasks. */
export function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
