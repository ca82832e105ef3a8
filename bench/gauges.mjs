// Measures the process in which it runs: CPU time, memory, and blocks of the event loop.
// Invariant: the cost of reading a gauge is negligible compared with the measured work.
import { performance, PerformanceObserver } from 'node:perf_hooks';

/** Returns the CPU time of the whole process so far (all threads) in microseconds, as /proc counts it. */
export function cpu() {
  const { user, system } = process.cpuUsage();
  return { user, system, at: performance.now() };
}

/** Returns milliseconds of a clock that all processes of a machine share. performance.now() starts with its own process. */
export function machineTime() {
  return Number(process.hrtime.bigint()) / 1e6;
}

export function since(start) {
  const { user, system } = process.cpuUsage();
  return {
    cpu: user + system - start.user - start.system,
    user: user - start.user,
    system: system - start.system,
    ms: performance.now() - start.at,
  };
}

/** Returns the memory of the process after garbage collection. */
export async function settledMemory() {
  for (let i = 0; i < 5; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heapUsed, external };
}

function collect() {
  try {
    // This also returns pages to the system at once. A plain gc() does it later.
    globalThis.gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  } catch {
    globalThis.gc();
  }
}

/**
 * Measures from `start` to `stop` the longest block of the event loop, the longest garbage collection, and the highest RSS.
 * It uses a timer instead of monitorEventLoopDelay, because it also measures how much of a block was CPU time. During the rest of a
 * block, another process used the core, which does not depend on the server.
 */
export class Watch {
  #pauses = [];
  #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) this.#pauses.push(entry.duration);
  });
  #timer;
  #last = cpu();
  #block = 0;
  #busy = 0;
  #rss = 0;
  #ticks = 0;

  start() {
    this.#rss = process.memoryUsage.rss();
    this.#pauses = [];
    this.#block = 0;
    this.#busy = 0;
    this.#last = cpu();
    this.#observer.observe({ entryTypes: ['gc'] });
    this.#timer = setInterval(() => this.#tick(), 1);
  }

  stop() {
    this.#tick();
    this.#sample();
    clearInterval(this.#timer);
    this.#observer.disconnect();
    return {
      block: this.#block,
      busy: Math.min(this.#busy, this.#block),
      collection: Math.max(0, ...this.#pauses),
      peakRss: this.#rss,
    };
  }

  #tick() {
    const passed = since(this.#last);
    this.#last = cpu();
    this.#block = Math.max(this.#block, passed.ms - 1);
    this.#busy = Math.max(this.#busy, passed.cpu / 1000 - 1);
    if (++this.#ticks % 10 === 0) this.#sample();
  }

  #sample() {
    this.#rss = Math.max(this.#rss, process.memoryUsage.rss());
  }
}
