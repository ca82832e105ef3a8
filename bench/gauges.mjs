// What the measured process knows of itself: CPU, memory, blocks of the event loop.
// May know: nothing of peers. Keeps: reading a gauge costs the measured work nothing worth naming.
import { monitorEventLoopDelay, performance, PerformanceObserver } from 'node:perf_hooks';

/** CPU microseconds so far, by the clock that /proc keeps for the whole process (all threads). */
export function cpu() {
  const { user, system } = process.cpuUsage();
  return { user, system, at: performance.now() };
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

/** From `start` to `stop`: the longest block of the event loop, the longest collection, and the highest RSS. */
export class Watch {
  #delay = monitorEventLoopDelay({ resolution: 1 });
  #pauses = [];
  #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) this.#pauses.push(entry.duration);
  });
  #timer;
  #rss = 0;

  start() {
    this.#rss = process.memoryUsage.rss();
    this.#pauses = [];
    this.#delay.reset();
    this.#delay.enable();
    this.#observer.observe({ entryTypes: ['gc'] });
    this.#timer = setInterval(() => this.#sample(), 10);
  }

  stop() {
    this.#sample();
    clearInterval(this.#timer);
    this.#delay.disable();
    this.#observer.disconnect();
    // The histogram counts from one firing of its 1 ms timer to the next.
    const block = this.#delay.count === 0 ? 0 : Math.max(0, this.#delay.max / 1e6 - 1);
    return { block, collection: Math.max(0, ...this.#pauses), peakRss: this.#rss };
  }

  #sample() {
    this.#rss = Math.max(this.#rss, process.memoryUsage.rss());
  }
}
