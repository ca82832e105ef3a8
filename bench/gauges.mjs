// What the measured process knows of itself: CPU, memory, blocks of the event loop.
// May know: nothing of peers. Keeps: reading a gauge costs the measured work nothing worth naming.
import { performance, PerformanceObserver } from 'node:perf_hooks';

/** CPU microseconds so far, by the clock that /proc keeps for the whole process (all threads). */
export function cpu() {
  const { user, system } = process.cpuUsage();
  return { user, system, at: performance.now() };
}

/** Milliseconds by the clock that all processes of a machine share; performance.now() begins with its own process. */
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

/** Memory after everything that can go has gone. */
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
    // Gives pages back as well, which a plain gc() leaves for later.
    globalThis.gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  } catch {
    globalThis.gc();
  }
}

/**
 * From `start` to `stop`: the longest block of the event loop, the longest collection, and the highest RSS.
 * A timer of its own instead of monitorEventLoopDelay, as it sees how much of a block was CPU: the rest is the time in
 * which another process had the core, which says nothing of the server.
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
