/*
 * The event loops and the clock of two processes. During a run it replaces setImmediate, setTimeout and performance.
 * Invariant: nothing runs unless the program requests it. The same program always runs in the same way.
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
  /** Whether the processes are slow: the clock then advances by some milliseconds at each reading. */
  isSlow = false;
  /** The process whose code runs. Callbacks and timers that the code schedules belong to this process. */
  current = 0;
  #extraMs = 0;
  #immediates: (() => void)[][] = [[], []];
  #timers = new Set<Timer>();

  /** Replaces the real event loop. Returns a function that restores it. */
  install(): () => void {
    const real = { setImmediate, setTimeout, clearTimeout, performance };
    Object.assign(globalThis, {
      setImmediate: (call: Call, ...args: unknown[]) => this.setImmediate(() => call(...args)),
      setTimeout: (call: Call, ms: number, ...args: unknown[]) => this.#setTimeout(() => call(...args), ms),
      clearTimeout: (timer: Timer | undefined) => timer && this.#timers.delete(timer),
    });
    // In some versions of Node it is a getter, so it cannot be assigned.
    const set = (value: unknown): unknown =>
      Object.defineProperty(globalThis, 'performance', { value, configurable: true, writable: true });
    set({ now: () => this.time + (this.isSlow ? (this.#extraMs += 4) : 0) });
    return () => {
      Object.assign(globalThis, {
        setImmediate: real.setImmediate,
        setTimeout: real.setTimeout,
        clearTimeout: real.clearTimeout,
      });
      set(real.performance);
      for (const process of [0, 1]) this.kill(process); // Jest keeps every former value of a global, and everything that the value refers to
    };
  }

  setImmediate(call: () => void, process: number = this.current): void {
    this.#immediates[process]!.push(call);
  }

  /** Runs one tick of one process. Returns whether it had anything to do. */
  async tick(process: number): Promise<boolean> {
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
      await this.tick(next.process); // as a real loop does; otherwise the timer would be set again and again, before its work is done
    }
    this.time = until;
  }

  /** Ends a process: its callbacks and timers are discarded. */
  kill(process: number): void {
    this.#immediates[process] = [];
    for (const timer of this.#timers) if (timer.process === process) this.#timers.delete(timer);
  }

  #setTimeout(call: () => void, ms: number): Timer {
    const timer: Timer = { at: this.time + Math.max(1, ms), process: this.current, call, unref: () => timer };
    this.#timers.add(timer);
    return timer;
  }
}

/** Resolves when all promises that can settle have settled: process.nextTick() runs after the last microtask. */
export function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
