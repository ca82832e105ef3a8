/*
 * Reads the load, the memory in use and the delay of this process' event loop every two seconds.
 * Every reading updates the meters. Only a marked change becomes an entry of the feed.
 */
import { freemem, loadavg, totalmem } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Unpublished, Vitals } from './feed.ts';

type Measured = Omit<Vitals, 'readers'>;

const INTERVAL_MS = 2000;
const MAX_SILENCE_MS = 20_000; // after this time without an entry, the load becomes one
const RESOLUTION_MS = 10;
const MARKED_CHANGE: Measured = { load: 0.2, memory: 1, delay: 20 };

export function watchMachine(
  onVitals: (vitals: Measured) => void,
  onReading: (reading: Unpublished) => void,
): () => void {
  const reported: Partial<Measured> = {};
  const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  loop.enable();
  let lastReport = 0;

  function read(): void {
    const vitals: Measured = {
      load: round(loadavg()[0]!, 2),
      memory: round(100 * (1 - freemem() / totalmem()), 1),
      delay: Math.max(0, round(loop.percentile(99) / 1e6 - RESOLUTION_MS, 1)),
    };
    loop.reset();
    const now = Date.now();
    onVitals(vitals);
    const moved = (['load', 'memory', 'delay'] as const).filter(
      (what) => Math.abs(vitals[what] - (reported[what] ?? (what === 'delay' ? 0 : Infinity))) >= MARKED_CHANGE[what],
    );
    if (moved.length === 0 && now - lastReport >= MAX_SILENCE_MS) moved.push('load');
    for (const what of moved) {
      lastReport = now;
      onReading({ kind: 'machine', what, value: vitals[what], was: reported[what] });
      reported[what] = vitals[what];
    }
  }

  const timer = setInterval(read, INTERVAL_MS);
  read();
  return () => {
    clearInterval(timer);
    loop.disable();
  };
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
